"""Which addresses a provider may have and name, and what of its answers is taken. Nothing leaves this process."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from slmgate.control.admin.signin import fetch
from slmgate.control.admin.signin.fetch import MAX_BYTES, CheckedTransport, Fetch, ProviderFailed, may_ask, may_name

URL = "https://login.example.com/token"


@pytest.mark.parametrize(
    ("address", "own", "other"),
    [
        ("8.8.8.8", True, True),
        ("2606:4700::1", True, True),
        ("10.0.0.5", True, False),
        ("127.0.0.1", True, False),
        ("::1", True, False),
        ("::ffff:127.0.0.1", True, False),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
    ],
)
def test_addresses(address: str, own: bool, other: bool) -> None:
    assert may_ask(address, True) is own
    assert may_ask(address, False) is other


@pytest.mark.parametrize("url", ["https://a.example/x?y=z", "http://127.0.0.1:1/x", "http://localhost/x", "http://[::1]:8/"])
def test_urls_that_may_be_named(url: str) -> None:
    assert may_name(url)


@pytest.mark.parametrize(
    "url",
    [
        None, 1, "", "http://a.example/", "file:///etc/passwd", "gopher://127.0.0.1/", "https://u:p@a.example/", "//a.example",
        "https://a.example/\r\nx", "https://a.example/ x", "https://é.example/", "https:///x", "https://a.example:99999/",
        "https://a.example/#x", "http://127.0.0.1.evil.example/", "http://0x7f.1/", "https://[::1/",
    ],
)  # fmt: skip
def test_urls_that_may_not(url: object) -> None:
    assert not may_name(url)


def ask(handler: Any, url: str = URL, **options: Any) -> tuple[int, Any]:
    return asyncio.run(Fetch("https://login.example.com", httpx.MockTransport(handler)).json(url, **options))


def test_a_form_and_its_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.content) == ("POST", b"a=b+c")
        assert request.headers["authorization"].startswith("Basic ")
        return httpx.Response(400, json={"error": "invalid_grant"})

    assert ask(answer, form={"a": "b c"}, auth=("x", "y")) == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"location": "http://169.254.169.254/"}),
        httpx.Response(200, content=b"no json"),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(200, content=b"\xff"),
        httpx.Response(200, content=b'"' + b"x" * MAX_BYTES + b'"'),
        httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"{}")),
    ],
)
def test_answers_that_cannot_be_used(answer: httpx.Response) -> None:
    with pytest.raises(ProviderFailed):
        ask(lambda _: answer)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), OSError("no")])
def test_failures_are_translated(error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(ProviderFailed, match="cannot be asked"):
        ask(fail)


def test_a_url_that_may_not_be_named_is_not_asked() -> None:
    with pytest.raises(ProviderFailed, match="no address"):
        ask(lambda _: pytest.fail("asked"), "file:///etc/passwd")


class Resolver:
    """Stands for the system's resolver."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.addresses = addresses
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", self.answer)

    async def answer(self, *_: object, **__: object) -> list[Any]:
        if not self.addresses:
            raise OSError(2, "Name or service not known")
        return [(2, 1, 6, "", (address, 443)) for address in self.addresses]


def through(handler: Any) -> tuple[int, Any]:
    transport = CheckedTransport("login.example.com", httpx.MockTransport(handler))
    return asyncio.run(Fetch("https://login.example.com", transport).json(URL))


def test_the_address_judged_is_the_address_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, "192.0.2.1", "10.0.0.5")
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.host, request.headers["host"], request.extensions["sni_hostname"]))
        if request.url.host == "192.0.2.1":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={})

    assert through(answer) == (200, {})
    assert asked == [(address, "login.example.com", "login.example.com") for address in ("192.0.2.1", "10.0.0.5")]


@pytest.mark.parametrize("addresses", [("169.254.169.254",), ("8.8.8.8", "169.254.169.254"), ()])
def test_one_bad_address_is_enough(addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, *addresses)
    with pytest.raises(ProviderFailed):
        through(lambda _: pytest.fail("asked"))


def test_certificates_are_checked() -> None:
    assert fetch._trusted().check_hostname
