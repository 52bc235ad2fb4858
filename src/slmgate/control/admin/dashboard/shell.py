"""What is around every page: the request made an `Ask`, the answer made HTML or CSV, forms held to their token, errors as pages.

The checks of host, origin and permission have been made when a page is asked for. It knows no page; the table of them is given.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.params import FromPath

from slmgate.control.admin.context import AdminContext, GateStatus
from slmgate.control.admin.dashboard import assets, words
from slmgate.control.admin.dashboard.asking import Ask, Go, View, Wrong, named
from slmgate.control.admin.dashboard.page import Page, navigation
from slmgate.control.admin.dashboard.span import RANGES, zone_named
from slmgate.control.admin.dashboard.tables import Table
from slmgate.control.admin.handlers import STATUS
from slmgate.control.admin.params import Caller, Context
from slmgate.control.admin.routes import Route
from slmgate.control.admin.signin.handlers import SignInService, session_cookie, site_of
from slmgate.control.admin.signin.sessions import form_token
from slmgate.control.admin.theme import COOKIE as THEME
from slmgate.control.admin.theme import THEMES, theme_of
from slmgate.control.keyring import utc_now
from slmgate.control.operators import Operator, Permission
from slmgate.stores.records import LedgerUnavailable

if TYPE_CHECKING:
    from jinja2 import Environment

_log = logging.getLogger("slmgate.admin")
_PAGES = Path(__file__).parent / "pages"
MAX_FIELDS = 500
ZONE = "slmgate-zone"
YEAR = 365 * 86400
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    # nothing but what stands here ourselves, and nothing inline (W3C CSP 3)
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # with `no-referrer` a browser would send `Origin: null` with our own forms (Fetch, "append a request Origin header")
    "referrer-policy": "same-origin",
}
TITLES = {400: "That cannot be shown", 403: "Not permitted", 404: "Not found", 503: "The ledger cannot be read now"}
Asked = Request[Any, Any, Any]


def route_of(page: Page, pages: Callable[[], Sequence[Page]]) -> Route:
    """The row as the application takes it. `pages` gives the whole table, for the navigation."""

    async def serve(request: Asked, context: Context, caller: Caller, signin: SignInService) -> Response[bytes]:
        session = session_cookie(request.headers.get("host", ""), request.cookies, context.admin)
        token = form_token(session) if session and not request.headers.get("authorization") else ""
        fields: Mapping[str, Sequence[str]] = {}
        if page.method == "POST":
            fields = await _fields(request)
            given = fields.get("token", ("",))[0]
            if not token or not hmac.compare_digest(given.encode(), token.encode()):
                said = "The form was not this session's. Go back, load the page again, and send it once more."
                return _failed(pages(), context, caller, request, Wrong(said, 403))
        ask = _ask(request, context, caller, fields, token)
        try:
            if inspect.iscoroutinefunction(page.handler):
                return await asyncio.to_thread(_answer, request, await page.handler(ask), ask, page, pages())
            return await asyncio.to_thread(_answer_blocking, request, ask, page, pages())
        except Exception as error:  # noqa: BLE001  # whatever it is, a browser gets a page; what is unknown is logged there
            return _failed(pages(), context, caller, request, error)

    return Route(page.method, page.path, page.permission, serve, page=True, max_body=page.max_body)


async def serve_asset(name: FromPath[str]) -> Response[bytes]:
    """The stylesheet, the script or the icon, by the name with its hash."""
    found = assets.asset(name)
    if found is None:
        return Response(b"", status_code=404, media_type="text/plain", headers={"cache-control": "no-store"})
    headers = {"cache-control": "public, max-age=31536000, immutable", "cross-origin-resource-policy": "same-origin"}
    return Response(found.body, media_type=found.kind, headers=headers)


async def set_theme(request: Asked, context: Context) -> Response[bytes]:
    """Light, dark, or as the system is; kept by the browser. It changes nothing here, so that it needs no token."""
    fields = await _fields(request)
    theme = (fields.get("to") or ("system",))[0]
    back = (fields.get("back") or ("/",))[0]
    if theme not in THEMES:
        theme = "system"
    if not back.startswith("/") or back.startswith(("//", "/\\")) or not back.isprintable() or not back.isascii():
        back = "/"
    return _redirect(back, _cookie(request, context, THEME, theme))


def error_page(request: Asked, status: int, detail: str, pages: Sequence[Page], context: AdminContext) -> Response[bytes]:
    """What went wrong, as a page: with the navigation for who is signed in."""
    operator = getattr(request.state, "operator", None)
    return _failed(pages, context, operator if isinstance(operator, Operator) else None, request, Wrong(detail, status))


def wants_page(request: Asked) -> bool:
    """Whether whoever asks is a browser that would show a page."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api")


def _answer_blocking(request: Asked, ask: Ask, page: Page, pages: Sequence[Page]) -> Response[bytes]:
    made = page.handler(ask)
    assert isinstance(made, View | Go)
    return _answer(request, made, ask, page, pages)


def _answer(request: Asked, made: View | Go, ask: Ask, page: Page, pages: Sequence[Page]) -> Response[bytes]:
    if isinstance(made, Go):
        mark = "&" if "?" in made.path else "?"
        return _redirect(f"{made.path}{mark}said={quote(made.said)}" if made.said else made.path)
    if ask.csv is not None:
        return _csv(made, ask)
    cookies = []
    if "tz" in ask.query and str(ask.zone) == ask.query["tz"] != request.cookies.get(ZONE):
        cookies.append(_cookie(request, ask.context, ZONE, ask.query["tz"]))
    body = render(made, ask, page, pages, theme=theme_of(request.cookies))
    return Response(body, status_code=made.status, media_type="text/html", headers=HEADERS, cookies=cookies)


def _csv(view: View, ask: Ask) -> Response[bytes]:
    table = next((each for each in view.tables if isinstance(each, Table) and ask.csv == (each.name or "table")), None)
    if table is None:
        raise Wrong("This page has no such table.", 404)
    name = "-".join(part for part in ("slmgate", *ask.path.strip("/").split("/")[:1], table.name) if part) or "slmgate"
    headers = {**HEADERS, "content-disposition": f'attachment; filename="{name}.csv"'}
    return Response(table.csv(), media_type="text/csv; charset=utf-8", headers=headers)


def render(view: View, ask: Ask, page: Page, pages: Sequence[Page], theme: str = "system") -> bytes:
    """The page as HTML."""
    values = {
        **view.values,
        "ask": ask,
        "title": view.title or page.title,
        "nav": navigation(pages, ask.caller.permission, page.under or page.path),
        "theme": theme,
        "refresh": view.refresh if ask.span.live else 0,
        "ranged": view.ranged,
        "paths": {each.path for each in pages},
        "said": page.said.get(ask.query.get("said", ""), ""),
        "span": ask.span,
    }
    return environment().get_template(view.template).render(values).encode()


def _failed(
    pages: Sequence[Page], context: AdminContext, caller: Operator | None, request: Asked, error: Exception
) -> Response[bytes]:
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
    said = str(error.args[0]) if error.args else ""
    headers = dict(HEADERS)
    if isinstance(error, Wrong):
        status = error.status
    elif isinstance(error, LedgerUnavailable):
        _log.error("%s", said)
        said = "Nothing was changed. The log of slmgate says why; try again in a few seconds."
        headers["retry-after"] = "5"
    elif status == 500:
        _log.error("The dashboard failed.", exc_info=error)
        said = "The page could not be made; the log of slmgate says where."
    body = (
        environment()
        .get_template("error.html")
        .render(
            title=TITLES.get(status, "Something went wrong"),
            message=said,
            status=status,
            nav=navigation(pages, caller.permission, "") if caller is not None else [],
            theme=theme_of(request.cookies),
            ask=None if caller is None else _bare(context, caller, request),
            refresh=0,
            paths=(),
            ranged=False,
            said="",
            span=None,
        )
    )
    return Response(body.encode(), status_code=status, media_type="text/html", headers=headers)


def _bare(context: AdminContext, caller: Operator, request: Asked) -> Ask:
    session = session_cookie(request.headers.get("host", ""), request.cookies, context.admin)
    token = form_token(session) if session and not request.headers.get("authorization") else ""
    return Ask(context=context, caller=caller, status=GateStatus(), path="/", now=utc_now(), token=token)


def _ask(request: Asked, context: AdminContext, caller: Operator, fields: Mapping[str, Sequence[str]], token: str) -> Ask:
    query = {name: str(value) for name, value in request.query_params.multi_items()}  # of a name that is there twice, the last
    zone = zone_named(query.get("tz", "")) or zone_named(request.cookies.get(ZONE, "")) or zone_named("UTC")
    assert zone is not None
    return Ask(
        context=context,
        caller=caller,
        status=context.status(),
        path=quote(request.scope["path"]),
        now=utc_now(),
        names={name: named(str(value)) for name, value in request.path_params.items()},
        query=query,
        fields=fields,
        zone=zone,
        token=token,
    )


async def _fields(request: Asked) -> dict[str, list[str]]:
    """The fields of a form; none where it is not UTF-8 or has too many."""
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        return {}
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _cookie(request: Asked, context: AdminContext, name: str, value: str) -> Cookie:
    secure = site_of(request.headers.get("host", ""), context.admin).secure
    return Cookie(key=name, value=value, max_age=YEAR, path="/", secure=secure, httponly=True, samesite="lax")


def _redirect(where: str, *cookies: Cookie) -> Response[bytes]:
    """303: what follows is a GET, whatever was asked (RFC 9110, 15.4.4)."""
    return Response(b"", status_code=303, media_type="text/plain", headers={**HEADERS, "location": where}, cookies=list(cookies))


@cache
def environment() -> Environment:
    """The templates, with what all of them may call."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals |= {
        "words": words,
        "asset": assets.addresses(),
        "RANGES": RANGES,
        "THEMES": THEMES,
        "OPERATOR": Permission.OPERATOR,
        "OWNER": Permission.OWNER,
    }
    return made
