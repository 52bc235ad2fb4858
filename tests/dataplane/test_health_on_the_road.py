"""Health on the way of requests: what ends of requests and words of control come to, in exchange, pool and balance together.

The states and their order are `tests/policy/test_health.py`'s; here they are fed by real exchanges on fakes.
"""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.dataplane.pool import Instance, ModelPool, Pools
from slmgate.link.messages import Checked, CheckedOut
from slmgate.policy.health import VERDICT_SECONDS, HealthSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import STREAMED, Road
from tests.tools.stage import Stage, instance, model, reply, request

CHAT = request({"model": "m"})
LONG = 15.0  # longer than a slow start, shorter than a verdict counts
ONE_B = instance("b", max_in_flight=1)
PASSED_OVER = HealthSpec(errors=2)


def pool(road: Road) -> ModelPool:
    return road.stage.worker.pools.models["m"]


def first(road: Road) -> Instance:
    return pool(road).instances[0]


def ask(stage: Stage) -> Any:
    """A client's request, under way."""
    client = stage.connect()
    client.feed(CHAT)
    stage.loop.settle()
    return client


def busy(road: Road) -> list[int]:
    return [one.busy for one in pool(road).instances]


def states(road: Road) -> list[str]:
    return [one.health.state for one in pool(road).instances]


def answers(stage: Stage, host: str, status: int = 200) -> None:
    """The newest connection to `host` answers."""
    stage.loop.opened[host][-1].feed(reply(b"{}", status))
    stage.loop.settle()


@pytest.mark.parametrize(
    ("status", "state"), [(503, "ejected"), (502, "ejected"), (429, "ejected"), (500, "healthy"), (400, "healthy")]
)
def test_statuses_that_speak_of_the_instance(open_road: OpenRoad, status: int, state: str) -> None:
    """500 speaks of the request as often as of the instance, and 400 of the request only."""
    road = open_road(model("a", "b", attempts=1, health=PASSED_OVER))
    for _ in range(4):
        client = ask(road.stage)
        answers(road.stage, "a", status) if busy(road)[0] else answers(road.stage, "b")
        client.lose()
        road.stage.loop.settle()
    assert states(road) == [state, "healthy"]


def test_a_good_answer_in_between(open_road: OpenRoad) -> None:
    road = open_road(model("a", attempts=1, health=PASSED_OVER))
    for status in (503, 200, 503, 200, 503):
        client = ask(road.stage)
        answers(road.stage, "a", status)
        client.lose()
        road.stage.loop.settle()
    assert states(road) == ["healthy"]


def test_streams_that_break_count(open_road: OpenRoad) -> None:
    road = open_road(model("a", attempts=1, health=PASSED_OVER))
    for _ in range(2):
        client = road.stage.connect()
        client.feed(request({"model": "m", "stream": True}))
        road.stage.loop.settle()
        connection = road.stage.loop.opened["a"][-1]
        connection.feed(STREAMED)
        connection.lose(ConnectionResetError())
        road.stage.loop.settle()
        client.lose()
    assert states(road) == ["ejected"]


def test_silence_counts(open_road: OpenRoad) -> None:
    road = open_road(model("a", attempts=1, first_byte_timeout=1.0, health=PASSED_OVER))
    for _ in range(2):
        client = ask(road.stage)
        road.stage.loop.turn(2)
        client.lose()
        road.stage.loop.settle()
    assert states(road) == ["ejected"]
    assert first(road).health.kind == "silent"


def test_a_client_that_leaves_says_nothing_of_the_instance(open_road: OpenRoad) -> None:
    road = open_road(model("a", health=HealthSpec(errors=1)))
    ask(road.stage).lose()
    road.stage.loop.settle()
    assert states(road) == ["healthy"]


def test_one_trial_at_a_time_and_then_bit_by_bit(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b", balance="least_busy", attempts=2, health=PASSED_OVER))
    road.stage.loop.doors["a"] = "refuses"
    ask(road.stage)
    ask(road.stage)
    assert (states(road), busy(road)) == (["ejected", "healthy"], [0, 2])
    road.stage.loop.doors["a"] = "opens"
    road.stage.loop.turn(0.5)
    ask(road.stage)
    assert states(road) == ["recovering", "healthy"], "a connection is all that was wanted"
    assert first(road).share == pytest.approx(0.1)
    for _ in range(8):
        ask(road.stage)
    assert busy(road) == [1, 10]
    road.stage.loop.turn(5.5)
    assert first(road).share == pytest.approx(0.5, abs=0.1)
    for _ in range(6):
        ask(road.stage)
    assert busy(road)[0] >= 5
    road.stage.loop.turn(6)
    assert (states(road), first(road).share, first(road).watched) == (["healthy", "healthy"], 1.0, False)


def test_a_trial_that_fails(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b", attempts=1, health=HealthSpec(errors=1)))
    ask(road.stage)
    answers(road.stage, "a", 503)
    assert states(road)[0] == "ejected"
    road.stage.loop.turn(0.5)
    for _ in range(3):
        ask(road.stage)
    assert (states(road)[0], busy(road)) == ("half_open", [1, 2])
    answers(road.stage, "a", 503)
    assert (states(road)[0], first(road).health.down_until - road.stage.clock.passed) == ("ejected", 1.0)


def test_turns_count_for_more_while_it_has_less_than_its_share(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    pool(road).tell({"a": CheckedOut("a", "silent", "")})
    pool(road).tell({"a": None})
    for _ in range(22):
        ask(road.stage)
    assert busy(road) == [2, 20]


def test_room_is_waited_for_rather_than_that_one_who_is_out_is_asked(open_road: OpenRoad) -> None:
    """It may be frozen: a place in line is better than no answer. Who is out is asked when nobody else is left to try."""
    road = open_road(model("a", ONE_B, attempts=2))
    road.stage.worker.pools.checked(Checked(out=(CheckedOut("a", "silent", "no answer"),)))
    one, two = ask(road.stage), ask(road.stage)
    assert (busy(road), len(pool(road).waiting)) == ([0, 1], 1)
    answers(road.stage, "b")
    assert (busy(road), len(pool(road).waiting)) == ([0, 1], 0)
    road.stage.loop.turn(0.25)  # later than a connection is lost that had been closed before
    road.stage.loop.opened["b"][-1].lose(ConnectionResetError())
    road.stage.loop.settle()
    assert busy(road) == [1, 0], "b was tried, and lost it"
    one.lose()
    two.lose()


def test_who_waits_is_served_when_an_instance_is_back(open_road: OpenRoad) -> None:
    road = open_road(model("a", ONE_B))
    checked = road.stage.worker.pools.checked
    checked(Checked(out=(CheckedOut("a", "silent", "no answer"),)))
    ask(road.stage)
    ask(road.stage)
    assert len(pool(road).waiting) == 1
    checked(Checked(well=("a",)))
    road.stage.loop.settle()
    assert (busy(road), len(pool(road).waiting)) == ([1, 1], 0)


def test_what_checks_said_before_the_first_snapshot(open_road: OpenRoad) -> None:
    road = open_road()
    pools = Pools(road.stage.loop, lambda _: None)
    pools.checked(Checked(out=(CheckedOut("a", "silent", ""),), well=("b",)))
    pools.update({"m": model("a", "b")})
    a, b = pools.models["m"].instances
    assert (a.health.state, b.health.state, pools.models["m"].ready(0.0)) == ("unhealthy", "healthy", True)
    pools.update({"m": model("a")})
    assert a.health.state == "unhealthy", "a reload keeps it"
    assert not pools.models["m"].ready(0.0)


def test_checks_that_nobody_repeats_are_forgotten(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    road.stage.worker.pools.checked(Checked(out=(CheckedOut("a", "silent", ""),)))
    road.stage.loop.turn(VERDICT_SECONDS + 2)
    assert states(road) == ["ejected", "healthy"]
    ask(road.stage)
    answers(road.stage, "a")
    assert states(road) == ["recovering", "healthy"]


def test_when_most_are_out(open_road: OpenRoad) -> None:
    """Those that answer something are asked all the same, the one where nobody answers is not; when all are out, all are."""
    road = open_road(model("a", "b", "c", "d"))
    out = [CheckedOut(id, "refused", "GET /health answered 503") for id in "ab"]
    road.stage.worker.pools.checked(Checked(out=tuple(out)))
    for _ in range(4):
        ask(road.stage)
    assert busy(road) == [0, 0, 2, 2]
    road.stage.worker.pools.checked(Checked(out=(CheckedOut("c", "silent", "no answer"),)))
    for _ in range(6):
        ask(road.stage)
    assert busy(road) == [2, 2, 2, 4]
    road.stage.worker.pools.checked(Checked(out=(CheckedOut("d", "silent", "no answer"),)))
    before = busy(road)[2]
    for _ in range(8):
        ask(road.stage)
    assert busy(road)[2] > before
    assert not pool(road).ready(road.stage.clock.passed)


def test_one_that_is_slow_beside_its_siblings(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b", "c", health=HealthSpec(outlier=3.0, samples=4)))
    stage = road.stage
    for _ in range(4):
        clients = [ask(stage) for _ in range(3)]
        stage.loop.turn(0.25)
        answers(stage, "a")
        answers(stage, "b")
        stage.loop.turn(1.0)
        answers(stage, "c")
        for client in clients:
            client.lose()
        stage.loop.settle()
    stage.loop.turn(1)
    assert states(road)[:2] == ["healthy", "healthy"]
    assert states(road)[2] != "healthy"


def test_changes_are_told_the_operator_once(open_road: OpenRoad, capsys: pytest.CaptureFixture[str]) -> None:
    road = open_road(model("a", "b"), complains=True)
    road.stage.loop.doors["a"] = "refuses"
    for _ in range(4):
        ask(road.stage)
    road.stage.loop.doors["a"] = "opens"
    road.stage.loop.turn(0.5)
    for _ in range(2):
        ask(road.stage)
    road.stage.loop.turn(12)
    checked = road.stage.worker.pools.checked
    checked(Checked(out=(CheckedOut("a", "silent", "no answer"),)))
    checked(Checked(well=("a",)))
    lines = [line for line in capsys.readouterr().err.splitlines() if "worker" in line]
    assert lines == [
        "slmgate: worker 0: a is passed over for 0.5 s: it cannot be reached",
        "slmgate: worker 0: a is tried again",
        "slmgate: worker 0: a is back, and takes more work bit by bit",
        "slmgate: worker 0: a is well",
    ], "of what checks find, control speaks, once for all workers"


def test_health_goes_on_while_an_instance_is_drained(open_road: OpenRoad) -> None:
    """What is known of it stays, what its checks find meanwhile is heard, and it comes back as what it is then."""
    road = open_road(model("a", "b"))
    checked = road.stage.worker.pools.checked
    drained = model("a", instance("b", draining=True))
    b = pool(road).instances[1]
    checked(Checked(out=(CheckedOut("b", "refused", "GET /health answered 503"),)))
    road.stage.publish(drained)
    assert (pool(road).leaving, b.health.state) == ([b], "unhealthy")
    row = road.stage.worker.pools.tallies(road.stage.clock.passed)[1]
    assert (row.id, row.state, row.why, row.healthy, row.draining) == ("b", "unhealthy", "GET /health answered 503", False, True)
    road.stage.publish(model("a", "b"))
    ask(road.stage), ask(road.stage)
    assert (busy(road), pool(road).instances[1] is b) == ([2, 0], True), "it is still unhealthy"
    road.stage.publish(drained)
    checked(Checked(well=("b",)))
    road.stage.publish(model("a", "b"))
    assert states(road) == ["healthy", "recovering"], "its checks succeeded meanwhile"
    road.stage.publish(drained)
    road.stage.loop.turn(LONG)
    road.stage.publish(model("a", "b"))
    assert states(road) == ["healthy", "healthy"], "time went on for it"
    ask(road.stage), ask(road.stage)
    assert busy(road) == [3, 1]


def test_health_of_one_that_is_gone_is_forgotten(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    b = pool(road).instances[1]
    road.stage.worker.pools.checked(Checked(out=(CheckedOut("b", "silent", "no answer"),)))
    road.stage.publish(model("a"))
    assert pool(road).leaving == []
    road.stage.publish(model("a", "b"))
    assert (states(road), pool(road).instances[1] is b) == (["healthy", "healthy"], False)


def test_who_failed_at_one_that_is_drained_now_may_try_the_other(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    ask(road.stage)
    assert busy(road) == [1, 0]
    road.stage.publish(model(instance("a", draining=True), "b"))
    answers(road.stage, "a", 503)
    assert busy(road) == [1], "it is tried again at the one that is left"
    answers(road.stage, "b")
    assert road.stage.receipts[-1]["attempts"] == 2


def test_the_model_in_place_of_one_whose_instances_are_drained(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", draining=True), fallback=("n",)), model("c", name="n"))
    ask(road.stage)
    answers(road.stage, "c")
    assert (road.stage.receipts[-1]["model"], road.stage.receipts[-1]["status"]) == ("n", 200)
