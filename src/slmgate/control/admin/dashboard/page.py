"""One row of the table of pages, and where it stands in the navigation. It knows neither the rows nor how they are served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from slmgate.control.admin.dashboard.asking import Ask, Go, View
from slmgate.control.admin.routes import Method
from slmgate.control.operators import Permission

MAX_FORM = 64 * 1024
GROUPS = ("", "Traffic", "Access", "Records")
"""The navigation's parts, in their order; the first has no heading."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One row. `path` is as routes have it: `/clients/{name:str}`; a name may hold a slash (`asking.named`).

    `place` is the group in the navigation and the number there, by which it is sorted; None: it is not in the navigation.
    `under` is the page of the navigation that this one belongs to, for one that is not in it. `said` are the sentences that
    stand on the page after a change, by the code that the address names (`Go`). A handler that is no coroutine runs in a thread,
    as it may ask the store.
    """

    path: str
    permission: Permission
    handler: Callable[[Ask], View | Go | Awaitable[View | Go]]
    title: str
    method: Method = "GET"
    place: tuple[str, int] | None = None
    under: str = ""
    said: Mapping[str, str] = field(default_factory=dict)
    max_body: int = MAX_FORM

    def __post_init__(self) -> None:
        if not isinstance(self.permission, Permission):
            raise TypeError(f"The page {self.path} needs a Permission, not {self.permission!r}.")
        if self.place is not None and (self.place[0] not in GROUPS or self.method != "GET"):
            raise ValueError(f"The page {self.path} cannot stand in the navigation at {self.place!r}.")


class Entry(NamedTuple):
    """One line of the navigation."""

    path: str
    title: str
    current: bool


def navigation(pages: Iterable[Page], permission: Permission, current: str) -> list[tuple[str, list[Entry]]]:
    """The groups with the pages that somebody of this permission may see. `current` is the path of the entry that he is at."""
    rows = [page for page in pages if page.place is not None and permission >= page.permission]
    found = []
    for group in GROUPS:
        inside = sorted((page for page in rows if page.place and page.place[0] == group), key=lambda page: page.place or ("", 0))
        if inside:
            found.append((group, [Entry(page.path, page.title, page.path == current) for page in inside]))
    return found
