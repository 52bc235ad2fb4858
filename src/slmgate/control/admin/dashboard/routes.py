"""The table of the dashboard's pages, one row each, and the routes that the application is made from.

What a row does stands in the module of its page; how it is served in `shell.py`. A page joins with a row here, and with one in
the exposure matrix of the tests.
"""

from __future__ import annotations

from slmgate.control.admin.dashboard import audit, clients, keys, models, overview, shell, statements, teams, traffic, trying
from slmgate.control.admin.dashboard.page import Page
from slmgate.control.admin.routes import Route
from slmgate.control.operators import Permission

PAGES: tuple[Page, ...] = (
    Page(path="/", permission=Permission.VIEWER, handler=overview.overview, title="Overview", place=("", 10)),
    Page(path="/clients", permission=Permission.VIEWER, handler=clients.clients, title="Clients", place=("Traffic", 10)),
    Page(path="/clients/{name:str}", permission=Permission.VIEWER, handler=clients.client, title="Client", under="/clients"),
    Page(path="/models", permission=Permission.VIEWER, handler=models.models, title="Models", place=("Traffic", 20)),
    Page(
        path="/models/{name:str}",
        permission=Permission.VIEWER,
        handler=models.model,
        title="Model",
        under="/models",
        said=models.SAID,
    ),
    Page(
        path="/instances/drain",
        permission=Permission.OPERATOR,
        handler=models.drain,
        title="Drain",
        method="POST",
        under="/models",
    ),
    Page(
        path="/instances/enable",
        permission=Permission.OPERATOR,
        handler=models.enable,
        title="Enable",
        method="POST",
        under="/models",
    ),
    *traffic.PAGES,
    *keys.PAGES,
    *teams.PAGES,
    *trying.PAGES,
    *statements.PAGES,
    *audit.PAGES,
)


def pages() -> tuple[Page, ...]:
    """The whole table, as the navigation needs it."""
    return PAGES


ROUTES: tuple[Route, ...] = (
    *(shell.route_of(page, pages) for page in PAGES),
    Route("POST", "/theme", Permission.PUBLIC, shell.set_theme, page=True, max_body=4096),
    Route("GET", "/assets/{name:str}", Permission.PUBLIC, shell.serve_asset, page=True, max_body=4096),
)
