"""Clients that leave, wait or read slowly, and clients side by side: what the instance notices and what is booked.

A client that goes stops the instance's work at once and is billed for what it had; one that does not read pauses the
instance and costs the gate no memory; nobody ever sees another's bytes. The mock instance's journal says what happened.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time

import psutil
import pytest

from tests.system.conftest import Launch
from tests.system.scenes import GOOD, POISON, assert_served, plain
from tests.tools.gate import OTHER, SECRET, Gate, eventually, model
from tests.tools.load import RATE, STREAMS, Background, Loader, percentile
from tests.tools.slow import Crowd
from tests.tools.upstream import STREAM_HEAD, MockUpstream, chunk
from tests.tools.wire import ClosedEarlyError, Wire, ask, chat, request

# --- clients that leave, or read slowly --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stream", [True, False])
def test_client_that_leaves_stops_the_instance(gate: Gate, upstream: MockUpstream, how: str, stream: bool) -> None:
    mine = f"left-{how}-{stream}-{time.monotonic_ns()}"
    script = {"events": 100, "rate": 20} if stream else {"delay": 1.5}
    wire = Wire(gate.port)
    wire.send(request(chat(stream=stream, **script), secret=SECRET, headers=(f"X-Request-Id: {mine}",)))
    if stream:
        for _ in range(6):
            assert wire.event()
    else:
        eventually(upstream.journal, 2, "the request is with the instance")
    left = time.monotonic()
    wire.reset() if how == "reset" else wire.__exit__()
    row = gate.receipt(mine)
    (asked,) = eventually(
        lambda: [each for each in upstream.journal() if each["ended"]], 2, "the instance's connection is closed"
    )
    assert asked["ended"] == "peer_closed"
    assert asked["end_time"] - left < 1
    assert row["ended"] == "client_left", row
    if stream:
        assert 6 <= row["completion_tokens"] <= asked["events"]
        assert row["estimated"]
    assert_served(gate, upstream)


def test_client_that_closes_after_the_dialects_end(gate: Gate, upstream: MockUpstream) -> None:
    """Official clients close at `[DONE]`, often before the last chunk: they had the whole answer, and so says the receipt."""
    mine = f"done-{time.monotonic_ns()}"
    text_event = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    usage_event = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    body = text_event + usage_event + b"data: [DONE]\n\n"
    text = STREAM_HEAD % b"text/event-stream" + chunk(body)
    with Wire(gate.port) as wire:
        script = {"do": "raw", "bytes": text.decode(), "then": "stall"}
        wire.send(request(chat(stream=True, **script), secret=SECRET, headers=(f"X-Request-Id: {mine}",)))
        while b"[DONE]" not in (wire.event() or b"[DONE]"):
            pass
    row = gate.receipt(mine)
    assert (row["ended"], row["prompt_tokens"], row["completion_tokens"]) == ("complete", 3, 1), row


def test_client_that_leaves_the_queue_costs_nothing(launch: Launch, upstream: MockUpstream) -> None:
    """One slot, taken; a second request waits and its client goes: the instance never hears of it."""
    models = model(upstream.url, queue={"waiting": 5, "timeout": "5s"})
    models["instances"][0]["max_in_flight"] = 1
    gate = launch({"tiny": models}, workers=1)
    with Wire(gate.port) as first:
        first.send(plain("first", delay=1))
        eventually(upstream.journal, 2, "the slot is taken")
        second = Wire(gate.port)
        second.send(plain("second"))
        time.sleep(0.2)
        second.__exit__()
        time.sleep(0.1)
        third = Wire(gate.port)
        third.send(plain("third"))
        assert first.answer().json()["tag"] == "first"
        assert third.answer().json()["tag"] == "third"
    tags = [json.loads(asked["body"])["script"]["tag"] for asked in upstream.journal()]
    assert tags == ["first", "third"]
    assert upstream.gauges()["peak"] >= 1


def test_slots_of_an_instance_are_never_passed(launch: Launch, upstream: MockUpstream) -> None:
    models = model(upstream.url, queue={"waiting": 100, "timeout": "10s"})
    models["instances"][0]["max_in_flight"] = 3
    gate = launch({"tiny": models}, workers=1)
    loader = Loader(gate.port, SECRET, seed=42)
    with Background(loader.run(60, 1.0, delay=0.1)):
        peaks = []
        while len(loader.journal) < 60:
            peaks.append(upstream.gauges()["in_flight"])
            time.sleep(0.02)
    assert not loader.bad(), loader.told()
    assert 1 <= max(peaks) <= 3, peaks


def test_queue_that_is_full_refuses_at_once(launch: Launch, upstream: MockUpstream) -> None:
    models = model(upstream.url, queue={"waiting": 2, "timeout": "1s"})
    models["instances"][0]["max_in_flight"] = 1
    gate = launch({"tiny": models}, workers=1)
    wires = [Wire(gate.port) for _ in range(4)]
    for n, wire in enumerate(wires):
        wire.send(plain(f"q{n}", delay=3))
        time.sleep(0.1)
    started = time.monotonic()
    refused = wires[3].answer()
    assert (refused.status, refused.code) == (503, "overloaded")
    assert time.monotonic() - started < 0.5
    assert int(refused.header("retry-after") or 0) >= 1
    late = wires[1].answer()
    assert late.status == 503
    assert time.monotonic() - started < 2
    assert wires[0].answer().status == 200
    for wire in wires:
        wire.__exit__()


def test_client_that_reads_slowly_pauses_the_instance(gate: Gate, upstream: MockUpstream) -> None:
    """Nothing is buffered for a client that does not read: the instance stops being read, then the client is cut."""
    before, size = gate.rss(), 1 << 30
    mine = f"slow-{time.monotonic_ns()}"
    with Wire(gate.port, receive_buffer=8192) as wire:
        wire.send(request(chat(stream=True, do="flood", size=size), secret=SECRET, headers=(f"X-Request-Id: {mine}",)))
        assert wire.head()[0] == 200
        time.sleep(1.5)
        first = upstream.journal()[0]["sent"]
        time.sleep(0.3)
        assert upstream.journal()[0]["sent"] == first, "the instance is still being read"
        assert first < 32_000_000, f"{first} bytes were taken from the instance for a client that reads nothing"
        assert gate.rss() - before < 16_000_000
        assert ask(gate.port, plain("beside")).status == 200
        asked = eventually(
            lambda: [each for each in upstream.journal() if each["ended"] == "peer_closed"], 6, "a stalled reader is cut"
        )
        assert asked
    assert gate.receipt(mine)["ended"] == "client_left"


def test_many_slow_readers_cost_little_memory(gate: Gate, upstream: MockUpstream, long_run: bool) -> None:
    """Each of these streams may cost 256 KiB at the most, beside what the process takes once for passing so much at a time."""
    count = 1000 if long_run else 100
    before = gate.rss()
    wires = [Wire(gate.port, receive_buffer=4096) for _ in range(count)]
    for wire in wires:
        wire.send(request(chat(stream=True, do="flood", size=1 << 26), secret=SECRET))
    time.sleep(1.5)
    grown = gate.rss() - before
    assert ask(gate.port, plain("normal")).status == 200
    for wire in wires:
        wire.reset()
    assert grown < count * 262_144 + 16_000_000, f"{grown / count:.0f} bytes a stream"
    eventually(lambda: upstream.gauges()["in_flight"] == 0, 5, "all connections to the instance are closed")


def test_slow_clients_leave_others_alone(launch: Launch, upstream: MockUpstream, second: MockUpstream, long_run: bool) -> None:
    """A crowd each of slow heads, bodies and readers: all are cut in time, and another client is served all along.

    The long form takes the product's own limits. Latency is told, and only there held against what it was without the crowd:
    for requests of the time in which the crowd is there, not while it comes and all that it asked for is on its way.
    """
    header, body, send = (10, 30, 30) if long_run else (1, 2, 2)
    count, coming, late = (1000, 10.0, 3.0) if long_run else (100, 1.0, 1.0)
    guard = {} if long_run else {"header_timeout": f"{header}s", "body_timeout": f"{body}s", "send_timeout": f"{send}s"}
    gate = launch({"tiny": model(second.url), "large": model(upstream.url)}, workers=2, guard=guard)
    quiet, loader = Loader(gate.port, SECRET, seed=45), Loader(gate.port, SECRET, seed=46)
    crowd = Crowd(gate.port, SECRET, count, "large")
    with Background(quiet.run(RATE, header, streams=STREAMS)):
        pass
    pause, beats = header / 5, 3
    seconds = 2 * coming + beats * pause + max(header, body, send) + late
    with Background(loader.run(RATE, seconds, streams=STREAMS)), Background(crowd.run(coming, seconds, pause, beats)):
        pass
    assert not quiet.bad() and not loader.bad(), quiet.told() + loader.told()
    for each in crowd.of("head"):
        assert each.status == 408 and each.ended and header - 0.1 < each.ended - each.began < header + late, each
    for each in crowd.of("body"):
        assert each.status == 408 and each.ended and body - 0.1 < each.ended - each.sent < body + late, each
    rows = gate.receipts(each.request_id for each in [*crowd.of("head"), *crowd.of("body")])
    assert {(row["status"], row["ended"]) for row in rows.values()} == {(408, "refused")}
    rows = gate.receipts(each.name for each in crowd.of("read"))
    assert {row["ended"] for row in rows.values()} == {"client_left"}
    stalled = [asked["end_time"] - asked["time"] for asked in upstream.journal() if '"flood"' in asked["body"]]
    # Before it stalls, what lies between has to be filled, which takes a while when so many ask for it at once.
    assert len(stalled) == count and send - 0.1 < min(stalled) and max(stalled) < send + late + coming, (
        min(stalled),
        max(stalled),
    )
    here = max(each.began for each in crowd.clients) + 1
    without, coming_too, beside = (
        percentile([each.took for each in some if not each.stream], 0.99)
        for some in (quiet.journal, loader.journal, [each for each in loader.journal if each.due > here])
    )
    print(f"p99 of {RATE} requests/s beside {STREAMS} streams: {without * 1e3:.1f} ms without the crowd,")
    print(f"{beside * 1e3:.1f} ms while it is there, {coming_too * 1e3:.1f} ms with the time of its coming")
    assert not long_run or beside <= 2 * max(without, 0.005), (without, beside)


def test_flood_passes_whole_in_bounded_memory(gate: Gate, upstream: MockUpstream, long_run: bool) -> None:
    before, size = gate.rss(), (1 << 30) if long_run else (1 << 27)
    peak: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak.append(gate.rss())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with Wire(gate.port, timeout=60) as wire:
            wire.send(plain("flood", do="flood", size=size))
            status, _ = wire.head()
            got, wire.buffer = wire.buffer.count(b"x"), b""  # all that it consists of; the lines of chunks have none
            while got < size and wire.more():
                got, wire.buffer = got + wire.buffer.count(b"x"), b""
    finally:
        done.set()
        watcher.join()
    assert (status, got) == (200, size) or status == 502
    assert max(peak, default=before) - before < 32_000_000


def test_two_clients_never_see_each_others_bytes(gate: Gate, upstream: MockUpstream) -> None:
    """Two keys interleaved on shared upstream connections, with breaks and leavers between."""
    loader, other = Loader(gate.port, SECRET, seed=43), Loader(gate.port, OTHER, seed=44)
    with Background(loader.run(100, 2, streams=10)), Background(other.run(100, 2, streams=10)):
        for _ in range(10):
            with contextlib.suppress(ClosedEarlyError):
                ask(gate.port, plain("wild", do="raw", bytes=GOOD + POISON * 3, then="keep"))
            wire = Wire(gate.port)
            wire.send(request(chat(stream=True, events=50, rate=50, tag="leaver"), secret=OTHER))
            time.sleep(0.05)
            wire.reset()
    assert not [each for each in loader.journal + other.journal if each.strange]
    assert not loader.bad() and not other.bad(), loader.told() + other.told()


def test_half_open_client_is_noticed(gate: Gate, upstream: MockUpstream) -> None:
    """A client that vanished without FIN: its idle connection ends by the keep-alive limit and costs no CPU."""
    process = psutil.Process(gate.workers()[0])
    descriptors = process.num_fds()
    wires = [Wire(gate.port) for _ in range(20)]
    for wire in wires:
        assert wire.ask(plain()).status == 200
    used = sum(process.cpu_times()[:2])
    eventually(lambda: process.num_fds() <= descriptors + 2, 6, "the descriptors return", 0.2)
    assert sum(process.cpu_times()[:2]) - used < 0.1
    for wire in wires:
        wire.__exit__()
