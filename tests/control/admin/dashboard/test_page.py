"""Rows of the table of pages: none without a permission, and a navigation with what somebody may see, in order."""

from __future__ import annotations

from typing import Any, cast

import pytest

from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.admin.dashboard.page import Page, navigation
from slmgate.control.operators import Permission


def show(_: Ask) -> View:
    return View(template="x.html", values={})


def page(path: str, **more: Any) -> Page:
    given: dict[str, Any] = {"permission": Permission.VIEWER, "handler": show, "title": path.strip("/").title()}
    return Page(path=path, **(given | more))


def test_no_row_without_a_permission() -> None:
    with pytest.raises(TypeError):
        page("/x", permission=cast(Permission, None))


@pytest.mark.parametrize("more", [{"place": ("Nowhere", 1)}, {"place": ("", 1), "method": "POST"}])
def test_a_place_that_there_is_not(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot stand"):
        page("/x", **more)


def test_the_navigation() -> None:
    rows = [
        page("/b", place=("Traffic", 20)),
        page("/a", place=("Traffic", 10)),
        page("/", place=("", 1)),
        page("/a/{name:str}", under="/a"),
        page("/keys", place=("Access", 1), permission=Permission.OWNER),
    ]
    found = navigation(rows, Permission.VIEWER, "/a")
    assert [(group, [(entry.path, entry.current) for entry in entries]) for group, entries in found] == [
        ("", [("/", False)]),
        ("Traffic", [("/a", True), ("/b", False)]),
    ]
    assert navigation(rows, Permission.OWNER, "")[-1][0] == "Access"
