"""The table of the pages: method, path, permission, handler; one row each, as the admin API has its own.

A page is no part of the API's description, answers a stranger with the way to sign in, and takes forms instead of JSON.
What a row does stands in `handlers.py`.
"""

from __future__ import annotations

from slmgate.control.admin.routes import Route
from slmgate.control.admin.signin import handlers
from slmgate.control.operators import Permission

MAX_FORM = 16 * 1024

PAGES: tuple[Route, ...] = (
    Route("GET", "/account", Permission.VIEWER, handlers.home, page=True, max_body=MAX_FORM),
    Route("GET", "/login", Permission.PUBLIC, handlers.login_page, page=True, max_body=MAX_FORM),
    Route("POST", "/login", Permission.PUBLIC, handlers.login, page=True, max_body=MAX_FORM),
    Route("GET", "/login/oidc", Permission.PUBLIC, handlers.login_oidc, page=True, max_body=MAX_FORM),
    Route("GET", handlers.CALLBACK, Permission.PUBLIC, handlers.login_callback, page=True, max_body=MAX_FORM),
    Route("POST", "/logout", Permission.VIEWER, handlers.logout, page=True, max_body=MAX_FORM),
    Route("GET", "/signin.css", Permission.PUBLIC, handlers.stylesheet, page=True, max_body=MAX_FORM),
)
