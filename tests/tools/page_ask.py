"""A made-up request for a page of the dashboard, and a page as a browser finds it: for tests of pages without a listener.

It knows no page. `Found` reads HTML with the standard library's parser, so that a page that is not well-formed shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, cast
from zoneinfo import ZoneInfo

from slmgate.control.admin.context import AdminContext
from slmgate.control.admin.dashboard.asking import Ask
from slmgate.control.operators import Operator, Permission
from tests.tools.admin_gate import READY

NOW = datetime(2026, 11, 28, 12, 0, 30, tzinfo=UTC)
VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "option"})


def ask(path: str = "/", query: Mapping[str, str] | None = None, **more: Any) -> Ask:
    """An owner's, at NOW, in UTC."""
    given: dict[str, Any] = {
        "context": cast(AdminContext, None),
        "caller": Operator("user:olga", Permission.OWNER),
        "status": READY,
        "path": path,
        "now": NOW,
        "query": dict(query or {}),
        "zone": ZoneInfo("UTC"),
        "token": "T" * 43,
    }
    return Ask(**(given | more))


class Found(HTMLParser):
    """The elements of a page with their attributes, and what does not fit together."""

    def __init__(self, page: bytes | str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(page.decode() if isinstance(page, bytes) else page)
        self.wrong += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing at line {self.getpos()[0]}")

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def complaints(page: bytes | str) -> list[str]:
    """What is wrong with a page, whatever it shows: it does not nest, an id is there twice, it has style or script inside."""
    found = Found(page)
    wrong = list(found.wrong)
    wrong += sorted({f"id {each} is there twice" for each in found.ids if found.ids.count(each) > 1})
    for tag, attributes in found.elements:
        wrong += [f"<{tag}> has {name}" for name in attributes if name == "style" or name.startswith("on")]
        wrong += [
            f"<{tag}> goes elsewhere: {attributes[name]}"
            for name in ("src", "href", "action")
            if "//" in attributes.get(name, "")
        ]
        if tag in ("style", "iframe", "object", "embed") or (tag == "script" and "src" not in attributes):
            wrong.append(f"<{tag}> stands in it")
    return wrong
