"""The pages: everything shown is text, nothing runs, nothing is fetched from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec.structs import asdict

from slmgate.control.admin.context import InstanceStatus, ModelStatus, WorkerStatus
from slmgate.control.admin.signin.pages import HEADERS, render, stylesheet
from slmgate.control.catalogue import Catalogue

EVIL = "\"><script>alert(1)</script>' onload=x <img src=//evil.example>"
PAGES = ("login", "message", "home")


def _values(page: str, text: str) -> dict[str, Any]:
    """What the page is given, with `text` wherever text can come from elsewhere."""
    if page == "login":
        return {"message": text, "issuer": text, "local": True, "token": text, "next": text, "name": text}
    if page == "message":
        return {"title": text, "message": text}
    missing = Catalogue(state="missing", text=text, serves=(text,), count=1)
    return {
        "operator": text,
        "role": text,
        "token": text,
        "state": text,
        "faults": [text],
        "models": [ModelStatus(name=text, ready=False)],
        "instances": [{**asdict(InstanceStatus(id=text, model=text, why=text, catalogue=missing)), "words": text}],
        "workers": [WorkerStatus(slot=0, pid=1, ready=True)],
        "links": [(text, text)],
    }


class Frame(HTMLParser):
    """The elements of a page with the names of their attributes, as a browser would find them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.targets: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "action")]


@pytest.mark.parametrize("name", PAGES)
def test_what_is_shown_is_text(name: str) -> None:
    evil, plain = (Frame(render(name, **_values(name, text))) for text in (EVIL, "plain"))
    assert evil.found == plain.found
    assert not {"script", "img", "style", "iframe"} & {tag for tag, _ in plain.found}
    assert not [each for _, names in plain.found for each in names if each.startswith("on") or each == "style"]
    assert all(target.startswith("/") for target in plain.targets if target != "plain")
    assert evil.found


def test_the_least_of_pages() -> None:
    page = render("login", message="", issuer="", local=False, token="", next="/", name="").decode()
    assert "<form" not in page
    empty = render(
        "home", operator="x", role="viewer", token="", state="", faults=(), models=(), instances=(), workers=(), links=()
    )
    assert b"No models" in empty
    assert b"<button" not in empty


def test_every_input_has_its_label() -> None:
    page = render("login", message="", issuer="", local=True, token="", next="/", name="").decode()
    named = set(re.findall(r'<label for="(\w+)"', page))
    assert named == set(re.findall(r'<input id="(\w+)"', page)) == {"name", "password"}


def test_the_policy_allows_no_script() -> None:
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy


def test_the_stylesheet_is_whole_by_itself() -> None:
    text = stylesheet().decode()
    assert "prefers-color-scheme: dark" in text
    assert "url(" not in text
    assert "@import" not in text
