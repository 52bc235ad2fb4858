"""Instances and their connections on fakes: back-off, idle connections, reloads that keep counts, who is served next.

Which instance is chosen is `policy/balance.py`'s; a whole request's way is `test_exchange.py`'s.

Length: one file for each source file, and each way in which an instance comes, goes and comes back is a scene of its own.
"""

from __future__ import annotations

import json
import ssl
from hashlib import sha256
from typing import Any

import pytest

from slmgate.dataplane.pool import IDLE_SECONDS, Instance, ModelPool
from slmgate.policy.health import FIRST_EJECTION, LONGEST_EJECTION
from slmgate.policy.retries import FLOOR, HALF
from slmgate.policy.roles import RoleSpec
from slmgate.policy.specs import GateSpec, TrustSpec
from slmgate.terms import Key
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import KEY, Stage, instance, model, reply, request

CHAT = request({"model": "m"})
ONE = instance("a", max_in_flight=1)


def pool(road: Road) -> ModelPool:
    return road.stage.worker.pools.models["m"]


def first(road: Road) -> Instance:
    return pool(road).instances[0]


def serve(stage: Stage, host: str = "a") -> None:
    """One request, answered by whoever gets it."""
    client = stage.connect()
    client.feed(CHAT)
    stage.loop.settle()
    stage.loop.opened[host][-1].feed(reply(b"{}"))
    client.lose()
    stage.loop.settle()


def test_an_instance_that_cannot_be_reached_is_passed_over_for_longer_each_time(road: Road) -> None:
    stage = road.stage
    stage.loop.doors["a"] = "refuses"
    waits = []
    for _ in range(7):
        for _ in range(3):  # those that fail meanwhile are no news
            stage.connect().feed(CHAT)
            stage.loop.settle()
        waits.append(first(road).health.down_until - stage.clock.passed)
        assert not pool(road).ready(stage.clock.passed)
        stage.loop.turn(waits[-1])
    assert waits == [FIRST_EJECTION, 1.0, 2.0, 4.0, 8.0, LONGEST_EJECTION, LONGEST_EJECTION]
    stage.loop.doors["a"] = "opens"
    serve(stage)
    assert first(road).health.state == "recovering"
    stage.loop.turn(LONGEST_EJECTION + 2)
    assert first(road).health.well()
    stage.loop.turn(LONGEST_EJECTION)
    stage.loop.opened["a"][0].lose()
    stage.loop.doors["a"] = "refuses"
    stage.connect().feed(CHAT)
    stage.loop.settle()
    assert first(road).health.down_until - stage.clock.passed == FIRST_EJECTION


def test_who_comes_back_is_not_flooded_to_catch_up(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    road.stage.loop.doors["a"] = "refuses"
    for _ in range(6):
        serve(road.stage, "b")
    a, b = pool(road).instances
    assert a.served < b.served
    road.stage.loop.doors["a"] = "opens"
    road.stage.loop.turn(20)
    serve(road.stage, "a")
    assert a.served == b.served


def test_the_warmest_connection_is_used_and_the_oldest_ages_out(road: Road) -> None:
    stage = road.stage
    clients = [stage.connect() for _ in range(2)]
    for client in clients:
        client.feed(CHAT)
    stage.loop.settle()
    one, two = stage.loop.opened["a"]
    one.feed(reply(b"{}"))
    stage.loop.turn(30)
    two.feed(reply(b"{}"))
    assert repr(first(road)) == "<Instance a: 0 busy, 2 idle>"
    stage.loop.turn(20)
    clients[0].feed(CHAT)
    stage.loop.settle()
    two.feed(reply(b"{}"))
    stage.loop.turn(IDLE_SECONDS - 50 + 2)
    assert (one.lost, two.lost) == (True, False)
    stage.loop.turn(IDLE_SECONDS)
    assert two.lost
    assert repr(first(road)) == "<Instance a: 0 busy, 0 idle>"


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_idle_connections_are_bounded(road: Road, monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    monkeypatch.setattr("slmgate.dataplane.pool.IDLE_CONNECTIONS", bound)
    stage = road.stage
    for _ in range(bound + 1):
        stage.connect().feed(CHAT)
    stage.loop.settle()
    for connection in stage.loop.opened["a"]:
        connection.feed(reply(b"{}"))
    stage.loop.settle()
    assert len(first(road).idle) == bound
    assert [connection.lost for connection in stage.loop.opened["a"]] == [False] * bound + [True]


def test_a_closing_connection_is_passed_over(road: Road) -> None:
    serve(road.stage)
    road.stage.loop.opened["a"][0].closing = True  # closed, but our side has yet to be told
    serve(road.stage)
    assert len(road.stage.loop.opened["a"]) == 2


def test_a_reload_keeps_what_is_known(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    serve(road.stage, "a")
    serve(road.stage, "b")
    a, b = pool(road).instances
    road.stage.publish(model(instance("b", weight=5, max_in_flight=3, bearer="new"), "c"))
    assert pool(road).instances[0] is b
    assert (b.weight, b.max_in_flight, b.fields) == (
        5,
        3,
        b"host: b\r\naccept-encoding: identity\r\nauthorization: Bearer new\r\n",
    )
    assert len(b.idle) == 1
    assert pool(road).instances[1].served == b.served, "a newcomer starts where the others are"
    assert repr(a) == "<Instance a: 0 busy, 0 idle, removed>"
    assert road.stage.loop.opened["a"][0].lost
    assert repr(pool(road)) == "<ModelPool m: [<Instance b: 0 busy, 1 idle>, <Instance c: 0 busy, 0 idle>], 0 waiting>"


def test_a_removed_instance_ends_what_it_does(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
    """)
    road.played = []
    road.stage.publish(model("b"))
    road.plays(r"""
        >> a       200 {}
        << a       aborted
        == 200     complete a 4+1~
        << client  200 | {}
    """)


def test_a_drained_instance_ends_what_it_does_and_comes_back(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    stage = road.stage
    serve(stage, "a")
    serve(stage, "b")
    client = stage.connect()
    client.feed(CHAT)
    stage.loop.settle()
    a, b = pool(road).instances
    assert (a.busy, len(b.idle)) == (1, 1)
    stage.publish(model(instance("a", draining=True), instance("b", draining=True)))
    assert (pool(road).instances, pool(road).leaving) == ([], [a, b])
    assert stage.loop.opened["b"][0].lost and not stage.loop.opened["a"][0].closing, "what is idle is closed"
    assert not pool(road).ready(stage.clock.passed)
    assert [(row.id, row.in_flight, row.draining) for row in stage.worker._figures(0.0).instances] == [
        ("a", 1, True),
        ("b", 0, True),
    ]
    stage.loop.opened["a"][0].feed(reply(b"{}"))
    stage.loop.settle()
    assert (a.busy, len(a.idle)) == (0, 0)
    stage.worker.pools.sweep(0.0)
    assert pool(road).leaving == [a, b], "they are still configured"
    stage.publish(model("a", instance("b", draining=True)))
    assert (pool(road).instances, pool(road).leaving) == ([a], [b])
    for _ in range(3):
        serve(stage, "a")
    stage.publish(model("a", "b"))
    assert (pool(road).instances, pool(road).leaving) == ([a, b], [])
    assert b.served == a.served, "who comes back is not flooded to catch up"
    serve(stage, "a")
    serve(stage, "b")


def test_one_that_is_gone_is_told_of_until_it_has_done_its_work(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", draining=True)))
    road.stage.publish(model("a", "b"))
    client = road.stage.connect()
    client.feed(CHAT)
    road.stage.loop.settle()
    (a,) = [one for one in pool(road).instances if one.busy]
    road.stage.publish(model("b") if a.spec.id == "a" else model("a"))
    road.stage.worker.pools.sweep(0.0)
    assert pool(road).leaving == [a]
    road.stage.loop.opened[a.spec.id][0].feed(reply(b"{}"))
    road.stage.loop.settle()
    road.stage.worker.pools.sweep(0.0)
    assert pool(road).leaving == []


def test_one_whose_model_is_gone_is_told_of_until_it_has_done_its_work(open_road: OpenRoad) -> None:
    """Else an engine that the gate started would be stopped in the middle of an answer."""
    road = open_road(model("a"), model("n", name="n"))
    pools, now = road.stage.worker.pools, road.stage.clock.passed
    client = road.stage.connect()
    client.feed(CHAT)
    road.stage.loop.settle()
    road.stage.publish(model("n", name="n"))
    pools.sweep(0.0)
    assert [(row.id, row.in_flight, row.draining) for row in pools.tallies(now)] == [("n", 0, False), ("a", 1, True)]
    road.stage.publish(model("a"), model("n", name="n"))
    assert {row.id: (row.in_flight, row.draining) for row in pools.tallies(now)} == {"n": (0, False), "a": (1, False)}
    road.stage.publish(model("n", name="n"))
    road.stage.loop.opened["a"][0].feed(reply(b"{}"))
    road.stage.loop.settle()
    pools.sweep(0.0)
    assert [row.id for row in pools.tallies(now)] == ["n"]


def test_a_drained_one_that_failed_does_not_keep_another_from_being_tried(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    road.stage.loop.doors["a"] = "hangs"
    client = road.stage.connect()
    client.feed(CHAT)
    road.stage.loop.settle()
    assert road.stage.loop.knocks == ["a"]
    road.stage.publish(model(instance("a", draining=True), instance("b", max_in_flight=1)))
    other = road.stage.connect()
    other.feed(CHAT)
    road.stage.loop.doors["a"] = "refuses"
    road.stage.loop.turn(1)
    assert len(pool(road).waiting) == 1, "the first one waits for the other instance"
    road.stage.loop.opened["b"][0].feed(reply(b"{}"))
    road.stage.loop.settle()
    assert len(pool(road).waiting) == 0


def test_nobody_waits_for_drained_instances_who_was_not_in_line_before(open_road: OpenRoad) -> None:
    road = open_road(model(ONE))
    for _ in range(2):
        road.stage.connect().feed(CHAT)
    road.stage.loop.settle()
    road.stage.publish(model(instance("a", max_in_flight=1, draining=True)))
    road.stage.connect().feed(CHAT)
    road.stage.loop.settle()
    assert len(pool(road).waiting) == 1, "the newcomer is refused"
    assert road.stage.receipts[-1]["reason"] == "overloaded"
    road.stage.publish(model(ONE))
    road.stage.loop.opened["a"][0].feed(reply(b"{}"))
    road.stage.loop.settle()
    assert len(pool(road).waiting) == 0


def test_more_room_by_a_reload_serves_those_who_wait(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    for number in range(3):
        road.stage.connect(f"client{number}").feed(CHAT)
    road.stage.loop.settle()
    assert (first(road).busy, len(pool(road).waiting)) == (1, 2)
    road.stage.publish(model(instance("a", max_in_flight=3)))
    assert (first(road).busy, len(pool(road).waiting)) == (3, 0)


def test_a_model_without_instances(open_road: OpenRoad) -> None:
    road = open_road()
    road.stage.publish(model("a").__class__(name="m", instances=()))
    road.plays(r"""
        >> client  chat
        == 503     refused !overloaded
        << client  503 !overloaded retry-after: 1
    """)


def test_who_cannot_be_served_does_not_keep_the_others_waiting(open_road: OpenRoad) -> None:
    """First in line is one that has tried `a` and waits for `b`; `a` has room for the one behind."""
    road = open_road(model("a", instance("b", max_in_flight=1), retry_on=("502",)))
    road.plays(r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  chat
        == intent   b
        << b        <chat>
        >> a        502 {}
        >> client3  chat
        == intent   a
        << a        <chat>
        >> a        200 {}
        == 200      complete a 4+1~
        << client3  200 | {}
        >> b        200 {}
        == 200      complete b 4+1~
        << b        <chat>
        << client2  200 | {}
        >> b        200 {}
        == 200      complete b 4+1~
        << client   200 | {}
    """)


def test_a_failed_connection_serves_who_waits(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1), attempts=1))
    road.plays(r"""
        >> door     a hangs
        >> client   chat
        >> client2  chat
        >> door     a refuses
        >> clock    0.25
        == 502      upstream_error a !upstream_error
        << client   502 !upstream_error
        == 502      upstream_error a !upstream_error
        << client2  502 !upstream_error
    """)


def test_tls_to_an_instance(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", tls=True)))
    must = first(road).secured
    assert must is not None and isinstance(must.context, ssl.SSLContext)
    assert must.context.verify_mode == ssl.CERT_REQUIRED and must.context.check_hostname
    serve(road.stage)


def test_who_must_be_somebody_else_now_is_connected_to_anew(open_road: OpenRoad) -> None:
    """Idle connections end at once, and one that was busy meanwhile is not used again; one that must show the same goes on."""
    road = open_road(model(instance("a", tls=True)))
    stage = road.stage
    serve(stage)
    one, opened = first(road), stage.loop.opened["a"]
    stage.publish(model(instance("a", tls=True, weight=2)))
    assert len(one.idle) == 1
    client = stage.connect()
    client.feed(CHAT)
    stage.loop.settle()
    stage.publish(model(instance("a", tls=True, server_name="b")))
    assert one.secured is not None and one.secured.name == "b"
    opened[0].feed(reply(b"{}"))
    assert len(one.idle) == 1 and not opened[0].lost
    client.feed(CHAT)
    stage.loop.settle()
    assert opened[0].lost and len(opened) == 2
    opened[1].feed(reply(b"{}"))
    stage.publish(model(instance("a", tls=True, server_name="c")))
    stage.loop.settle()
    assert not one.idle and opened[1].lost


def test_a_refusal_after_the_handshake(open_road: OpenRoad, capsys: pytest.CaptureFixture[str]) -> None:
    """With TLS 1.3 an instance that misses the gate's certificate says so only then, and to operators it is told as such."""
    road = open_road(model(instance("a", tls=True)))
    stage = road.stage
    stage.connect().feed(CHAT)
    stage.loop.settle()
    refusal = ssl.SSLError(1, "")
    refusal.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    stage.loop.opened["a"][0].lose(refusal)
    assert "a: it needs a client certificate (tls.cert), and was shown none" in capsys.readouterr().err


def test_files_that_cannot_be_used(open_road: OpenRoad) -> None:
    """Nothing is connected to, and the operator reads why."""
    road = open_road(model(instance("a", tls=True, trust=TrustSpec(ca="/none.pem"))))
    road.plays("""
        >> client   chat
        == 502      upstream_error a !upstream_error
        << client   502 !upstream_error
    """)
    assert "a" not in road.stage.loop.opened
    assert first(road).health.why == "the TLS files for it cannot be used: No such file or directory"


def test_every_instance_is_visited(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"), model("c", name="n"))
    seen: list[str] = []
    road.stage.worker.pools.each_instance(lambda one: seen.append(one.spec.id))
    assert seen == ["a", "b", "c"]


# --- the line


class Crowd:
    """Callers by name, each with a key and, if it is told so, a role; `serve` answers for the instance `a`."""

    def __init__(self, road: Road, *roles: RoleSpec, **callers: str) -> None:
        self.road, self.stage = road, road.stage
        keys = [Key(id=name, name=name, roles=(role,) if role else (), digests=_opens(name)) for name, role in callers.items()]
        self.keys = KEY, *keys
        self.stage.publish(roles=roles, keys=self.keys)
        self.clients: list[str] = []
        self.told: dict[str, bytes] = {}  # what each was written last
        self.stage.loop.told = self._told

    def _told(self, who: str, what: str, data: bytes) -> None:
        if what == "write":
            self.told[who] = data

    def asks(self, names: str, **fields: Any) -> None:
        """One request of each."""
        for name in names:
            self.clients.append(f"{name}{len(self.clients)}")
            self.stage.connect(self.clients[-1]).feed(request({"model": "m", "user": name, **fields}, key=_secret(name)))
            self.stage.loop.settle()

    def serve(self, turns: int = 1, seconds: float = 0.0) -> str:
        """Let the instance answer so many; who they were."""
        served = ""
        for _ in range(turns):
            self.stage.loop.turn(seconds)
            connection = self.stage.loop.opened["a"][-1]
            served += json.loads(self.told["a"].rpartition(b"\r\n\r\n")[2])["user"]
            connection.feed(reply(b"{}"))
            self.stage.loop.settle()
        return served

    def refusals(self) -> list[tuple[str, int, str]]:
        """Who was refused, with the status and the message."""
        found: list[tuple[str, int, str]] = []
        for who in self.clients:
            said = self.told.get(who, b"HTTP/1.1 200")
            if not said.startswith(b"HTTP/1.1 200"):
                error = json.loads(said.rpartition(b"\r\n\r\n")[2])["error"]
                found.append((who[0], int(said[9:12]), error["message"]))
        return found


def _secret(name: str) -> bytes:
    return b"sk-slm-unit-of-" + name.encode() * 16


def _opens(name: str) -> tuple[tuple[bytes, None], ...]:
    return ((sha256(_secret(name)).digest(), None),)


def test_many_waiting_delay_another_by_one(open_road: OpenRoad) -> None:
    crowd = Crowd(open_road(model(ONE)), p="", q="")
    crowd.asks("pppppp")
    assert crowd.serve(3) == "ppp"
    crowd.asks("q")
    assert crowd.serve(4) == "pqpp"


@pytest.mark.parametrize(("fairness", "order"), [("tokens", "ppqqqqpqppp"), ("requests", "ppqpqpqpqpq"), ("none", "pppppqqqqqp")])
def test_what_is_shared(open_road: OpenRoad, fairness: str, order: str) -> None:
    crowd = Crowd(open_road(model(ONE, queue_fairness=fairness)), p="", q="")
    crowd.asks("p", max_tokens=5)
    crowd.asks("pppp", max_tokens=405)
    crowd.asks("qqqqq", max_tokens=96)
    crowd.asks("p", max_tokens=405)
    assert crowd.serve(11) == order


def test_weight_and_priority_are_the_roles(open_road: OpenRoad) -> None:
    roles = RoleSpec(name="light"), RoleSpec(name="heavy", weight=3), RoleSpec(name="first", priority=1)
    crowd = Crowd(open_road(model(ONE)), *roles, p="light", q="heavy", r="first")
    crowd.asks("p" + "pq" * 8 + "rr")
    assert crowd.serve(3) == "prr"
    assert crowd.serve(8).count("q") == 6
    assert sorted(crowd.serve(8)) == sorted("pppppp" + "qq")


def test_first_come_first_served_knows_no_class(open_road: OpenRoad) -> None:
    roles = RoleSpec(name="light"), RoleSpec(name="first", priority=1)
    crowd = Crowd(open_road(model(ONE, queue_fairness="none", queue_waiting=2)), *roles, p="light", r="first")
    crowd.asks("ppp")
    crowd.asks("r")
    assert [name for name, *_ in crowd.refusals()] == ["r"]
    assert crowd.serve(3) == "ppp"


def test_who_has_most_in_a_full_line_makes_room(open_road: OpenRoad) -> None:
    crowd = Crowd(open_road(model(ONE, queue_waiting=4, queue_timeout=20.0)), p="", q="", r="")
    crowd.asks("ppppp")
    crowd.asks("q")
    told = "This request was about number 5 in line, and no place has come free lately. Try again in 20 seconds."
    full = "The model is busy. All of the 4 places in line are taken"
    assert crowd.refusals() == [("p", 503, f"{full}, and nobody has more of them than you. {told}")]
    assert b"\r\nretry-after: 20\r\n" in crowd.told["p4"]
    crowd.asks("q")  # two of each
    crowd.asks("qp")
    assert [name for name, *_ in crowd.refusals()] == ["p", "p", "q", "p"]
    assert crowd.refusals()[2][2].startswith(f"{full}. This request would be about number 5 in line, and no place")
    crowd.asks("r")
    assert crowd.refusals()[4][0] == "p"
    assert sorted(crowd.serve(5)) == sorted("ppqqr")


def test_the_refusal_tells_the_wait(open_road: OpenRoad) -> None:
    crowd = Crowd(open_road(model(ONE, queue_waiting=8, queue_timeout=300.0)), p="", q="")
    crowd.asks("p" * 9)
    assert crowd.serve(8, seconds=2.0) == "p" * 8
    crowd.asks("p" * 8)
    crowd.asks("p")
    (refused,) = crowd.refusals()
    assert refused[2] == (
        "The model is busy. All of the 8 places in line are taken. This request would be about number 9 in line, "
        "which takes about 18 seconds at the present pace. Try again in 18 seconds."
    )


def test_nobody_is_sent_away_for_longer_than_others_wait(open_road: OpenRoad) -> None:
    crowd = Crowd(open_road(model(ONE, queue_waiting=3, queue_timeout=8.0)), p="")
    crowd.asks("ppp")
    assert crowd.serve(2, seconds=3.5) == "pp"
    crowd.asks("pppp")
    assert "takes about 14 seconds at the present pace. Try again in 8 seconds." in crowd.refusals()[-1][2]
    assert crowd.serve(3, seconds=0.01) == "ppp"
    crowd.asks("pppp")
    assert crowd.refusals()[-1][2].endswith("Try again in 6 seconds.")


def test_who_is_tried_again_goes_first(open_road: OpenRoad) -> None:
    """It has had its turn: `b` is full when `a` fails it, and it is the next for `b`, though others came before."""
    road = open_road(model(ONE, instance("b", max_in_flight=1), retry_on=("502",)))
    road.plays(r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  chat
        == intent   b
        << b        <chat>
        >> client3  chat
        >> client4  chat
        >> a        502 {}
        == intent   a
        << a        <chat>
        >> b        200 {}
        == 200      complete b 4+1~
        << b        <chat>
        << client2  200 | {}
        >> b        200 {}
        == intent   b
        == 200      complete b 4+1~
        << b        <chat>
        << client   200 | {}
    """)


def test_a_whole_line_of_the_revoked_is_told_so(open_road: OpenRoad) -> None:
    """Each gives its place back in the call in which it gets it: the stack must not grow with the line."""
    crowd = Crowd(open_road(model(ONE)), p="", q="")
    crowd.asks("q" + "p" * 300)
    crowd.stage.publish(keys=tuple(key for key in crowd.keys if key.id != "p"))
    assert crowd.serve() == "q"
    assert {(name, status) for name, status, _ in crowd.refusals()} == {("p", 401)} and len(crowd.refusals()) == 300


def test_a_model_that_goes_takes_its_line_with_it(open_road: OpenRoad) -> None:
    crowd = Crowd(open_road(model(ONE)), p="")
    crowd.asks("pppp")
    crowd.stage.publish(model(name="other"), keys=crowd.keys)
    assert [status for _, status, _ in crowd.refusals()] == [404] * 3


def test_the_line_is_served_while_the_gate_drains(open_road: OpenRoad) -> None:
    crowd = Crowd(open_road(model(ONE), gate=GateSpec(drain_timeout=10.0)), p="")
    crowd.asks("ppp")
    crowd.road._do("gate", "drains", {})
    crowd.stage.loop.settle()
    assert crowd.serve(3, seconds=1.0) == "ppp"
    crowd.stage.loop.turn(1)
    assert crowd.stage.life.done()


def test_who_still_waits_at_the_end_is_refused_and_asked_of_nobody(open_road: OpenRoad) -> None:
    crowd = Crowd(open_road(model(ONE), gate=GateSpec(drain_timeout=5.0)), p="", q="")
    crowd.asks("pqq")
    crowd.road._do("gate", "drains", {})
    crowd.stage.loop.turn(6)
    assert [(name, status) for name, status, _ in crowd.refusals()] == [("p", 503), ("q", 503), ("q", 503)]
    assert sorted(one["instance"] for one in crowd.stage.receipts) == ["", "", "a"]
    assert len(crowd.stage.loop.opened["a"]) == 1


def test_with_room_the_queue_is_not_touched(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = open_road(model(instance("a", max_in_flight=2)))
    monkeypatch.setattr(pool(road), "queue", None)
    serve(road.stage)
    road.stage.connect().feed(CHAT)
    serve(road.stage)


# --- the budget of retries


def dying(road: Road, count: int, every: float = 0.0) -> int:
    """So many requests, all refused by whichever instance gets them; how many tries that came to."""
    stage, before = road.stage, len(road.stage.receipts)
    for _ in range(count):
        client = stage.connect()
        client.feed(CHAT)
        stage.loop.settle()
        while asked := [one for ends in stage.loop.opened.values() for one in ends if one.protocol.exchange is not None]:  # type: ignore[attr-defined]  # they are instances' connections
            asked[0].feed(reply(b"{}", 503))
            stage.loop.settle()
        client.lose()
        stage.loop.turn(every)
    return sum(receipt["attempts"] for receipt in stage.receipts[before:])


def test_a_dying_pool_is_not_stormed(open_road: OpenRoad) -> None:
    """Each request would be tried three times; of 200 only a fifth is tried once more, and a few are allowed to the quiet."""
    road = open_road(model("a", "b", "c", attempts=3))
    assert dying(road, 5) == 15
    assert dying(road, 195) == 195 + 30
    assert {receipt["status"] for receipt in road.stage.receipts} == {503}


def test_after_a_while_there_is_room_for_retries_again(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    assert dying(road, 20) == 20 + FLOOR
    assert dying(road, 20) == 20
    road.stage.loop.turn(2 * HALF)
    assert dying(road, 20) == 20 + FLOOR


@pytest.mark.parametrize(("share", "tries"), [(0.0, 30), (0.5, 45), (1.0, 60), (9.0, 60)])
def test_the_budget_is_the_models_and_changes_by_a_reload(open_road: OpenRoad, share: float, tries: int) -> None:
    road = open_road(model("a", "b", retry_budget=0.2))
    road.stage.publish(model("a", "b", retry_budget=share))
    assert dying(road, 30) == tries


def test_an_only_instance_spends_nothing(open_road: OpenRoad) -> None:
    """There is nobody else to ask: what was not tried again is not counted."""
    road = open_road(model("a"))
    assert dying(road, 30) == 30
    road.stage.publish(model("a", "b"))
    assert dying(road, FLOOR) == 2 * FLOOR
