"""The supervisor's pure parts: when a child that died is started again, when silence means death, how an address is shown.

Processes, signals and sockets are real in tests/system, where children are killed and frozen.
"""

from __future__ import annotations

import os
import signal
import sys
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from slmgate.control import supervisor as module
from slmgate.control.listening import Listening
from slmgate.control.supervisor import CHECK_SECONDS, LONGEST_PAUSE, SHORTEST_LIFE, START_TIMEOUT, Supervisor, _Child
from slmgate.link.beats import READY, STARTING
from tests.tools.fakes import Clock


class FakeProcess:
    """A child's process: alive until it has a code."""

    pid = 1

    def __init__(self) -> None:
        self.code: int | None = None
        self.signals: list[int] = []

    def poll(self) -> int | None:
        return self.code

    def wait(self) -> int:
        assert self.code is not None
        return self.code

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


@pytest.fixture(autouse=True)
def no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "os", SimpleNamespace(pidfd_open=lambda pid: 99, close=lambda fd: None))


def none_left(*_: object) -> NoReturn:
    raise OSError(24, "Too many open files")


def child(started: list[FakeProcess] | None = None) -> Any:
    known: list[FakeProcess] = [] if started is None else started

    def start() -> Any:
        known.append(FakeProcess())
        return known[-1]

    return _Child("worker 0", 0, 2.0, start)


def test_a_childs_end_is_told() -> None:
    told: list[int] = []

    def start() -> Any:
        return FakeProcess()

    one = _Child("worker 0", 0, 2.0, start, lambda: told.append(1))
    one.run(0.0)
    fake: Any = one.process
    fake.code = -9
    one.died(1.0)
    assert told == [1]


def test_a_child_that_dies_young_is_started_after_a_pause_that_doubles() -> None:
    one, now, pauses = child(), 0.0, []
    for _ in range(7):
        one.run(now)
        now += SHORTEST_LIFE - 0.1
        one.process.code = 1
        assert one.died(now) == 1
        pauses.append(round(one.start_after - now, 6))
    assert pauses == [0.05, 0.1, 0.2, 0.4, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    assert LONGEST_PAUSE < 0.5, "a dead worker is replaced within a second, its start included"


@pytest.mark.parametrize(("life", "pause"), [(SHORTEST_LIFE - 0.01, 0.05), (SHORTEST_LIFE, 0.0), (SHORTEST_LIFE + 1, 0.0)])
def test_one_that_lived_is_started_at_once(life: float, pause: float) -> None:
    one = child()
    one.run(10.0)
    one.process.code = -9
    assert one.died(10.0 + life) == -9
    assert one.start_after == pytest.approx(10.0 + life + pause)
    assert (one.process, one.pidfd) == (None, -1)


def test_signals_go_to_a_living_child_only() -> None:
    one = child()
    one.signal(signal.SIGTERM)
    one.run(0.0)
    process = one.process
    one.signal(signal.SIGTERM)
    assert process.signals == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("state", "beat", "started", "now", "silent"),
    [
        (READY, 10.0, 0.0, 12.0, False),
        (READY, 10.0, 0.0, 12.1, True),
        (READY, 10.0, 11.0, 12.1, False),  # an old beat, of the run before
        (STARTING, 0.0, 10.0, 10.0 + START_TIMEOUT, False),
        (STARTING, 0.0, 10.0, 10.1 + START_TIMEOUT, True),
    ],
)
def test_silence(state: int, beat: float, started: float, now: float, silent: bool) -> None:
    one = child()
    one.started = started
    watching: Any = SimpleNamespace(_board=SimpleNamespace(read=lambda row: (beat, state)))
    assert Supervisor._is_silent(watching, one, now) is silent


class Watch:
    """A supervisor's loop over children, one step at a time, on a clock that `_wait` turns."""

    def __init__(self, patch: pytest.MonkeyPatch, *children: Any) -> None:
        self.clock = Clock()
        patch.setattr(module, "time", self.clock)
        self._children = children
        self.beat: float = self.clock.passed
        self._board = SimpleNamespace(read=lambda row: (self.beat, READY), mark=lambda row, state: None)
        self.takes = CHECK_SECONDS
        self._heir: Any = None

    def _wait(self, seconds: float) -> None:
        self.clock.passed += self.takes

    def _is_silent(self, one: Any, now: float) -> bool:
        watching: Any = self
        return Supervisor._is_silent(watching, one, now)

    def step(self) -> None:
        watching: Any = self
        Supervisor._step(watching)


def test_who_dies_is_replaced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    started: list[FakeProcess] = []
    one = child(started)
    watch = Watch(monkeypatch, one)
    one.run(watch.clock.passed - 100)
    watch.beat += 1000
    watch.step()
    assert len(started) == 1
    started[0].code = -9
    watch.step()
    assert len(started) == 2, "after a long life it is replaced in the same step"
    assert capsys.readouterr().err == "slmgate: worker 0 ended with code -9; starting another\n"
    started[1].code = 1
    watch.step()
    assert len(started) == 2
    watch.step()
    assert len(started) == 3, "after a short one it is replaced when its pause is over"


def test_who_cannot_be_started_is_started_later(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """There may be no descriptor or process left for a while; that ends nobody else. It is said once."""
    started: list[FakeProcess] = []
    one = child(started)
    watch = Watch(monkeypatch, one)
    one.run(watch.clock.passed - 100)
    watch.beat += 1000
    start = one._start
    monkeypatch.setattr(one, "_start", none_left)
    started[0].code = -9
    for _ in range(9):
        watch.step()
    said = "slmgate: worker 0 ended with code -9; starting another\nslmgate: worker 0 cannot be started: Too many open files\n"
    assert capsys.readouterr().err == said
    assert one.process is None
    monkeypatch.setattr(one, "_start", start)
    watch.step()
    watch.step()
    assert len(started) == 2
    monkeypatch.setattr(one, "_start", none_left)
    started[1].code = 1
    watch.step()
    watch.step()
    assert "cannot be started" in capsys.readouterr().err, "another time it is said again"


def test_a_child_without_a_descriptor_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(module, "os", SimpleNamespace(pidfd_open=none_left, close=closed.append))
    one = child()
    assert one.run(0.0)
    assert one.pidfd == -1
    one.process.code = 3
    assert one.died(1.0) == 3
    assert closed == []


def test_whose_work_another_gate_does_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until that one has given up."""
    started: list[FakeProcess] = []
    one = child(started)
    watch = Watch(monkeypatch, one)
    one.run(watch.clock.passed - 100)
    watch.beat += 1000
    owner: Any = SimpleNamespace(_children=[one])
    Supervisor.release(owner)
    assert (started[0].signals, Supervisor.is_released(owner)) == ([signal.SIGUSR1], False)
    started[0].code = 0
    watch.step()
    watch.step()
    assert (len(started), Supervisor.is_released(owner)) == (1, True)
    Supervisor.take_back(owner, "it went away")
    watch.step()
    assert len(started) == 2
    assert "ended with code" not in capsys.readouterr().err


def test_a_new_gate_that_gives_up_is_told_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(monkeypatch)
    watch._heir = FakeProcess()
    watch.step()
    assert capsys.readouterr().err == ""
    watch._heir.code = 1
    watch.step()
    assert "ended with code 1" in capsys.readouterr().err
    assert watch._heir is None


@pytest.mark.parametrize(
    ("program", "command"), [("/bin/sh", ["/bin/sh"]), ("/nowhere/__main__.py", [sys.executable, "-m", "slmgate"])]
)
def test_a_new_gate_is_started_as_this_one_was(monkeypatch: pytest.MonkeyPatch, program: str, command: list[str]) -> None:
    made: list[Any] = []
    monkeypatch.setattr(module, "os", os)

    def popen(words: list[str], **_: object) -> str:
        made.append(words)
        return "process"

    monkeypatch.setattr("subprocess.Popen", popen)
    monkeypatch.setattr(sys, "argv", [program, "serve", "-c", "x.yaml"])
    owner: Any = SimpleNamespace(_heir=None)
    Supervisor._start_heir(owner)
    Supervisor._start_heir(owner)
    assert made == [[*command, "serve", "-c", "x.yaml", "--takeover"]]
    monkeypatch.setattr(sys, "argv", [program, "serve", "--takeover"])
    Supervisor._start_heir(SimpleNamespace(_heir=None))  # type: ignore[arg-type]  # all that it looks at
    assert made[1] == [*command, "serve", "--takeover"]


@pytest.mark.parametrize(("takes", "killed"), [(CHECK_SECONDS, True), (4 * CHECK_SECONDS, False)])
def test_who_is_silent_is_killed_unless_this_process_was_held_up(
    monkeypatch: pytest.MonkeyPatch, takes: float, killed: bool
) -> None:
    one = child()
    watch = Watch(monkeypatch, one)
    one.run(watch.clock.passed - 100)
    watch.beat -= 50
    watch.takes = takes
    watch.step()
    assert one.process.signals == ([signal.SIGKILL] if killed else [])


@pytest.mark.parametrize(
    ("code", "was_ready", "old", "goes_on"),
    [
        (-9, False, None, True),
        (71, True, None, True),
        (1, False, None, False),
        (-11, False, "another gate that waits", False),
        (-9, True, "another gate that waits", True),
    ],
)
def test_who_dies_while_the_other_side_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, was_ready: bool, old: Any, goes_on: bool
) -> None:
    """Only a child that never came up is a reason to give up."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    known: dict[str, list[FakeProcess]] = {"control": [], "worker": []}
    children = []
    for row, (name, processes) in enumerate(known.items()):

        def start(into: list[FakeProcess] = processes) -> Any:
            into.append(FakeProcess())
            return into[-1]

        children.append(_Child(name, row, 2.0, start))
        children[-1].run(clock.passed)
    states = {0: STARTING, 1: READY if was_ready else STARTING}

    def wait(_: float) -> None:
        clock.passed += CHECK_SECONDS
        if len(known["worker"]) == 1:
            known["worker"][0].code = code
        else:
            states.update({0: READY, 1: READY})

    watch: Any = SimpleNamespace(
        _children=children,
        _board=SimpleNamespace(read=lambda row: (clock.passed, states[row]), mark=states.__setitem__),
        _admin=SimpleNamespace(family=2, getsockname=lambda: ("127.0.0.1", 1)),
        _listening=[Listening("a:2", None, [cast(Any, SimpleNamespace(family=2, getsockname=lambda: ("127.0.0.1", 2)))])],
        _stopping=False,
        _old=old,
        _wait=wait,
    )
    assert Supervisor._wait_until_ready(watch) is goes_on
    assert len(known["worker"]) == 1 + goes_on
    assert ("while starting" in capsys.readouterr().err) is not goes_on


def test_who_cannot_be_started_again_while_the_other_side_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, started, states = Clock(), list[FakeProcess](), {0: STARTING, 1: READY}
    monkeypatch.setattr(module, "time", clock)
    control, worker = child(), child(started)
    control.row, worker.row = 0, 1
    for one in (control, worker):
        one.run(clock.passed)
    start = worker._start
    steps = 0

    def wait(_: float) -> None:
        nonlocal steps
        clock.passed += CHECK_SECONDS
        steps += 1
        if steps == 1:
            started[0].code = -9
            monkeypatch.setattr(worker, "_start", none_left)
        elif steps == 4:
            monkeypatch.setattr(worker, "_start", start)
        elif len(started) == 2:
            states.update({0: READY, 1: READY})

    watch: Any = SimpleNamespace(
        _children=[control, worker],
        _board=SimpleNamespace(read=lambda row: (clock.passed, states[row]), mark=states.__setitem__),
        _admin=SimpleNamespace(family=2, getsockname=lambda: ("127.0.0.1", 1)),
        _listening=[],
        _stopping=False,
        _old=None,
        _wait=wait,
    )
    assert Supervisor._wait_until_ready(watch)
    assert len(started) == 2
