"""How control itself reaches instances, for checks and probes: over plain HTTP, or over TLS as workers do.

One HTTP client for each way of speaking TLS, all with contexts that `link/trust.py` made, so that control believes whom workers
believe. It knows no check and no configuration.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self
from urllib.parse import urlsplit

import httpx
import msgspec

from slmgate.link.trust import Trusts, why_not
from slmgate.policy.places import allowed
from slmgate.policy.specs import HeldSpec, TrustSpec

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
        self._made: dict[tuple[Way | None, HeldSpec | None], tuple[ssl.SSLContext | None, httpx.AsyncClient]] = {}

    def __repr__(self) -> str:
        return f"<Clients: {len(self._made)}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _context, client in self._made.values():
            await client.aclose()

    def of(self, way: Way | None, held: HeldSpec | None = None) -> httpx.AsyncClient | str:
        """The client for this way, or why there is none. None: plain HTTP. `held`: for names that have to lead there."""
        context = None if way is None else self._trusts.context(way.trust)
        if isinstance(context, str):
            return context
        plain = None if way is None else msgspec.structs.replace(way, trust=msgspec.structs.replace(way.trust, stamp=""))
        key = plain, held
        known = self._made.get(key)
        if known is None or known[0] is not context:  # checks by another one that are under way go on by it
            made = make_client(self._transport, context, None if way is None else way.server_name, held)
            known = self._made[key] = context, made
        return known[1]


def make_client(
    transport: httpx.AsyncBaseTransport | None = None,
    context: ssl.SSLContext | None = None,
    server_name: str | None = None,
    held: HeldSpec | None = None,
) -> httpx.AsyncClient:
    """A client for instances. `transport` stands for the network in tests. Without `context`, nobody is believed over TLS."""
    if transport is None:
        transport = httpx.AsyncHTTPTransport(
            verify=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,  # workers leave proxies of the environment aside too
            limits=_LIMITS,
        )
    if held is not None:
        transport = _Held(transport, held)
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


class NoPlace(httpx.ConnectError):
    """A name leads where no instance may be."""


class _Held(httpx.AsyncBaseTransport):
    """Looks a name up once, judges every address, and connects to one of those judged: a second answer cannot differ."""

    def __init__(self, transport: httpx.AsyncBaseTransport, held: HeldSpec) -> None:
        self._transport = transport
        self._held = held

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpx.ConnectError("its name cannot be resolved") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(allowed(one, self._held.loopback, self._held.networks) for one in addresses):
            raise NoPlace("its name leads where no instance may be")
        failed = httpx.ConnectError("its name has no address")
        for address in addresses:
            fixed = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # with the Host that was meant
                extensions={"sni_hostname": host, **request.extensions},
            )
            try:
                return await self._transport.handle_async_request(fixed)
            except httpx.ConnectError as error:
                failed = error
        raise failed

    async def aclose(self) -> None:
        await self._transport.aclose()


def why_not_reached(error: Exception, url: str, way: Way | None) -> str | None:
    """What went wrong, with TLS or before it, for the operator. None: nothing that has more words than its kind."""
    if isinstance(error, NoPlace):
        return str(error)
    if way is None:
        return None
    return why_not(error, way.server_name or urlsplit(url).hostname or "", opening=isinstance(error, httpx.ConnectError))


def may_want_a_certificate(way: Way | None) -> str:
    """What to add where an instance took the connection and ended it without an answer."""
    if way is None or way.trust.cert:
        return ""
    return "; one that asks for client certificates may do so, and tls.cert names none"
