"""The line to a collector: what is sent, again, dropped and counted, on a network that is a function."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from slmgate.control.tracing import export
from slmgate.control.tracing.export import MAX_WAITING, Exporter, Items, Target
from slmgate.control.tracing.wire import block

URL = "http://collector:4318/v1/traces"


def reply(status: int, content: bytes = b"", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, stream=httpx.ByteStream(content))


class Network:
    """Answers by a list of statuses or failures, the last one for ever; keeps what was asked."""

    def __init__(self, *answers: int | Exception | httpx.Response) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.gate = threading.Event()
        self.gate.set()
        self._came = threading.Semaphore(0)

    def seen(self, times: int = 1) -> None:
        """Wait until it was asked so many times more."""
        for _ in range(times):
            assert self._came.acquire(timeout=10)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self._came.release()
        self.gate.wait(10)
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            raise said
        return reply(said) if isinstance(said, int) else said

    @property
    def bodies(self) -> list[bytes]:
        return [request.content for request in self.asked]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(export, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(export, "LONGEST_PAUSE", 0.002)


class Trickle(httpx.AsyncByteStream):
    """A body whose next byte always comes."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b"x" * 0


def test_a_collector_that_answers_byte_by_byte(monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]) -> None:
    """It has so much time for all of it, is told of, and is asked again."""
    monkeypatch.setattr(export, "WHOLE_TIMEOUT", 0.05)
    network = Network(httpx.Response(200, stream=Trickle()), 200)
    one = exporter(network)
    one.put(items(b"a"))
    network.seen(2)
    one.close()
    assert (one.sent, one.dropped) == (1, 0)
    assert network.bodies == [b"a", b"a"]
    assert said()[0] == f"the collector at {URL} does not take spans (ReadTimeout); requests are served all the same"


def exporter(network: Network) -> Exporter:
    return Exporter("spans", Target(URL, {"x-key": "abc"}, transport=httpx.MockTransport(network)), b"".join)


def items(*pieces: bytes) -> Items:
    return [(piece, 1) for piece in pieces]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the operator was told so far."""
    caplog.set_level(logging.INFO, "slmgate.otlp")
    return lambda: caplog.messages


def test_what_waits_is_sent_together_at_the_end() -> None:
    network = Network(200)
    one = exporter(network)
    one.put(items(b"a", b"b"))
    one.put([(b"c", 5)])
    one.close()
    assert b"".join(network.bodies) == b"abc"
    assert (one.sent, one.dropped) == (7, 0)
    request = network.asked[0]
    assert (request.method, str(request.url)) == ("POST", URL)
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["x-key"] == "abc"
    assert repr(one) == "<Exporter of spans: 0 bytes waiting, 7 sent, 0 dropped>"


@pytest.mark.parametrize(
    "trouble", [429, 502, 503, 504, httpx.ConnectError("no"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("odd")]
)
def test_what_may_pass_is_tried_again(trouble: int | Exception, said: Callable[[], list[str]]) -> None:
    network = Network(trouble, trouble, 200)
    one = exporter(network)
    one.put(items(b"a"))
    network.seen(3)
    one.close()
    assert (one.sent, one.dropped) == (1, 0)
    assert network.bodies == [b"a", b"a", b"a"]
    assert [line.split(" ")[-1] for line in said()] == ["same", "again"]  # told once, and once that it is over


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 413, 500])
def test_what_does_not_is_dropped(status: int, said: Callable[[], list[str]]) -> None:
    network = Network(status, status, 200)
    one = exporter(network)
    for piece in (b"a", b"b", b"c"):
        one.put([(piece, 2)])
        network.seen()
    one.close()
    assert network.bodies == [b"a", b"b", b"c"]
    assert (one.sent, one.dropped) == (2, 4)
    assert sum("does not take spans" in line for line in said()) == 1


def test_no_redirect_is_followed() -> None:
    """What is told is for the collector of the configuration and nobody else."""
    network = Network(reply(307, location="http://elsewhere/v1/traces"), 200)
    one = exporter(network)
    one.put(items(b"a"))
    one.close()
    assert [request.url.host for request in network.asked] == ["collector"]
    assert (one.sent, one.dropped) == (0, 1)


def test_a_word_on_when_to_come_again_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "LONGEST_PAUSE", 30.0)
    network = Network(reply(503, retry_after="20"))
    one = exporter(network)
    one.put(items(b"a"))
    network.seen()
    one.close()  # does not wait for that
    assert len(network.asked) == 1
    assert one.dropped == 1


@pytest.mark.parametrize("said", ["", "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "1e9", "999999999"])
def test_other_words_on_it_are_none(said: str) -> None:
    assert export._retry_after(reply(503, retry_after=said)) == 0.0


def test_what_a_collector_rejects_is_dropped(said: Callable[[], list[str]]) -> None:
    network = Network(reply(200, block(1, b"\x08\x02")))
    one = exporter(network)
    one.put([(b"a", 5)])
    one.close()
    assert (one.sent, one.dropped) == (3, 2)
    assert said() == ["the collector at http://collector:4318/v1/traces did not take 2 of 5 spans"]


def test_a_long_answer_is_not_read() -> None:
    network = Network(reply(200, block(1, b"\x08\x02" + b"\x12" * export.MAX_ANSWER)))
    one = exporter(network)
    one.put([(b"a", 5)])
    one.close()
    assert (one.sent, one.dropped) == (5, 0)


def test_what_waits_is_bounded() -> None:
    """A collector that says nothing costs no memory beyond the line, and nobody a moment."""
    network = Network(200)
    network.gate.clear()
    one = exporter(network)
    piece = b"x" * 1024 * 1024
    one.put(items(piece))
    network.seen()
    for _ in range(20):
        one.put(items(piece))
    assert one.dropped == 20 - MAX_WAITING // len(piece)
    one.put(items(b"y"))
    assert one.dropped == 21 - MAX_WAITING // len(piece)
    network.gate.set()
    one.close()
    assert one.sent + one.dropped == 22
    assert all(len(body) <= export.MAX_BATCH for body in network.bodies)


def test_after_the_end_all_is_dropped() -> None:
    one = exporter(Network(200))
    one.close()
    one.put(items(b"a", b"b"))
    assert one.dropped == 2


def test_an_end_does_not_wait_for_ever() -> None:
    network = Network(200)
    network.gate.clear()
    one = exporter(network)
    one.put(items(b"x" * export.MAX_BATCH))
    network.seen()
    one.put(items(b"b"))
    one.close(0.01)
    assert one.dropped == 1
    network.gate.set()


def test_a_fault_of_our_own_costs_a_batch(said: Callable[[], list[str]]) -> None:
    """And so does a file of authorities that is not there any more: it is looked for again with the next batch."""
    calls: list[int] = []
    failed = threading.Event()

    def around(pieces: object) -> bytes:
        calls.append(1)
        if len(calls) == 1:
            failed.set()
            raise ValueError("odd")
        return b"good"

    network = Network(200)
    one = Exporter("spans", Target(URL, {}, transport=httpx.MockTransport(network)), around)
    one.put(items(b"a"))
    assert failed.wait(10)
    one.put(items(b"b"))
    one.close()
    assert (one.sent, one.dropped, network.bodies) == (1, 1, [b"good"])
    lost = Exporter("spans", Target("https://collector/v1/traces", {}, Path("/nowhere/ca.pem")), b"".join)
    lost.put(items(b"a"))
    lost.close()
    assert lost.dropped == 1
    assert "ValueError: odd" in said()[0]
    assert "FileNotFoundError" in said()[-1]


def test_targets_are_compared_by_what_they_are() -> None:
    assert Target(URL, {"a": "b"}) == Target(URL, {"a": "b"})
    assert Target(URL, {"a": "b"}) != Target(URL, {"a": "c"})
    assert Target(URL, {}) != URL
    assert repr(Target(URL, {"a": "secret"})) == f"<Target {URL}>"
