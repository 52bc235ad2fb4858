"""Addresses that are hostile, and a gate under slow attack: bans, limits and bounds as clients from many addresses meet them.

127.0.0.0/8 holds the many; a gate here is told not to exempt it. What was let through is counted at the mock instance, never by
the gate's own word. `SLMGATE_LONG=1` runs the attack of slowhttptest with its full 4,000 connections.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Launch
from tests.system.test_instances import admin
from tests.tools.authority import Authority, TlsWire
from tests.tools.gate import SECRET, Gate, eventually, get, model
from tests.tools.load import RATE, STREAMS, Background, Loader, percentile
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, Wire, chat, request

HERE, THERE = "127.7.0.1", "127.7.0.2"
RECORDED, EACH_SECOND = 10_000, 20
"""Refusals of strangers that have a receipt (docs/security.md)."""
PLAIN = request(chat(), secret=SECRET)
WRONG = request(chat(), secret="sk-test-wrong-0123456789abcdef")


def guarded(**per_ip: Any) -> dict[str, Any]:
    """`guard` options by which only this is counted, of everybody."""
    off = {"requests": "off", "connections": "off", "new_connections": "off", "failed_auth": {"limit": "off"}}
    return {"exempt": [], "per_ip": {**off, **per_ip}}


def ask(gate: Gate, source: str, data: bytes = PLAIN, timeout: float = 5.0) -> Answer | None:
    """What one request on a connection of its own gets; None: the connection was not made, or was closed."""
    try:
        with Wire(gate.port, timeout=timeout, source=source) as wire:
            return wire.ask(data)
    except Exception:  # noqa: BLE001  # refused, reset, closed, silent: all of it means turned away
        return None


def served(gate: Gate, source: str, timeout: float = 0.3) -> bool:
    answer = ask(gate, source, timeout=timeout)
    return answer is not None and answer.status == 200


def fail(gate: Gate, source: str, times: int) -> None:
    for _ in range(times):
        answer = ask(gate, source, WRONG)
        assert answer is None or answer.status == 401, answer


def test_wrong_keys_ban_their_address(launch: Launch, upstream: MockUpstream) -> None:
    """In every worker, dropped by the kernel, longer the second time, and over when it is over; nobody else is touched."""
    gate = launch({"tiny": model(upstream.url)}, guard=guarded(failed_auth={"limit": "5/minute", "ban": "2s"}))
    assert served(gate, HERE, 5)
    idle = Wire(gate.port, source=HERE)
    assert idle.ask(PLAIN).status == 200
    fail(gate, HERE, 5)
    assert served(gate, HERE, 5), "at the limit it is not banned"
    fail(gate, HERE, 1)
    banned = time.monotonic()
    assert idle.closed(5), "what the banned had is closed"
    for _ in range(6):  # whichever worker they come to
        assert not served(gate, HERE) or time.monotonic() > banned + 2
    assert served(gate, THERE, 5)
    eventually(lambda: served(gate, HERE), 20, "the ban has ended")
    assert time.monotonic() - banned > 1.9
    fail(gate, HERE, 6)
    banned = time.monotonic()
    eventually(lambda: served(gate, HERE), 20, "the second ban has ended")
    assert time.monotonic() - banned > 3.9, "it is twice as long"
    text = gate.log.read_text()
    assert "1 addresses were banned for too many wrong API keys, the last from 127.7.0.1" in text


def test_a_ban_is_lifted(launch: Launch, upstream: MockUpstream) -> None:
    """By command, for every worker and in the kernel; the ban after it is a first one again."""
    gate = launch({"tiny": model(upstream.url)}, guard=guarded(failed_auth={"limit": "3/minute", "ban": "10m"}))

    def bans(*words: str) -> Any:
        command = [sys.executable, "-m", "slmgate", "bans", *words, "--json", "--config", str(gate.file)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert bans("list") == []
    for _ in range(2):
        fail(gate, HERE, 4)
        eventually(lambda: not served(gate, HERE), 10, "banned")
        (ban,) = bans("list")
        assert (ban["address"], ban["times"]) == (HERE, 1)
        assert 500 < ban["seconds"] <= 600
        assert bans("lift", HERE)["address"] == HERE
        eventually(lambda: all(served(gate, HERE, 2) for _ in range(8)), 10, "both workers let it in")
        assert bans("list") == []
    audited = admin(gate, "GET", "/api/v1/audit")["changes"]
    assert [row["target"] for row in audited if row["action"] == "ban.lift"] == [HERE, HERE]
    assert "is not banned" in admin(gate, "POST", "/api/v1/bans/lift", address=HERE)["detail"]


def test_the_kernel_keeps_the_banned_out(launch: Launch, upstream: MockUpstream) -> None:
    """They get no connection at all, not even one that is closed; the ban outlives the worker that made it."""
    gate = launch({"tiny": model(upstream.url)}, guard=guarded(failed_auth={"limit": "1/minute", "ban": "1m"}))
    fail(gate, HERE, 2)

    def shut_out() -> bool:
        with contextlib.suppress(TimeoutError), Wire(gate.port, timeout=0.3, source=HERE):
            return False
        return True

    def all_shut_out() -> bool:
        return all(shut_out() for _ in range(8))

    eventually(all_shut_out, 10, "no worker answers a knock")
    assert served(gate, THERE, 5)
    before = gate.workers()
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(set(gate.workers()) - set(before)) == 1 and len(gate.workers()) == 2, 10, "a new worker")
    eventually(all_shut_out, 10, "no worker answers a knock")
    assert served(gate, THERE, 5)


def test_requests_of_an_address_are_bounded(launch: Launch, upstream: MockUpstream) -> None:
    """Counted at the instance: in no time more than the burst and the rate; the others get 429 and leave no receipt."""
    gate = launch({"tiny": model(upstream.url)}, guard=guarded(requests="20/second burst 40"))
    began = time.monotonic()
    answers: list[Answer] = []
    lock = threading.Lock()

    def knock() -> None:
        with Wire(gate.port, source=HERE) as wire:
            for _ in range(40):
                answer = wire.ask(PLAIN)
                with lock:
                    answers.append(answer)

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    admitted = len(upstream.journal())
    assert admitted == sum(answer.status == 200 for answer in answers)
    assert 30 <= admitted <= 40 + 20 * took, (admitted, took)
    over = [answer for answer in answers if answer.status == 429]
    assert len(over) == len(answers) - admitted > 0
    assert {answer.code for answer in over} == {"rate_limit_exceeded"}
    assert {answer.header("retry-after") for answer in over} == {"1"}
    gate.receipts([answer.header("x-request-id") or "" for answer in answers if answer.status == 200])
    assert len(gate.rows()) == admitted

    def told() -> int:
        return sum(worker["guarded"] for worker in admin(gate, "GET", "/api/v1/status")["workers"])

    eventually(lambda: told() == len(over), 5, "the counters say so too", 0.1)
    assert served(gate, THERE, 5), "nobody else is held up"


def test_a_flood_of_strangers_does_not_fill_the_ledger(launch: Launch, upstream: MockUpstream) -> None:
    """Nobody in it is named by a credential; who is has the receipt of each request, in the middle of it."""
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    flood = (RECORDED + 600) // 100
    strange = request(None, method="GET", path="/v1/models") * 50 + request(None, method="GET", path="/nowhere") * 50
    began, mine = time.monotonic(), []
    with Wire(gate.port) as stranger:
        for number in range(flood):
            stranger.send(strange)
            assert {stranger.answer("GET").status for _ in range(100)} == {401, 404}
            if number % 8 == 0:
                answer = ask(gate, HERE)
                assert answer is not None and answer.status == 200
                mine.append(answer.header("x-request-id") or "")
    rows = gate.receipts(mine, 20)
    assert {row["status"] for row in rows.values()} == {200}
    over = 100 * flood - RECORDED - EACH_SECOND * (time.monotonic() - began)
    told = 0

    def all_told() -> bool:
        nonlocal told
        told = sum(worker["guarded"] for worker in admin(gate, "GET", "/api/v1/status")["workers"])
        return len(gate.rows()) + told == 100 * flood + len(mine)

    eventually(all_told, 20, "each has a receipt or is counted", 0.1)
    assert told >= over > 0
    assert "requests of strangers were refused and have no receipt" in gate.text()


def test_connections_of_an_address_are_bounded(launch: Launch, upstream: MockUpstream) -> None:
    """Over all workers together; those of a worker that was killed are no more."""
    gate = launch({"tiny": model(upstream.url)}, guard=guarded(connections=10))
    wires = [Wire(gate.port, source=HERE) for _ in range(30)]

    def inside() -> int:
        count = 0
        for wire in wires:
            with contextlib.suppress(Exception):
                count += wire.ask(PLAIN).status == 200
        return count

    assert inside() == 10
    assert served(gate, THERE, 5)
    worker = gate.workers()[0]
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: len(gate.workers()) == 2 and worker not in gate.workers(), 10, "a new worker")
    wires = [*wires, *(Wire(gate.port, source=HERE) for _ in range(20))]
    assert 9 <= inside() <= 10
    for wire in wires:
        wire.__exit__()
    eventually(lambda: served(gate, HERE), 10, "its connections have ended")


def test_handshakes_of_an_address_are_bounded(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    """With TLS a connection counts before its handshake, which may be dragged out; and no longer."""
    authority = Authority(tmp_path / "authority")
    tls = {"certificates": [authority.server()]}
    gate = launch({"tiny": model(upstream.url)}, tls=tls, workers=1, guard=guarded(connections=10))

    def silent() -> list[Wire]:
        return [Wire(gate.tls_port, source=HERE) for _ in range(30)]

    def held(wires: list[Wire]) -> int:
        return sum(not wire.closed(0.005) for wire in wires)

    wires = silent()
    eventually(lambda: held(wires) == 10, 4, "those beyond the limit are closed")
    with TlsWire(gate.tls_port, authority.context()) as wire:  # of another address
        assert wire.ask(PLAIN).status == 200
    for one in wires:
        one.__exit__()

    def let_in() -> bool:
        with Wire(gate.tls_port, source=HERE) as one:
            return not one.closed(0.3)

    eventually(let_in, 10, "they have left")


def test_this_machine_is_exempt(launch: Launch, upstream: MockUpstream) -> None:
    """Unless an operator says otherwise: behind 127.0.0.1 may stand a proxy, and with it everybody."""
    gate = launch({"tiny": model(upstream.url)}, guard={"per_ip": {"requests": "1/minute", "failed_auth": {"limit": "1/minute"}}})
    fail(gate, "127.0.0.1", 5)
    for _ in range(5):
        assert served(gate, "127.0.0.1", 5)


def test_a_full_gate_lets_those_with_a_key_in(launch: Launch, upstream: MockUpstream) -> None:
    """Strangers hold every connection and say nothing: who comes with a key gets in, and a request under way goes on."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, guard={"max_connections": 20, "header_timeout": "60s"})
    live = Wire(gate.port)
    live.send(request(chat(stream=True, events=60, rate=10), secret=SECRET))
    assert live.event()
    strangers = [Wire(gate.port) for _ in range(40)]
    strangers[0].send(b"GET /v1/models HTTP/1.1\r\nHost: gate.test\r\nX-Never: ")
    for _ in range(3):
        assert served(gate, "127.0.0.1", 10)
    assert get(gate.admin, "/healthz") == 200
    count = 0
    while (event := live.event()) is not None and b"[DONE]" not in event:
        count += 1
    assert event is not None
    assert count > 30
    assert sum(wire.closed(0.01) for wire in strangers) >= 3
    shed = admin(gate, "GET", "/api/v1/status")["workers"][0]["shed"]
    assert shed >= 3


# --- slow attacks ------------------------------------------------------------------------------------------------------

KEPT_EACH = 16 * 1024
"""Bytes of memory that a slow connection may cost at the most."""
KEPT_AT_ALL = 32 << 20


def slowly(gate: Gate, how: str, count: int, seconds: int) -> subprocess.Popen[bytes]:
    """slowhttptest with so many connections. It has no word for a credential: that goes along with another field, or the path.

    It stands back behind the gate and the client that is measured: an attacker has processors of its own.
    """
    program = shutil.which("slowhttptest")
    assert program, "slowhttptest is missing: install the Debian package slowhttptest"
    url = f"http://127.0.0.1:{gate.port}"
    key = f"\r\nAuthorization: Bearer {SECRET}"
    command = [
        "nice",
        "-n",
        "19",
        program,
        "-c",
        str(count),
        "-r",
        str(max(200, count // 4)),
        "-l",
        str(seconds),
        "-p",
        "5",
        "-i",
        "2",
    ]
    if how == "headers":
        command += ["-H", "-u", f"{url}/v1/models", "-x", "24"]
    elif how == "body":
        command += ["-B", "-u", f"{url}/v1/chat/completions", "-t", "POST", "-s", "8192", "-x", "10"]
        command += ["-f", f"application/json{key}"]
    else:
        command += ["-X", "-u", f"{url}/v1/models HTTP/1.1{key}\r\nX-Rest: "]
        command += ["-w", "64", "-y", "128", "-n", "2", "-z", "8", "-k", "10"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("how", ["headers", "body", "read"])
def test_slow_clients_by_the_thousand(launch: Launch, upstream: MockUpstream, how: str, long_run: bool) -> None:
    """A well-behaved client goes on as if they were not there; what they cost in memory is bounded; they are cut in the end."""
    count, seconds = (4000, 40) if long_run else (300, 4)
    bounds = {} if long_run else {"header_timeout": "3s", "body_timeout": "3s", "body_total": "3s", "send_timeout": "3s"}
    gate = launch({"tiny": model(upstream.url)}, guard=bounds)
    quiet, loader = Loader(gate.port, SECRET, seed=61), Loader(gate.port, SECRET, seed=62)
    with Background(quiet.run(RATE, seconds / 2, streams=STREAMS)):
        pass
    before, held = gate.rss(), gate.descriptors()
    most = {"here": 0, "rss": 0}
    attack = slowly(gate, how, count, seconds)
    try:
        with Background(loader.run(RATE, seconds, streams=STREAMS)):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                most["here"] = max(most["here"], gate.descriptors() - held - STREAMS)
                most["rss"] = max(most["rss"], gate.rss())
                time.sleep(0.25)
    finally:
        attack.terminate()
        attack.wait(20)
    assert most["here"] > count / 2, f"void: only {most['here']} connections at once"
    assert not quiet.bad() and not loader.bad(), quiet.told() + loader.told()
    grown = most["rss"] - before
    calm, beside = (percentile([each.took for each in some.journal if not each.stream], 0.99) for some in (quiet, loader))
    print(f"{how}: {most['here']} connections at once, {grown / 2**20:.1f} MiB; p99 {calm * 1e3:.1f} ms, {beside * 1e3:.1f} ms")
    assert grown < KEPT_AT_ALL + count * KEPT_EACH
    assert beside <= (2 * max(calm, 0.005) if long_run else 1.0), (calm, beside)
