"""Hostile traffic in bulk: mutated requests, two keys by turns on one connection, requests that would cost more than they are.

In CI these are short; SLMGATE_LONG=1 makes them as long as the reliability goals ask (a million mutated requests, 100,000 answers
by turns), SLMGATE_REQUESTS sets the count. Single attacks are tables: `attacks.py`, `tests/tools/ambiguous.py`,
`test_bad_input.py`.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from fuzz.mutate import mutated
from tests.system import attacks, conftest
from tests.tools.ambiguous import Table
from tests.tools.gate import OTHER, SECRET, Gate, model
from tests.tools.load import LONG
from tests.tools.upstream import MockUpstream
from tests.tools.wire import CHAT, Wire, ask, chat, request

SEED = 20_260_601
LARGEST = 4096
CLIENTS = 16
"""Of mutated requests, at once."""
PLAIN = request(chat(), secret=SECRET)


def count(short: int, long: int) -> int:
    return int(os.environ.get("SLMGATE_REQUESTS") or (long if LONG else short))


@pytest.fixture(scope="module")
def gate(shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    made = Gate(tmp_path_factory.mktemp("hostile"), {"tiny": model(shared_upstream.url)}, workers=1)
    conftest.running.append(made)
    yield made
    conftest.running.remove(made)
    made.stop()


# --- mutated requests ------------------------------------------------------------------------------------------------------


def seeds() -> list[bytes]:
    """Whatever is in the tables of attacks, and good requests in every API."""
    found = [case.raw for case in Table(SECRET.encode(), "tiny").cases()]
    found += [attack.data for kind in attacks.ATTACKS.values() for attack in kind]
    found += [attacks.ruled(dialect, {}) for dialect in attacks.DIALECTS]
    return [data for data in found if len(data) <= LARGEST] + [PLAIN] * 20


def said(port: int, data: bytes) -> bytes:
    """All that the gate says to these bytes; a client that has sent them waits a moment, and then goes."""
    with Wire(port, 5.0) as wire:
        with contextlib.suppress(OSError):
            wire.send(data)
            ready, _, _ = select.select([wire.socket], [], [], 0.02)
            if ready:
                wire.more()
            wire.socket.shutdown(1)
        with contextlib.suppress(TimeoutError):
            while wire.more():
                pass
        return wire.buffer


def test_mutated_requests(gate: Gate, upstream: MockUpstream) -> None:
    """0 unhandled exceptions, 0 answers of 500, 0 dead workers; and who behaves is served all the while."""
    start, workers, slowest = seeds(), gate.workers(), []

    def some(which: int) -> None:
        chance = random.Random(SEED + which)
        for number in range(which, count(1500, 1_000_000), CLIENTS):
            data = mutated(start, chance, LARGEST)
            answer = said(gate.port, data)
            assert b"HTTP/1.1 500 " not in answer, (number, data, answer)
            assert not answer or answer.startswith(b"HTTP/1.1 "), (number, data, answer)
            if number % 50 == 0:
                began = time.monotonic()
                assert ask(gate.port, PLAIN).status == 200, number
                slowest.append(time.monotonic() - began)
            if number % 10_000 == 0:
                upstream.clear()

    with ThreadPoolExecutor(CLIENTS) as clients:  # most of a client's time is waiting
        for done in [clients.submit(some, which) for which in range(CLIENTS)]:
            done.result()
    assert gate.workers() == workers
    log = gate.log.read_text(errors="replace")
    assert "Traceback" not in log, gate.text()
    assert sorted(slowest)[len(slowest) // 2] < 0.1, "who behaves waits"


# --- two keys by turns -----------------------------------------------------------------------------------------------------


def test_two_keys_by_turns_on_one_connection(gate: Gate, upstream: MockUpstream) -> None:
    """Each answer is its own request's, and each request is on its own key's account; now and then one of them is refused."""
    chance, sent = random.Random(SEED), count(600, 100_000)
    owed: dict[str, str] = {}
    number = 0
    while number < sent:
        with Wire(gate.port) as wire:
            for _ in range(chance.randrange(1, 40)):
                batch = []
                for _ in range(chance.randrange(1, 6)):
                    number += 1
                    secret = (SECRET, OTHER, "sk-nobody")[number % 3 if number % 7 == 0 else number % 2]
                    batch.append((f"n{number}", secret))
                wire.send(b"".join(request(chat(tag=tag), secret=secret) for tag, secret in batch))
                for tag, secret in batch:
                    answer = wire.answer()
                    if secret == "sk-nobody":
                        assert answer.status == 401, answer
                        continue
                    assert (answer.status, answer.json()["tag"]) == (200, tag), answer
                    owed[answer.header("x-request-id") or ""] = {SECRET: "main", OTHER: "other"}[secret]
        if number % 5000 < 40:
            upstream.clear()
    few = dict(list(owed.items())[-200:])
    rows = gate.receipts(few, 20)
    assert {name: row["principal"] for name, row in rows.items()} == few


# --- what a request may cost -----------------------------------------------------------------------------------------------

SIZE = 10 * 1024
COSTS = 100
"""Times: no request may cost more memory than that many times its size, nor more time than that many times its client's."""


def filled(before: bytes, unit: bytes, after: bytes) -> bytes:
    """A body of nearly SIZE bytes."""
    return before + unit * ((SIZE - 1024 - len(before) - len(after)) // len(unit)) + after


def jsons() -> dict[str, bytes]:
    start, room = b'{"model":"tiny","x":', SIZE - 1024
    numbers = b",".join(b'"%x":1' % n for n in range(room // 8))
    return {
        "deep": start + b"[" * (room // 2) + b"]" * (room // 2) + b"}",
        "deep objects": start + b'{"":' * (room // 5) + b"1" + b"}" * (room // 5 + 1),
        "unclosed": start + b"[" * room,
        "lists": filled(start + b"[", b"[],", b"[]]}"),
        "objects": filled(start + b"[", b'{"":0},', b"{}]}"),
        "keys": b'{"model":"tiny",' + numbers + b"}",
        "the same key": filled(b'{"model":"tiny",', b'"a":1,', b'"a":1}'),
        "digits": filled(start, b"9", b"}"),
        "many digits": filled(start + b"[", b"9" * 999 + b",", b"1]}"),
        "fractions": filled(start + b"0.", b"1", b"e-400}"),
        "escapes": filled(start + b'"', b"\\u003a", b'"}'),
        "surrogates": filled(start + b'"', b"\\ud83d\\ude00", b'"}'),
        "invalid": filled(start + b'"', b"\xff", b'"}'),
        "messages": filled(b'{"model":"tiny","messages":[', b'{"role":"user","content":[{}]},', b"{}]}"),
        "white space": filled(b"{", b" \n", b'"model":"tiny"}'),
    }


def heads() -> dict[str, bytes]:
    lines = {
        "many fields": b"".join(b"a%d: b\r\n" % n for n in range(95)),
        "one field again": b"x: y\r\n" * 95,
        "a long field": b"x: " + b"y" * (SIZE - 1024) + b"\r\n",
        "a list": b"connection: " + b"a," * (SIZE // 2 - 600) + b"a\r\n",
        "another set of names": b"".join(b"%x: b\r\n" % (n * 7919) for n in range(95)),
    }
    return {name: request(chat(), secret=SECRET).replace(b"Host:", fields + b"Host:", 1) for name, fields in lines.items()}


def others() -> dict[str, bytes]:
    chunks = b"1\r\n{\r\n" * (SIZE // 7) + b"0\r\n\r\n"
    parts = b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % n for n in range(60)) + b"--b--\r\n"
    fields = ("Content-Type: multipart/form-data; boundary=b",)
    return {
        "small chunks": request(None, secret=SECRET, headers=("Transfer-Encoding: chunked",)) + chunks,
        "parts": request(parts, path="/v1/audio/transcriptions", secret=SECRET, headers=fields),
        "hyphens": request(b"--b\r\n" + b"-" * (SIZE - 1024), path="/v1/audio/transcriptions", secret=SECRET, headers=fields),
        "a long target": request(chat(), secret=SECRET).replace(CHAT.encode(), b"/" + b"%2e/" * (SIZE // 4 - 300), 1),
        "a wrong key": request(chat(), secret="k" * (SIZE - 1024)),
        "a token": request(chat(), secret="a." * (SIZE // 2 - 600)),
    }


WORST = {
    **{
        f"body: {name}": request(data, secret=SECRET, headers=("Content-Type: application/json",))
        for name, data in jsons().items()
    },
    **{f"head: {name}": data for name, data in heads().items()},
    **others(),
}


def burst(port: int, data: bytes, times: int) -> float:
    """Send it so often, each on a connection of its own, and read all answers; the seconds of processor that took here."""
    began = time.process_time()
    for _ in range(times):
        with Wire(port) as wire, contextlib.suppress(OSError):
            wire.send(data)
            wire.more()
    return time.process_time() - began


@pytest.mark.parametrize("name", WORST)
def test_no_request_costs_a_hundred_times_its_client_s_time(gate: Gate, upstream: MockUpstream, name: str) -> None:
    data = WORST[name]
    assert 512 < len(data) <= SIZE, len(data)
    (pid,) = gate.workers()
    worker = psutil.Process(pid)
    before = worker.cpu_times()
    spent = burst(gate.port, data, 20)
    after = worker.cpu_times()
    cost = after.user + after.system - before.user - before.system
    # the kernel counts a process's time in hundredths of a second
    assert cost - 0.02 < COSTS * spent, f"{cost / 20 * 1000:.2f} ms for a request that cost its client {spent / 20 * 1000:.2f}"


def test_no_request_costs_a_hundred_times_its_size_in_memory(gate: Gate, upstream: MockUpstream) -> None:
    """All of them at once, each on sixteen connections that stay open, whole and short of their last byte."""
    assert ask(gate.port, PLAIN).status == 200
    before, held, bytes_sent = gate.rss(), [], 0
    for data in WORST.values():
        for shorter in (0, 1) * 8:
            wire = Wire(gate.port)
            held.append(wire)
            with contextlib.suppress(OSError):
                wire.send(data[: len(data) - shorter])
            bytes_sent += len(data)
        assert gate.rss() - before < COSTS * bytes_sent
    assert ask(gate.port, PLAIN).status == 200
    grown = gate.rss() - before
    for wire in held:
        wire.socket.close()
    assert grown < COSTS * bytes_sent / 2, f"{grown} bytes for {bytes_sent}"
