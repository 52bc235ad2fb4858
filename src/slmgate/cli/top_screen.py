"""The screen of `slmgate top`: tables that follow the gate, a line about the whole, and a way to cancel a request.

What it shows is `top_figures.py`'s, how it is got its caller's. It keeps what is selected and sorted while figures change.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.screen import ModalScreen
from textual.widgets import Button, DataTable, Footer, Static, TabbedContent, TabPane

from slmgate.cli.ends import CommandFailed
from slmgate.cli.show import visible
from slmgate.cli.top_figures import HEADS, NUMBERS, TABLES, Picture, by_column


class Confirm(ModalScreen[bool]):
    """Asks before a request is cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(False)", "No")]
    CSS = """
    Confirm { align: center middle; }
    #ask {
        grid-size: 2; grid-rows: auto; grid-gutter: 0 2; width: 64; max-width: 100%; height: auto; max-height: 100%;
        border: thick $error; padding: 0 2; background: $surface;
    }
    #what { column-span: 2; width: 1fr; height: auto; }
    #ask Button { width: 1fr; min-width: 8; }
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def compose(self) -> ComposeResult:
        yield Grid(
            Static(Text(self._what), id="what"),
            Button("Cancel it", variant="error", id="yes"),
            Button("Let it go on", variant="primary", id="no"),
            id="ask",
        )

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")


class Top(App[None]):
    """`look` and `cancel` may block and raise CommandFailed; they are called in a thread, one at a time."""

    TITLE = "slmgate top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; padding: 0 1; background: $primary-background; }
    #head.wrong { background: $error; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        *(Binding(str(number), f"show('{name}')", name.capitalize()) for number, name in enumerate(TABLES, 1)),
        Binding("s", "sort", "Sort by the next column"),
        Binding("p", "pause", "Pause"),
        Binding("c", "cancel", "Cancel the request"),
    ]

    def __init__(self, look: Callable[[], Picture], cancel: Callable[[str], object], every: float) -> None:
        super().__init__()
        self._look = look
        self._cancel = cancel
        self._every = every
        self._picture: Picture | None = None
        self._paused = False
        self._under_way = False
        self._looking = Lock()
        self._sorted: dict[str, int] = {}  # table -> column; none: as the gate gives it

    def compose(self) -> ComposeResult:
        yield Static("asking the gate ...", id="head")
        with TabbedContent(initial="tab-requests"):
            for name in TABLES:
                with TabPane(name.capitalize(), id=f"tab-{name}"):
                    yield DataTable(id=name, cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        for name in TABLES:
            table = self._table(name)
            for column in HEADS[name]:
                table.add_column(Text(column, justify="right" if column in NUMBERS else "left"), key=column)
        self.set_interval(self._every, self._again)
        self._again()
        self._table("requests").focus()

    def _table(self, name: str) -> DataTable[Text]:
        return self.query_one(f"#{name}", DataTable)

    def _again(self) -> None:
        if not self._paused and not self._under_way:  # a gate that takes long is not asked by more and more threads
            self._under_way = True
            self.run_worker(self._ask_and_end, thread=True, group="look")

    def _ask_and_end(self) -> None:
        try:
            self._ask()
        finally:
            self._under_way = False

    def _ask(self) -> None:
        with self._looking:  # so that what was seen first is shown first
            self._ask_now()

    def _ask_now(self) -> None:
        try:
            picture = self._look()
        except CommandFailed as error:
            self.call_from_thread(self._tell, str(error), wrong=True)
        else:
            self.call_from_thread(self._show, picture)

    def _tell(self, text: str, *, wrong: bool) -> None:
        head = self.query_one("#head", Static)
        head.update(Text(visible(text)))
        head.set_class(wrong, "wrong")

    def _show(self, picture: Picture) -> None:
        self._picture = picture
        self._tell(picture.head, wrong=not picture.head.startswith("ready"))
        for name in TABLES:
            self._fill(name, picture)

    def _fill(self, name: str, picture: Picture) -> None:
        """The new rows, with the cursor on the one that it was on."""
        table = self._table(name)
        rows = picture.rows[name]
        if name in self._sorted:
            rows = by_column(rows, self._sorted[name])
        chosen, top = self._chosen(table), table.scroll_y
        table.clear()
        for key, cells in rows:
            heads = zip(HEADS[name], cells, strict=True)
            table.add_row(*(Text(visible(cell), justify="right" if head in NUMBERS else "left") for head, cell in heads), key=key)
        if chosen is not None and any(key == chosen for key, _ in rows):
            table.move_cursor(row=table.get_row_index(chosen), scroll=False)
        table.scroll_y = top

    @staticmethod
    def _chosen(table: DataTable[Text]) -> str | None:
        if not table.row_count:
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def action_show(self, name: str) -> None:
        self.query_one(TabbedContent).active = f"tab-{name}"
        self._table(name).focus()

    def _active(self) -> str:
        return self.query_one(TabbedContent).active.removeprefix("tab-")

    def action_sort(self) -> None:
        name = self._active()
        column = self._sorted.get(name, -1) + 1
        if column == len(HEADS[name]):
            self._sorted.pop(name)
            self.notify("as the gate gives them")
        else:
            self._sorted[name] = column
            self.notify(f"by {HEADS[name][column]}")
        if self._picture is not None:
            self._fill(name, self._picture)

    def action_pause(self) -> None:
        self._paused = not self._paused
        self.notify("paused" if self._paused else "going on")

    def action_cancel(self) -> None:
        table = self._table("requests")
        chosen = self._chosen(table) if self._active() == "requests" else None
        if chosen is None:
            self.notify("choose a request in the first table", severity="warning")
            return
        cells = [cell.plain for cell in table.get_row(chosen)]

        def answered(sure: bool | None) -> None:
            if sure:
                self.run_worker(lambda: self._end(chosen), thread=True, group="cancel")

        self.push_screen(Confirm(f"Cancel {cells[0]}'s request to {cells[1]} ({cells[2]}, for {cells[3]})?"), answered)

    def _end(self, id: str) -> None:
        try:
            self._cancel(id)
        except CommandFailed as error:
            self.call_from_thread(self.notify, visible(error), severity="error", markup=False)
        else:
            self.call_from_thread(self.notify, "cancelled")
        self._ask()
