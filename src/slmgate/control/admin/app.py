"""The admin application: made from the table of routes, with the checks that come before each and problems for answers.

Before a handler runs, the request must name this listener as its host (against DNS rebinding), come from no foreign
page (against forgery by a browser) and carry an admin credential with the row's permission. Errors are problem+json
(RFC 9457) and say nothing of files, stacks or SQL.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Message, Scope

from slmgate import __version__
from slmgate.control.admin.context import AdminContext
from slmgate.control.admin.handlers import STATUS
from slmgate.control.admin.params import NAMES
from slmgate.control.admin.routes import MARK, MAX_BODY, ROUTES, Route
from slmgate.control.operators import Operator, Permission
from slmgate.stores.base import LedgerUnavailable

_log = logging.getLogger("slmgate.admin")
_TITLES = {
    400: "Bad request",
    401: "No valid admin credential",
    403: "Not permitted",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    500: "Internal error",
    503: "The store cannot be used now",
}


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457. `detail` says what to do."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


def create_app(context: AdminContext, hosts: Collection[str] = ()) -> Litestar:
    """The application over `context`. `hosts`: names, beside `localhost` and plain addresses, that this listener goes by."""
    names = frozenset(host.lower() for host in hosts) | {"localhost"}

    def check_origin(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        host = connection.headers.get("host", "")
        if not _known_host(host, names):
            raise HTTPException(status_code=421, detail="The Host header is no address of this listener; ask by its address.")
        origin = connection.headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise HTTPException(status_code=403, detail="Requests from other sites' pages are not taken.")
        kind = connection.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            # what a page of another site may send without asking first is not JSON
            raise HTTPException(status_code=415, detail="Send `Content-Type: application/json`.")

    def check_permission(connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
        needed = route.opt.get("permission")
        if needed is Permission.PUBLIC:
            return
        operator = _operator(connection, context)
        if operator is None:
            raise HTTPException(
                status_code=401,
                detail="Send `Authorization: Bearer` with an admin key; the first one is in admin.key in the state directory.",
                headers={"www-authenticate": "Bearer"},
            )
        if not isinstance(needed, Permission) or operator.permission < needed:
            raise HTTPException(status_code=403, detail="This admin key may not do that.")
        connection.state.operator = operator

    return Litestar(
        route_handlers=[_handler(row) for row in ROUTES],
        guards=[check_origin, check_permission],
        dependencies={
            "context": Provide(lambda: context, sync_to_thread=False),
            "caller": Provide(_caller, sync_to_thread=False),
        },
        exception_handlers={HTTPException: _http_problem, Exception: _problem},
        openapi_config=OpenAPIConfig(
            title="slmgate admin API",
            version=__version__,
            openapi_router=Router("/api", route_handlers=[], opt={"permission": Permission.PUBLIC}),
            render_plugins=[JsonRenderPlugin()],
            use_handler_docstrings=True,
            components=Components(security_schemes={"admin_key": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"admin_key": []}],
        ),
        request_max_body_size=MAX_BODY,
        signature_namespace=NAMES,
        before_send=[_mark],
        logging_config=None,
    )


async def _mark(message: Message, _: Scope) -> None:
    """Every answer says whose it is, so that a command can tell this API from whatever else answers at an address."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (MARK.encode(), __version__.encode())]


def _handler(row: Route) -> HTTPRouteHandler:
    blocks = not _is_coroutine(row)
    return HTTPRouteHandler(
        row.path,
        http_method=row.method,
        status_code=row.status,
        opt={"permission": row.permission},
        sync_to_thread=True if blocks else None,
        operation_id=row.handler.__name__,
        request_max_body_size=row.max_body,
    )(row.handler)


def _is_coroutine(row: Route) -> bool:
    return bool(row.handler.__code__.co_flags & 0x80)


def _operator(connection: ASGIConnection[Any, Any, Any, Any], context: AdminContext) -> Operator | None:
    scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
    return context.admin_keys.check(secret.strip()) if scheme.lower() == "bearer" else None


def _caller(request: Request[Any, Any, Any]) -> Operator:
    operator: Operator = request.state.operator
    return operator


def _known_host(host: str, names: Collection[str]) -> bool:
    """Whether a Host header (RFC 9110, 7.2) names this listener: an IP address, or one of its names, with any port."""
    name, port = host.lower(), ""
    if name.startswith("["):
        name, closed, port = name[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            return False
    elif name.count(":") <= 1:
        name, _, port = name.partition(":")
    if not all(character in "0123456789" for character in port.removeprefix(":")):
        return False
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _http_problem(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    detail = error.detail
    if isinstance(error, ValidationException):
        # its own text repeats the request's URL; what is wrong is in `extra`
        detail = "; ".join(_said(entry) for entry in error.extra) if isinstance(error.extra, list) else "The input is not valid."
    return _answer(error.status_code, detail, error.headers)


def _said(entry: Any) -> str:
    where = entry.get("key") if isinstance(entry, dict) else None
    what = entry.get("message", "") if isinstance(entry, dict) else str(entry)
    if where == "data" and what == "'data'":
        return "The request needs a JSON body."
    return f"{where}: {what}" if where else str(what)


def _problem(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        _log.error("The admin API failed.", exc_info=error)
        return _answer(500, "The admin API failed; the log of slmgate says where.")
    detail = str(error.args[0]) if error.args else ""
    if isinstance(error, LedgerUnavailable):
        _log.error("%s", detail)
        return _answer(503, "Nothing was changed. The log of slmgate says why; try again.", {"retry-after": "5"})
    return _answer(status, detail)


def _answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    body = Problem(title=_TITLES.get(status, "Error"), status=status, detail=detail)
    return Response(
        msgspec.json.encode(body), status_code=status, media_type="application/problem+json", headers=dict(headers or {})
    )
