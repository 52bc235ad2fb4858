"""Asking an identity provider over HTTP: bounded in time and size, no redirect followed, each address looked at before use.

A provider's documents name further addresses, so this is where a lie in them ends: another host than the issuer's must
have public addresses, and no host may be of the local link, where clouds keep their machines' credentials. It knows
nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from slmgate.control.config.addresses import is_loopback

SECONDS = 10.0
MAX_BYTES = 256 * 1024


class ProviderFailed(Exception):
    """The provider cannot be asked, or said what cannot be used. The text is for the log, not for whoever signs in."""


class CheckedTransport(httpx.AsyncBaseTransport):
    """Resolves a name once, judges every address, and connects to one of those judged: a second answer cannot differ."""

    def __init__(self, own_host: str, inner: httpx.AsyncBaseTransport) -> None:
        self._own_host = own_host
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host, failed = request.url.host, None
        for address in await self._addresses(host, request.url.port or (443 if request.url.scheme == "https" else 80)):
            fixed = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # with the Host that was meant
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._inner.handle_async_request(fixed)
            except httpx.ConnectError as error:
                failed = error
        raise failed or httpx.ConnectError("the name has no address")

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpx.ConnectError(f"its name cannot be resolved ({error.strerror})") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not may_ask(address, host == self._own_host):
                raise ProviderFailed(f"{host} has the address {address}, which slmgate does not ask")
        return addresses


def may_ask(address: str, own: bool) -> bool:
    """Whether a connection may be made to `address`. `own`: of the issuer's host itself, which the configuration names."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or (ip.is_reserved and not ip.is_loopback):
        return False
    return own or ip.is_global


def may_name(url: object) -> bool:
    """Whether a provider's document may name this address: `https`, or `http` on this machine, without a user."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    return safe and bool(host) and parts.username is None and not parts.fragment


class Fetch:
    """Asks on behalf of one issuer."""

    def __init__(self, issuer: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` None: the network, with each address checked."""
        self._own_host = urlsplit(issuer).hostname or ""
        self._transport = transport

    async def json(self, url: str, form: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None) -> tuple[int, Any]:
        """Status and decoded JSON of a GET, or of a POST of `form`. Raises ProviderFailed."""
        if not may_name(url):
            raise ProviderFailed(f"{url[:200]!r} is no address that slmgate asks")
        transport = self._transport or CheckedTransport(
            self._own_host, httpx.AsyncHTTPTransport(verify=_trusted(), trust_env=False)
        )
        where = urlsplit(url).netloc
        try:
            async with (
                asyncio.timeout(SECONDS),
                httpx.AsyncClient(transport=transport, timeout=SECONDS, trust_env=False, follow_redirects=False) as client,
                client.stream(
                    "GET" if form is None else "POST",
                    url,
                    data=None if form is None else dict(form),
                    auth=auth,
                    headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "slmgate"},
                ) as answer,
            ):
                if answer.is_redirect or answer.headers.get("content-encoding", "identity") != "identity":
                    raise ProviderFailed(f"{where} answered with {answer.status_code}, which is not what was asked for")
                body = b""
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise ProviderFailed(f"{where} answered with more than {MAX_BYTES // 1024} KiB")
                return answer.status_code, json.loads(body)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            raise ProviderFailed(f"{where} cannot be asked: {str(error) or type(error).__name__}") from None
        except (ValueError, RecursionError):
            raise ProviderFailed(f"{where} did not answer with JSON") from None


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()  # the system's authorities, or those of SSL_CERT_FILE
