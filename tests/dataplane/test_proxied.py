"""Requests through a trusted proxy: whose they are by its header, on kept connections, with heads that repeat, after reloads.

The other end of every connection here is 192.0.2.7, which is the proxy where it is trusted.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec import structs

from slmgate.dataplane import client as client_module
from slmgate.dataplane.client import MAX_UNLIKE, ClientConnection
from slmgate.dataplane.door import Arrival
from slmgate.dataplane.keyed import Gone
from slmgate.policy.certificates import Certificate, CertificateSpec
from slmgate.policy.guard import GuardSpec, RateSpec
from slmgate.policy.specs import AuthSpec, GateSpec
from slmgate.terms import Key, LimitSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.fakes import FakeTransport
from tests.tools.stage import KEY, Stage, instance, model, reply, request

PROXY = "192.0.2.7"
BEHIND = GateSpec(trusted_proxies=(PROXY, "10.0.0.0/24"))
CHAT: dict[str, Any] = {"model": "m"}


def said(address: str, name: str = "X-Forwarded-For") -> bytes:
    return f"{name}: {address}\r\n".encode()


@pytest.fixture
def stage(open_road: OpenRoad) -> Stage:
    return open_road(gate=BEHIND).stage


def ask(stage: Stage, client: FakeTransport, fields: bytes = b"", **more: Any) -> str:
    """The address in the receipt of one request."""
    client.feed(request(CHAT, fields, **more))
    stage.loop.settle()
    for end in stage.loop.opened.get("a", ())[-1:]:
        if not end.closing:
            end.feed(reply(b"{}"))
    stage.loop.settle()
    address: str = stage.receipts[-1]["address"]
    return address


def last(stage: Stage) -> ClientConnection:
    return stage.clients[-1]


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        (b"", PROXY),
        (said("203.0.113.9"), "203.0.113.9"),
        (said("203.0.113.9, 10.0.0.5"), "203.0.113.9"),
        (said("198.51.100.1, 203.0.113.9"), "203.0.113.9"),
        (said("198.51.100.1") + said("203.0.113.9"), "203.0.113.9"),
        (said("203.0.113.9") + said("10.0.0.5", "x-forwarded-for"), "203.0.113.9"),
        (said("203.0.113.9, unknown"), PROXY),
        (said("203.0.113.9, _hidden, 10.0.0.5"), "10.0.0.5"),
        (said("::ffff:203.0.113.9"), "203.0.113.9"),
        (said("[2001:db8::9]:4711"), "2001:db8::9"),
        (said(""), PROXY),
        (said("203.0.113.9") + said("for=198.51.100.1", "Forwarded"), "203.0.113.9"),
        (said("for=198.51.100.1", "Forwarded"), PROXY),
        (said("198.51.100.1", "X-Real-IP") + said("198.51.100.1", "X_Forwarded_For"), PROXY),
        (said("203.0.113.9") + b"Connection: X-Forwarded-For\r\n", "203.0.113.9"),
    ],
)
def test_whose_a_request_is(stage: Stage, fields: bytes, address: str) -> None:
    assert ask(stage, stage.connect(), fields) == address


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        (said("for=203.0.113.9", "Forwarded"), "203.0.113.9"),
        (said('for="[2001:db8::9]:1"', "Forwarded") + said("for=10.0.0.5", "Forwarded"), "2001:db8::9"),
        (said("for=203.0.113.9", "Forwarded") + said("198.51.100.1"), "203.0.113.9"),
        (said("198.51.100.1"), PROXY),
        (said("for=unknown", "Forwarded"), PROXY),
    ],
)
def test_by_the_other_header(open_road: OpenRoad, fields: bytes, address: str) -> None:
    gate = GateSpec(trusted_proxies=BEHIND.trusted_proxies, proxy_header="forwarded")
    stage = open_road(gate=gate).stage
    assert ask(stage, stage.connect(), fields) == address


@pytest.mark.parametrize(
    "gate", [GateSpec(), GateSpec(trusted_proxies=("192.0.2.8",)), GateSpec(trusted_proxies=(PROXY,), proxy_header="none")]
)
def test_nobody_else_is_believed(open_road: OpenRoad, gate: GateSpec) -> None:
    stage = open_road(gate=gate).stage
    client = stage.connect()
    assert last(stage).proxied is None, "it is to pay nothing"
    assert ask(stage, client, said("203.0.113.9") + said("for=203.0.113.9", "Forwarded")) == PROXY
    assert last(stage).read_head == stage.worker.heads.read


def test_each_request_is_for_itself(stage: Stage) -> None:
    """One connection carries requests of many clients, with heads that repeat and some that do not."""
    client = stage.connect()
    one, other = said("203.0.113.9"), said("203.0.113.10")
    for fields, address in [
        (one, "203.0.113.9"),
        (one, "203.0.113.9"),
        (other, "203.0.113.10"),
        (one, "203.0.113.9"),
        (b"", PROXY),
    ] * 3:
        assert ask(stage, client, fields) == address


def test_a_head_that_repeats_after_another_that_is_not_kept(stage: Stage) -> None:
    """The one in between has no body, or a key for idempotency: such heads are not kept, but the address is theirs."""
    client = stage.connect()
    one = said("203.0.113.9")
    assert ask(stage, client, one) == "203.0.113.9"
    assert last(stage)._repeat is not None
    client.feed(request(b"", said("203.0.113.10"), b"GET /v1/models HTTP/1.1"))
    assert stage.receipts[-1]["address"] == "203.0.113.10"
    assert last(stage)._repeat is None
    assert ask(stage, client, one) == "203.0.113.9"
    assert ask(stage, client, said("203.0.113.10") + b"Idempotency-Key: k\r\n") == "203.0.113.10"
    assert ask(stage, client, one) == "203.0.113.9"


def test_heads_of_one_client_are_kept(stage: Stage) -> None:
    client = stage.connect()
    for _ in range(3):
        ask(stage, client, said("203.0.113.9"))
    assert last(stage)._repeat is not None
    assert last(stage)._unlike == 0


def test_of_many_clients_nothing_is_kept_in_vain(stage: Stage) -> None:
    client = stage.connect()
    for number in range(MAX_UNLIKE + 2):
        ask(stage, client, said(f"203.0.113.{number}"))
    assert last(stage)._repeat is None
    assert last(stage)._unlike == MAX_UNLIKE + 1


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_what_cannot_be_read_is_the_proxys(stage: Stage, bad: bytes) -> None:
    """Not of the client before: nobody can say whose such a request is."""
    client = stage.connect()
    ask(stage, client, said("203.0.113.10"))
    client.feed(bad)
    assert stage.receipts[-1]["address"] == PROXY
    assert stage.receipts[-1]["status"] == 400


# --- what goes by the address ------------------------------------------------------------------------------------------


def test_networks_of_a_key(stage: Stage) -> None:
    key = Key(id=KEY.id, name=KEY.name, team=None, roles=(), networks=("203.0.113.0/24",), digests=KEY.digests)
    stage.publish(keys=(key,))
    client = stage.connect()
    ask(stage, client, said("203.0.113.9"))
    assert stage.receipts[-1]["status"] == 200
    for fields in (b"", said("198.51.100.1"), said("203.0.113.9, 198.51.100.1"), said("203.0.113.9, unknown")):
        client = stage.connect()
        ask(stage, client, fields)
        assert stage.receipts[-1]["status"] == 403, fields


def test_limits_by_address(stage: Stage) -> None:
    limit = LimitSpec(name="l", text="1 requests/minute", identity="l", unit="requests", amount=1, seconds=60, per=("ip",))
    stage.publish(limits=(limit,))
    client = stage.connect()
    told = []
    for address in ("203.0.113.9", "203.0.113.10", "203.0.113.9", "198.51.100.1, 203.0.113.9", "203.0.113.9, 10.0.0.5"):
        ask(stage, client, said(address))
        told.append(stage.receipts[-1]["status"])
    assert told == [200, 200, 429, 429, 429]


def test_an_instance_by_the_address(open_road: OpenRoad) -> None:
    stage = open_road(
        model(instance("a"), instance("b"), instance("c"), balance="consistent_hash", balance_by="address"), gate=BEHIND
    ).stage
    client = stage.connect()
    for number in range(12):
        for _ in range(2):
            client.feed(request(CHAT, said(f"203.0.113.{number}")))
            stage.loop.settle()
            for ends in stage.loop.opened.values():
                ends[-1].feed(reply(b"{}"))
            stage.loop.settle()
    by_address: dict[str, set[str]] = {}
    for one in stage.receipts:
        by_address.setdefault(one["address"], set()).add(one["instance"])
    assert len(by_address) == 12
    assert all(len(instances) == 1 for instances in by_address.values())
    assert len(set.union(*by_address.values())) > 1


def test_a_copy_of_the_caller_keeps_the_address(stage: Stage) -> None:
    """A request that goes on without its client is still whose it was, when the next one on the connection is another's."""
    client = stage.connect()
    ask(stage, client, said("203.0.113.9"))
    copied = Gone(last(stage))
    ask(stage, client, said("203.0.113.10"))
    assert copied.address == "203.0.113.9"


# --- certificates ------------------------------------------------------------------------------------------------------

SHOWN = Certificate({"subject_cn": ("proxy",)}, "ca", 4e9)


def test_a_proxys_certificate_opens_nothing(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "certificate_of", lambda _: SHOWN)
    auth = AuthSpec(certificates=CertificateSpec(principal="subject_cn", roles=("internal",)))
    stage = open_road(gate=BEHIND).stage
    stage.publish(auth=auth)
    client = stage.connect()
    client.feed(request(b"", said("203.0.113.9"), b"GET /v1/models HTTP/1.1").replace(b"Authorization", b"X-Nothing"))
    assert stage.receipts[-1]["status"] == 401
    stage.publish(auth=auth, gate=GateSpec())
    client.feed(request(b"", said("203.0.113.9"), b"GET /v1/models HTTP/1.1").replace(b"Authorization", b"X-Nothing"))
    assert stage.receipts[-1]["status"] == 200
    assert stage.receipts[-1]["address"] == PROXY


# --- reloads -----------------------------------------------------------------------------------------------------------


def test_a_proxy_that_is_trusted_no_more(stage: Stage) -> None:
    """It holds for connections that are there, from their next request on."""
    client = stage.connect()
    client.feed(request(CHAT, said("203.0.113.9")))
    stage.loop.settle()
    stage.publish(gate=GateSpec())
    stage.loop.opened["a"][0].feed(reply(b"{}"))
    stage.loop.settle()
    assert stage.receipts[-1]["address"] == "203.0.113.9"
    assert ask(stage, client, said("203.0.113.9")) == PROXY
    assert last(stage).proxied is None
    assert ask(stage, client, said("203.0.113.9")) == PROXY


def test_a_proxy_that_is_trusted_from_now_on(open_road: OpenRoad) -> None:
    stage = open_road().stage
    client = stage.connect()
    assert ask(stage, client, said("203.0.113.9")) == PROXY
    stage.publish(gate=BEHIND)
    assert ask(stage, client, said("203.0.113.9")) == "203.0.113.9"
    stage.publish(gate=GateSpec(trusted_proxies=BEHIND.trusted_proxies, proxy_header="forwarded"))
    assert ask(stage, client, said("203.0.113.9")) == PROXY
    assert ask(stage, client, said("for=203.0.113.9", "Forwarded")) == "203.0.113.9"
    stage.publish(gate=GateSpec(trusted_proxies=BEHIND.trusted_proxies, proxy_header="none"))
    assert ask(stage, client, said("for=203.0.113.9", "Forwarded")) == PROXY


# --- with the PROXY protocol -------------------------------------------------------------------------------------------


def arrival(address: str, settled: bool = False) -> Arrival:
    made = Arrival(cast(Any, None), address, None, cast(Any, None))
    made.settled = settled
    return made


def test_what_the_door_has_learnt(stage: Stage) -> None:
    """The client that a proxy named is no proxy, so that its own header is none of one."""
    client = stage.connect(arrival=arrival("203.0.113.9"))
    assert ask(stage, client, said("198.51.100.1")) == "203.0.113.9"
    assert last(stage).proxied is None


def test_a_proxy_behind_a_proxy(stage: Stage) -> None:
    client = stage.connect(arrival=arrival("10.0.0.9"))
    assert ask(stage, client, said("203.0.113.9")) == "203.0.113.9"


def test_a_connection_of_which_a_proxy_could_not_say_whose_it_is(stage: Stage) -> None:
    client = stage.connect(arrival=arrival(PROXY, settled=True))
    assert ask(stage, client, said("203.0.113.9")) == PROXY
    stage.publish()
    assert ask(stage, client, said("203.0.113.9")) == PROXY


def test_repr(stage: Stage) -> None:
    stage.connect()
    assert repr(last(stage).proxied) == f"<Proxied by {PROXY}>"


def test_a_ban_behind_a_proxy_holds_on_all_its_connections(open_road: OpenRoad) -> None:
    """Also on one that has stood since before the limits of addresses were last changed."""
    limits = GuardSpec(failed_auth=RateSpec(2, 60, 2, "2/minute"), exempt=(PROXY,))
    gate = structs.replace(BEHIND, guard=limits)
    stage = open_road(gate=gate).stage
    told: list[str] = []
    client = said("203.0.113.9")
    old = stage.connect()
    assert ask(stage, old, client) == "203.0.113.9"
    stage.publish(gate=structs.replace(gate, guard=structs.replace(limits, ban=60.0)))
    assert ask(stage, old, client) == "203.0.113.9"
    other = stage.connect()
    for _ in range(3):
        other.feed(request(CHAT, client, key=b"wrong"))
        stage.loop.settle()
    stage.loop.told = lambda who, what, data: told.append(data[:12].decode())
    old.feed(request(CHAT, client))
    stage.loop.settle()
    assert told == ["HTTP/1.1 429"]
