"""The rows of the pages about single requests: those under way, those that were, one of them; and of limits in use.

A part of the table in `routes.py`. What a row does stands in the module of its page.
"""

from __future__ import annotations

from slmgate.control.admin.dashboard import limits, live, request, requests
from slmgate.control.admin.dashboard.page import Page
from slmgate.control.operators import Permission

PAGES: tuple[Page, ...] = (
    Page(
        path="/live",
        permission=Permission.VIEWER,
        handler=live.live,
        title="Live requests",
        place=("Traffic", 50),
        said=live.SAID | request.SAID,
    ),
    Page(
        path="/live/{id:str}/cancel",
        permission=Permission.OPERATOR,
        handler=live.confirm,
        title="Cancel a request?",
        under="/live",
    ),
    Page(
        path="/live/{id:str}/cancel",
        permission=Permission.OPERATOR,
        handler=live.cancel,
        title="Cancel a request?",
        method="POST",
        under="/live",
    ),
    Page(path="/requests", permission=Permission.VIEWER, handler=requests.requests, title="Requests", place=("Traffic", 60)),
    Page(path="/requests/{id:str}", permission=Permission.VIEWER, handler=request.request, title="Request", under="/requests"),
    Page(path="/limits", permission=Permission.VIEWER, handler=limits.limits, title="Limits in use", place=("Traffic", 70)),
)
