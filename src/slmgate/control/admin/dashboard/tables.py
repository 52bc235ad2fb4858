"""Tables of pages: columns with units, sorted by links, in parts of so many rows, and the same rows as CSV.

`whole` is for rows that are all there, `part` for a source that sorts and cuts by itself. It knows no page; `macros.html` shows
what is made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from slmgate.control.admin.dashboard import words
from slmgate.control.admin.dashboard.asking import Ask
from slmgate.control.sheets import csv_text

SIZE = 50
MOST_CSV = 100_000
MOST_PAGES = 1_000_000

Kind = Literal["text", "code", "count", "tokens", "seconds", "share", "bytes", "money", "time", "html"]
_NUMBERS = ("count", "tokens", "seconds", "share", "bytes", "money")


class Column(NamedTuple):
    """`key` is the row's; `kind` how its values are shown. `sort`: it can be sorted by. `wide`: left out on a narrow screen.

    `unit` is a currency, for money. `help` says more about the title.
    """

    key: str
    title: str
    kind: Kind = "text"
    sort: bool = True
    wide: bool = False
    unit: str = ""
    help: str = ""

    @property
    def number(self) -> bool:
        return self.kind in _NUMBERS


class Cell(NamedTuple):
    """A value that is shown otherwise than its column says: with a link, in other words, in a tone, or as markup (`html`)."""

    value: Any
    href: str = ""
    text: str = ""
    tone: str = ""
    html: Any = None


Row = Mapping[str, Any]


class Shown(NamedTuple):
    """One cell as the template takes it."""

    text: str
    column: Column
    href: str = ""
    tone: str = ""
    html: Any = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of a page. `name` tells it from others on the page, in the address too; empty for the only one.

    `rows` are those of this part, or all of them for CSV. `total` is how many there are, None: nobody counted, and `more` says
    whether another part follows.
    """

    ask: Ask
    name: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    sort: str
    page: int = 1
    size: int = SIZE
    total: int | None = None
    more: bool = False
    one_way: bool = False
    """Its source sorts each column one way only: figures from the most on, texts from A on."""

    @property
    def first(self) -> int:
        return (self.page - 1) * self.size + 1

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1

    @property
    def pages(self) -> int:
        return max(1, -(-(self.total or 0) // self.size))

    @property
    def follows(self) -> bool:
        return self.more if self.total is None else self.page < self.pages

    def cells(self, row: Row) -> list[Shown]:
        """The row as it is shown."""
        return [self._shown(column, row.get(column.key)) for column in self.columns]

    def _shown(self, column: Column, value: Any) -> Shown:
        if isinstance(value, Cell):
            text = value.text or shown(value.value, column, self.ask)
            return Shown(text, column, value.href, value.tone, value.html)
        return Shown(shown(value, column, self.ask), column)

    def direction(self, column: Column) -> str:
        """As `aria-sort` has it."""
        if self.sort.removeprefix("-") != column.key:
            return ""
        return "descending" if self.sort.startswith("-") else "ascending"

    def sorting(self, column: Column) -> str:
        """Where the column's title leads: numbers begin with the most, texts with the first; then the other way round."""
        if self.one_way:
            to = column.key if column.kind in ("text", "code") else f"-{column.key}"
            return self.ask.here(**{_named(self.name, "sort"): to, _named(self.name, "page"): None})
        first, second = (f"-{column.key}", column.key) if column.kind not in ("text", "code") else (column.key, f"-{column.key}")
        return self.ask.here(
            **{_named(self.name, "sort"): second if self.sort == first else first, _named(self.name, "page"): None}
        )

    def turned(self, page: int) -> str:
        """Where another part of it is."""
        return self.ask.here(**{_named(self.name, "page"): page if page > 1 else None})

    @property
    def csv_address(self) -> str:
        return self.ask.here(csv=self.name or "table")

    def csv(self) -> bytes:
        """All of its rows, with raw figures: seconds, shares of 1, times in UTC."""
        columns = [column.key for column in self.columns if column.kind != "html"]
        return csv_text(columns, ([_raw(row.get(key)) for key in columns] for row in self.rows)).encode()


def whole(ask: Ask, columns: Sequence[Column], rows: Sequence[Row], sort: str, name: str = "", size: int = SIZE) -> Table:
    """A table of rows that are all here: sorted as asked, else by `sort`, a `-` before a column's key for the greatest first."""
    order = wanted(ask, columns, sort, name)
    key, down = order.removeprefix("-"), order.startswith("-")
    ordered = sorted(rows, key=lambda row: _order(row.get(key)), reverse=down)
    if asked(ask, name):
        return Table(ask=ask, name=name, columns=columns, rows=ordered[:MOST_CSV], sort=order, size=MOST_CSV, total=len(rows))
    page = min(place(ask, name), max(1, -(-len(rows) // size)))
    part_of = ordered[(page - 1) * size : page * size]
    return Table(ask=ask, name=name, columns=columns, rows=part_of, sort=order, page=page, size=size, total=len(rows))


def part(
    ask: Ask,
    columns: Sequence[Column],
    rows: Sequence[Row],
    sort: str,
    *,
    page: int,
    size: int,
    total: int | None,
    name: str = "",
) -> Table:
    """A table of one part of what a source has, in the order that it gives; it sorts each column one way only."""
    return Table(ask=ask, name="", columns=columns, rows=rows, sort=sort, page=page, size=size, total=total, one_way=True)


def asked(ask: Ask, name: str) -> bool:
    """Whether this table is wanted as CSV, so that its source should give all rows (up to `MOST_CSV`)."""
    return ask.csv is not None and ask.csv == (name or "table")


def wanted(ask: Ask, columns: Sequence[Column], sort: str, name: str = "") -> str:
    """The order that is asked for: a column's key, with `-` before it for the greatest first."""
    order = ask.query.get(_named(name, "sort").replace("_", "-"), sort)
    known = {column.key for column in columns if column.sort}
    return order if order.removeprefix("-") in known else sort


def place(ask: Ask, name: str = "") -> int:
    """The part that is asked for, from 1 on."""
    text = ask.query.get(_named(name, "page").replace("_", "-"), "1")
    return min(MOST_PAGES, max(1, int(text))) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def shown(value: Any, column: Column, ask: Ask) -> str:
    """A value in the words of its column's kind."""
    if value is None or value == "":
        return words.NONE
    if isinstance(value, datetime):
        return words.moment(value, ask.zone)
    if column.kind == "seconds":
        return words.duration(value)
    if column.kind == "share":
        return words.share(value)
    if column.kind == "bytes":
        return words.size(value)
    if column.kind == "money":
        return words.money(value, "")  # which one it is, the title says
    if column.kind in ("count", "tokens"):
        return words.count(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or words.NONE
    return str(value)


def _named(name: str, what: str) -> str:
    return f"{name}_{what}" if name else what


def _value(value: Any) -> Any:
    return value.value if isinstance(value, Cell) else value


def _order(value: Any) -> tuple[int, float, str]:
    """Nothing before figures before texts, so that values of every kind can stand in one column."""
    value = _value(value)
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, datetime):
        return 1, value.timestamp(), ""
    if isinstance(value, bool | int | float | Decimal):
        return 1, float(value), ""
    return 2, 0.0, str(value).casefold()


def _raw(value: Any) -> object:
    """A cell of CSV."""
    value = _value(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
