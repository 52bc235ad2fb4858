"""What the gate does when the machine gives way: no descriptors, memory or disk, a false clock, half-open sockets, many streams.

Each test needs root or a Debian package where it says so, and fails with that package's name when it is missing; nothing is
skipped. `SLMGATE_LONG=1` runs the full figures of the reliability goals.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.conftest import Launch
from tests.system.scenes import compare_with_ledger
from tests.tools.apart import drop, run_apart, sh
from tests.tools.gate import SECRET, Gate, eventually, get, model
from tests.tools.load import RATE, STREAMS, Background, Loader, percentile
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ClosedEarlyError, Wire, ask, chat, request

PLAIN = request(chat(), secret=SECRET)


def cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


# --- descriptors -------------------------------------------------------------------------------------------------------


def test_descriptors_run_out(launch: Launch, upstream: MockUpstream) -> None:
    """Accepting pauses without a spin, streams go on, and it recovers by itself."""
    assert shutil.which("prlimit"), "prlimit is missing: install the Debian package util-linux"
    gate = launch(
        {"tiny": model(upstream.url)},
        workers=1,
        prefix=("prlimit", "--nofile=96:96"),
        guard={"keep_alive": "60s", "header_timeout": "60s"},
    )
    (worker,) = gate.workers()
    live = Wire(gate.port)
    live.send(request(chat(stream=True, events=60, rate=10), secret=SECRET))
    assert live.event()
    flood: list[socket.socket] = []
    for _ in range(200):
        each = socket.socket()
        each.settimeout(0.5)
        with contextlib.suppress(OSError):
            each.connect(("127.0.0.1", gate.port))
        flood.append(each)
    time.sleep(0.5)
    assert psutil.Process(worker).num_fds() <= 96
    used, started = cpu(worker), time.monotonic()
    time.sleep(2)
    share = (cpu(worker) - used) / (time.monotonic() - started)
    assert share < 0.05, f"{share:.0%} CPU while out of descriptors"
    for _ in range(5):
        assert live.event(), "a stream was cut for want of descriptors"
    for each in flood:
        each.close()
    eventually(lambda: serves(gate), 5, "served again after descriptors came back")
    assert gate.workers() == [worker]
    count = 0
    while (event := live.event()) is not None and b"[DONE]" not in event:
        count += 1
    assert event is not None
    assert count > 30
    live.__exit__()


def serves(gate: Gate) -> bool:
    with contextlib.suppress(Exception):
        return ask(gate.port, PLAIN, timeout=2).status == 200
    return False


def test_max_connections_is_a_bound(launch: Launch, upstream: MockUpstream) -> None:
    """Above `guard.max_connections` others are refused or wait; those inside are served; the place comes free again."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, guard={"max_connections": 20})
    inside = [Wire(gate.port) for _ in range(20)]
    for wire in inside:
        assert wire.ask(PLAIN).status == 200
    extra = [Wire(gate.port, timeout=0.2) for _ in range(10)]
    served = 0
    for wire in extra:
        with contextlib.suppress(Exception):
            served += wire.ask(PLAIN).status == 200
    assert served == 0
    assert all(wire.ask(PLAIN).status == 200 for wire in inside)
    for wire in [*inside, *extra]:
        wire.__exit__()
    eventually(lambda: serves(gate), 5, "served again after places came free")


# --- memory ------------------------------------------------------------------------------------------------------------

LARGE = 7 << 20
"""Bytes of a body within the default `guard.max_body`."""


def bound_memory(pid: int, room: int) -> None:
    """Let a running process take `room` more bytes of address space and no more (prlimit(2), RLIMIT_AS)."""
    bound = psutil.Process(pid).memory_info().vms + room
    resource.prlimit(pid, resource.RLIMIT_AS, (bound, bound))


def on(gate: Gate, worker: int, wires: list[Wire]) -> list[Wire]:
    """Those of the connections that this worker holds."""
    ports = gate.ports_of(worker)
    return [wire for wire in wires if wire.socket.getsockname()[1] in ports]


def test_memory_runs_out(launch: Launch, upstream: MockUpstream) -> None:
    """Large bodies on a worker without the memory for them cost themselves: streams go on, no spin, each has a receipt."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, guard={"body_timeout": "2s"})
    wires = [Wire(gate.port) for _ in range(48)]
    assert all(wire.ask(PLAIN).status == 200 for wire in wires)
    short, other = gate.workers()
    live, *rest = on(gate, short, wires)
    large, small = rest[:12], rest[12:]
    assert len(large) + len(small) > 5, "void: nobody is on that worker"
    live.send(request(chat(stream=True, events=35, rate=10), secret=SECRET))
    assert live.event()
    bound_memory(short, 6 * LARGE)
    for n, wire in enumerate(large):
        fields = (f"Content-Length: {LARGE}", f"X-Request-Id: large-{n}")
        with contextlib.suppress(OSError):  # it may be cut before it is through
            wire.send(request(None, secret=SECRET, headers=fields) + b" " * (LARGE - 1))
    used, started = cpu(short), time.monotonic()
    time.sleep(1)
    share = (cpu(short) - used) / (time.monotonic() - started)
    assert share < 0.05, f"{share:.0%} CPU while out of memory"
    assert all(wire.ask(PLAIN).status == 200 for wire in [*on(gate, other, wires), *small])
    told = [status_or_end(wire) for wire in large]
    print(f"large bodies were told {told}")
    assert 0 in told and set(told) <= {0, 408, 500, 503}, "void: there was memory enough"
    answered = gate.receipts(f"large-{n}" for n, status in enumerate(told) if status)
    assert {row["ended"] for row in answered.values()} <= {"refused", "gate_failed"}, answered
    # One that was cut before its head could be read reached no verdict, and leaves none.
    cut = [row for row in gate.rows() if row["request_id"].startswith("large-") and row["request_id"] not in answered]
    assert {row["ended"] for row in cut} <= {"client_left"} and len(cut) <= told.count(0), cut
    event = live.event()
    while event is not None and b"[DONE]" not in event:
        event = live.event()
    assert event is not None, "a stream was cut for want of memory"
    assert gate.workers() == [short, other], "it recovers by itself"
    whole = request(chat() + b" " * (LARGE // 4), secret=SECRET)
    assert [wire.ask(whole).status for wire in small[:2]] == [200, 200], "and has room for a large body again"
    for wire in wires:
        wire.__exit__()


def status_or_end(wire: Wire) -> int:
    """The status of the next answer; 0 when the connection ends without one."""
    try:
        return wire.answer().status
    except (ClosedEarlyError, OSError):
        return 0


def test_memory_runs_out_in_small_pieces(launch: Launch, upstream: MockUpstream, long_run: bool) -> None:
    """No room for the least thing may end a worker: another is there at once, nobody else notices, no receipt is lost."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=67)
    with Background(loader.run(RATE, 3, streams=STREAMS)):
        time.sleep(0.5)
        short, other = gate.workers()
        beside = gate.ports_of(other)
        bound_memory(short, 1 << 20)
        crowd = [Wire(gate.port) for _ in range(8000 if long_run else 4000)]
        for wire in crowd:
            wire.send(PLAIN[:60])
        time.sleep(1)
        for wire in crowd:
            wire.reset()
        eventually(lambda: len(gate.workers()) == 2 and serves(gate), 1.5, "served by two workers again")
        print("the worker", "lived" if short in gate.workers() else "was replaced")
    assert other in gate.workers()
    cut = [each for each in loader.bad() if each.port in beside]
    assert not cut, "not on the worker without memory:\n" + "\n".join(map(str, cut[:10]))
    assert len(loader.bad()) < len(loader.journal) / 10, loader.told()
    compare_with_ledger(gate, loader, upstream, "gate_failed")
    again = Loader(gate.port, SECRET, seed=68)
    with Background(again.run(RATE, 1)):
        pass
    assert not again.bad(), again.told()


# --- disk --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB of its own."""
    assert os.geteuid() == 0, "this test mounts a small tmpfs: run it as root"
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(where)], check=True)
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left."""
    stuff = disk / "filler"
    with contextlib.suppress(OSError), stuff.open("ab", buffering=0) as file:
        while True:
            file.write(b"\1" * 4096)
    return stuff


def test_disk_full(launch: Launch, upstream: MockUpstream, small_disk: Path) -> None:
    """Refused with 503 and Retry-After rather than given away; whole again after space, without a restart."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, state_dir=small_disk / "state", journal={"segment_size": "1MiB"})
    loader = Loader(gate.port, SECRET, seed=61)
    assert ask(gate.port, PLAIN).status == 200
    stuff = fill(small_disk)
    refused = None
    for n in range(60_000):
        # Journal space made before the disk filled may still be used up; a long id makes that quick.
        answer = one_kept(gate, f"full-{n}-" + "x" * 40)
        if answer.status != 200:
            refused = answer
            break
    print(f"refused after {n} requests")
    assert refused is not None, "the gate goes on giving work away that it cannot record"
    assert (refused.status, refused.code) == (503, "accounting_unavailable")
    assert int(refused.header("retry-after") or 0) >= 1
    before = len(upstream.journal())
    assert ask(gate.port, PLAIN).status == 503 and len(upstream.journal()) == before, "a refused request reached the instance"
    assert gate.process.poll() is None
    assert gate.workers()
    close_kept()
    stuff.unlink()
    eventually(lambda: serves(gate), 5, "served again within 5 s of space, without a restart")
    with Background(loader.run(50, 1)):
        pass
    assert not loader.bad(), loader.told()
    gate.receipts((each.id for each in loader.journal), 15)
    asked = [dict(each["headers"]).get("x-request-id") for each in upstream.journal()]
    done = n  # requests 0 .. n-1 were answered with 200
    names = [f"full-{k}-" + "x" * 40 for k in range(done)]
    assert asked
    gate.receipts(names, 15)
    gate.terminate()
    with contextlib.closing(sqlite3.connect(gate.state / "ledger.sqlite3")) as store:
        assert store.execute("pragma integrity_check").fetchone() == ("ok",)


_kept: list[Wire] = []


def one_kept(gate: Gate, name: str) -> Any:
    """A request with that id on one kept connection."""
    if not _kept:
        _kept.append(Wire(gate.port))
    answer = _kept[0].ask(request(chat(), secret=SECRET, headers=(f"X-Request-Id: {name}",)))
    if answer.header("connection") == "close":
        close_kept()
    return answer


def close_kept() -> None:
    while _kept:
        _kept.pop().__exit__()


# --- clock -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def faketime() -> str:
    """The library that lies about the wall clock; Debian's package is installed when we may."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "libfaketime"], capture_output=True, check=False, timeout=120)
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert found, "libfaketime is missing: install the Debian package libfaketime"
    return str(found[0])


def test_clock_stepped(launch: Launch, upstream: MockUpstream, faketime: str, tmp_path: Path, long_run: bool) -> None:
    """+1 h, -1 h and back under load: no failure, no cut stream, no negative duration, time limits still hold."""
    stamp = tmp_path / "clock"
    stamp.write_text("+0")
    env = {
        "LD_PRELOAD": faketime,
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    limits = {"connect": "1s", "first_byte": "2s", "idle": "2s"}
    gate = launch({"tiny": model(upstream.url, timeouts=limits)}, workers=2, env=env)
    loader = Loader(gate.port, SECRET, seed=62)
    seconds = 60.0 if long_run else 5.0
    with Background(loader.run(RATE, seconds, streams=STREAMS, delay=0.05)):
        for step in ("+3600", "-3600", "+0"):
            time.sleep(seconds / 4)
            stamp.write_text(step)
    assert not loader.bad(), loader.told()
    rows = gate.receipts((each.id for each in loader.journal), 10)
    for row in rows.values():
        assert 0 <= row["queue_us"] <= row["total_us"] < 60_000_000 and 0 <= (row["first_byte_us"] or 0) <= row["total_us"], row
    shifts = {round((parsed(row["time"]) - datetime.now().astimezone().timestamp()) / 3600) for row in rows.values()}
    assert {1, -1} & shifts, f"void: the gate's clock was not moved {shifts}"
    stamp.write_text("-3600")
    started = time.monotonic()
    assert ask(gate.port, request(chat(do="silence"), secret=SECRET)).status == 504
    assert 1.5 < time.monotonic() - started < 4


def parsed(text: Any) -> float:
    """Seconds since the epoch of a receipt's time (UTC), however the store writes it."""
    if isinstance(text, int | float):
        return float(text) / (1e6 if text > 1e14 else 1)
    found = datetime.fromisoformat(str(text))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


# --- half-open sockets -------------------------------------------------------------------------------------------------


def test_half_open_sockets(tmp_path: Path) -> None:
    """Packets of the instance, then of the clients, vanish: noticed within the limits, no CPU, all descriptors back."""

    def scenario() -> None:
        upstream = MockUpstream()
        limits = {"connect": "1s", "first_byte": "3s", "idle": "3s"}
        guard = {"keep_alive": "4s", "send_timeout": "3s", "header_timeout": "3s", "body_timeout": "3s"}
        gate = Gate(tmp_path, {"tiny": model(upstream.url, timeouts=limits)}, workers=1, guard=guard)
        try:
            half_open(gate, upstream)
        finally:
            print(gate.text())
            gate.stop()
            upstream.close()

    run_apart(scenario)


def half_open(gate: Gate, upstream: MockUpstream) -> None:
    (worker,) = gate.workers()
    assert ask(gate.port, PLAIN).status == 200
    resting = psutil.Process(worker).num_fds()
    wires = [Wire(gate.port) for _ in range(10)]
    for wire in wires[:5]:
        wire.send(request(chat(stream=True, events=1000, rate=20), secret=SECRET))
        assert wire.event()
    for wire in wires[5:]:
        assert wire.ask(PLAIN).status == 200
    drop(upstream.port)
    started = time.monotonic()
    for wire in wires[:5]:
        rest = b""
        while b'"error"' not in rest and wire.more():
            rest, wire.buffer = rest + wire.buffer, b""
        assert b'"error"' in rest
        assert b"[DONE]" not in rest
    assert time.monotonic() - started < 5, "a silent instance must be given up within its idle limit"
    answer = ask(gate.port, PLAIN)
    assert answer.status in (502, 503, 504)
    drop_clients(gate)
    used = cpu(worker)
    eventually(lambda: psutil.Process(worker).num_fds() <= resting + 5, 8, "all descriptors are back", 0.2)
    assert cpu(worker) - used < 0.3


def drop_clients(gate: Gate) -> None:
    """Cut the clients off as well, without a FIN."""
    sh("nft", f"add rule inet lost packets tcp dport {gate.port} drop")
    sh("nft", f"add rule inet lost packets tcp sport {gate.port} drop")


# --- many streams ------------------------------------------------------------------------------------------------------


def test_a_thousand_streams(launch: Launch, upstream: MockUpstream, long_run: bool) -> None:
    """1,000 open streams: no event lost, doubled or out of order, none cut; memory and descriptors as they were."""
    count = 1000
    seconds, rate = (300, 10) if long_run else (12, 4)
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    assert ask(gate.port, PLAIN).status == 200
    descriptors = gate.descriptors()
    loader = Loader(gate.port, SECRET, seed=63)
    peak = 0
    with Background(loader.run(0, seconds, streams=count, events=seconds * rate, event_rate=rate), seconds + 60):
        for _ in range(int(seconds / 2)):
            time.sleep(1)
            peak = max(peak, gate.rss())
        open_now = sum(1 for each in loader.journal if each.first and each.end is None)
    assert open_now >= count * 0.95, f"only {open_now} streams were open at once"
    assert not loader.bad(), loader.told()
    assert all(each.numbers == list(range(seconds * rate)) for each in loader.journal)
    assert peak <= 150 * 1024 * 1024, f"{peak / 1048576:.0f} MiB in one worker"
    delays = sorted(delay for each in loader.journal for delay in each.delays)
    p50, p99 = (percentile(delays, share) * 1e3 for share in (0.5, 0.99))
    print(f"delay per event, mock and loader included: p50 {p50:.1f} ms, p99 {p99:.1f} ms; {peak >> 20} MiB")
    rows = gate.receipts((each.id for each in loader.journal), 15)
    assert {(row["ended"], row["completion_tokens"]) for row in rows.values()} == {("complete", seconds * rate)}
    # Each worker keeps up to 256 connections to an instance for a minute.
    kept, within = (5, 80) if long_run else (2 * 256 + 5, 8)
    eventually(lambda: gate.descriptors() <= descriptors + kept, within, "descriptors are back", 0.2)


def test_short_requests_under_steady_load(launch: Launch, upstream: MockUpstream, long_run: bool) -> None:
    """An open loop at a rate far below the peak: no error, and every request in the ledger."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=64)
    seconds = 600 if long_run else 5
    with Background(loader.run(300, seconds), seconds + 60):
        time.sleep(1)
        assert get(gate.admin, "/healthz") == 200
    assert not loader.bad(), loader.told()
    rows = gate.receipts((each.id for each in loader.journal), 15)
    assert len(rows) == len(loader.journal)
    assert {(row["status"], row["prompt_tokens"], row["completion_tokens"]) for row in rows.values()} == {(200, 7, 5)}
