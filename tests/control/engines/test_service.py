"""The state machine of engines, step by step on a turned clock, with runs that only say that they run.

Real processes are in tests/system/test_engines.py.
Length: one scene for each way from state to state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.checker import Outcome, Target
from slmgate.control.config import Config, load_text
from slmgate.control.config.addresses import Origin
from slmgate.control.engines import service
from slmgate.control.engines.pause import STEADY
from slmgate.control.engines.plan import Plan, plans
from slmgate.control.engines.service import OVERDUE, PROBE_SECONDS, Engines, EngineStatus
from slmgate.link.messages import InstanceTally, NotStarted, Tally, Wanted

ENV = {"PATH": "/bin:/usr/bin"}
GOOD, BAD = Outcome("GET /health answered 200"), Outcome("it cannot be reached", "unreachable")


class Run:
    """One run of an engine; `over` ends it."""

    def __init__(self, id: str, port: int, up: bool = False) -> None:
        self.id, self.port, self.was_up = id, port, up
        self.words = ""  # how it ended
        self.stopped = False
        self.was_stopping = False

    def alive(self) -> bool:
        return not self.words

    def pid(self) -> int:
        return 4711

    def up(self) -> bool:
        return self.was_up

    def stopping(self) -> bool:
        return self.was_stopping

    def ended(self) -> str:
        return self.words

    def ready(self) -> None:
        self.was_up = True

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.words = "its keeper was killed"

    def on_end(self, call: Callable[[], None]) -> None:
        pass


class Scene:
    """Engines of one configuration, on a clock that is turned by hand."""

    def __init__(self, *instances: str, found: Sequence[Run] = ()) -> None:
        self.now = 1000.0
        self.found = found
        self.runs: list[Run] = []
        self.refuses: OSError | None = None
        self.mine = True
        self.before = False  # there is a gate still that had them before
        self.said: list[str] = []
        self.told: list[NotStarted] = []
        self.published: list[list[str]] = []
        self.drained: set[str] = set()
        self.workers: Collection[int] = (0, 1)
        self.probes: list[Target] = []
        self.engines = Engines(self, self.probe, self.said.append, lambda: self.now, lambda: 0.0)
        self.engines.drained = lambda: self.drained
        self.engines.workers = lambda: self.workers
        self.engines.tell = self.told.append
        self.engines.on_change = lambda: self.published.append(self.up())
        self.take(*instances)

    # the launcher

    def launch(self, plan: Plan, port: int, linger: float) -> Run:
        if self.refuses is not None:
            raise self.refuses
        self.runs.append(Run(plan.id, port))
        assert linger == 31.0
        return self.runs[-1]

    def find(self) -> Sequence[Run]:
        return self.found

    def ours(self) -> bool:
        return self.mine

    def shared(self) -> bool:
        return self.before

    async def probe(self, target: Target) -> Outcome:
        self.probes.append(target)
        return BAD

    # what happens

    def take(self, *instances: str) -> None:
        self.config: Config = load_text(f"models: {{m: {{instances: [{', '.join(instances)}]}}}}", env=ENV).unwrap()
        self.plans = plans(self.config, Path("/"), ENV)
        self.engines.take(self.plans, 31.0)

    def up(self) -> list[str]:
        """The addresses that are published."""
        return [str(one.url) for one in self.engines.expand(self.config).models["m"].instances if one.url is not None]

    def step(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.engines.step()

    def tally(self, slot: int = 0, at: int = 0, **row: Any) -> None:
        id = list(self.plans)[at]
        fields = {"in_flight": 0, "waiting": 0, "healthy": True, **row}
        self.engines.told(Tally(slot, 0, 0, 0, 0, 0, (InstanceTally(id=id, model="m", **fields),)))

    def want(self) -> None:
        self.engines.wanted(Wanted(0, "m"))
        self.step()

    def hear(self, outcome: Outcome = GOOD) -> None:
        self.engines.heard(self.runs[-1].id, self.runs[-1], outcome)
        self.step()

    def starts(self) -> Run:
        self.want()
        self.hear()
        return self.runs[-1]

    def shown(self, at: int = 0) -> EngineStatus:
        return list(self.engines.statuses().values())[at]

    def ends(self, how: str = "it ended with code 1") -> None:
        self.runs[-1].words = how
        self.step()


ONE = '{command: [sh, "{port}"], engine: llamacpp, start_within: 10s, idle: 5s}'
TWO = '{command: [sh, "{port}", two], start_within: 10s}'
FIXED = "{command: [sh], port: 9, start_within: 10s}"
ALWAYS = '{command: [sh, "{port}"], start: always, idle: 5s, start_within: 10s}'


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task and no socket: what is asked is answered by the test, and every port is free."""
    monkeypatch.setattr(service.Engines, "_ask", lambda self, engine, held: setattr(engine, "probing", True))
    ports = iter(range(9001, 9999))
    monkeypatch.setattr(service, "free_port", lambda wanted: wanted or next(ports))


def test_nothing_runs_until_a_request_waits() -> None:
    scene = Scene(ONE)
    scene.step(100)
    assert (scene.runs, scene.shown()) == ([], EngineStatus("stopped", 0))
    scene.tally(waiting=0)
    scene.step()
    assert scene.runs == []
    scene.want()
    (run,) = scene.runs
    assert scene.shown() == EngineStatus("starting", 4711)
    scene.hear(BAD)
    assert (scene.shown().state, run.was_up, scene.published) == ("starting", False, [])
    scene.hear(GOOD)
    assert (scene.shown().state, run.was_up) == ("up", True)
    assert scene.published == [["http://127.0.0.1:9001"]]
    assert scene.engines.expand(scene.config).models["m"].instances[0].url == Origin("127.0.0.1", 9001)
    assert repr(scene.engines) == f"<Engines: <Engine {run.id} up>>"


def test_a_tally_says_it_too() -> None:
    scene = Scene(ONE)
    scene.tally(1, waiting=2)
    scene.step()
    assert len(scene.runs) == 1
    other = Scene(ONE)
    other.tally(1, waiting=2)
    other.engines.left(1)  # it died, and those that waited there with it
    other.step()
    assert other.runs == []


def test_one_at_a_time_of_several() -> None:
    scene = Scene(ONE, TWO)
    scene.want()
    scene.step(1)
    assert len(scene.runs) == 1
    scene.hear()
    scene.step(1)
    assert len(scene.runs) == 1, "those who waited have got it"
    scene.tally(waiting=3)
    scene.step()
    assert len(scene.runs) == 2, "it has no room for all"


def test_ready_is_asked_again_and_again() -> None:
    scene = Scene(ONE)
    scene.want()
    engine = scene.engines._known[scene.runs[0].id]
    scene.step()
    assert engine.probing
    scene.hear(BAD)
    assert not engine.probing
    scene.step(PROBE_SECONDS)
    assert engine.probing
    scene.engines.heard("m/other", scene.runs[0], GOOD)
    scene.engines.heard(scene.runs[0].id, Run("x", 1), GOOD)
    assert engine.state == "starting", "of another run, or none"


def test_too_slow() -> None:
    scene = Scene(ONE)
    scene.want()
    scene.step(9.9)
    assert not scene.runs[0].stopped
    scene.step(0.1)
    assert scene.runs[0].stopped
    assert scene.told == [NotStarted("m", 1.0)]
    assert scene.said[-1] == f"{scene.runs[0].id} has failed: it was not ready within 10 s; it is left alone for 1.0 s"
    scene.hear(GOOD)
    assert scene.shown().state == "stopping", "too late"
    scene.step(20)
    scene.want()
    assert len(scene.runs) == 1, "not before it has ended"
    scene.ends("it was stopped")
    scene.step()
    assert len(scene.runs) == 2


def test_it_ends_at_once() -> None:
    scene = Scene(ONE)
    scene.want()
    scene.ends("it ended with code 7")
    assert scene.shown() == EngineStatus("backing_off", 0, "it ended with code 7", 1.0)
    assert scene.told == [NotStarted("m", 1.0)]
    scene.now += 0.25
    scene.want()
    assert scene.told[1:] == [NotStarted("m", 0.75)], "who did not know it"
    scene.step(0.75)
    assert len(scene.runs) == 1, "nobody waits any more"
    assert scene.shown().state == "stopped"
    scene.want()
    scene.ends()
    assert scene.told[-1].seconds == 2.0
    scene.want()
    assert len(scene.runs) == 2, "not before its time"


def test_when_one_of_several_fails_the_next_is_tried() -> None:
    scene = Scene(ONE, TWO)
    scene.want()
    scene.ends()
    assert (scene.told, len(scene.runs)) == ([], 2)
    scene.now += 0.5
    scene.ends()
    assert scene.told == [NotStarted("m", 0.5)], "the first may be tried again so soon"


def test_it_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(FIXED)
    scene.refuses = OSError(12, "Cannot allocate memory")
    scene.want()
    assert "it cannot be started: Cannot allocate memory" in scene.said[-1]
    scene.refuses = None
    monkeypatch.setattr(service, "free_port", lambda wanted: None)
    scene.step(2)
    scene.want()
    assert "the port 9 of 127.0.0.1 is taken" in scene.said[-1]
    assert (scene.runs, len(scene.told)) == ([], 2)


def test_it_dies_while_it_serves() -> None:
    scene = Scene(ONE)
    scene.starts()
    scene.step(3)
    scene.ends("it was ended by SIGKILL")
    assert scene.published[-1] == []
    assert scene.said[-1].endswith("has failed: it was ended by SIGKILL; it is started again when asked for")
    assert scene.told == []
    scene.starts()
    scene.ends()
    assert scene.told[-1].seconds == 2.0, "the second time it is left alone"
    scene.step(2)
    scene.starts()
    scene.step(STEADY)
    scene.ends()
    assert len(scene.told) == 1, "after a long good time it is the first again"


def test_idle() -> None:
    scene = Scene(ONE)
    run = scene.starts()
    scene.tally(0, in_flight=1, served=1.0)
    scene.step(4.9)
    scene.tally(0, in_flight=1, served=1.0)
    scene.step(4.9)
    scene.tally(0, in_flight=0, served=2.0)  # a short one came and went
    scene.step(4.9)
    assert scene.shown().state == "up"
    scene.tally(0, in_flight=0, served=2.0)
    scene.step(0.1)
    assert (scene.shown().state, scene.published[-1], run.stopped) == ("stopping", [], False)
    scene.tally(0, draining=True)
    scene.tally(1, in_flight=1, draining=True)
    scene.step(50)
    assert not run.stopped, "a worker has a request there"
    scene.tally(1, in_flight=0)
    scene.step()
    assert not run.stopped, "that worker may still give it one"
    scene.tally(1, draining=True)
    scene.step()
    assert run.stopped
    scene.want()
    assert len(scene.runs) == 1
    scene.ends("it was stopped")
    assert scene.said[-1].endswith("is stopped")
    scene.step()
    assert len(scene.runs) == 2, "who came meanwhile waits for a new start"


def test_while_all_do_not_go_by_the_same_no_tally_counts() -> None:
    scene = Scene(ONE)
    run = scene.starts()
    scene.step(5)
    scene.engines.agreed = lambda: False
    scene.tally(0, draining=True)
    scene.tally(1, draining=True)
    scene.step()
    assert not run.stopped


def test_who_comes_while_it_rests_has_it_again() -> None:
    scene = Scene(ONE)
    run = scene.starts()
    scene.step(5)
    assert scene.shown().state == "stopping"
    scene.want()
    assert (scene.shown().state, run.stopped, len(scene.published)) == ("up", False, 3)
    scene.tally(0, draining=True)
    scene.tally(1, draining=True)
    scene.step()
    assert not run.stopped


def test_it_dies_while_it_rests() -> None:
    scene = Scene(ONE)
    scene.starts()
    scene.step(5)
    scene.ends()
    assert scene.shown().state == "stopped"


def test_a_keeper_that_does_not_end_is_killed() -> None:
    scene = Scene(ONE)
    scene.want()
    scene.step(10)
    (run,) = scene.runs
    assert run.stopped
    scene.step(10 + OVERDUE - 0.1)
    assert run.alive()
    scene.step(0.1)
    assert not run.alive()
    scene.step()
    assert scene.shown().state == "stopped"


def test_one_whose_checks_fail_for_long_is_started_anew() -> None:
    scene = Scene(TWO)
    run = scene.starts()
    out: list[float | None] = [None]
    scene.engines.out_since = lambda id: out[0] if id == run.id else None
    scene.step(60)
    out[0] = scene.now
    scene.step(9.9)
    assert scene.shown().state == "up"
    scene.step(0.1)
    assert (scene.shown().state, scene.up()) == ("stopping", [])
    scene.want()
    assert not run.stopped, "what it works on may end"
    scene.tally(0, draining=True, waiting=1)
    scene.tally(1, draining=True)
    scene.step()
    assert run.stopped
    scene.ends("it was stopped")
    assert "has failed: its checks failed; it is started again when asked for" in scene.said[-1]
    scene.step()
    assert len(scene.runs) == 2
    scene.hear()
    scene.step(5)
    assert scene.shown().state == "up", "the new one has its own time"


def test_always() -> None:
    scene = Scene(ALWAYS)
    scene.step()
    scene.hear()
    scene.step(100)
    assert scene.shown().state == "up", "it is never idle"
    scene.ends()
    scene.step()
    assert len(scene.runs) == 2


def test_drained() -> None:
    scene = Scene(ONE)
    run = scene.starts()
    scene.drained = set(scene.plans)
    scene.step()
    scene.tally(0, draining=True)
    scene.tally(1, draining=True)
    scene.step()
    assert run.stopped
    scene.ends("it was stopped")
    scene.want()
    assert len(scene.runs) == 1
    scene.drained = set()
    scene.step()
    assert len(scene.runs) == 2
    scene.drained = set(scene.plans)
    scene.step()
    assert scene.runs[1].stopped, "while it starts, too"


def test_gone_from_the_configuration() -> None:
    scene = Scene(FIXED)
    run = scene.starts()
    scene.tally(0, in_flight=1, served=1.0)
    scene.take("{command: [sh, other], port: 9}")
    scene.want()
    assert len(scene.runs) == 1, "its port is not free yet"
    scene.engines.told(Tally(0, 0, 0, 0, 0, 0, (InstanceTally(run.id, "m", 1, 1, True, draining=True),)))
    scene.engines.told(Tally(1, 0, 0, 0, 0, 0, ()))
    scene.step()
    assert not run.stopped
    scene.engines.told(Tally(0, 0, 0, 0, 0, 0, ()))
    scene.step()
    assert run.stopped
    scene.ends("it was stopped")
    assert run.id not in scene.engines.statuses()
    scene.step()
    assert len(scene.runs) == 2


def test_back_in_the_configuration_before_it_has_ended() -> None:
    scene = Scene(ONE)
    run = scene.starts()
    scene.take(TWO)
    scene.step()
    assert scene.shown().state == "stopping"
    scene.take(ONE)
    scene.step()
    assert (scene.shown().state, run.stopped) == ("up", False)


def test_found_after_a_restart_of_control() -> None:
    id = next(iter(Scene(ONE).plans))
    up, strange = Run(id, 9100, up=True), Run("m/old-1", 9)
    scene = Scene(ONE, FIXED, found=(up, strange))
    assert scene.up() == ["http://127.0.0.1:9100"]
    assert "is not in the configuration any more" in scene.said[0]
    scene.tally(at=1, waiting=1)
    scene.step()
    assert not strange.stopped, "a worker that has not spoken yet may have a request there"
    scene.tally(1)
    scene.step()
    assert strange.stopped
    scene.step()
    assert scene.runs == [], "the stranger has its port"
    strange.words = "it was stopped"
    scene.step()
    assert len(scene.runs) == 1
    ending = Run(id, 9100, up=True)
    ending.was_stopping = True
    assert Scene(ONE, found=(ending,)).shown().state == "stopping"
    starting = Scene(ONE, found=(Run(id, 9100),))
    assert (starting.shown().state, starting.up()) == ("starting", [])


def test_a_stranger_that_a_worker_still_has_something_at() -> None:
    """As after a takeover with another command: who was given something by the old one gets it."""
    strange = Run("m/old-1", 9, up=True)
    scene = Scene(ONE, found=(strange,))
    scene.workers = (0, -2)
    scene.tally()
    for row in (InstanceTally("m/old-1", "m", 1, 0, True), InstanceTally("m/old-1", "m", 1, 0, True, draining=True)):
        scene.engines.told(Tally(-2, 0, 0, 0, 0, 0, (row,)))
        scene.step(60)
        assert not strange.stopped
    scene.mine = False
    scene.engines.told(Tally(-2, 0, 0, 0, 0, 0, ()))
    scene.step()
    assert not strange.stopped, "another gate has taken it over"
    scene.mine = True
    scene.engines.left(-2)
    scene.step()
    assert not strange.stopped, "it has gone and may come again: that it is gone is the word of who says who is there"
    scene.workers = (0,)
    scene.step()
    assert strange.stopped


def test_a_stranger_that_is_configured_again() -> None:
    id = next(iter(Scene(ONE).plans))
    strange = Run(id, 9100, up=True)
    scene = Scene(TWO, found=(strange,))
    scene.take(ONE)
    scene.step()
    assert (scene.up(), strange.stopped) == (["http://127.0.0.1:9100"], False)


def test_closing_ends_strangers() -> None:
    strange = Run("m/old-1", 9, up=True)
    scene = Scene(ONE, found=(strange,))
    asyncio.run(scene.engines.close())
    assert strange.stopped


def test_one_that_rests_is_not_waited_for_by_who_does_not_know_it() -> None:
    """A worker of another version of slmgate keeps the configuration that it had."""
    scene = Scene(ONE)
    run = scene.starts()
    scene.workers = (0, -2)
    scene.drained = {run.id}
    scene.step()
    scene.tally(draining=True)
    scene.engines.told(Tally(-2, 0, 0, 0, 0, 0, ()))
    scene.step()
    assert run.stopped


def test_closing() -> None:
    scene = Scene(ONE)
    run = scene.starts()

    async def closes() -> None:
        closing = asyncio.ensure_future(scene.engines.close())
        await asyncio.sleep(0)
        assert run.stopped and not closing.done()
        run.words = "it was stopped"
        await closing

    asyncio.run(closes())
    other = Scene(ONE)
    kept = other.starts()
    other.mine = False
    other.step(60)
    assert other.shown().state == "up", "another gate has taken it over, and decides"
    asyncio.run(other.engines.close())
    assert not kept.stopped
    other.mine = other.before = True
    asyncio.run(other.engines.close())
    assert not kept.stopped, "the gate before has requests there still"


def test_expanding_leaves_others_alone() -> None:
    scene = Scene(ONE)
    plain = load_text('models: {x: {instances: [{url: "http://a:1"}]}}').unwrap()
    assert scene.engines.expand(plain) == plain
    scene.engines.left(7)
    Engines(scene, scene.probe, print, lambda: 0.0, lambda: 0.0).told(Tally(0, 0, 0, 0, 0, 0))
