"""What a page is given and what it gives back: an `Ask`, with the range, the time zone and links made right; a `View`, or `Go`.

It knows no page and no template. Handlers of pages get nothing else, so that they are called in tests with a made-up `Ask`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from slmgate.control.admin.context import AdminContext, GateStatus
from slmgate.control.admin.dashboard.span import Span, span_of
from slmgate.control.operators import Operator, Permission

if TYPE_CHECKING:
    pass

KEPT = ("range", "from", "to", "compare", "tz")
"""Of the query, what goes along to every other page."""
UTC_ZONE = ZoneInfo("UTC")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request for a page. `names` are the parts of the path that the page's row names; `fields` those of a form, whose token
    was right. `status` is the gate at that moment, `token` what a form must bring back, empty where there can be none."""

    context: AdminContext
    caller: Operator
    status: GateStatus
    path: str
    now: datetime
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    zone: ZoneInfo = UTC_ZONE
    token: str = ""

    @property
    def span(self) -> Span:
        return span_of(self.query, self.now, self.zone)

    @property
    def compare(self) -> bool:
        """Whether to show the period before beside this one."""
        return self.query.get("compare") == "1"

    @property
    def csv(self) -> str | None:
        """The table that is asked for as CSV: with every row, up to `tables.MOST_CSV`, on one page. None: the page is."""
        return self.query.get("csv")

    def may(self, permission: Permission) -> bool:
        return self.caller.permission >= permission

    def text(self, name: str, most: int = 200) -> str:
        """A parameter of the query, trimmed and bounded."""
        return self.query.get(name, "").strip()[:most]

    def value(self, name: str, otherwise: str = "") -> str:
        """A form's field; where it is there twice, nobody can say which one is meant, and it is as if it were not there."""
        values = self.fields.get(name, ())
        return values[0] if len(values) == 1 else otherwise

    def values(self, name: str) -> Sequence[str]:
        """A form's field that may be there many times."""
        return self.fields.get(name, ())

    def here(self, **changes: str | int | None) -> str:
        """This page's address with these parameters of the query changed; None takes one away. A dash stands for `_`."""
        query: dict[str, str] = {name: value for name, value in self.query.items() if name not in ("csv", "said")}
        for name, value in changes.items():
            name = name.rstrip("_").replace("_", "-")
            query.pop(name, None)
            if value is not None:
                query[name] = str(value)
        return _address(self.path, query)

    def at(self, *parts: str, **query: str | int | None) -> str:
        """Another page's address, about the same time: `ask.at("clients", name)`. Each part is one, whatever is in it."""
        kept = {name: self.query[name] for name in KEPT if name in self.query}
        kept |= {name.rstrip("_").replace("_", "-"): str(value) for name, value in query.items() if value is not None}
        return _address("/" + "/".join(map(_part, parts)), kept)


@dataclass(frozen=True, kw_only=True)
class View:
    """A page to show: a template of `pages/` and what it is given. `tables` are those that it shows, by name, for CSV.

    `refresh` is after how many seconds a browser asks again, 0: never. `title` and `status` where they are not the row's own
    and 200.
    """

    template: str
    values: Mapping[str, Any]
    tables: Sequence[Any] = ()
    title: str = ""
    refresh: int = 0
    status: int = 200
    ranged: bool = True
    """Whether the page is about a time, so that it offers to choose one."""


@dataclass(frozen=True)
class Go:
    """After a change: on to this address, where the sentence of this code (of the row there, `Page.said`) is shown."""

    path: str
    said: str = ""


class Wrong(Exception):
    """What was asked cannot be had; the page says `args[0]`, with this status."""

    def __init__(self, said: str, status: int = 400) -> None:
        super().__init__(said)
        self.status = status


Handler = "Callable[[Ask], View | Go] | Callable[[Ask], Awaitable[View | Go]]"


def named(part: str) -> str:
    """What a part of a path stands for, after it was decoded: the other way round than `_part`."""
    return part.replace("~2", ".").replace("~1", "/").replace("~0", "~")


def _part(text: str) -> str:
    """A text as one part of a path, slashes as a JSON pointer has them (RFC 6901, 3), since servers decode a path before they cut
    it; and dots that browsers would take for steps up."""
    steps = text in (".", "..")
    return quote(text.replace(".", "~2") if steps else text.replace("~", "~0").replace("/", "~1"), safe="")


def _address(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path
