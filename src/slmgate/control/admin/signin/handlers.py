"""What the pages of sign-in answer: forms and redirects over `service.py`, cookies in and out.

The checks of host, origin and permission have been made when a handler runs; a form's own token is looked at here. It
decides nobody's rights.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec.structs import asdict

from slmgate.control.admin.context import AdminContext
from slmgate.control.admin.signin import pages
from slmgate.control.admin.signin.flow import own_path
from slmgate.control.admin.signin.service import FLOW_SECONDS, FORM_SECONDS, NO_STORE, STRAY, Outcome, Refused, SignIn
from slmgate.control.admin.signin.sessions import form_token
from slmgate.control.admin.theme import theme_of
from slmgate.control.audit import asked_from
from slmgate.control.config.admin_options import Admin
from slmgate.control.instance_words import condition
from slmgate.control.operators import Operator
from slmgate.stores.records import LedgerUnavailable

SESSION, FORM, FLOW = "slmgate-session", "slmgate-form", "slmgate-flow"
CALLBACK = "/login/callback"
MAX_FIELDS = 10
LINKS = (
    ("/api/v1/status", "Status"),
    ("/api/v1/instances", "Instances"),
    ("/api/v1/keys", "Keys"),
    ("/api/v1/usage?by=client,model", "Usage"),
    ("/api/v1/audit", "Audit log"),
    ("/api/openapi.json", "Description of the admin API"),
)

Asked = Request[Any, Any, Any]
Page = Response[bytes]
SignInService = NamedDependency[SkipValidation[SignIn]]
Context = NamedDependency[SkipValidation[AdminContext]]
Caller = NamedDependency[SkipValidation[Operator]]


class Site(NamedTuple):
    """What the browser calls this listener: `http://host:port`, and whether cookies may ask for TLS."""

    origin: str
    secure: bool

    def name(self, cookie: str) -> str:
        """RFC 6265bis, 4.1.3: a browser takes `__Host-` from this very host over TLS only."""
        return f"__Host-{cookie}" if self.secure else cookie

    def cookie(self, name: str, value: str, seconds: float) -> Cookie:
        """Lax and not Strict: after a provider's redirect the next page must know who came back."""
        return Cookie(
            key=self.name(name),
            value=value,
            max_age=math.ceil(seconds),
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="lax",
        )


def site_of(host: str, options: Admin) -> Site:
    """By the checked Host header: `admin.url` where that is what it names, else plain HTTP, which is all that listens here."""
    if options.url is not None and host.lower() == _authority(options.url):
        return Site(options.url, options.url.startswith("https://"))
    return Site(f"http://{host}", False)


def _authority(url: str) -> str:
    """A URL's host and port as a Host header has them (RFC 9110, 7.2): without the scheme's own port."""
    parts = urlsplit(url.lower())
    return parts.netloc.removesuffix(":443" if parts.scheme == "https" else ":80")


def session_cookie(host: str, cookies: Mapping[str, str], options: Admin) -> str:
    """The text of the session cookie, empty where there is none."""
    return cookies.get(site_of(host, options).name(SESSION), "")


async def login_page(request: Asked, signin: SignInService) -> Page:
    """The form, and the way to the provider."""
    return _login(request, signin, own_path(request.query_params.get("next")))


async def login(request: Asked, signin: SignInService) -> Page:
    """Name and password."""
    fields = await _fields(request)
    next, name = own_path(fields.get("next")), fields.get("name", "")[:256]
    if not _form_is_ours(request, signin, fields):
        return _login(request, signin, next, STRAY, name)
    site, before = _site(request, signin), _session(request, signin)
    outcome = await signin.with_password(name, fields.get("password", ""), asked_from.get(), before)
    return _arrive(site, signin, outcome, next, FORM) or _login(request, signin, next, outcome, name)


async def login_oidc(request: Asked, signin: SignInService) -> Page:
    """To the provider, with a cookie that ties the answer to this browser."""
    site, url, next = _site(request, signin), signin.options().url, own_path(request.query_params.get("next"))
    if url is not None and site.origin != url:
        return _redirect(f"{url}/login/oidc?next={quote(next)}")  # the provider sends back there, where this cookie would not be
    cookie, attempt = signin.flows.begin(next, time.time())
    where = await signin.leave_for_provider(attempt, site.origin + CALLBACK)
    if isinstance(where, Refused):
        return _message(request, "Sign-in cannot go on", where)
    return _redirect(where, site.cookie(FLOW, cookie, FLOW_SECONDS))


async def login_callback(request: Asked, signin: SignInService) -> Page:
    """Back from the provider."""
    site, before = _site(request, signin), _session(request, signin)
    pairs = list(request.query_params.multi_items())
    query = {name: str(value) for name, value in pairs}
    attempt = signin.flows.open(request.cookies.get(site.name(FLOW), ""), time.time())
    if len(query) < len(pairs):  # a name twice: which one was meant, nobody can say
        attempt = None
    came = asked_from.get(), before
    outcome = await signin.back_from_provider(query, attempt, site.origin + CALLBACK, came)
    arrived = _arrive(site, signin, outcome, attempt.next if attempt else "/", FLOW)
    if arrived is not None:
        return arrived
    assert isinstance(outcome, Refused)
    return _message(request, "Not signed in", outcome, site.cookie(FLOW, "", 0))


async def logout(request: Asked, signin: SignInService, caller: Caller) -> Page:
    """End the session."""
    session = _session(request, signin)
    given = (await _fields(request)).get("token", "")
    if not hmac.compare_digest(given.encode(), form_token(session).encode()):
        return _message(
            request, "Not signed out", Refused(403, "The form was not this session's. Go back, load the page again, sign out.")
        )
    try:
        await asyncio.to_thread(signin.sessions.end, session, caller.name)
    except LedgerUnavailable:
        return _message(request, "Not signed out", NO_STORE)
    return _redirect("/login", _site(request, signin).cookie(SESSION, "", 0))


async def home(request: Asked, signin: SignInService, context: Context, caller: Caller) -> Page:
    """Who you are, and the gate as it is now."""
    now, session = context.status(), _session(request, signin)
    state = "not running" if not now.running else "draining" if now.draining else "ready" if now.ready else "not ready"
    body = pages.render(
        "home",
        theme_of(request.cookies),
        operator=caller.name,
        role=caller.permission.name.lower(),
        token=form_token(session) if session and not request.headers.get("authorization") else "",
        state=state,
        faults=now.faults,
        models=now.models,
        instances=[{**row, "words": condition(row)} for row in map(asdict, now.instances)],
        workers=now.workers,
        links=LINKS,
    )
    return _page(body)


async def stylesheet() -> Response[bytes]:
    return Response(pages.stylesheet(), media_type="text/css")


def _login(request: Asked, signin: SignInService, next: str, outcome: Outcome | None = None, name: str = "") -> Page:
    site, options = _site(request, signin), signin.options()
    cookie = request.cookies.get(site.name(FORM), "")
    attempt = signin.forms.open(cookie, time.time() + FORM_SECONDS / 2)
    if attempt is None:  # else the form of another tab goes on working
        cookie, attempt = signin.forms.begin("/", time.time())
    refused = outcome if isinstance(outcome, Refused) else None
    body = pages.render(
        "login",
        theme_of(request.cookies),
        message=refused.text + _waiting(refused) if refused else "",
        issuer=options.auth.oidc.issuer if options.auth.oidc else "",
        local=options.auth.local,
        token=attempt.token,
        next=next,
        name=name,
    )
    return _page(body, refused, site.cookie(FORM, cookie, FORM_SECONDS))


def _arrive(site: Site, signin: SignIn, outcome: Outcome, next: str, used: str) -> Page | None:
    """On to the page that was asked for, with the session's cookie; None: refused."""
    if isinstance(outcome, Refused):
        return None
    session = site.cookie(SESSION, outcome.cookie, signin.options().auth.lifetime)
    return _redirect(next, session, site.cookie(used, "", 0))


def _form_is_ours(request: Asked, signin: SignIn, fields: Mapping[str, str]) -> bool:
    attempt = signin.forms.open(request.cookies.get(_site(request, signin).name(FORM), ""), time.time())
    return attempt is not None and hmac.compare_digest(fields.get("token", "").encode(), attempt.token.encode())


def _message(request: Asked, title: str, refused: Refused, *cookies: Cookie) -> Page:
    said = refused.text + _waiting(refused)
    return _page(pages.render("message", theme_of(request.cookies), title=title, message=said), refused, *cookies)


def _page(body: bytes, refused: Refused | None = None, *cookies: Cookie) -> Page:
    headers = dict(pages.HEADERS)
    if refused is not None and refused.wait:
        headers["retry-after"] = str(math.ceil(refused.wait))
    status = refused.status if refused else 200
    return Response(body, status_code=status, media_type="text/html", headers=headers, cookies=list(cookies))


def _redirect(where: str, *cookies: Cookie) -> Page:
    """303: what follows is a GET, whatever was asked (RFC 9110, 15.4.4)."""
    return Response(
        b"", status_code=303, media_type="text/plain", headers={**pages.HEADERS, "location": where}, cookies=list(cookies)
    )


def _waiting(refused: Refused) -> str:
    return f" Next try in {math.ceil(refused.wait)} s." if refused.status == 429 else ""


async def _fields(request: Asked) -> dict[str, str]:
    """The fields of a form; none where it is not UTF-8 or has a field twice."""
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        return {}
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else {}


def _site(request: Asked, signin: SignIn) -> Site:
    return site_of(request.headers.get("host", ""), signin.options())


def _session(request: Asked, signin: SignIn) -> str:
    return session_cookie(request.headers.get("host", ""), request.cookies, signin.options())
