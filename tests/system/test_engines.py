"""Engines that the gate starts, with real processes: on demand, watched, stopped when idle, never twice, never left behind.

The engine is a program that behaves badly where it is told to (`tests/tools/fickle.py`), and the real llama.cpp once. Which step
follows which is `tests/control/engines`' affair.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.conftest import Launch
from tests.system.scenes import PLAIN
from tests.system.test_instances import admin, rows, slmgate
from tests.tools.gate import ROOT, SECRET, Gate, eventually, get, model
from tests.tools.load import Background, Loader
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, Wire, ask, chat, request


class Fickle:
    """Configurations of the fickle engine, and what became of its starts."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "starts"
        self.file.touch()

    def entry(self, *words: str, **options: Any) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.tools.fickle", "--port", "{port}", "--starts", str(self.file), *words]
        return {
            "command": command,
            "environment": {"PYTHONPATH": str(ROOT)},
            "start_within": "20s",
            "stop_within": "5s",
            **options,
        }

    def model(self, *words: str, **options: Any) -> dict[str, Any]:
        return {"tiny": {"instances": [self.entry(*words, **options)]}}

    def pids(self) -> list[int]:
        """Of all starts so far."""
        return [int(line.split()[0]) for line in self.file.read_text().splitlines()]

    def alive(self) -> list[int]:
        return [pid for pid in self.pids() if is_alive(pid)]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def fickle(tmp_path: Path) -> Iterator[Fickle]:
    made = Fickle(tmp_path)
    yield made
    for pid in made.alive():
        os.kill(pid, signal.SIGKILL)


def row(gate: Gate) -> dict[str, Any]:
    (only,) = rows(gate).values()
    return dict(only)


def state(gate: Gate) -> str:
    return str(row(gate)["process"])


def in_background(act: Callable[[], Answer]) -> Callable[[], Answer]:
    """Ask meanwhile; returns what gives the answer."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(act()))
    thread.start()

    def answer() -> Answer:
        thread.join(30)
        assert answers, "no answer came"
        return answers[0]

    return answer


def keepers(gate: Gate) -> list[int]:
    found = []
    for file in (gate.state / "engines").glob("*.json"):
        with contextlib.suppress(ValueError):
            found.append(json.loads(file.read_text())["keeper"])
    return [pid for pid in found if is_alive(pid)]


def sleepers(gate: Gate) -> list[psutil.Process]:
    """What fickle engines of this gate have started, which is told by its folder: others may run on this machine."""
    every = [one for one in psutil.process_iter(["cmdline", "cwd"]) if one.info["cmdline"] == ["sleep", "1000"]]
    return [one for one in every if one.info["cwd"] == str(gate.home)]


def test_started_by_the_first_request_and_stopped_when_idle(launch: Launch, fickle: Fickle) -> None:
    """Nothing runs until somebody asks; then requests of all workers wait for one start, and are served. What the engine has of
    the gate: neither its environment nor its sockets. When nobody asks any more it ends, and comes back for the next one."""
    gate = launch(fickle.model("--ready-after", "0.5", idle="2s"), workers=2, env={"GATE_SECRET": "hush"})
    assert (state(gate), fickle.pids()) == ("stopped", [])
    assert get(gate.port, "/readyz") == get(gate.admin, "/readyz") == 200, "a model that can be started is there"
    waiting = [in_background(lambda: ask(gate.port, PLAIN)) for _ in range(6)]
    eventually(lambda: state(gate) == "starting", 5, "it is starting")
    assert [answer().status for answer in waiting] == [200] * 6
    (pid,) = fickle.pids()
    up = row(gate)
    assert (up["process"], up["pid"]) == ("up", pid)
    assert f", pid {pid}" in slmgate(gate, "list")
    engine = psutil.Process(pid)
    assert "GATE_SECRET" not in engine.environ()
    assert os.getsid(pid) == pid != os.getsid(gate.process.pid), "a session of its own"
    assert {link.laddr.port for link in engine.net_connections() if link.status == "LISTEN"}.isdisjoint({gate.port, gate.admin})
    files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert not [file for file in files if "slmgate" in file or str(gate.home) in file], files
    said = [line for line in gate.text().splitlines() if "fickle line 0" in line]
    assert len(said) == 1 and said[0].startswith(f"slmgate: {up['id']}: fickle line 0") and "GATE_SECRET" not in said[0]
    with Wire(gate.port) as wire:  # a stream that is longer than the idle time is not cut
        wire.send(request(chat(stream=True, events=80, rate=20), secret=SECRET))
        event: bytes | None = b"-"
        while event is not None and b"[DONE]" not in event:
            event = wire.event()
        assert event is not None, "a live stream was cut"
    assert fickle.alive() == [pid]
    eventually(lambda: not fickle.alive(), 10, "it is stopped when idle", 0.1)
    eventually(lambda: state(gate) == "stopped", 5, "it is listed as stopped", 0.1)
    assert ask(gate.port, PLAIN).status == 200
    assert len(fickle.pids()) == 2
    assert gate.terminate() == 0
    assert not fickle.alive() and not keepers(gate), "the engine ends with the gate"


def test_a_start_that_fails(launch: Launch, fickle: Fickle, tmp_path: Path) -> None:
    """It ends at once: who waits is told when to come back, truly, and others meanwhile too; then it is started again."""
    broken = tmp_path / "broken"
    broken.touch()
    gate = launch(fickle.model("--fails-while", str(broken)), workers=2)
    answer = ask(gate.port, PLAIN)
    assert (answer.status, answer.code, answer.header("retry-after")) == (503, "overloaded", "1")
    assert "it ended with code 7" in gate.text() and "no model here" in gate.text()
    again = ask(gate.port, PLAIN)
    assert again.status == 503 and len(fickle.pids()) == 1, "nobody starts it before its time"
    assert row(gate)["process"] == "backing_off" and get(gate.admin, "/readyz") == 503
    time.sleep(float(again.header("retry-after") or 0))
    second = ask(gate.port, PLAIN)
    assert (second.status, second.header("retry-after"), len(fickle.pids())) == (503, "2", 2)
    broken.unlink()
    time.sleep(2)
    assert ask(gate.port, PLAIN).status == 200
    assert get(gate.admin, "/readyz") == 200


def test_never_ready_and_deaf_to_sigterm(launch: Launch, fickle: Fickle) -> None:
    """A start that takes too long is ended, by force where it must be; a request waits no longer than that."""
    options = {"start_within": "1s", "stop_within": "500ms"}
    gate = launch(fickle.model("--ready-after", "60", "--ignores-term", "--child", **options), workers=1)
    began = time.monotonic()
    answer = ask(gate.port, PLAIN)
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert 0.9 < time.monotonic() - began < 8
    assert "it was not ready within 1 s" in gate.text()
    (pid,) = fickle.pids()
    eventually(lambda: not is_alive(pid), 3, "it is killed")
    assert not sleepers(gate)


def test_killed_while_it_serves(launch: Launch, fickle: Fickle) -> None:
    """A request that has had nothing yet is asked again of the engine that is started in its place."""
    gate = launch(fickle.model(), workers=2)
    assert ask(gate.port, PLAIN).status == 200
    (first,) = fickle.pids()
    waiting = [in_background(lambda: ask(gate.port, request(chat(delay=1.0), secret=SECRET))) for _ in range(3)]
    time.sleep(0.4)
    os.kill(first, signal.SIGKILL)
    assert [answer().status for answer in waiting] == [200] * 3
    assert len(fickle.pids()) == 2
    assert "it was ended by SIGKILL; it is started again when asked for" in gate.text()


def test_control_dies_and_finds_its_engine(launch: Launch, fickle: Fickle) -> None:
    """No request fails and nothing is started twice, whenever control is killed; its successor watches on."""
    gate = launch(fickle.model("--ready-after", "1", idle="3s"), workers=2)
    waiting = in_background(lambda: ask(gate.port, PLAIN))
    eventually(fickle.pids, 5, "it is starting")
    os.kill(gate.control(), signal.SIGKILL)
    assert waiting().status == 200
    loader = Loader(gate.port, SECRET, seed=81)
    with Background(loader.run(20, 3)):
        os.kill(gate.control(), signal.SIGKILL)
        eventually(lambda: get(gate.admin, "/readyz") == 200, 10, "control is back")
        assert state(gate) == "up"
    assert not loader.bad(), loader.told()
    assert len(fickle.pids()) == 1
    os.kill(gate.control(), signal.SIGKILL)
    eventually(lambda: not fickle.alive(), 15, "it is stopped when idle, by the one that did not start it", 0.1)
    assert ask(gate.port, PLAIN).status == 200


def test_the_supervisor_dies(launch: Launch, fickle: Fickle) -> None:
    """Whether a gate follows at once or none at all: no engine is left behind, and none runs twice."""
    gate = launch(fickle.model("--child"), workers=1, drain_timeout="6s")
    assert ask(gate.port, PLAIN).status == 200
    (first,) = fickle.pids()
    for pid in (gate.process.pid, gate.control(), *gate.workers()):
        os.kill(pid, signal.SIGKILL)
    gate.process.wait(5)
    gate.start()
    assert ask(gate.port, PLAIN).status == 200
    assert fickle.alive() == [first], "the next gate takes the engine over"
    os.kill(gate.process.pid, signal.SIGKILL)
    gate.process.wait(5)
    eventually(lambda: not fickle.alive() and not keepers(gate), 20, "without a gate it ends", 0.1)
    assert not sleepers(gate)


def test_the_keeper_dies(launch: Launch, fickle: Fickle) -> None:
    """The engine goes with it, and another one comes."""
    gate = launch(fickle.model("--child"), workers=1)
    assert ask(gate.port, PLAIN).status == 200
    (first,) = fickle.pids()
    (keeper,) = keepers(gate)
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not is_alive(first), 3, "the engine goes with its keeper")
    eventually(lambda: state(gate) == "stopped", 5, "that is seen")
    eventually(lambda: not sleepers(gate), 3, "what it had started is gone too, though no other is started", 0.1)
    assert ask(gate.port, PLAIN).status == 200
    assert len(sleepers(gate)) == 1


def test_killed_at_random(launch: Launch, fickle: Fickle) -> None:
    """Whatever dies, and however often: never do two engines run, the gate serves again soon, and its stop leaves nothing."""
    gate = launch(fickle.model("--child", "--ready-after", "0.2"), workers=2, drain_timeout="2s")
    chance = random.Random(91)
    most = 0
    watching = threading.Event()

    def watch() -> None:
        nonlocal most
        while not watching.wait(0.02):
            most = max(most, len(fickle.alive()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    loader = Loader(gate.port, SECRET, seed=92)
    with Background(loader.run(20, 8)):
        for _ in range(12):
            time.sleep(chance.uniform(0.2, 0.8))
            kinds = [[gate.control()], keepers(gate), fickle.alive(), gate.workers()]
            victims = chance.choice([kind for kind in kinds if kind])
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
    watching.set()
    watcher.join()
    assert most == 1, "two ran at once"
    assert any(one.good for one in loader.journal)
    eventually(lambda: ask(gate.port, PLAIN).status == 200, 15, "it serves again", 0.3)
    assert gate.terminate() == 0
    assert not fickle.alive() and not keepers(gate)
    assert not sleepers(gate)


def test_an_engine_that_is_frozen(launch: Launch, fickle: Fickle) -> None:
    """Its checks fail; when that has lasted as long as a start may take, another one takes its place."""
    models = fickle.model(start_within="3s", stop_within="500ms")
    models["tiny"]["health"] = {"interval": "500ms", "timeout": "500ms"}
    models["tiny"]["timeouts"] = {"first_byte": "1s"}
    gate = launch(models, workers=1)
    assert ask(gate.port, PLAIN).status == 200
    (first,) = fickle.pids()
    os.kill(first, signal.SIGSTOP)
    eventually(lambda: not is_alive(first), 20, "it is ended", 0.1)
    assert "its checks failed; it is started again when asked for" in eventually(
        lambda: gate.text() if "has failed" in gate.text() else "", 5, "that is said"
    )
    assert ask(gate.port, PLAIN).status == 200
    assert len(fickle.alive()) == 1


def test_a_keeper_that_is_frozen(launch: Launch, fickle: Fickle) -> None:
    """It does not keep the gate from ending."""
    gate = launch(fickle.model(stop_within="500ms"), workers=1)
    assert ask(gate.port, PLAIN).status == 200
    (keeper,) = keepers(gate)
    os.kill(keeper, signal.SIGSTOP)
    assert gate.terminate() == 0
    eventually(lambda: not fickle.alive(), 3, "the engine has ended")


def test_reloads_and_drains(launch: Launch, fickle: Fickle) -> None:
    """Unchanged, it runs on; changed, the old one finishes its streams before it ends; drained, it is stopped and stays so."""
    gate = launch(fickle.model(), workers=2)
    assert ask(gate.port, PLAIN).status == 200
    (first,) = fickle.pids()
    gate.write(models={**fickle.model(idle="1h"), "other": {"instances": [{"url": "http://127.0.0.1:9"}]}})
    eventually(lambda: "other" in slmgate(gate, "list"), 5, "the new file is in force")
    assert ask(gate.port, PLAIN).status == 200 and fickle.alive() == [first]
    with Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, events=40, rate=20), secret=SECRET))
        assert wire.event()
        gate.write(models=fickle.model("--says", "2"))
        eventually(lambda: len(rows(gate)) == 2 and "other" not in slmgate(gate, "list"), 5, "the old one is listed still", 0.1)
        assert ask(gate.port, PLAIN).status == 200
        assert len(fickle.alive()) == 2, "beside the old one"
        event: bytes | None = b"-"
        while event is not None and b"[DONE]" not in event:
            event = wire.event()
        assert event is not None, "a live stream was cut"
    eventually(lambda: not is_alive(first), 5, "the old one ends", 0.1)
    (second,) = fickle.alive()
    id = next(iter(rows(gate)))
    slmgate(gate, "drain", id, "--wait")
    eventually(lambda: not is_alive(second), 5, "drained, it is stopped", 0.1)
    answer = ask(gate.port, PLAIN)
    assert (answer.status, answer.header("retry-after"), fickle.alive()) == (503, "1", [])
    slmgate(gate, "enable", id)
    assert ask(gate.port, PLAIN).status == 200


@pytest.mark.parametrize(
    "change", ["the model is gone", "taken over", "taken over, with another command", "taken over and drained"]
)
def test_no_stream_is_cut_by_who_does_not_see_it(launch: Launch, fickle: Fickle, change: str) -> None:
    """A stream at an engine that is to be stopped meanwhile: idle to a new gate, not configured any more, or drained."""
    gate = launch(fickle.model(idle="1s"), workers=2, drain_timeout="20s")
    assert ask(gate.port, PLAIN).status == 200
    (pid,) = fickle.alive()
    id = next(iter(rows(gate)))
    other = {"other": {"instances": [{"url": "http://127.0.0.1:9"}]}}
    with Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, events=150, rate=10), secret=SECRET))
        assert wire.event()
        if change == "the model is gone":
            gate.write(models=other)
            eventually(lambda: rows(gate).get(id, {}).get("source") == "removed", 5, "it is still at work", 0.1)
        else:
            if "another command" in change:
                gate.write(models=fickle.model("--says", "2"))
            old = gate.take_over()
            eventually(lambda: rows(gate)[id]["in_flight"] == 1, 5, "what the old gate's worker has is seen", 0.1)
        if "drained" in change:
            slmgate(gate, "drain", id)
        time.sleep(3)
        assert is_alive(pid)
        event: bytes | None = b"-"
        while event is not None and b"[DONE]" not in event:
            event = wire.event()
        assert event is not None, "a live stream was cut"
    eventually(lambda: not is_alive(pid), 10, "it ends when nothing is left there", 0.1)
    if change != "the model is gone":
        assert old.wait(25) == 0


def test_a_takeover_while_it_starts(launch: Launch, fickle: Fickle) -> None:
    """Who waits for it in the old gate is served by it, as is who comes to the new one meanwhile; it is started once."""
    gate = launch(fickle.model("--ready-after", "10"), workers=1, drain_timeout="20s")
    first = in_background(lambda: ask(gate.port, PLAIN, timeout=30))
    eventually(lambda: state(gate) == "starting", 5, "it is starting")
    old = gate.take_over()
    second = in_background(lambda: ask(gate.port, PLAIN, timeout=30))
    assert state(gate) == "starting", "void: it is up already"
    assert (first().status, second().status) == (200, 200)
    assert old.wait(25) == 0
    assert len(fickle.pids()) == 1


def test_a_version_and_a_copy_that_would_have_to_be_started(launch: Launch, fickle: Fickle, upstream: MockUpstream) -> None:
    """A canary is started for its first caller, a shadow for nobody; nothing is missing of what sleeps; what cannot be started
    is stood in for by the model that was asked for."""
    own = model(upstream.url, canary={"model": "next", "share": "100%"}, shadow={"model": "copy", "share": "100%"})
    hidden = {
        "next": {"hidden": True, **fickle.model("--ready-after", "1")["tiny"]},
        "copy": {"hidden": True, **fickle.model("--says", "2")["tiny"]},
    }
    gate = launch({"tiny": own, **hidden}, workers=1)
    told = [(row["process"], row["catalogue"], row["check"]) for id, row in sorted(rows(gate).items()) if "tiny" not in id]
    assert told == [("stopped", None, None)] * 2
    answer = ask(gate.port, PLAIN, timeout=30)
    assert (answer.status, answer.header("x-slmgate-model")) == (200, "next")
    (pid,) = fickle.pids()
    assert ask(gate.port, PLAIN).header("x-slmgate-model") == "next"
    eventually(lambda: all("missing" not in str(row["catalogue"]) for row in rows(gate).values()), 5, "nothing is missing")
    eventually(
        lambda: admin(gate, "GET", "/api/v1/status")["workers"][0]["shadows_dropped"] == 2, 5, "both copies are dropped", 0.1
    )
    assert (get(gate.admin, "/readyz"), fickle.pids()) == (200, [pid]), "a copy has had an engine started"
    (id,) = [id for id in rows(gate) if id.startswith("next/")]
    slmgate(gate, "drain", id, "--wait")
    assert ask(gate.port, PLAIN).header("x-slmgate-model") is None, "the model itself serves at once"
    eventually(lambda: not is_alive(pid), 10, "drained, it is stopped", 0.1)
    slmgate(gate, "enable", id)
    stops = fickle.file.with_name("stops")
    stops.touch()
    hidden["next"] = {"hidden": True, **fickle.model("--fails-while", str(stops))["tiny"]}
    gate.write(models={"tiny": own, **hidden})
    eventually(lambda: id not in rows(gate), 10, "the new file is in force", 0.1)
    answer = ask(gate.port, PLAIN, timeout=30)
    assert (answer.status, answer.header("x-slmgate-model")) == (200, None), "it could not be started"


def test_always_and_the_admin_api(launch: Launch, fickle: Fickle) -> None:
    """`start: always` needs no request, and comes back when it dies; no command comes by the admin API."""
    gate = launch(fickle.model(start="always", idle="1s"), workers=1)
    (first,) = eventually(fickle.alive, 5, "it is started by itself")
    eventually(lambda: state(gate) == "up", 5, "it is up")
    time.sleep(2.5)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: fickle.alive() not in ([], [first]), 10, "it is back", 0.1)
    told = admin(gate, "POST", "/api/v1/instances", model="tiny", url="http://127.0.0.1:9", command="touch /tmp/nowhere")
    assert "command" in json.dumps(told)
    assert len(rows(gate)) == 1


def test_the_real_engine(launch: Launch) -> None:
    """llama.cpp with a real model: started by a chat, stopped when nobody asks any more."""
    command = [sys.executable, "-m", "tests.tools.engine", "{port}"]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    entry = {"command": command, "engine": "llamacpp", "environment": {"PYTHONPATH": path}, "directory": str(ROOT), "idle": "2s"}
    gate = launch({"smollm2": {"instances": [entry]}}, workers=1)
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0}
    answer = ask(gate.port, request(json.dumps(body).encode(), secret=SECRET), timeout=60)
    assert answer.status == 200 and answer.json()["choices"][0]["message"]["content"]
    pid = row(gate)["pid"]
    assert is_alive(pid)
    eventually(lambda: not is_alive(pid), 20, "it is stopped when idle", 0.1)
    assert gate.receipt(answer.header("x-request-id"))["completion_tokens"] > 0


def test_a_new_gate_takes_the_engines_over(launch: Launch, fickle: Fickle) -> None:
    """While requests are under way: the same process goes on, for the old gate's last requests and the new one's; and it ends
    with the new one."""
    gate = launch(fickle.model(), workers=1, drain_timeout="4s")
    assert ask(gate.port, PLAIN).status == 200
    (pid,) = fickle.alive()
    loader = Loader(gate.port, SECRET, seed=81)
    with Background(loader.run(40, 8, streams=4, events=20, event_rate=8), 60):
        for _ in range(2):
            time.sleep(1)
            old = gate.take_over()
            eventually(lambda: state(gate) == "up", 5, "the new gate knows that it runs")
            assert old.wait(25) == 0
    assert not loader.bad(), loader.told()
    assert (fickle.pids(), row(gate)["pid"]) == ([pid], pid), "it was started again"
    time.sleep(6)  # longer than it outlives a gate that has no heir
    assert ask(gate.port, PLAIN).status == 200
    gate.terminate()
    eventually(lambda: not fickle.alive(), 15, "it has ended with the gate that had it last")


def test_a_new_gate_with_another_command(launch: Launch, fickle: Fickle) -> None:
    """It starts its own engine, and lets the one that it finds end the old gate's streams before it stops that."""
    gate = launch(fickle.model(), workers=1, drain_timeout="30s")
    assert ask(gate.port, PLAIN).status == 200
    (first,) = fickle.alive()
    with Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, events=160, rate=20), secret=SECRET))
        assert wire.event()
        gate.write(models=fickle.model("--says", "2"))
        old = gate.take_over()
        assert ask(gate.port, PLAIN).status == 200
        assert len(fickle.alive()) == 2, "beside the old one"
        event: bytes | None = b"-"
        while event is not None and b"[DONE]" not in event:
            event = wire.event()
        assert event is not None, "a live stream was cut"
    assert old.wait(10) == 0
    eventually(lambda: not is_alive(first), 5, "the old one ends", 0.1)
    assert len(fickle.alive()) == 1


def test_stopped_while_the_old_gate_still_drains(launch: Launch, fickle: Fickle) -> None:
    """The engine goes on for the old one's streams, and ends when that has ended."""
    gate = launch(fickle.model(), workers=1, drain_timeout="15s")
    assert ask(gate.port, PLAIN).status == 200
    with Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, events=160, rate=20), secret=SECRET))
        assert wire.event()
        old = gate.take_over()
        assert gate.terminate() == 0
        event: bytes | None = b"-"
        while event is not None and b"[DONE]" not in event:
            event = wire.event()
        assert event is not None, "a live stream was cut"
    assert old.wait(10) == 0
    eventually(lambda: not fickle.alive(), 25, "without a gate it ends", 0.1)
