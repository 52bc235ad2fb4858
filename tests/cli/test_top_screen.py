"""The screen of `slmgate top`, driven by keys: what it shows stays chosen and sorted, and nothing is cancelled unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from threading import Event
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, DataTable, Static, TabbedContent

from slmgate.cli.ends import NO, CommandFailed
from slmgate.cli.top_figures import Picture, picture
from slmgate.cli.top_screen import Confirm, Top
from tests.cli.test_top_figures import BUSY, REQUEST, STATUS, TOOK, USED

Driven = Callable[["Screen", Pilot[None]], Coroutine[Any, Any, None]]


class Screen(Top):
    """With answers of the test's own."""

    def __init__(self) -> None:
        self.live = dict(BUSY)
        self.failed = ""
        self.looks = 0
        self.slow = Event()
        self.slow.set()
        self.cancelled: list[str] = []
        self.told: list[str] = []
        super().__init__(self.found, self.ends, 3600)

    def found(self) -> Picture:
        self.looks += 1
        assert self.slow.wait(20)
        if self.failed:
            raise CommandFailed(NO, self.failed)
        return picture(self.live, USED, TOOK, STATUS)

    def ends(self, id: str) -> None:
        if self.failed:
            raise CommandFailed(NO, self.failed)
        self.cancelled.append(id)

    def notify(self, message: str, **_: Any) -> None:
        self.told.append(message)

    async def again(self, pilot: Pilot[None]) -> None:
        self._again()
        await self.workers.wait_for_complete()
        await pilot.pause()

    @property
    def head(self) -> str:
        return str(self.query_one("#head", Static).content)

    def column(self, name: str, column: int = 0) -> list[str]:
        table = self.query_one(f"#{name}", DataTable)
        return [table.get_row_at(row)[column].plain for row in range(table.row_count)]


def driven(drive: Driven, size: tuple[int, int] = (140, 40)) -> Screen:
    async def run() -> Screen:
        screen = Screen()
        async with screen.run_test(size=size) as pilot:
            await screen.workers.wait_for_complete()
            await pilot.pause()
            await drive(screen, pilot)
        return screen

    return asyncio.run(run())


def test_a_gate_that_takes_long_is_asked_once_at_a_time() -> None:
    async def drive(screen: Screen, pilot: Pilot[None]) -> None:
        screen.slow.clear()
        for _ in range(5):
            screen._again()
            await pilot.pause()
        screen.slow.set()
        await screen.workers.wait_for_complete()
        assert screen.looks == 2
        await screen.again(pilot)
        assert screen.looks == 3

    driven(drive)


def test_each_table_has_its_key() -> None:
    async def drive(screen: Screen, pilot: Pilot[None]) -> None:
        assert screen.head.startswith("ready  2.0 requests/s")
        assert screen.column("requests") == ["ada", "-"]
        for key, name, first in (("2", "clients", "ada"), ("3", "models", "tiny"), ("4", "instances", "http://10.0.0.5:8000")):
            await pilot.press(key)
            assert screen.query_one(TabbedContent).active == f"tab-{name}"
            assert screen.column(name)[0] == first

    driven(drive)


def test_what_is_chosen_stays_chosen() -> None:
    async def drive(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        screen.live["requests"] = [{**REQUEST, "id": "r0", "client": "new"}, *BUSY["requests"]]
        await screen.again(pilot)
        assert screen.column("requests") == ["new", "ada", "-"]
        assert screen.query_one("#requests", DataTable).cursor_row == 2
        screen.live["requests"] = []
        await screen.again(pilot)
        assert screen.column("requests") == []

    driven(drive)


def test_tables_are_sorted_by_one_column_after_the_other() -> None:
    async def drive(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("2", "s")
        assert screen.column("clients") == ["(no key)", "ada", "bob"]
        await pilot.press("s", "s", "s")
        assert screen.column("clients", 3) == ["100", "20", "1"]
        await screen.again(pilot)
        assert screen.column("clients", 3) == ["100", "20", "1"]
        await pilot.press("s", "s", "s", "s")
        assert screen.column("clients") == ["ada", "(no key)", "bob"]
        assert screen.told[-1] == "as the gate gives them"

    driven(drive)


def test_nothing_is_asked_while_it_is_paused() -> None:
    async def drive(screen: Screen, pilot: Pilot[None]) -> None:
        looks = screen.looks
        await pilot.press("p")
        await screen.again(pilot)
        assert screen.looks == looks
        await pilot.press("p")
        await screen.again(pilot)
        assert screen.looks == looks + 1

    driven(drive)


def test_a_gate_that_does_not_answer_is_said_and_asked_again() -> None:
    async def drive(screen: Screen, pilot: Pilot[None]) -> None:
        screen.failed = "it does not answer\x1b[2J"
        await screen.again(pilot)
        assert screen.head == "it does not answer\N{REPLACEMENT CHARACTER}[2J"
        assert screen.query_one("#head").has_class("wrong")
        assert screen.column("requests") == ["ada", "-"], "what was known stays"
        screen.failed = ""
        await screen.again(pilot)
        assert screen.head.startswith("ready") and not screen.query_one("#head").has_class("wrong")

    driven(drive)


def test_a_request_is_cancelled_only_when_that_is_confirmed() -> None:
    async def drive(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("c")
        assert isinstance(screen.screen, Confirm)
        await pilot.press("escape")
        assert not isinstance(screen.screen, Confirm)
        await pilot.press("c")
        await pilot.click("#no")
        assert screen.cancelled == []
        await pilot.press("c")
        await pilot.click("#yes")
        await screen.workers.wait_for_complete()
        await pilot.pause()
        assert (screen.cancelled, screen.told[-1]) == (["r1"], "cancelled")
        await pilot.press("2", "c")
        assert not isinstance(screen.screen, Confirm)
        assert screen.told[-1] == "choose a request in the first table"
        await pilot.press("1", "c")
        screen.failed = "it is over"
        await pilot.click("#yes")
        await screen.workers.wait_for_complete()
        assert screen.told[-1] == "it is over"

    driven(drive)


@pytest.mark.parametrize(("width", "height"), [(40, 10), (140, 40)])
def test_the_question_is_seen_whole_also_in_a_small_terminal(width: int, height: int) -> None:
    async def drive(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("c")
        await pilot.pause()
        asked = screen.screen.query_one("#what", Static)
        shown = [asked, *screen.screen.query(Button)]
        assert len(shown) == 3
        for each in shown:
            assert each.region in screen.screen.region
            assert each.content_region.width * each.content_region.height >= len(str(each.render()))
        await pilot.press("tab", "enter")
        assert screen.cancelled == []

    driven(drive, (width, height))


def test_names_are_no_markup() -> None:
    async def drive(screen: Screen, pilot: Pilot[None]) -> None:
        screen.live["requests"] = [{**REQUEST, "client": "[red]x[/red]\x1b"}]
        await screen.again(pilot)
        assert screen.column("requests") == ["[red]x[/red]\N{REPLACEMENT CHARACTER}"]
        await pilot.press("c")
        await pilot.press("escape")

    driven(drive)
