"""The access log as log records: what each says, what waits, and what is lost. The collector is a function."""

from __future__ import annotations

import threading
from collections.abc import Callable

import httpx
import msgspec
import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_ERROR, SEVERITY_NUMBER_INFO, SEVERITY_NUMBER_WARN, LogRecord

from slmgate.control.tracing.export import Target
from slmgate.control.tracing.otlp_logs import OtlpSink, records
from slmgate.control.tracing.wire import Envelope, block
from tests.control.tracing.test_export import Network, reply
from tests.control.tracing.test_spans import AT, PARENT, TRACE, receipt
from tests.tools.otlp import attributes, read_logs

URL = "http://collector:4318/v1/logs"
NOW = AT + 10**9


def line(**settings: object) -> bytes:
    return msgspec.json.encode(receipt(**settings)) + b"\n"


def told(lines: bytes) -> list[LogRecord]:
    return read_logs(Envelope((), ("slmgate", "1")).around(records(lines, NOW)))[1]


def test_a_line_is_a_record() -> None:
    (record,) = told(line())
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (AT, NOW)
    assert record.body.string_value.encode() + b"\n" == line()
    assert (record.severity_number, record.severity_text) == (SEVERITY_NUMBER_INFO, "INFO")
    assert record.event_name == "slmgate.request"
    assert (record.trace_id.hex(), record.span_id.hex(), record.flags) == (TRACE, "456789ab0000002a", 3)
    assert attributes(record) == {
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.request.model": "smollm2",
        "slmgate.receipt": "0123456789ab0000002a",
        "slmgate.principal": "acme-bot",
        "slmgate.team": "acme",
        "slmgate.endpoint": "chat",
        "slmgate.instance": "smollm2/10.0.0.5:8000",
        "slmgate.ended": "complete",
    }


@pytest.mark.parametrize(
    ("status", "number", "word"),
    [
        (0, SEVERITY_NUMBER_INFO, "INFO"),
        (404, SEVERITY_NUMBER_WARN, "WARN"),
        (499, SEVERITY_NUMBER_WARN, "WARN"),
        (502, SEVERITY_NUMBER_ERROR, "ERROR"),
    ],
)
def test_how_grave_it_is(status: int, number: int, word: str) -> None:
    (record,) = told(line(status=status))
    assert (record.severity_number, record.severity_text) == (number, word)


def test_which_trace_it_is_of() -> None:
    none, unrecorded, of_client = told(line(trace="") + line(trace=f"{TRACE}-{PARENT}-00") + line(trace=f"{TRACE}-{PARENT}-01"))
    assert (none.trace_id, none.span_id, none.flags) == (b"", b"", 0)
    assert (unrecorded.trace_id.hex(), unrecorded.flags) == (TRACE, 0)
    assert (of_client.trace_id.hex(), of_client.flags) == (TRACE, 1)
    assert of_client.span_id == unrecorded.span_id


@pytest.mark.parametrize(
    "odd", [b'{"dropped":3,"message":"x"}\n', b"\n", b"not JSON\n", b'{"time":5}\n', b'{"status":"x"}\n', b"\xff\xfe\n"]
)
def test_what_is_no_receipt_is_a_record_all_the_same(odd: bytes) -> None:
    (record,) = told(odd)
    assert record.time_unix_nano == NOW
    assert record.body.string_value == odd[:-1].decode(errors="replace")


class Told:
    """A sink over a network that is a function, and what the operator is told."""

    def __init__(self, network: Callable[[httpx.Request], httpx.Response]) -> None:
        self.said: list[str] = []
        target = Target(URL, {"x-key": "abc"}, transport=httpx.MockTransport(network))
        self.sink = OtlpSink(target, "gate-1", self.said.append, retry=0.001, now=lambda: NOW)


def test_lines_are_sent() -> None:
    network = Network(200)
    one = Told(network)
    one.sink.write(line(id="0123456789ab00000001") + line(id="0123456789ab00000002"))
    one.sink.close()
    ids = []
    for request in network.asked:
        assert (str(request.url), request.headers["x-key"]) == (URL, "abc")
        assert request.headers["content-type"] == "application/x-protobuf"
        resource, made = read_logs(request.content)
        assert resource["service.name"] == "gate-1"
        ids += [attributes(record)["slmgate.receipt"][-1] for record in made]
    assert ids == ["1", "2"]
    assert (one.sink.dropped, one.said) == (0, [])
    assert repr(one.sink).startswith(f"<OtlpSink otlp:{URL}")


@pytest.mark.parametrize("trouble", [429, 503, httpx.ConnectError("no"), httpx.ReadTimeout("slow")])
def test_lines_wait_for_a_collector_in_trouble(trouble: int | Exception) -> None:
    network = Network(trouble, trouble, 200)
    one = Told(network)
    one.sink.write(line())
    network.seen(3)
    one.sink.close()
    assert len({request.content for request in network.asked}) == 1
    assert one.sink.dropped == 0
    assert len(one.said) == 1 and "the collector" in one.said[0]


def test_what_is_refused_is_lost() -> None:
    network = Network(400)
    one = Told(network)
    one.sink.write(line() + line())
    network.seen()
    one.sink.close()
    assert one.sink.dropped >= 2
    assert "the collector answered 400" in one.said[0]


def test_what_is_taken_in_part() -> None:
    done = threading.Event()

    def some(request: httpx.Request) -> httpx.Response:
        first = not done.is_set()
        done.set()
        return reply(200, block(1, b"\x08\x01") if first else b"")

    one = Told(some)
    one.sink.write(line() + line())
    assert done.wait(10)
    one.sink.close()
    assert one.sink.dropped == 1
    assert "did not take 1 lines" in one.said[0]


def test_it_is_opened_anew_after_a_rotation_of_others() -> None:
    network = Network(200)
    one = Told(network)
    one.sink.write(line())
    network.seen()
    one.sink.reopen()
    one.sink.write(line())
    network.seen()
    one.sink.close()
    assert len(network.asked) == 2
