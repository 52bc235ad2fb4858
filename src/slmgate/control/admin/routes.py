"""The table of the admin API: method, path, permission, handler; one row each.

A row without a permission cannot be built, and the application is made from the rows alone, so no route can forget to
ask. The handlers' own work stands in `handlers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from slmgate.control.admin import (
    analytics,
    bans,
    billing,
    certificates,
    contents,
    explaining,
    handlers,
    instances,
    live,
    metrics,
    operating,
    standing,
    views,
)
from slmgate.control.admin.context import AdminContext
from slmgate.control.operators import Permission

Method = Literal["GET", "POST"]

MAX_BODY = 1024 * 1024
MAX_IMPORT = 64 * 1024 * 1024
"""Bytes of the keys of one import: 100,000 with all their fields are some 30 million."""

MARK = "slmgate-admin-api"
"""The header, with slmgate's version, by which every answer of the admin API is known."""


@dataclass(frozen=True)
class Route:
    """One row. `permission` is the least that a caller must have; PUBLIC is a permission like another, and must be said.

    `page`: for a browser. It takes forms and not JSON, sends strangers to the sign-in, and is not in the API's description.
    `open_when` says when everybody may ask all the same, `where` at which path it is, where the configuration says that.
    `max_body` is in bytes. `media` is what it answers with when all is well, or `also` when that is asked for; `other` are
    further statuses with what is told then, where that is no problem (RFC 9457).
    """

    method: Method
    path: str
    permission: Permission
    handler: Callable[..., Any]
    status: int = 200
    page: bool = False
    open_when: Callable[[AdminContext], bool] | None = None
    where: Callable[[AdminContext], str] | None = None
    max_body: int = MAX_BODY
    media: str = "application/json"
    also: str = ""
    other: Mapping[int, type] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.permission, Permission):
            raise TypeError(f"The route {self.method} {self.path} needs a Permission, not {self.permission!r}.")


ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", Permission.PUBLIC, handlers.healthz),
    Route("GET", "/readyz", Permission.PUBLIC, handlers.readyz, other={503: views.Readiness}),
    Route(
        "GET",
        metrics.PATH,
        Permission.VIEWER,
        metrics.metrics,
        open_when=metrics.is_public,
        where=metrics.path_of,
        media="text/plain",
    ),
    Route("GET", "/api/v1/status", Permission.VIEWER, handlers.status),
    Route("GET", "/api/v1/instances", Permission.VIEWER, instances.instances),
    # An owner's, since whoever names an instance is sent prompts there, and the secret in the variable that he names.
    Route("POST", "/api/v1/instances", Permission.OWNER, instances.add_instance, 201),
    Route("POST", "/api/v1/instances/drain", Permission.OPERATOR, instances.drain_instance),
    Route("POST", "/api/v1/instances/enable", Permission.OPERATOR, instances.enable_instance),
    Route("POST", "/api/v1/instances/remove", Permission.OWNER, instances.remove_instance),
    Route("GET", "/api/v1/certificates", Permission.VIEWER, certificates.certificates),
    Route("GET", "/api/v1/bans", Permission.VIEWER, bans.bans),
    Route("POST", "/api/v1/bans/lift", Permission.OPERATOR, bans.lift_ban),
    Route("GET", "/api/v1/usage", Permission.VIEWER, handlers.usage),
    Route("GET", "/api/v1/analytics/overview", Permission.VIEWER, analytics.analytics_overview, also="text/csv"),
    Route("GET", "/api/v1/analytics/clients", Permission.VIEWER, analytics.analytics_clients, also="text/csv"),
    Route("GET", "/api/v1/analytics/client", Permission.VIEWER, analytics.analytics_client, also="text/csv"),
    Route("GET", "/api/v1/analytics/models", Permission.VIEWER, analytics.analytics_models, also="text/csv"),
    Route("GET", "/api/v1/analytics/model", Permission.VIEWER, analytics.analytics_model, also="text/csv"),
    Route("GET", "/api/v1/analytics/series", Permission.VIEWER, analytics.analytics_series, also="text/csv"),
    Route("GET", "/api/v1/analytics/compare", Permission.VIEWER, analytics.analytics_compare, also="text/csv"),
    Route("GET", "/api/v1/receipts", Permission.VIEWER, handlers.receipts),
    Route("GET", "/api/v1/receipts/{id:str}", Permission.VIEWER, handlers.receipt),
    Route("GET", "/api/v1/receipts/{id:str}/content", Permission.OWNER, contents.receipt_content),
    Route("GET", "/api/v1/limits", Permission.VIEWER, standing.limits),
    Route("GET", "/api/v1/live", Permission.VIEWER, live.live),
    Route("POST", "/api/v1/live/{id:str}/cancel", Permission.OPERATOR, live.cancel_live),
    Route("POST", "/api/v1/explain", Permission.VIEWER, explaining.explain),
    Route("GET", "/api/v1/explain/{id:str}", Permission.VIEWER, explaining.explain_request),
    Route("GET", "/api/v1/statement", Permission.VIEWER, billing.statement),
    Route("GET", "/api/v1/statement.html", Permission.VIEWER, billing.statement_page, media="text/html"),
    Route("GET", "/api/v1/notices", Permission.VIEWER, billing.notices),
    Route("GET", "/api/v1/keys", Permission.VIEWER, handlers.keys),
    Route("POST", "/api/v1/keys", Permission.OWNER, handlers.create_key, 201),
    Route("GET", "/api/v1/keys/export", Permission.OWNER, handlers.export_keys),
    Route("POST", "/api/v1/keys/import", Permission.OWNER, handlers.import_keys, max_body=MAX_IMPORT),
    Route("GET", "/api/v1/keys/{id:str}", Permission.VIEWER, handlers.key),
    Route("POST", "/api/v1/keys/{id:str}", Permission.OWNER, handlers.edit_key),
    Route("POST", "/api/v1/keys/{id:str}/rotate", Permission.OWNER, handlers.rotate_key),
    Route("POST", "/api/v1/keys/{id:str}/disable", Permission.OPERATOR, handlers.disable_key),
    Route("POST", "/api/v1/keys/{id:str}/enable", Permission.OPERATOR, handlers.enable_key),
    Route("POST", "/api/v1/keys/{id:str}/revoke", Permission.OWNER, handlers.revoke_key),
    Route("POST", "/api/v1/reload", Permission.OPERATOR, handlers.reload, other={409: views.ReloadReport}),
    Route("GET", "/api/v1/audit", Permission.VIEWER, handlers.audit),
    Route("GET", "/api/v1/audit/verify", Permission.VIEWER, handlers.verify_audit),
    Route("GET", "/api/v1/whoami", Permission.VIEWER, operating.whoami),
    Route("GET", "/api/v1/admin/users", Permission.OWNER, operating.accounts),
    Route("POST", "/api/v1/admin/users", Permission.OWNER, operating.add_account, 201),
    Route("POST", "/api/v1/admin/users/{id:str}/password", Permission.OWNER, operating.set_password),
    Route("POST", "/api/v1/admin/users/{id:str}/role", Permission.OWNER, operating.set_role),
    Route("POST", "/api/v1/admin/users/{id:str}/remove", Permission.OWNER, operating.remove_account),
    Route("GET", "/api/v1/admin/keys", Permission.OWNER, operating.admin_keys),
    Route("POST", "/api/v1/admin/keys", Permission.OWNER, operating.create_admin_key, 201),
    Route("POST", "/api/v1/admin/keys/{id:str}/revoke", Permission.OWNER, operating.revoke_admin_key),
    Route("GET", "/api/v1/admin/sessions", Permission.OWNER, operating.sessions),
    Route("POST", "/api/v1/admin/sessions/{id:str}/end", Permission.OWNER, operating.end_session),
)
