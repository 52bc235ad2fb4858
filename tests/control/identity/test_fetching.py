"""Questions to providers on a fake network: only JSON, whole, in time, from where it was asked, and nothing followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from slmgate.control.identity.fetching import MAX_ANSWER, Fetcher, jwks_address
from slmgate.control.identity.outcomes import CannotTell

URL = "https://login.example.com/jwks"
JSON = {"content-type": "application/json"}


class Body(httpx.AsyncByteStream):
    """A body that comes in pieces, as from a network."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._content), 65536):
            yield self._content[at : at + 65536]


def reply(headers: dict[str, str] = JSON, content: bytes = b"{}") -> httpx.Response:
    return httpx.Response(200, headers=headers, stream=Body(content))


def fetch(answer: Callable[[httpx.Request], Any], *form: Any, timeout: float = 5.0) -> bytes:
    async def run() -> bytes:
        fetcher = Fetcher(timeout, transport=httpx.MockTransport(answer))
        assert repr(fetcher) == "<Fetcher idle>"
        try:
            return await (fetcher.post(URL, *form) if form else fetcher.get(URL))
        finally:
            await fetcher.close()
            await fetcher.close()

    return asyncio.run(run())


@pytest.mark.parametrize("kind", ["application/json", "application/jwk-set+json", "Application/JSON; charset=utf-8"])
def test_an_answer(kind: str) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return reply({"content-type": kind, "set-cookie": "a=b"})

    assert fetch(answer) == b"{}"
    assert (seen[0].method, str(seen[0].url), seen[0].headers["accept-encoding"]) == ("GET", URL, "identity")


def test_a_form() -> None:
    """The name and secret are encoded before they are joined (RFC 6749 section 2.3.1)."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return reply()

    assert fetch(answer, {"token": "a b"}, ("id:1", "s+/")) == b"{}"
    assert seen[0].content == b"token=a+b"
    assert seen[0].headers["authorization"] == "Basic aWQlM0ExOnMlMkIlMkY="  # id%3A1:s%2B%2F
    fetch(answer, {"token": "a"})
    assert "authorization" not in seen[1].headers


def raising(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: httpx.Response(500, headers=JSON, content=b"{}"), "answered 500"),
        (lambda _: httpx.Response(302, headers={"location": "https://attacker.example/"}), "answered 302"),
        (lambda _: httpx.Response(204), "answered 204"),
        (lambda _: httpx.Response(200, headers={"content-type": "text/html"}, content=b"{}"), "other than JSON"),
        (lambda _: httpx.Response(200, content=b"{}"), "other than JSON"),
        (lambda _: httpx.Response(200, headers={**JSON, "content-encoding": "gzip"}, stream=Body(b"x")), "compressed"),
        (lambda _: httpx.Response(200, headers=JSON, stream=Body(b" " * (MAX_ANSWER + 1))), "longer than"),
        (raising(httpx.ConnectError("secret")), "ConnectError"),
        (raising(httpx.ReadTimeout("x")), "ReadTimeout"),
        (raising(OSError()), "OSError"),
    ],
)
def test_what_is_no_answer(answer: Callable[[httpx.Request], httpx.Response], why: str) -> None:
    with pytest.raises(CannotTell, match=why) as failure:
        fetch(answer)
    assert "secret" not in str(failure.value)


def test_the_bound_of_an_answer() -> None:
    assert len(fetch(lambda _: reply(content=b" " * MAX_ANSWER))) == MAX_ANSWER


def test_the_time_limit() -> None:
    async def answer(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(CannotTell, match="did not answer within"):
        fetch(answer, timeout=0.01)


HTTPS, LOCAL = "https://login.example.com/realm", "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("url", "issuer"),
    [
        ("https://login.example.com/keys", HTTPS),
        ("https://www.googleapis.com/oauth2/v3/certs", HTTPS),
        ("http://127.0.0.1:9000/jwks", LOCAL),
        ("https://10.0.0.5/jwks", "https://10.0.0.5"),
    ],
)
def test_addresses_of_keys(url: str, issuer: str) -> None:
    assert jwks_address(url, issuer) == url


@pytest.mark.parametrize(
    "url",
    [
        None,
        5,
        "",
        "file:///etc/passwd",
        "gopher://x/",
        "ftp://login.example.com/",
        "http://login.example.com/jwks",
        "https://user@login.example.com/jwks",
        "https://login.example.com/jwks?x=1",
        "https://login.example.com/jwks#x",
        "https://login.example.com/\r\nHost: x",
        "https://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/jwks",
        "https://localhost/jwks",
        "http://localhost/jwks",
        "https://[::1]/jwks",
        "https://[::ffff:127.0.0.1]/jwks",
        "https://2130706433/jwks",
        "https://0x7f000001/jwks",
        "https://0177.0.0.1/jwks",
        "https://metadata/jwks",
        "https:///jwks",
    ],
)
def test_addresses_that_are_not_asked(url: Any) -> None:
    with pytest.raises(CannotTell):
        jwks_address(url, HTTPS)


def test_no_way_down_from_https() -> None:
    with pytest.raises(CannotTell, match="not encrypted"):
        jwks_address("http://127.0.0.1/jwks", "https://127.0.0.1")
