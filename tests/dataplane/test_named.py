"""Connections at a listener with certificates for several names: which Host belongs to which, and that others are as ever.

Which certificate is shown, and what it is for, is in test_tls.py.
"""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slmgate.dataplane.named import NamedConnection
from slmgate.dataplane.tls import Front
from slmgate.terms import Refuse
from tests.tools.fakes import FakeTransport
from tests.tools.road import Road
from tests.tools.shown import shown
from tests.tools.stage import SECRET, reply, request

SHOWN = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class FakeFront:
    """`b.example` belongs to another certificate than the one that was shown."""

    def __init__(self) -> None:
        self.context = SHOWN
        self.asked: list[str] = []

    def is_misdirected(self, host: str, context: ssl.SSLContext) -> bool:
        assert context is SHOWN
        self.asked.append(host)
        return host == "b.example"


class TlsTransport(FakeTransport):
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return SimpleNamespace(context=SHOWN) if name == "ssl_object" else super().get_extra_info(name, default)


class Scene:
    def __init__(self, road: Road) -> None:
        self.stage, self.front, self.seen = road.stage, FakeFront(), list[str]()
        client = NamedConnection(self.stage.worker, cast(Front, self.front))
        self.stage.loop.told = self.told
        self.end = TlsTransport(self.stage.loop, client, lambda what, data: self.told("client", what, data))
        client.connection_made(self.end)
        self.stage.clients.append(client)

    def told(self, who: str, what: str, data: bytes) -> None:
        if who == "client":
            self.seen.append(shown(data) if what == "write" else what)
        elif what == "write":
            self.stage.loop.call_soon(self.stage.loop.opened["a"][-1].feed, reply(b"{}"))

    def ask(self, host: bytes, body: Any = None) -> list[str]:
        del self.seen[:]
        self.end.feed(request(body or {"model": "m"}).replace(b"Host: gate", b"Host: " + host))
        self.stage.loop.settle()
        return list(self.seen)


@pytest.fixture
def scene(road: Road) -> Scene:
    return Scene(road)


def test_who_is_right_is_served_and_asked_once(scene: Scene) -> None:
    for host in (b"A.Example:8443", b"A.Example:8443", b"c.example", b"A.Example:8443"):
        assert scene.ask(host)[0].startswith("200")
    assert scene.front.asked == ["a.example", "c.example", "a.example"]


@pytest.mark.parametrize("host", [b"b.example", b"B.EXAMPLE:1"])
def test_who_is_wrong_is_told_so_and_the_connection_closed(scene: Scene, host: bytes) -> None:
    assert scene.ask(b"a.example")[0].startswith("200")
    seen = scene.ask(host)
    assert seen[0].startswith("421 !misdirected_request"), seen
    assert "half-closed" in seen or "closed" in seen
    scene.stage.loop.turn(0)
    records = [record for kind, record in scene.stage.read_journal() if kind == b"R"]
    assert [record.get("status") for record in records] == [200, 421]
    assert len(scene.stage.loop.opened["a"]) == 1


def test_a_body_behind_a_misdirected_head_is_no_request(scene: Scene) -> None:
    smuggled = request({"model": "m"}).replace(b"Host: gate", b"Host: a.example")
    scene.end.feed(request({"model": "m"}).replace(b"Host: gate", b"Host: b.example") + smuggled)
    scene.stage.loop.settle()
    assert scene.seen[0].startswith("421")
    assert "a" not in scene.stage.loop.opened


def test_without_host(scene: Scene) -> None:
    """HTTP/1.0 may leave it out: there is nothing to compare."""
    scene.end.feed(b"GET /v1/models HTTP/1.0\r\nAuthorization: Bearer %b\r\n\r\n" % SECRET)
    scene.stage.loop.settle()
    assert scene.seen[0].startswith("200")
    assert scene.front.asked == []


def test_a_trusted_proxy_speaks_for_many_hosts(scene: Scene) -> None:
    scene.stage.clients[-1].proxied = cast(Any, SimpleNamespace(address="192.0.2.7"))
    assert scene.ask(b"b.example")[0].startswith("200")


def test_who_asks_too_often_is_told_that(scene: Scene) -> None:
    refused = Refuse("rate_limit_exceeded", "Too many.", rule="guard")
    scene.stage.clients[-1].visitor = cast(Any, SimpleNamespace(asks=lambda: refused))
    assert scene.ask(b"b.example")[0].startswith("429")
    assert [kind for kind, _ in scene.stage.read_journal() if kind == b"R"] == []
