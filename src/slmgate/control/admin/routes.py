"""The table of the admin API: method, path, permission, handler; one row each.

A row without a permission cannot be built, and the application is made from the rows alone, so no route can forget to
ask. The handlers' own work stands in `handlers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from slmgate.control.admin import handlers
from slmgate.control.operators import Permission

Method = Literal["GET", "POST"]

MARK = "slmgate-admin-api"
"""The header, with slmgate's version, by which every answer of the admin API is known."""


@dataclass(frozen=True)
class Route:
    """One row. `permission` is the least that a caller must have; PUBLIC is a permission like another, and must be said."""

    method: Method
    path: str
    permission: Permission
    handler: Callable[..., Any]
    status: int = 200

    def __post_init__(self) -> None:
        if not isinstance(self.permission, Permission):
            raise TypeError(f"The route {self.method} {self.path} needs a Permission, not {self.permission!r}.")


ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", Permission.PUBLIC, handlers.healthz),
    Route("GET", "/readyz", Permission.PUBLIC, handlers.readyz),
    Route("GET", "/api/v1/status", Permission.VIEWER, handlers.status),
    Route("GET", "/api/v1/instances", Permission.VIEWER, handlers.instances),
    Route("GET", "/api/v1/usage", Permission.VIEWER, handlers.usage),
    Route("GET", "/api/v1/receipts", Permission.VIEWER, handlers.receipts),
    Route("GET", "/api/v1/receipts/{id:str}", Permission.VIEWER, handlers.receipt),
    Route("POST", "/api/v1/explain", Permission.VIEWER, handlers.explain),
    Route("GET", "/api/v1/explain/{id:str}", Permission.VIEWER, handlers.explain_request),
    Route("GET", "/api/v1/keys", Permission.VIEWER, handlers.keys),
    Route("POST", "/api/v1/keys", Permission.OWNER, handlers.create_key, 201),
    Route("GET", "/api/v1/keys/{id:str}", Permission.VIEWER, handlers.key),
    Route("POST", "/api/v1/keys/{id:str}/rotate", Permission.OWNER, handlers.rotate_key),
    Route("POST", "/api/v1/keys/{id:str}/disable", Permission.OPERATOR, handlers.disable_key),
    Route("POST", "/api/v1/keys/{id:str}/enable", Permission.OPERATOR, handlers.enable_key),
    Route("POST", "/api/v1/keys/{id:str}/revoke", Permission.OWNER, handlers.revoke_key),
    Route("POST", "/api/v1/reload", Permission.OPERATOR, handlers.reload),
    Route("GET", "/api/v1/audit", Permission.VIEWER, handlers.audit),
)
