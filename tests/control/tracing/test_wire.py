"""What is written is what the official classes read, and what the official SDK writes of the same."""

from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess, ExportTraceServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_WARN
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from slmgate.control.tracing import wire
from slmgate.control.tracing.wire import Envelope, Key
from tests.tools.otlp import attributes, read_logs, read_spans

TRACE, OWN, PARENT = bytes(range(1, 17)), b"\x11" * 8, b"\x22" * 8
AT = 1_800_000_000_123_456_000
AROUND = Envelope((("service.name", "gate"),), ("slmgate", "1.2.3")).around


def test_a_span_is_what_the_sdk_writes_of_it() -> None:
    rest = b"".join(
        (
            wire.texted(5, "POST /v1/chat/completions"),
            Key("a.text").text("\u00e4\u20ac"),
            Key("a.long").text("x" * 300),
            Key("a.number").whole(2**62),
            Key("a.zero").whole(0),
            Key("a.part").fraction(0.25),
            Key("is.so").switch(True),
            Key("is.not").switch(False),
            wire.FAILED,
        )
    )
    ours = AROUND([wire.span((TRACE, OWN, PARENT), wire.flags(1, True), wire.SERVER, (AT, AT + 5_000), rest)])
    context = SpanContext(int.from_bytes(TRACE, "big"), int.from_bytes(OWN, "big"), False, TraceFlags(1))
    remote = SpanContext(int.from_bytes(TRACE, "big"), int.from_bytes(PARENT, "big"), True, TraceFlags(1))
    theirs = ReadableSpan(
        "POST /v1/chat/completions",
        context,
        remote,
        Resource({"service.name": "gate"}),
        {
            "a.text": "\u00e4\u20ac",
            "a.long": "x" * 300,
            "a.number": 2**62,
            "a.zero": 0,
            "a.part": 0.25,
            "is.so": True,
            "is.not": False,
        },
        kind=SpanKind.SERVER,
        start_time=AT,
        end_time=AT + 5_000,
        status=Status(StatusCode.ERROR),
        instrumentation_scope=InstrumentationScope("slmgate", "1.2.3"),
    )
    of_sdk = encode_spans([theirs])
    (span,) = read_spans(ours)[1]
    (right,) = of_sdk.resource_spans[0].scope_spans[0].spans
    assert span.flags == right.flags | 1  # the SDK leaves out the flags of the trace, which the format has a place for
    span.flags = right.flags
    assert span == right
    assert read_spans(ours)[0] == {"service.name": "gate"}


@pytest.mark.parametrize(
    ("kind", "official"), [(1, Span.SPAN_KIND_INTERNAL), (2, Span.SPAN_KIND_SERVER), (3, Span.SPAN_KIND_CLIENT)]
)
def test_a_span_without_a_parent(kind: int, official: int) -> None:
    pieces = [
        wire.span((TRACE, OWN, b""), wire.flags(3, False), kind, (AT, AT), wire.texted(5, "x" * size))
        for size in (0, 9, 200, 9_000)
    ]
    spans = read_spans(AROUND(pieces))[1]
    assert [len(span.name) for span in spans] == [0, 9, 200, 9_000]
    for span in spans:
        assert (span.trace_id, span.span_id, span.parent_span_id, span.kind) == (TRACE, OWN, b"", official)
        assert (span.start_time_unix_nano, span.end_time_unix_nano, span.flags) == (AT, AT, 0x103)


def test_a_log_record() -> None:
    rest = b"".join(
        (
            wire.severity(wire.WARN, "WARN"),
            wire.body("a line"),
            wire.texts((("a", "b"), ("nothing", "")), field=6),
            wire.place(TRACE, OWN, 1),
        )
    )
    (record,) = read_logs(AROUND([wire.log_record(AT, AT + 1, rest)]))[1]
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (AT, AT + 1)
    assert (record.severity_number, record.severity_text) == (SEVERITY_NUMBER_WARN, "WARN")
    assert (record.body.string_value, attributes(record)) == ("a line", {"a": "b"})
    assert (record.trace_id, record.span_id, record.flags) == (TRACE, OWN, 1)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 16_383, 16_384, 2**32, 2**63 - 1])
def test_a_whole_number(number: int) -> None:
    (span,) = read_spans(AROUND([wire.span((TRACE, OWN, b""), 0, 1, (0, 0), Key("n").whole(number))]))[1]
    assert attributes(span) == {"n": number}


def test_what_is_said_again_is_said_the_same() -> None:
    """What stands before a text, and whole numbers that come often, are encoded once."""
    key = Key("k")
    for size in (0, 1, 125, 126, 127, 128, 129, 300, 16_383, 16_384):
        for text in ("x" * size, "y" * size):
            assert attributes(read_spans(block_of(key.text(text)))[1][0]) == {"k": text}
    for _ in range(2):
        for number in (0, 1, 127, 128, 4095, 4096, 2**40):
            assert attributes(read_spans(block_of(key.whole(number)))[1][0]) == {"k": number}


def block_of(attribute: bytes) -> bytes:
    """One span with this attribute, as a collector gets it."""
    return Envelope((), ("slmgate", "1")).around([wire.block(2, attribute)])


def test_text_that_no_encoding_has() -> None:
    (span,) = read_spans(AROUND([wire.span((TRACE, OWN, b""), 0, 1, (0, 0), Key("n").text("a\ud800"))]))[1]
    assert attributes(span) == {"n": "a?"}


@pytest.mark.parametrize("count", [0, 1, 127, 128, 100_000])
@pytest.mark.parametrize("words", ["", "too many", "x" * 200])
def test_what_a_collector_rejects(count: int, words: str) -> None:
    answer = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=count, error_message=words))
    assert wire.rejected(answer.SerializeToString()) == count


@pytest.mark.parametrize(
    "answer", [b"", b"\x0a", b"\x0a\x00", b"{}", b"\x0a\x80", b"\x0a\x0b\x08" + b"\xff" * 10, b"\x0a\x02\x08\xff", b"<html>"]
)
def test_an_answer_that_says_nothing(answer: bytes) -> None:
    assert wire.rejected(answer) == 0
