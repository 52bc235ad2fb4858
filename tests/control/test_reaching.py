"""The clients of checks: one for each way, renewed with its files, under the name that is asked for."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest

from slmgate.control.reaching import Clients, NoPlace, Way, make_client, may_want_a_certificate, why_not_reached
from slmgate.policy.specs import HeldSpec, TrustSpec
from tests.tools.authority import Authority


def test_one_client_for_each_way(tmp_path: Path) -> None:
    file = str(Authority(tmp_path).file)

    async def look() -> None:
        async with Clients() as clients:
            plain = clients.of(None)
            assert clients.of(None) is plain
            one = clients.of(Way(TrustSpec(ca=file, stamp="1")))
            assert clients.of(Way(TrustSpec(ca=file, stamp="1"))) is one
            assert clients.of(Way(TrustSpec(ca=file, stamp="1"), "a.test")) is not one
            renewed = clients.of(Way(TrustSpec(ca=file, stamp="2")))
            assert renewed is not one and renewed is not plain
            assert repr(clients) == "<Clients: 3>"
            words = clients.of(Way(TrustSpec(ca=file + ".none")))
            assert words == "the TLS files for it cannot be used: No such file or directory"
        assert isinstance(renewed, httpx.AsyncClient) and renewed.is_closed

    asyncio.run(look())


@pytest.mark.parametrize(
    ("url", "host"),
    [("https://10.0.0.5/x", "a.test"), ("https://10.0.0.5:443/", "a.test"), ("https://10.0.0.5:8443/", "a.test:8443")],
)
def test_a_server_is_asked_under_its_name(url: str, host: str) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    async def ask() -> None:
        async with make_client(httpx.MockTransport(answer), None, "a.test") as client:
            await client.get(url, timeout=3)

    asyncio.run(ask())
    (request,) = seen
    assert request.headers["host"] == host
    assert request.extensions["sni_hostname"] == "a.test"
    assert request.extensions["timeout"]["connect"] == 3


def test_without_a_context_nobody_is_believed() -> None:
    async def look() -> ssl.SSLContext:
        async with make_client() as client:
            pool = client._transport._pool  # type: ignore[attr-defined]  # what httpx makes of `verify`
            context: ssl.SSLContext = pool._ssl_context
            return context

    context = asyncio.run(look())
    assert context.verify_mode == ssl.CERT_REQUIRED and context.cert_store_stats()["x509"] == 0


def test_words() -> None:
    failure = httpx.ConnectError("x")
    failure.__cause__ = ssl.SSLCertVerificationError(1, "x")
    failure.__cause__.verify_code = 62
    assert why_not_reached(failure, "https://a:1", None) is None
    assert why_not_reached(failure, "https://a:1", Way()) == "its certificate is not for a"
    assert why_not_reached(failure, "https://a:1", Way(server_name="b")) == "its certificate is not for b"
    lost = httpx.ReadError("x")
    lost.__cause__ = ConnectionResetError()
    assert why_not_reached(lost, "https://a:1", Way()) is None
    assert may_want_a_certificate(None) == "" == may_want_a_certificate(Way(TrustSpec(cert="x")))
    assert "tls.cert names none" in may_want_a_certificate(Way())


class Network(httpx.AsyncBaseTransport):
    """Notes what is asked of it; one address takes no connection."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if request.url.host == "10.0.0.1":
            raise httpx.ConnectError("refused")
        return httpx.Response(302, headers={"location": "http://169.254.169.254/"})


def asked(monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...], name: str | None = None) -> list[httpx.Request]:
    network = Network()

    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        return [(0, 0, 0, "", (one, 0)) for one in addresses]

    async def ask() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with make_client(network, None, name, HeldSpec()) as client:
            answer = await client.get("https://a.test:8000/health")
        assert answer.status_code == 302, "a redirect is not followed"

    asyncio.run(ask())
    return network.seen


def test_a_name_is_looked_up_once_and_every_address_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = asked(monkeypatch, ("10.0.0.1", "10.0.0.2"))
    assert [str(one.url) for one in seen] == ["https://10.0.0.1:8000/health", "https://10.0.0.2:8000/health"]
    assert {one.headers["host"] for one in seen} == {"a.test:8000"}
    assert {one.extensions["sni_hostname"] for one in seen} == {"a.test"}
    (named,) = asked(monkeypatch, ("10.0.0.2",), "b.test")
    assert (named.headers["host"], named.extensions["sni_hostname"]) == ("b.test:8000", "b.test")


@pytest.mark.parametrize("address", ["169.254.169.254", "127.0.0.1", "fd00:ec2::254", "::ffff:7f00:1"])
def test_a_name_that_leads_where_no_instance_may_be(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with pytest.raises(NoPlace) as caught:
        asked(monkeypatch, ("10.0.0.2", address))
    assert why_not_reached(caught.value, "https://a.test", None) == "its name leads where no instance may be"


def test_a_name_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(httpx.ConnectError, match="its name has no address"):
        asked(monkeypatch, ())
