"""The load: unstreamed requests over a few connections, or many streams at once; every answer is verified.

A process of its own on uvloop, so that its work is in nobody's figures. `requests` runs closed loops (each connection
sends its next request when it has the last answer) and reports latencies; `streams` opens N streams, waits for the first
event of each, says `started N`, waits for a line on stdin, counts and stamps events for the window that the line asks
for, and leaves. It knows no proxy: it gets a port, extra headers, and prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from array import array
from collections.abc import Callable
from typing import cast

import uvloop

from bench import wire
from bench.machine import raise_nofile

_STAMP = re.compile(rb"@(\d{19})\.(\d{8})@")
_TAIL = 40
"""Bytes kept of a read so that a stamp cut in two is found with the next."""


def percentile(values: list[int], share: float) -> float | None:
    """The value below which `share` (0..1) of sorted `values` lie, nearest rank; None without values."""
    return float(values[min(len(values) - 1, int(share * len(values)))]) if values else None


class Closed(asyncio.Protocol):
    """One connection that asks again and again. `expect` is the text of the right answer."""

    def __init__(self, request: bytes, report: Report) -> None:
        self.request = request
        self.report = report
        self.buffer = b""
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.report.open += 1
        self.ask()

    def ask(self) -> None:
        self.asked = time.monotonic_ns()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        try:
            answer = wire.parse(self.buffer)
        except wire.IncompleteError:
            return
        except ValueError:
            self.report.errors += 1
            self.transport.close()
            return
        now = time.monotonic_ns()
        self.buffer = self.buffer[answer.size :]
        right = answer.status == 200 and self.report.right(answer.body)
        if not right or self.buffer:
            self.report.errors += 1
        elif self.asked >= self.report.since:
            self.report.latencies.append(now - self.asked)
        if now < self.report.until:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        if time.monotonic_ns() < self.report.until:
            self.report.errors += 1
        self.report.open -= 1


class Report:
    """What a run of closed loops has come to. Times are nanoseconds of the monotonic clock."""

    def __init__(self, warm: float, seconds: float) -> None:
        self.since = time.monotonic_ns() + int(warm * 1e9)
        self.until = self.since + int(seconds * 1e9)
        self.latencies = array("Q")
        self.errors = 0
        self.open = 0
        self.seen: set[bytes] = set()

    def right(self, content: bytes) -> bool:
        """Whether the body says what the mock instance said. Bodies seen before are not decoded again."""
        if content in self.seen:
            return True
        if wire.text_of(content) != wire.ANSWER:
            return False
        if len(self.seen) < 1000:  # some targets put an id or a time into each answer
            self.seen.add(content)
        return True


async def requests(port: int, connections: int, warm: float, seconds: float, extra: dict[str, str]) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    report = Report(warm, seconds)
    request = wire.request(port, wire.body(), extra=extra)
    for _ in range(connections):
        await loop.create_connection(lambda: Closed(request, report), "127.0.0.1", port)
    await asyncio.sleep(warm + seconds)
    await _until(lambda: not report.open, 5)
    values = sorted(report.latencies)
    return {
        "requests": len(values),
        "errors": report.errors + report.open,
        "seconds": seconds,
        "p50_us": _us(percentile(values, 0.5)),
        "p99_us": _us(percentile(values, 0.99)),
    }


async def _until(done: Callable[[], bool], seconds: float) -> None:
    """Look every 10 ms whether `done`, for at most `seconds`: an event per connection would cost the measured loop more."""
    for _ in range(int(seconds * 100)):
        if done():
            return
        await asyncio.sleep(0.01)


def _us(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1000


class Window:
    """What all streams together have come to; `delays` is filled while `measuring`."""

    def __init__(self) -> None:
        self.started = 0
        self.events = 0
        self.errors = 0
        self.measuring = False
        self.leaving = False
        self.delays = array("Q")


class Stream(asyncio.Protocol):
    """One client that reads a stream. `last` is the number of the newest event: the next must be one more."""

    def __init__(self, request: bytes, window: Window) -> None:
        self.request = request
        self.window = window
        self.last = 0
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        window = self.window
        if self.last == 0:
            self.tail += data
            data = self.tail
            if b"\r\n\r\n" in data and not data.startswith(b"HTTP/1.1 200"):
                self.fail()
                return
        elif self.tail:
            data = self.tail + data
        end = 0
        for found in _STAMP.finditer(data):
            end = found.end()
            number = int(found[2])
            if number != self.last + 1:
                self.fail()
                return
            if self.last == 0:
                window.started += 1
            self.last = number
            if window.measuring:
                window.events += 1
                window.delays.append(now - int(found[1]))
        if self.last:
            self.tail = data[max(end, len(data) - _TAIL) :]

    def fail(self) -> None:
        self.window.errors += 1
        self.transport.abort()
        self.request = b""

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.window.leaving and self.request:
            self.window.errors += 1


async def streams(port: int, count: int, ramp: float, extra: dict[str, str]) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    window = Window()
    request = wire.request(port, wire.body(stream=True, chunks=1_000_000), extra=extra)
    made: list[Stream] = []
    end = time.monotonic() + ramp
    for number in range(count):
        try:
            async with asyncio.timeout(max(0.1, end - time.monotonic())):
                _, stream = await loop.create_connection(lambda: Stream(request, window), "127.0.0.1", port)
        except (OSError, TimeoutError):
            window.errors += 1
            continue
        made.append(stream)
        if number % 10 == 9:
            await asyncio.sleep(0.01)  # a thousand a second at most: the start is not what is measured
    await _until(lambda: window.started + window.errors >= count, end - time.monotonic())
    print(f"started {window.started}", flush=True)
    line = await loop.run_in_executor(None, sys.stdin.readline)
    seconds = float(line or 0)
    if seconds:
        window.measuring = True
        begun = time.monotonic()
        await asyncio.sleep(seconds)
        window.measuring = False
        seconds = time.monotonic() - begun
        print("measured", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)  # memory is read while the streams are still there
    window.leaving = True
    for stream in made:
        stream.transport.abort()
    values = sorted(window.delays)
    return {
        "streams": window.started,
        "events": window.events,
        "errors": window.errors,
        "seconds": seconds,
        "p50_us": _us(percentile(values, 0.5)),
        "p99_us": _us(percentile(values, 0.99)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.load")
    parser.add_argument("what", choices=("requests", "streams"))
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int, help="connections or streams")
    parser.add_argument("--seconds", type=float, default=2.0, help="of measuring (requests)")
    parser.add_argument("--warm", type=float, default=0.3, help="seconds before measuring (requests)")
    parser.add_argument("--ramp", type=float, default=15.0, help="seconds at most until all streams have begun")
    parser.add_argument("--headers", default="{}", help="a JSON object of headers to add")
    given = parser.parse_args()
    raise_nofile()
    extra = json.loads(given.headers)
    if given.what == "requests":
        work = requests(given.port, given.count, given.warm, given.seconds, extra)
    else:
        work = streams(given.port, given.count, given.ramp, extra)
    print(json.dumps(uvloop.run(work)), flush=True)


if __name__ == "__main__":
    main()
