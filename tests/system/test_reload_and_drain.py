"""Reloads, drains and keys that go, under load: what clients may notice (nothing) and how soon all workers agree.

A good file is in force on every worker within a second or so, a bad one leaves the old in force and is named; a drain lets live
streams finish. The clients' journal is the truth. Processes are ended by pid only.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import psutil
import pytest
import yaml

from tests.system.conftest import Launch
from tests.tools.gate import OTHER, SECRET, Gate, digest, eventually, get, model
from tests.tools.load import RATE, STREAMS, Background, Loader, rounds
from tests.tools.names import Names
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, ask, chat, request

PLAIN = request(chat(), secret=SECRET)
LISTING = request(None, method="GET", path="/v1/models", secret=SECRET)


# --- drain -------------------------------------------------------------------------------------------------------------


def test_sigterm_drains(launch: Launch, upstream: MockUpstream) -> None:
    """Not ready within 100 ms, new connections refused, live streams finish, exit 0."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, drain_timeout="10s")
    wires = [Wire(gate.port) for _ in range(8)]
    for n, wire in enumerate(wires):
        wire.send(request(chat(stream=True, events=30, rate=20, tag=f"d{n}"), secret=SECRET))
    idle = Wire(gate.port)
    assert idle.ask(PLAIN).status == 200
    for wire in wires:
        assert wire.event()
    gate.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert get(gate.port, "/readyz", 0.5) in (0, 503)
    assert get(gate.admin, "/readyz", 0.5) in (0, 503)
    assert idle.closed(1), "an idle connection is closed by a drain"
    for wire in wires:
        answer = b""
        while (event := wire.event()) is not None and b"[DONE]" not in event:
            answer += event
        assert event is not None, "a live stream was cut"
    assert gate.process.wait(5) == 0
    for each in gate.seen:
        assert not psutil.pid_exists(each) or psutil.Process(each).status() == psutil.STATUS_ZOMBIE
    gate.start()
    rows = gate.rows()
    assert len([row for row in rows if row["ended"] == "complete" and row["stream"]]) == 8, rows
    for wire in [*wires, idle]:
        wire.__exit__()


def test_drain_has_an_end(launch: Launch, upstream: MockUpstream) -> None:
    """A stream that outlives `drain_timeout` ends with an error event and a receipt `gate_stopped`."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, drain_timeout="1s")
    with Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, events=500, rate=20), secret=SECRET, headers=("X-Request-Id: too-long",)))
        assert wire.event()
        started = time.monotonic()
        gate.process.send_signal(signal.SIGTERM)
        rest = b""
        while wire.more():
            rest, wire.buffer = rest + wire.buffer, b""
        assert time.monotonic() - started < 3
        assert b'"error"' in rest
        assert b"[DONE]" not in rest
    assert gate.process.wait(5) == 0
    gate.start()
    assert gate.receipt("too-long")["ended"] == "gate_stopped"


def test_requests_in_flight_at_sigterm_finish(launch: Launch, upstream: MockUpstream) -> None:
    """Under load: nothing that was sent before the signal fails; after it only new connections are refused."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, drain_timeout="10s")
    loader = Loader(gate.port, SECRET, seed=57)
    with Background(loader.run(RATE, 3, delay=0.2)):
        time.sleep(1.5)
        gate.process.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
    early = [each for each in loader.bad() if each.sent and each.sent < stopped - 0.01]
    assert not early, "\n".join(map(str, early[:5]))
    assert gate.process.wait(5) == 0


# --- reload ------------------------------------------------------------------------------------------------------------


def lists(port: int, *names: str) -> bool:
    """Whether the worker that takes this connection offers exactly these models."""
    answer = ask(port, request(None, method="GET", path="/v1/models", secret=SECRET, headers=("Connection: close",)), "GET")
    return answer.status == 200 and {each["id"] for each in answer.json()["data"]} == set(names)


def said_since(gate: Gate, mark: int) -> str:
    """The log's text from there on, once it speaks of the configuration file (access lines do not)."""
    text = gate.log.read_text()[mark:]
    return text if "slmgate.yaml" in text else ""


def on_all_workers(probe: Callable[[], bool], within: float, what: str) -> None:
    """True on 24 new connections in a row, which the kernel spreads over the workers."""
    eventually(lambda: all(probe() for _ in range(24)), within, what)


@pytest.mark.parametrize("by", ["file", "signal"])
def test_reload_under_load(launch: Launch, upstream: MockUpstream, by: str) -> None:
    """Many reloads: no failure, no stream cut, each in force on all workers within a second."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    workers = gate.workers()
    loader = Loader(gate.port, SECRET, seed=58)
    times = rounds(4, 20)
    with Background(loader.run(RATE, times * 1.5 + 1, streams=STREAMS), times * 1.5 + 90):
        time.sleep(0.5)
        for n in range(times):
            gate.write(models={"tiny": model(upstream.url), f"more-{n}": model(upstream.url)})
            if by == "signal":
                gate.process.send_signal(signal.SIGHUP)
            on_all_workers(partial(lists, gate.port, "tiny", f"more-{n}"), 1.5, f"reload {n} is in force")
            time.sleep(0.5)
    assert not loader.bad(), loader.told()
    assert gate.workers() == workers, "a reload must not replace a worker"


def test_reload_under_pipelining_clients(launch: Launch, upstream: MockUpstream) -> None:
    """Five requests at once on each kept connection, reloads beside them: every one is answered, on the same connection."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    wires = [Wire(gate.port) for _ in range(8)]
    asked = 0
    for n in range(rounds(4, 20)):
        gate.write(models={"tiny": model(upstream.url), f"more-{n}": model(upstream.url)})
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            for wire in wires:
                wire.send(PLAIN * 5)
            for wire in wires:
                answers = [wire.answer() for _ in range(5)]
                assert {(each.status, each.header("connection")) for each in answers} == {(200, None)}
                asked += 5
    for wire in wires:
        wire.__exit__()
    eventually(lambda: len(gate.rows()) == asked, 10, "each has its receipt")


@pytest.mark.parametrize("by", ["file", "signal"])
def test_bad_reload_keeps_the_old_and_says_so(launch: Launch, upstream: MockUpstream, by: str) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    good = yaml.safe_dump(gate.config)
    for n, text in enumerate(
        [
            good + f"nonsense_{by}: 1\n",
            good.replace("workers: 2", "workers: [oops"),
            "",
            good.replace("engine: openai", "engine: mystery"),
        ]
    ):
        mark = len(gate.log.read_text())
        fresh = gate.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(gate.file)
        if by == "signal":
            gate.process.send_signal(signal.SIGHUP)
        said = eventually(partial(said_since, gate, mark), 2, f"bad file {n} is named in the log")
        assert "Traceback" not in said and "slmgate.yaml" in said, said
        assert ask(gate.port, PLAIN).status == 200
    gate.write(models={"tiny": model(upstream.url), "healed": model(upstream.url)})
    on_all_workers(partial(lists, gate.port, "healed", "tiny"), 2, "a good file after bad ones is in force")


def test_a_file_written_while_the_last_one_comes_into_force(launch: Launch, upstream: MockUpstream) -> None:
    """One edit upon another, each at the moment at which the one before it is first seen: the last one is never missed."""
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    with Wire(gate.port) as wire:

        def shown(name: str) -> bool:
            return any(each["id"] == name for each in wire.ask(LISTING, "GET").json()["data"])

        for n in range(rounds(6, 30)):
            gate.write(models={"tiny": model(upstream.url), f"more-{n}": model(upstream.url)})
            eventually(partial(shown, f"more-{n}"), 3, f"edit {n} is in force", pause=0)


def test_a_file_that_changes_while_the_gate_starts_is_the_last_good_one(launch: Launch, upstream: MockUpstream) -> None:
    """A start waits for names for a moment. What it began with is not what is gone back to, once another file is in force."""
    with Names() as names:
        names.silent = True
        late = {"instances": [{"url": upstream.url}, {"dns": "late.test", "port": 80}]}
        gate = launch({"tiny": late}, workers=1, wait=False, discovery={"nameservers": [names.address]})
        eventually(lambda: names.asked["late.test"], 30, "it asks for the name")
        gate.write(models={"tiny": model(upstream.url)})
        gate.wait_ready()
        eventually(lambda: "configuration in force" in gate.text(), 10, "the new file is in force")
        eventually(lambda: "admin listening" in gate.text(), 10, "the start is over")
        eventually(lambda: (gate.state / "last-good.yaml").exists(), 3, "it is kept")
        time.sleep(0.3)  # in which an older file would take its place
        assert (gate.state / "last-good.yaml").read_text() == gate.file.read_text()


def test_a_bad_file_is_followed_by_a_control_process_that_is_started_under_it(launch: Launch, upstream: MockUpstream) -> None:
    """Which goes on with the last good one, and takes the file as soon as it is mended."""
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    good = gate.file.read_text()
    mark = len(gate.log.read_text())
    gate.file.write_text(good + "nonsense: 1\n")
    eventually(partial(said_since, gate, mark), 5, "the bad file is named in the log")
    before = gate.control()
    psutil.Process(before).kill()
    eventually(lambda: "going on with the last good one" in gate.log.read_text(), 10, "another control process has begun")
    assert ask(gate.port, PLAIN).status == 200
    gate.write(models={"tiny": model(upstream.url), "healed": model(upstream.url)})
    on_all_workers(partial(lists, gate.port, "healed", "tiny"), 5, "the mended file is in force")
    assert gate.log.read_text().count("starting another") == 1, "only the one that was killed had to be replaced"


def test_key_taken_out_is_refused_within_a_second_everywhere(launch: Launch, upstream: MockUpstream) -> None:
    """On new and on kept connections alike, while another key goes on without a failure; streams that began go on."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=59)
    kept = [Wire(gate.port) for _ in range(16)]
    gone = request(chat(), secret=OTHER)
    for wire in kept:
        assert wire.ask(gone).status == 200
    live = Wire(gate.port)
    live.send(request(chat(stream=True, events=30, rate=10), secret=OTHER))
    assert live.event()
    with Background(loader.run(50, 3)):
        gate.write(keys=[{"name": "main", "hash": digest(SECRET)}])
        time.sleep(1.0)
        assert {wire.ask(gone).status for wire in kept} == {401}
        assert {ask(gate.port, gone).status for _ in range(16)} == {401}
        event = live.event()
        while event is not None and b"[DONE]" not in event:
            event = live.event()
        assert event is not None, "a stream that began under the key was cut"
    assert not loader.bad(), loader.told()
    for wire in [*kept, live]:
        wire.__exit__()


def test_declared_key_expires_on_the_road(launch: Launch, upstream: MockUpstream) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=8)).isoformat(timespec="seconds")
    keys = [{"name": "main", "hash": digest(SECRET)}, {"name": "brief", "hash": digest(OTHER), "expires": soon}]
    gate = launch({"tiny": model(upstream.url)}, workers=1, keys=keys)
    with Wire(gate.port) as wire:
        assert wire.ask(request(chat(), secret=OTHER)).status == 200
        eventually(lambda: wire.ask(request(chat(), secret=OTHER)).status == 401, 9, "the key has expired", 0.2)
        assert datetime.now(UTC).isoformat() >= soon[:19]
        assert ask(gate.port, PLAIN).status == 200
