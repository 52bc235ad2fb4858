"""How control itself reaches instances, for checks and probes: over plain HTTP, or over TLS as workers do.

One HTTP client for each way of speaking TLS, all with contexts that `link/trust.py` made, so that control believes whom workers
believe. It knows no check and no configuration.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self
from urllib.parse import urlsplit

import httpx
import msgspec

from slmgate.link.trust import Trusts, why_not
from slmgate.policy.snapshot import TrustSpec

_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # that it accepts is part of the check


class Way(msgspec.Struct, frozen=True):
    """How an instance is spoken to over TLS. `server_name`: what it must show and is asked for; None: the host of its URL."""

    trust: TrustSpec = TrustSpec()
    server_name: str | None = None


class Clients:
    """The clients of one checker, one for each way; none keeps a connection open."""

    def __init__(self, say: Callable[[str], None] = lambda _: None, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`say` reaches the operator. `transport` stands for the network in tests."""
        self._trusts = Trusts(say)
        self._transport = transport
        self._made: dict[Way | None, tuple[ssl.SSLContext | None, httpx.AsyncClient]] = {}

    def __repr__(self) -> str:
        return f"<Clients: {len(self._made)}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _context, client in self._made.values():
            await client.aclose()

    def of(self, way: Way | None) -> httpx.AsyncClient | str:
        """The client for this way, or why there is none. None: plain HTTP."""
        context = None if way is None else self._trusts.context(way.trust)
        if isinstance(context, str):
            return context
        key = None if way is None else msgspec.structs.replace(way, trust=msgspec.structs.replace(way.trust, stamp=""))
        known = self._made.get(key)
        if known is None or known[0] is not context:  # checks by another one that are under way go on by it
            made = make_client(self._transport, context, None if way is None else way.server_name)
            known = self._made[key] = context, made
        return known[1]


def make_client(
    transport: httpx.AsyncBaseTransport | None = None, context: ssl.SSLContext | None = None, server_name: str | None = None
) -> httpx.AsyncClient:
    """A client for instances. `transport` stands for the network in tests. Without `context`, nobody is believed over TLS."""
    if transport is None:
        transport = httpx.AsyncHTTPTransport(
            verify=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,  # workers leave proxies of the environment aside too
            limits=_LIMITS,
        )
    return httpx.AsyncClient(
        transport=transport if server_name is None else _Named(transport, server_name),
        follow_redirects=False,
        trust_env=False,
        headers={"accept-encoding": "identity", "user-agent": "slmgate"},
        # What one instance sets would be kept without a bound, and told to each other one on that host.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


class _Named(httpx.AsyncBaseTransport):
    """Asks each server under one name, which it must show."""

    def __init__(self, transport: httpx.AsyncBaseTransport, name: str) -> None:
        self._transport = transport
        self._name = name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        port = request.url.port
        request.headers["host"] = self._name if port in (None, 443) else f"{self._name}:{port}"
        request.extensions = {**request.extensions, "sni_hostname": self._name}
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


def why_not_reached(error: Exception, url: str, way: Way | None) -> str | None:
    """What went wrong with TLS, for the operator. None: something else did, or nothing that is known."""
    if way is None:
        return None
    return why_not(error, way.server_name or urlsplit(url).hostname or "", opening=isinstance(error, httpx.ConnectError))


def may_want_a_certificate(way: Way | None) -> str:
    """What to add where an instance took the connection and ended it without an answer."""
    if way is None or way.trust.cert:
        return ""
    return "; one that asks for client certificates may do so, and tls.cert names none"
