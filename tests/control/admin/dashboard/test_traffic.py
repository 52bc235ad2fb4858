"""The rows of the pages about single requests: whom they are for, and where they stand."""

from __future__ import annotations

from slmgate.control.admin.dashboard import live
from slmgate.control.admin.dashboard.routes import PAGES as ALL
from slmgate.control.admin.dashboard.traffic import PAGES
from slmgate.control.operators import Permission


def test_who_changes_something_is_an_operator() -> None:
    changes = [page for page in PAGES if page.method == "POST" or page.handler is live.confirm]
    assert [page.permission for page in changes] == [Permission.OPERATOR] * 2
    assert {page.permission for page in PAGES if page not in changes} == {Permission.VIEWER}


def test_all_are_in_the_table() -> None:
    assert [page for page in ALL if page in PAGES] == list(PAGES)
    assert [page.path for page in PAGES if page.place is not None] == ["/live", "/requests", "/limits"]
    assert {page.under for page in PAGES if page.place is None} == {"/live", "/requests"}
