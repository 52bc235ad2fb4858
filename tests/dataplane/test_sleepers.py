"""Instances that would have to be started, as a worker sees them: who waits, for how long, who is told what, on the road.

Starting is control's affair; here the test says what became of it.
"""

from __future__ import annotations

from typing import Any

from slmgate.dataplane.sleepers import AGAIN_SECONDS, NEWS_SECONDS, Sleepers
from slmgate.link.messages import Checked, Message, NotStarted, Wanted
from slmgate.policy.specs import InstanceSpec, ModelSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import instance, model, reply, request

CHAT = request({"model": "m"})


def asleep(**more: Any) -> InstanceSpec:
    return instance("a", asleep=True, start_within=60.0, **more)


def awake(**more: Any) -> InstanceSpec:
    return instance("a", start_within=60.0, **more)


class Control:
    """What control is told, and what it says; and what clients were written."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.heard: dict[str, bytes] = {}
        road.stage.loop.told = self._told
        self.worker = road.stage.worker
        self.sent: list[Message] = []
        self.worker._link.send = self.sent.append  # type: ignore[method-assign, assignment]  # control is listening

    def wanted(self) -> int:
        return sum(isinstance(one, Wanted) for one in self.sent)

    def _told(self, who: str, what: str, data: bytes) -> None:
        if what == "write":
            self.heard[who] = self.heard.get(who, b"") + data

    def asks(self, who: str) -> None:
        """A client asks."""
        self.road.stage.connect(who).feed(CHAT)
        self.road.stage.loop.settle()

    def serves(self, host: str = "a", what: bytes = reply(b"{}"), at: int = -1) -> None:
        """An instance answers."""
        self.road.stage.loop.opened[host][at].feed(what)
        self.road.stage.loop.settle()

    def loses(self) -> None:
        """The instance is gone, a moment after it was asked."""
        self.road.stage.loop.turn(0.5)
        self.road.stage.loop.opened["a"][-1].lose()
        self.road.stage.loop.settle()

    def publishes(self, *models: ModelSpec) -> None:
        self.road.stage.publish(*models)
        self.road.stage.loop.settle()

    def status(self, who: str) -> int:
        """What the client was answered; 0: nothing yet."""
        return int(self.heard.get(who, b"HTTP/1.1 0 ").split(b" ")[1])

    def says_not_started(self, seconds: float, name: str = "m") -> None:
        self.worker._told(NotStarted(name, seconds))


def test_a_request_waits_until_it_is_up(open_road: OpenRoad) -> None:
    road = open_road(model(asleep()))
    control = Control(road)
    assert road.stage.worker.ready()
    control.asks("one")
    control.asks("two")
    assert control.sent == [Wanted(0, "m")], "once is enough"
    road.stage.loop.turn(50)
    assert control.wanted() == 1, "tallies say that they wait"
    control.publishes(model(awake()))
    assert len(road.stage.loop.opened["a"]) == 2
    control.serves(at=0)
    control.serves(at=1)
    assert (control.status("one"), control.status("two")) == (200, 200)


def test_it_waits_no_longer_than_a_start_may_take(open_road: OpenRoad) -> None:
    road = open_road(model(asleep(), queue_timeout=1.0))
    road.plays("""
        >> client   chat
        >> clock    59
        >> clock    2
        == 503      refused !overloaded
        << client   503 !overloaded retry-after: 60
    """)


def test_no_change_of_its_model_makes_it_wait_longer(open_road: OpenRoad) -> None:
    road = open_road(model(asleep(), queue_timeout=1.0))
    control = Control(road)
    control.asks("client")
    for turn in range(3):
        road.stage.loop.turn(19)
        control.publishes(model(asleep(), queue_timeout=1.0, queue_waiting=100 + turn))
    assert control.status("client") == 0
    road.stage.loop.turn(4)
    assert control.status("client") == 503


def test_where_the_line_may_last_longer_it_does(open_road: OpenRoad) -> None:
    road = open_road(model(asleep(), queue_timeout=90.0))
    road.plays("""
        >> client   chat
        >> clock    89
        >> clock    2
        == 503      refused !overloaded
        << client   503 !overloaded retry-after: 60
    """)


def test_a_start_that_failed(open_road: OpenRoad) -> None:
    road = open_road(model(asleep()))
    control = Control(road)
    control.says_not_started(5.0, "other")
    control.asks("client")
    control.says_not_started(7.5)
    road.stage.loop.settle()
    assert b"retry-after: 8\r\n" in control.heard["client"]
    assert b"The model could not be started. Try again in 8 seconds." in control.heard["client"]
    assert not road.stage.worker.ready()
    control.asks("late")
    assert control.status("late") == 503
    assert control.wanted() == 1, "it is not asked for before its time"
    road.stage.loop.turn(8)
    assert road.stage.worker.ready()
    control.asks("again")
    assert (control.status("again"), control.wanted()) == (0, 2)
    control.publishes(model(awake()))
    control.serves()
    assert control.status("again") == 200


def test_a_fallback_takes_over_when_the_start_failed(open_road: OpenRoad) -> None:
    road = open_road(model(asleep(), fallback=("n",)), model("b", name="n"))
    control = Control(road)
    control.asks("client")
    control.says_not_started(5.0)
    road.stage.loop.settle()
    control.serves("b")
    assert b"x-slmgate-model: n" in control.heard["client"]


def test_a_spare_is_woken_when_the_others_are_full(open_road: OpenRoad) -> None:
    control = Control(open_road(model(asleep(), instance("b", max_in_flight=1))))
    control.asks("first")
    assert control.wanted() == 0
    control.asks("second")
    assert control.wanted() == 1
    control.says_not_started(5.0)
    assert control.status("second") == 0, "there is another one to wait for"
    control.serves("b", at=0)
    control.serves("b", at=0)
    assert (control.status("first"), control.status("second")) == (200, 200)


def test_lost_with_its_engine_it_is_asked_again_of_the_next_one(open_road: OpenRoad) -> None:
    road = open_road(model(awake()))
    control = Control(road)
    control.asks("client")
    control.loses()
    assert control.status("client") == 0
    control.publishes(model(asleep()))
    assert control.wanted() == 1
    road.stage.loop.turn(30)
    assert control.status("client") == 0
    pool = road.stage.worker.pools.models["m"]
    (before,) = pool.leaving
    control.publishes(model(awake()))
    assert pool.instances[0] is not before and before.over
    control.serves()
    assert control.status("client") == 200
    road.stage.loop.turn(1)
    assert pool.leaving == []


def test_of_an_engine_that_is_not_started_again_nobody_waits_for_long(open_road: OpenRoad) -> None:
    road = open_road(model(awake(), connect_timeout=2.0))
    control = Control(road)
    control.asks("client")
    control.loses()
    road.stage.loop.turn(NEWS_SECONDS + 1)
    assert control.status("client") == 503
    control.asks("answered")
    control.serves(what=b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
    assert control.status("answered") == 503, "it is there, and has said no"


def test_an_instance_that_rested_goes_on_as_it_was(open_road: OpenRoad) -> None:
    road = open_road(model(awake()))
    control = Control(road)
    pool = road.stage.worker.pools.models["m"]
    (one,) = pool.instances
    control.publishes(model(asleep()))
    assert (pool.instances, pool.leaving) == ([], [one])
    road.stage.worker.pools.checked(Checked(well=("a",)))
    control.publishes(model(awake()))
    assert (pool.instances, pool.leaving) == ([one], [])
    control.publishes(model(asleep(draining=True)))
    control.asks("client")
    assert control.status("client") == 503, "drained, it is not started"
    assert not road.stage.worker.ready()


def test_the_line_has_its_bound_all_the_same(open_road: OpenRoad) -> None:
    control = Control(open_road(model(asleep(), queue_waiting=1)))
    control.asks("one")
    control.asks("two")
    assert (control.status("one"), control.status("two")) == (0, 503)
    full = b"The model is being started. All of the 1 places in line are taken. Try again in 60 seconds."
    assert full in control.heard["two"]


def test_who_has_none_is_asked_nothing() -> None:
    told: list[str] = []
    none = Sleepers(ModelSpec(name="m", instances=(instance("a"),)), told.append)
    assert not none.asleep and not none.may_come((), 0.0)
    none.wake((), 10.0)
    one = Sleepers(ModelSpec(name="m", instances=(asleep(),)), told.append)
    assert repr(one) == "<Sleepers of m: one asleep>" and repr(none) == "<Sleepers of m: none asleep>"
    one.wake((), 10.0)
    one.wake((), 10.0 + AGAIN_SECONDS / 2)
    assert told == ["m"]
    one.wake((), 10.0 + AGAIN_SECONDS)
    assert told == ["m", "m"]
