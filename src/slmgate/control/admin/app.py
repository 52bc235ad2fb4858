"""The admin application: made from the tables of routes, with the checks that come before each and problems for answers.

Before a handler runs, the request must name this listener as its host (against DNS rebinding), come from no foreign
page (against forgery by a browser) and carry an admin key, or the cookie of somebody signed in, with the row's permission.
Errors are problem+json (RFC 9457) and say nothing of files, stacks or SQL.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec
from litestar import Litestar, Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Schema,
    SecurityScheme,
)
from litestar.types import Message, Scope

from slmgate import __version__
from slmgate.control.admin.behind import asks_from
from slmgate.control.admin.context import AdminContext
from slmgate.control.admin.dashboard import shell
from slmgate.control.admin.dashboard.routes import PAGES as DASHBOARD
from slmgate.control.admin.dashboard.routes import ROUTES as DASHBOARD_ROUTES
from slmgate.control.admin.handlers import STATUS
from slmgate.control.admin.params import NAMES
from slmgate.control.admin.refusals import Refusals
from slmgate.control.admin.routes import MARK, MAX_BODY, ROUTES, Route
from slmgate.control.admin.signin.flow import own_path
from slmgate.control.admin.signin.handlers import session_cookie
from slmgate.control.admin.signin.routes import PAGES
from slmgate.control.admin.signin.service import SignIn
from slmgate.control.audit import asked_from
from slmgate.control.operators import Operator, Permission
from slmgate.stores.records import LedgerUnavailable

_log = logging.getLogger("slmgate.admin")
PROBLEM = "application/problem+json"
_FOREIGN = "Requests from other sites' pages are not taken."
_EVERYWHERE = (
    (MARK.encode(), __version__.encode()),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
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


class SignInFirst(Exception):
    """A page that a stranger asked for; `args[0]` is the address to go on at, once that one has signed in."""


def create_app(context: AdminContext, hosts: Collection[str] = ()) -> Litestar:
    """The application over `context`. `hosts`: names, beside `localhost`, plain addresses and that of `admin.url`, that this
    listener goes by."""
    names = frozenset(host.lower() for host in hosts) | {"localhost"}
    signin = SignIn(context.accounts, lambda: context.admin)
    refusals = Refusals(lambda: context.store, time.monotonic)

    def check_origin(connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
        host = connection.headers.get("host", "")
        url = context.admin.url
        if not _known_host(host, names if url is None else {*names, urlsplit(url).hostname or ""}):
            raise HTTPException(status_code=421, detail="The Host header is no address of this listener; ask by its address.")
        origin = connection.headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise HTTPException(status_code=403, detail=_FOREIGN)
        changes = _changes(connection)
        if changes and connection.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise HTTPException(status_code=403, detail=_FOREIGN)
        wanted = "application/x-www-form-urlencoded" if changes and route.opt.get("page") else "application/json"
        if changes and route.opt.get("page"):
            _check_own_page(connection)
        kind = connection.headers.get("content-type", wanted).partition(";")[0].strip().lower()
        if kind != wanted:
            # what a page of another site may send without asking first is not JSON
            raise HTTPException(status_code=415, detail=f"Send `Content-Type: {wanted}`.")

    async def check_permission(connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
        # here, as the context of a check that is no coroutine would end with it
        asked_from.set(_asks_from(connection, context))
        needed = route.opt.get("permission")
        opens = route.opt.get("open_when")
        if needed is Permission.PUBLIC or (opens is not None and opens(context)):
            return
        operator = await _operator(connection, context, signin)
        if operator is None and route.opt.get("page"):
            raise SignInFirst(_wanted(connection))
        if operator is None:
            raise HTTPException(
                status_code=401,
                detail="Send `Authorization: Bearer` with an admin key; the first one is in admin.key in the state directory.",
                headers={"www-authenticate": "Bearer"},
            )
        connection.state.operator = operator  # a page that refuses says so to somebody by name
        if not isinstance(needed, Permission) or operator.permission < needed:
            if _changes(connection) and isinstance(needed, Permission):
                what = f"{route.opt.get('row')}"
                await asyncio.to_thread(refusals.note, operator.name, what, needed.name.lower())
            raise HTTPException(status_code=403, detail="Your admin role may not do that.")

    def check_query(connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
        known = route.opt.get("query")
        if known is None:
            return
        given = [name for name, _ in connection.query_params.multi_items()]
        for name in given:
            if name not in known:
                takes = f"; it takes {', '.join(sorted(known))}" if known else ""
                raise HTTPException(status_code=400, detail=f"This has no parameter {name[:40]!r}{takes}.")
        if len(set(given)) < len(given):
            raise HTTPException(status_code=400, detail="A parameter is there twice; nobody can say which one is meant.")

    def http_problem(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        return _page_of(_http_problem(request, error), request)

    def problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        return _page_of(_problem(request, error), request)

    def _page_of(made: Response[bytes], request: Request[Any, Any, Any]) -> Response[bytes]:
        """The same as a page, for whoever wants one; programs get a problem (RFC 9457) from pages too."""
        if not shell.wants_page(request):
            return made
        problem = msgspec.json.decode(made.content, type=Problem)
        page = shell.error_page(request, problem.status, problem.detail, DASHBOARD, context)
        page.headers.update({name: value for name, value in made.headers.items() if name == "retry-after"})
        return page

    return Litestar(
        route_handlers=[
            _handler(row, row.path if row.where is None else row.where(context)) for row in (*ROUTES, *PAGES, *DASHBOARD_ROUTES)
        ],
        guards=[check_origin, check_permission, check_query],
        dependencies={
            "context": Provide(lambda: context, sync_to_thread=False),
            "caller": Provide(_caller, sync_to_thread=False),
            "signin": Provide(lambda: signin, sync_to_thread=False),
        },
        exception_handlers={HTTPException: http_problem, SignInFirst: _to_signin, Exception: problem},
        openapi_config=OpenAPIConfig(
            title="slmgate admin API",
            version=__version__,
            openapi_router=Router("/api", route_handlers=[], opt={"permission": Permission.PUBLIC}, include_in_schema=False),
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


def _asks_from(connection: ASGIConnection[Any, Any, Any, Any], context: AdminContext) -> str:
    peer = connection.client.host if connection.client else ""
    return peer if context.config is None else asks_from(peer, connection.scope["headers"], context.config.guard)


async def _mark(message: Message, _: Scope) -> None:
    """Every answer says whose it is, so that a command can tell this API from whatever else answers at an address; and that no
    browser is to keep it, guess what it is, or show it in a frame."""
    if message["type"] == "http.response.start":
        there = {name.lower() for name, _ in message["headers"]}
        message["headers"] = [*message["headers"], *(pair for pair in _EVERYWHERE if pair[0] not in there)]


def _changes(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    return not (isinstance(connection, Request) and connection.method in ("GET", "HEAD"))


def _check_own_page(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """A change by form or by cookie comes from a page of ours, and the browser says so (Fetch, `Origin` and `Sec-Fetch-Site`)."""
    if connection.headers.get("origin") is None and connection.headers.get("sec-fetch-site") != "same-origin":
        raise HTTPException(status_code=403, detail=_FOREIGN)


def _handler(row: Route, path: str) -> HTTPRouteHandler:
    blocks = not _is_coroutine(row)
    return HTTPRouteHandler(
        path,
        http_method=row.method,
        status_code=row.status,
        opt={
            "permission": row.permission,
            "open_when": row.open_when,
            "page": row.page,
            "row": f"{row.method} {row.path.replace(':str', '')}",
            "query": None if row.page or row.permission is Permission.PUBLIC else _query(row),
        },
        include_in_schema=not row.page,
        sync_to_thread=True if blocks else None,
        operation_id=row.handler.__name__,
        request_max_body_size=row.max_body,
        media_type=row.media,
        operation_class=_told_as(row.also),
        responses=None if row.page else _described(row),
        security=[{}] if row.permission is Permission.PUBLIC else None,  # instead of what holds for all others
    )(row.handler)


def _told_as(also: str) -> type[Operation]:
    """How the description tells of a row: with another form that its answer may have."""
    if not also:
        return Operation

    @dataclass
    class TwoForms(Operation):
        def __post_init__(self) -> None:
            found = (self.responses or {}).get("200")
            if isinstance(found, OpenAPIResponse) and found.content is not None:
                found.content[also] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))

    return TwoForms


def _described(row: Route) -> dict[int, ResponseSpec]:
    """What a row may answer beside what it is for, so that its description is true."""
    statuses = {400, 403, 421}
    if row.permission is not Permission.PUBLIC:
        statuses |= {401, 404, 503}
    if row.method != "GET":
        statuses |= {409, 413, 415}
    found = {
        status: ResponseSpec(Problem, generate_examples=False, description=_TITLES[status], media_type=PROBLEM)
        for status in sorted(statuses)
    }
    more = {status: ResponseSpec(kind, generate_examples=False, description=kind.__name__) for status, kind in row.other.items()}
    return found | more


def _query(row: Route) -> frozenset[str]:
    """The query parameters that a row takes: a filter that is misspelt must not show, or change, more than was meant."""
    named = set(inspect.signature(row.handler).parameters) - {"context", "caller", "data", "request"}
    return frozenset(name for name in named if f"{{{name}:" not in row.path)


def _is_coroutine(row: Route) -> bool:
    return bool(row.handler.__code__.co_flags & 0x80)


async def _operator(connection: ASGIConnection[Any, Any, Any, Any], context: AdminContext, signin: SignIn) -> Operator | None:
    """By the key, if one is given; else by the cookie. A wrong key is not made good by a right cookie."""
    given = connection.headers.get("authorization")
    if given is not None:
        scheme, _, secret = given.partition(" ")
        return await asyncio.to_thread(context.admin_keys.check, secret.strip()) if scheme.lower() == "bearer" else None
    cookie = session_cookie(connection.headers.get("host", ""), connection.cookies, context.admin)
    operator = await asyncio.to_thread(signin.who, cookie) if cookie else None
    if operator is not None and _changes(connection):
        _check_own_page(connection)
    return operator


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


def _wanted(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """The page that is asked for, with its time range and so on; of a form whose session has ended, the page that it was on."""
    path, query = connection.url.path, connection.url.query
    if connection.scope.get("method") not in ("GET", "HEAD"):
        try:
            came = urlsplit(connection.headers.get("referer", ""))
        except ValueError:
            return "/"
        path, query = unquote(came.path), came.query
    return f"{quote(path)}?{quote(query, safe='=&%+')}" if query else quote(path)


def _to_signin(_: Request[Any, Any, Any], error: SignInFirst) -> Response[bytes]:
    return Response(
        b"", status_code=303, media_type="text/plain", headers={"location": f"/login?next={quote(own_path(error.args[0]))}"}
    )


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
    return Response(msgspec.json.encode(body), status_code=status, media_type=PROBLEM, headers=dict(headers or {}))
