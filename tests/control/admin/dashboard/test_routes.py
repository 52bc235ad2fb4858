"""The table of pages: each path once, in its place, with what it says beside it."""

from __future__ import annotations

from slmgate.control.admin.dashboard.routes import PAGES, ROUTES, pages
from slmgate.control.operators import Permission


def test_every_page_is_a_route() -> None:
    rows = [(page.method, page.path) for page in PAGES]
    assert len(set(rows)) == len(rows)
    assert pages() is PAGES
    assert [(route.method, route.path) for route in ROUTES[: len(PAGES)]] == rows
    assert all(route.page for route in ROUTES)


def test_the_navigation_is_whole() -> None:
    entries = {page.path for page in PAGES if page.place is not None}
    assert all(page.under in entries for page in PAGES if page.under)
    places = [page.place for page in PAGES if page.place is not None]
    assert len(set(places)) == len(places)
    for page in PAGES:
        assert page.place is not None or page.under or page.method == "POST", page.path


def test_no_change_is_everybodys() -> None:
    assert all(page.permission >= Permission.OPERATOR for page in PAGES if page.method == "POST")
    assert all(page.permission > Permission.PUBLIC for page in PAGES)
