"""The gate's processes killed, frozen, reloaded and drained under load: who notices, and what the ledger says after.

The clients' journal is the truth. A kill may cost only what was in flight on the process that died; nothing else, no
restart and no reload may cost a request or a receipt, or make a second one. Processes are ended by pid only.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import random
import resource
import signal
import socket
import threading
import time
from functools import partial
from typing import Any

import psutil
import pytest

from tests.system.conftest import Launch
from tests.system.scenes import compare_with_ledger, tags
from tests.tools.gate import CONTROL, SECRET, WORKER, Gate, eventually, get, model
from tests.tools.load import RATE, STREAMS, Background, Loader, rounds
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ClosedEarlyError, Wire, ask, chat, request

PLAIN = request(chat(), secret=SECRET)


def send(pid: int, number: signal.Signals) -> None:
    psutil.Process(pid).send_signal(number)


# --- start -------------------------------------------------------------------------------------------------------------


def test_start_serves_within_two_seconds_on_all_workers(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    took = []
    for _ in range(3):
        gate.terminate()
        said = gate.text().count("gate listening")
        started = time.monotonic()
        gate.start()
        eventually(lambda: gate.text().count("gate listening") > said, 10, "it says where it listens")  # noqa: B023 -- at once
        took.append(time.monotonic() - started)
        if took[-1] < 2:
            break
    # The best of three: the machine that runs the tests may be busy with something else.
    assert min(took) < 2, took
    assert len(gate.workers()) == 2
    assert gate.control()
    assert "127.0.0.1:" + str(gate.port) in gate.text()
    eventually(lambda: "127.0.0.1:" + str(gate.admin) in gate.text(), 2, "it says where operators reach it")
    served: set[int] = set()
    wires = [Wire(gate.port) for _ in range(64)]
    for wire in wires:
        assert wire.ask(PLAIN).status == 200
    served = {pid for pid in gate.workers() if gate.ports_of(pid)}
    assert len(served) == 2, "one port, two workers"
    assert get(gate.admin, "/healthz") == 200
    eventually(lambda: get(gate.admin, "/readyz") == 200, 2, "the admin listener knows that the gate is ready")
    for wire in wires:
        wire.__exit__()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"models": {"tiny": {"instances": [{"url": "http://127.0.0.1:1", "engin": "vllm"}]}}}, "engin"),
        ({"nonsense": 1}, "nonsense"),
        ({"workers": "many"}, "workers"),
    ],
)
def test_start_with_a_bad_file_fails_and_says_where(
    launch: Launch, upstream: MockUpstream, fault: dict[str, Any], words: str
) -> None:
    gate = (
        launch({"tiny": model(upstream.url)}, wait=False, **fault)
        if "models" not in fault
        else launch(fault["models"], wait=False)
    )
    assert gate.process.wait(5) not in (0, None)
    assert words in gate.text()
    assert "slmgate.yaml" in gate.text()
    assert "Traceback" not in gate.text()


def test_port_that_is_taken_is_said(launch: Launch, upstream: MockUpstream) -> None:
    """Without SO_REUSEPORT on the other socket the kernel refuses; the gate exits and names the address."""
    gate = launch({"tiny": model(upstream.url)})
    gate.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", gate.port))
        taken.listen()
        gate.start(wait=False)
        assert gate.process.wait(10) != 0
        assert str(gate.port) in gate.text().rsplit("listening", 1)[-1]
        assert "Traceback" not in gate.text()


# --- workers -----------------------------------------------------------------------------------------------------------


def test_a_gate_waits_for_a_command_that_is_changing_its_store(launch: Launch, upstream: MockUpstream) -> None:
    """Else it would have read the keys before that is through: a key that a command revokes would open everything."""
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    gate.terminate()
    with (gate.state / "serve.lock").open() as command:
        fcntl.flock(command, fcntl.LOCK_SH)
        gate.start(wait=False)
        time.sleep(1)  # longer than a start takes to read something
        assert gate.process.poll() is None, "it waits"
        assert gate.pids(CONTROL) == [], "nothing has been read yet"
    gate.wait_ready()


def test_kill_a_worker_under_load(launch: Launch, upstream: MockUpstream) -> None:
    """Failed: only what was in flight on it. A new worker accepts within a second. The ledger is exact."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=51)
    kills: list[tuple[float, set[int], int]] = []
    times = rounds(2, 20)
    with Background(loader.run(RATE, 3.0 * times + 1, streams=STREAMS), 3.0 * times + 90):
        time.sleep(1.5)
        for _ in range(times):
            victim = loader.chance.choice(gate.workers())
            send(victim, signal.SIGSTOP)
            ports = gate.ports_of(victim)
            send(victim, signal.SIGKILL)
            killed = time.monotonic()
            eventually(partial(both_listen, gate, victim), 1.0, "two workers listen again")
            kills.append((killed, ports, victim))
            time.sleep(1.8)
    bad = loader.bad()
    for each in bad:
        assert any(each.port in ports for _, ports, _ in kills), f"not on a killed worker: {each}"
        assert each.end is not None and any(abs(each.end - killed) < 0.5 for killed, _, _ in kills), str(each)
    assert bad, "void: nothing was in flight on the killed workers"
    compare_with_ledger(gate, loader, upstream)


def both_listen(gate: Gate, dead: int) -> bool:
    found = gate.workers()
    return len(found) == 2 and dead not in found and all(listens(pid, gate.port) for pid in found)


def listens(pid: int, port: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(
            each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in psutil.Process(pid).net_connections("tcp")
        )
    return False


def test_a_worker_that_cannot_be_replaced_at_once_costs_nobody_else(launch: Launch, upstream: MockUpstream) -> None:
    """The supervisor has no descriptor left when a worker dies: the others serve on, and it is replaced once there is one."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    supervisor = gate.process.pid
    bounds = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    dead, left = gate.workers()
    highest = max(int(fd) for fd in os.listdir(f"/proc/{supervisor}/fd"))
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (highest, bounds[1]))
    send(dead, signal.SIGKILL)
    eventually(lambda: "cannot be started" in gate.text(), 5, "it says that it can start none")
    time.sleep(0.5)  # more than one further try
    assert gate.process.poll() is None
    assert gate.workers() == [left]
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, bounds)
    eventually(lambda: len(gate.workers()) == 2, 5, "the worker is replaced")
    assert gate.text().count("cannot be started") == 1


def test_frozen_worker_leaves_others_alone(launch: Launch, upstream: MockUpstream, long_run: bool) -> None:
    """SIGSTOP: clients on it wait; those on the other are served; after it thaws (or is replaced) no answer comes twice."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    frozen, awake = gate.workers()
    pause = 10.0 if long_run else 3.0
    wires = [Wire(gate.port, timeout=pause + 8) for _ in range(40)]
    for wire in wires:
        assert wire.ask(PLAIN).status == 200
    ports = gate.ports_of(frozen)
    on_frozen = [wire for wire in wires if wire.socket.getsockname()[1] in ports]
    others = [wire for wire in wires if wire not in on_frozen]
    assert on_frozen
    assert others
    upstream.clear()
    send(frozen, signal.SIGSTOP)
    try:
        end = time.monotonic() + pause
        for n, wire in enumerate(on_frozen):
            wire.send(request(chat(tag=f"frozen-{n}"), secret=SECRET))
        for wire in itertools.cycle(others):
            assert wire.ask(PLAIN).status == 200
            if time.monotonic() > end:
                break
            time.sleep(0.01)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            send(frozen, signal.SIGCONT)
    answered = 0
    for n, wire in enumerate(on_frozen):
        try:
            answer = wire.answer()
        except (ClosedEarlyError, OSError):
            continue  # allowed only if the worker was replaced, which is asserted below
        assert answer.json()["tag"] == f"frozen-{n}"
        answered += 1
        assert not wire.closed(0.01), "a second answer or an end"
    assert answered == len(on_frozen) or frozen not in gate.workers()
    bodies = [asked["body"] for asked in upstream.journal()]
    assert all(sum(f'"frozen-{n}"' in body for body in bodies) <= 1 for n in range(len(on_frozen)))
    assert serve_all(gate, 52)
    assert awake in gate.workers()
    for wire in wires:
        wire.__exit__()


def serve_all(gate: Gate, seed: int) -> bool:
    """A second of load without a failure."""
    loader = Loader(gate.port, SECRET, seed)
    with Background(loader.run(50, 1)):
        pass
    assert not loader.bad(), loader.told()
    return True


def test_frozen_worker_under_load(launch: Launch, upstream: MockUpstream, long_run: bool) -> None:
    """SIGSTOP under load: only what was on the frozen worker may fail, and only if it is replaced; the ledger is exact."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=65)
    times, pause, after = rounds(1, 2), *((10.0, 4.0) if long_run else (1.0, 1.0))
    seconds = times * (pause + after) + 2
    frozen: list[set[int]] = []
    with Background(loader.run(RATE, seconds, streams=STREAMS), seconds + 90):
        time.sleep(1.5)
        for _ in range(times):
            victim = loader.chance.choice(gate.workers())
            send(victim, signal.SIGSTOP)
            frozen.append(gate.ports_of(victim))
            time.sleep(pause)
            with contextlib.suppress(psutil.NoSuchProcess):
                send(victim, signal.SIGCONT)
            time.sleep(after)
            assert len(gate.workers()) == 2
            if not long_run:
                assert victim in gate.workers(), "a freeze shorter than worker_timeout replaces nobody"
    strange = [each for each in loader.bad() if not any(each.port in ports for ports in frozen)]
    assert not strange, "not on the frozen worker:\n" + "\n".join(map(str, strange[:10]))
    assert long_run or not loader.bad(), loader.told()
    assert not [each for each in loader.journal if each.strange], "an answer came twice, or to another"
    compare_with_ledger(gate, loader, upstream)


# --- control -----------------------------------------------------------------------------------------------------------


def control_is_back(gate: Gate, dead: int) -> bool:
    return get(gate.admin, "/healthz", 0.5) == 200 and gate.control() != dead


def test_kill_control_under_load(launch: Launch, upstream: MockUpstream, long_run: bool) -> None:
    """The data plane has no failure; control is back within 2 s and its admin listener answers again."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=53)
    workers = gate.workers()
    times = rounds(2, 20)
    with Background(loader.run(RATE, 60 if long_run else 6, streams=STREAMS), 180):
        for _ in range(times):
            time.sleep(1)
            victim = gate.control()
            send(victim, signal.SIGKILL)
            killed = time.monotonic()
            eventually(partial(control_is_back, gate, victim), 2.5, "the admin listener answers again")
            print(f"control back after {time.monotonic() - killed:.2f} s")
    assert not loader.bad(), loader.told()
    assert gate.workers() == workers, "workers must outlive control"
    compare_with_ledger(gate, loader, upstream)


def test_workers_serve_alone(launch: Launch, upstream: MockUpstream, long_run: bool) -> None:
    """No control, and a frozen supervisor that starts none: a minute (in the long form) without a failure or a lost receipt."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=66)
    workers, alone = gate.workers(), 60.0 if long_run else 2.0
    with Background(loader.run(RATE, alone + 2.5, streams=STREAMS), alone + 90):
        time.sleep(1)
        send(gate.process.pid, signal.SIGSTOP)
        victim = gate.control()
        send(victim, signal.SIGKILL)
        time.sleep(alone)
        assert get(gate.admin, "/healthz", 0.5) == 0, "void: control was not away"
        send(gate.process.pid, signal.SIGCONT)
        eventually(partial(control_is_back, gate, victim), 2.5, "control is back")
    assert not loader.bad(), loader.told()
    assert gate.workers() == workers, "workers must outlive control"
    compare_with_ledger(gate, loader, upstream)


def test_frozen_control_stops_no_request(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=54)
    with Background(loader.run(RATE, 4, streams=STREAMS)):
        time.sleep(0.5)
        victim = gate.control()
        send(victim, signal.SIGSTOP)
        time.sleep(2.5)
        with contextlib.suppress(psutil.NoSuchProcess):
            send(victim, signal.SIGCONT)
    assert not loader.bad(), loader.told()
    compare_with_ledger(gate, loader, upstream)


# --- everything --------------------------------------------------------------------------------------------------------


def test_kill_all_children_in_turn_under_load(launch: Launch, upstream: MockUpstream) -> None:
    """kill -9 of workers and control at random moments; the ledger equals the clients' journal, exactly once."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=55)
    kills = rounds(5, 20)
    with Background(loader.run(RATE, kills * 1.4 + 1, streams=STREAMS), kills * 1.4 + 90):
        time.sleep(0.5)
        for n in range(kills):
            victims = gate.workers() if n % 2 == 0 else [gate.control()]
            send(loader.chance.choice(victims), signal.SIGKILL)
            time.sleep(1.0 + loader.chance.random() * 0.3)
    assert len(loader.bad()) < len(loader.journal) / 10, loader.told()
    compare_with_ledger(gate, loader, upstream)


def test_kill_everything_and_restart(launch: Launch, upstream: MockUpstream) -> None:
    """Ready within 5 s on the same port; what was cut is settled or `unknown` within 10 s; nothing twice."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=56)
    with Background(loader.run(RATE, 2.0, streams=STREAMS, events=100)):
        time.sleep(1.5)
        gate.kill_everything()
        killed = time.monotonic()
    assert not gate.processes()
    assert get(gate.port, "/readyz", 0.5) == 0
    whole = [each for each in loader.journal if each.complete]
    cut = [each for each in loader.journal if each.sent and not each.complete and each.sent < killed]
    assert whole and cut, "void: nothing was done or nothing was cut"
    gate.start(wait=False)
    gate.wait_ready(5.0)
    compare_with_ledger(gate, loader, upstream)
    forwarded = tags(upstream) & {each.id for each in cut}
    assert forwarded
    rows = gate.receipts(forwarded, 10)
    assert {row["ended"] for row in rows.values()} <= {"unknown", "client_left"}, rows
    first = len(gate.rows())
    gate.kill_everything()
    gate.start()
    time.sleep(1)
    assert len(gate.rows()) == first, "a second restart must add nothing"


def test_killed_supervisor_leaves_no_orphan_on_the_port(launch: Launch, upstream: MockUpstream) -> None:
    """kill -9 of the supervisor alone: its children go by themselves, so that a restart finds the port free."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    children = [each.pid for each in gate.processes()[1:]]
    gate.process.kill()
    gate.process.wait()
    eventually(
        lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in children),
        5,
        "its children ended",
    )
    gate.start()
    assert ask(gate.port, PLAIN).status == 200


def test_many_kills_do_not_leak(launch: Launch, upstream: MockUpstream) -> None:
    """Workers killed again and again: the supervisor neither gives up nor gathers zombies or descriptors."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    top = psutil.Process(gate.process.pid)
    descriptors = top.num_fds()
    chance = random.Random(60)
    stop = threading.Event()
    for _ in range(5):
        send(chance.choice(gate.workers()), signal.SIGKILL)
        eventually(lambda: len(gate.workers()) == 2, 5, "two workers run again")
    stop.set()
    eventually(lambda: len(gate.pids(WORKER)) == 2 and ask(gate.port, PLAIN).status == 200, 5, "the gate serves")
    assert not [each for each in top.children() if each.status() == psutil.STATUS_ZOMBIE]
    assert top.num_fds() <= descriptors + 2
