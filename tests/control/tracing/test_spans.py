"""A receipt told as spans: who is whose child, from when to when, and what each says. Read by the official classes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes
from opentelemetry.semconv.attributes import client_attributes, error_attributes, server_attributes, url_attributes

from slmgate.control.tracing import spans as module
from slmgate.control.tracing.spans import Spans
from slmgate.control.tracing.wire import Envelope
from slmgate.dialects import TABLE
from slmgate.stores.parted import parted
from slmgate.terms import Receipt
from tests.tools.otlp import attributes, by_name, read_spans

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
AROUND = Envelope((), ("slmgate", "1")).around
BEGAN = datetime(2026, 11, 28, 12, 0, 0, 123456, UTC)
AT = 1_795_867_200_123_456_000
"""The same in nanoseconds."""
CALL = "chat smollm2"
GATE = "POST /v1/chat/completions"


def receipt(**settings: Any) -> Receipt:
    """A stream that waited 100 ms in line and 20 ms for a connection."""
    usual: dict[str, Any] = {
        "id": "0123456789ab0000002a",
        "request_id": "0123456789ab0000002a",
        "time": BEGAN,
        "prompt_tokens": 12,
        "completion_tokens": 34,
        "bytes_in": 100,
        "bytes_out": 2000,
        "receive_us": 3_000,
        "queue_us": 123_050,
        "connect_us": 20_000,
        "overhead_us": 50,
        "first_byte_us": 200_000,
        "total_us": 900_000,
        "attempts": 1,
        "address": "203.0.113.9",
        "worker": 1,
        "trace": TRACE,
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "verdict": "admit",
        "reason": "",
        "ended": "complete",
        "principal": "acme-bot",
        "key": "k1",
        "team": "acme",
        "dialect": "openai",
        "endpoint": "chat",
        "model": "smollm2",
        "instance": "smollm2/10.0.0.5:8000",
        "stream": True,
    }
    return Receipt(**usual | settings)


def spans(**settings: Any) -> dict[str, Span]:
    """The spans of one receipt, by their names."""
    made = Spans().of(parted([receipt(**settings)]))
    found = by_name(read_spans(AROUND(piece for piece, _ in made))[1])
    assert sum(count for _, count in made) == len(found)
    assert len({span.span_id for span in found.values()}) == len(found)
    for span in found.values():
        assert span.trace_id.hex() == TRACE
        assert len(span.span_id) == 8 and any(span.span_id)
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    return found


def times(span: Span) -> tuple[int, int]:
    """From when to when, in microseconds since the request's head was there."""
    assert (span.start_time_unix_nano - AT) % 1000 == (span.end_time_unix_nano - AT) % 1000 == 0
    return (span.start_time_unix_nano - AT) // 1000, (span.end_time_unix_nano - AT) // 1000


def test_a_stream_that_waited() -> None:
    found = spans()
    assert {name: times(span) for name, span in found.items()} == {
        GATE: (0, 900_000),
        "queue": (3_050, 103_050),
        "connect": (103_050, 123_050),
        CALL: (123_050, 900_000),
        "first byte": (123_050, 200_000),
        "stream": (200_000, 900_000),
    }
    gate, call = found[GATE], found[CALL]
    assert gate.parent_span_id == b""
    assert {name for name, span in found.items() if span.parent_span_id == gate.span_id} == {"queue", "connect", CALL}
    assert {name for name, span in found.items() if span.parent_span_id == call.span_id} == {"first byte", "stream"}
    assert call.span_id.hex() == "456789ab0000002a"  # what the instance was told
    assert (gate.kind, call.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert {span.kind for name, span in found.items() if name not in (GATE, CALL)} == {Span.SPAN_KIND_INTERNAL}
    assert {span.status.code for span in found.values()} == {Status.STATUS_CODE_UNSET}
    assert {span.flags for span in found.values()} == {0x103}


def test_what_they_say() -> None:
    found = spans(request_id="mine", roles="partner", rule="roles.partner", plan="gold", cost=1_500_000_000, estimated=True)
    assert attributes(found[GATE]) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "http.request.body.size": 100,
        "http.response.body.size": 2000,
        "client.address": "203.0.113.9",
        "slmgate.receipt": "0123456789ab0000002a",
        "slmgate.request_id": "mine",
        "slmgate.principal": "acme-bot",
        "slmgate.key": "k1",
        "slmgate.team": "acme",
        "slmgate.roles": "partner",
        "slmgate.rule": "roles.partner",
        "slmgate.plan": "gold",
        "slmgate.verdict": "admit",
        "slmgate.ended": "complete",
        "slmgate.dialect": "openai",
        "slmgate.endpoint": "chat",
        "slmgate.model": "smollm2",
        "slmgate.instance": "smollm2/10.0.0.5:8000",
        "slmgate.worker": 1,
        "slmgate.overhead": 0.00005,
        "slmgate.cost": 1.5,
    }
    assert attributes(found[CALL]) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "smollm2",
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        "gen_ai.response.time_to_first_chunk": 0.07695,
        "server.address": "10.0.0.5",
        "server.port": 8000,
        "slmgate.instance": "smollm2/10.0.0.5:8000",
        "slmgate.estimated": True,
    }
    assert all(not attributes(found[name]) for name in ("queue", "connect", "first byte", "stream"))


def test_the_names_are_those_of_the_conventions() -> None:
    known = {
        value
        for names in (gen_ai_attributes, http_attributes, client_attributes, error_attributes, server_attributes, url_attributes)
        for value in vars(names).values()
        if isinstance(value, str)
    }
    parameters = " ".join(f"{name}=1" for name in module._PARAMETERS)
    found = spans(parameters=parameters, attempts=2, status=502, reason="upstream_error", ended="upstream_error")
    said = {key for span in found.values() for key in attributes(span)}
    assert {key for key in said if not key.startswith("slmgate.")} <= known
    assert {f"gen_ai.request.{name}" for name in ("max_tokens", "temperature", "top_p", "choice.count")} <= said
    assert set(module.OPERATIONS.values()) <= {one.value for one in gen_ai_attributes.GenAiOperationNameValues}


def test_every_endpoint_has_its_spans() -> None:
    for (method, path), route in TABLE.items():
        found = spans(method=method, path=path, dialect=route.dialect.name, endpoint=route.endpoint, stream=False)
        assert f"{method} {path}" in found
        (call,) = (span for span in found.values() if span.kind == Span.SPAN_KIND_CLIENT)
        operation = attributes(call)["gen_ai.operation.name"]
        assert operation
        if route.access in ("chat", "completions", "embeddings", "infill"):
            assert operation in {one.value for one in gen_ai_attributes.GenAiOperationNameValues}
        assert call.name == f"{operation} smollm2"


def test_what_is_asked_at_once_over_a_kept_connection() -> None:
    found = spans(receive_us=10, connect_us=0, queue_us=45, overhead_us=40, stream=False)
    assert {name: times(span) for name, span in found.items()} == {
        GATE: (0, 900_000),
        CALL: (45, 900_000),
        "first byte": (45, 200_000),
    }
    assert "gen_ai.response.time_to_first_chunk" not in attributes(found[CALL])


def test_a_client_whose_trace_it_is() -> None:
    for flags in ("01", "03"):
        found = spans(trace=f"{TRACE}-{PARENT}-{flags}")
        gate = found.pop(GATE)
        assert gate.parent_span_id.hex() == PARENT
        assert gate.flags == 0x300 + int(flags, 16)  # its parent is another's
        assert {span.flags for span in found.values()} == {0x100 + int(flags, 16)}


@pytest.mark.parametrize("trace", ["", f"{TRACE}-{PARENT}-00", f"{TRACE}-{PARENT}-02"])
def test_what_is_not_recorded_has_none(trace: str) -> None:
    assert Spans().of(parted([receipt(trace=trace)])) == []


def test_one_that_was_refused() -> None:
    found = spans(
        status=429, verdict="refuse", ended="refused", reason="rate_limit_exceeded", instance="", attempts=0,
        queue_us=0, connect_us=0, overhead_us=0, first_byte_us=None, total_us=90, prompt_tokens=0, completion_tokens=0,
    )  # fmt: skip
    assert {name: times(span) for name, span in found.items()} == {GATE: (0, 90)}
    assert found[GATE].status.code == Status.STATUS_CODE_UNSET  # the client's affair, says the convention for servers
    said = attributes(found[GATE])
    assert (said["slmgate.reason"], said["http.response.status_code"]) == ("rate_limit_exceeded", 429)
    assert "error.type" not in said and "slmgate.instance" not in said


def test_time_in_line_of_one_that_was_tried_again() -> None:
    """The connection that was opened is a later one's, and takes nothing from it."""
    assert times(spans(attempts=2)["queue"]) == (3_050, 123_050)


def test_one_that_waited_in_vain() -> None:
    found = spans(
        status=503, verdict="refuse", ended="refused", reason="overloaded", instance="", attempts=0,
        queue_us=30_000_000, connect_us=0, overhead_us=0, first_byte_us=None, total_us=30_000_200,
    )  # fmt: skip
    assert {name: times(span) for name, span in found.items()} == {GATE: (0, 30_000_200), "queue": (200, 30_000_200)}
    assert found[GATE].status.code == Status.STATUS_CODE_ERROR
    assert attributes(found[GATE])["error.type"] == "overloaded"


@pytest.mark.parametrize(
    ("settings", "gate", "call"),
    [
        ({"status": 502, "ended": "upstream_error", "reason": "upstream_error"}, "upstream_error", "upstream_error"),
        ({"status": 504, "ended": "upstream_timeout", "reason": "upstream_timeout"}, "upstream_timeout", "upstream_timeout"),
        ({"status": 200, "ended": "upstream_error", "reason": ""}, "upstream_error", "upstream_error"),
        ({"status": 500, "ended": "gate_failed", "reason": "internal_error"}, "internal_error", "internal_error"),
        ({"status": 200, "ended": "gate_stopped", "reason": "overloaded"}, "overloaded", "overloaded"),
        ({"status": 400, "reason": "invalid_request"}, "", "invalid_request"),
        ({"status": 499, "ended": "client_left", "reason": "client_left"}, "", "client_left"),
        ({"status": 200, "ended": "client_left", "reason": "client_left"}, "", ""),
    ],
)
def test_what_is_an_error(settings: dict[str, Any], gate: str, call: str) -> None:
    found = spans(**settings)
    for name, why in ((GATE, gate), (CALL, call)):
        assert attributes(found[name]).get("error.type", "") == why
        assert (found[name].status.code == Status.STATUS_CODE_ERROR) == bool(why)


def test_one_that_was_tried_again() -> None:
    """How long the last connection took to open is known, but not when that was."""
    found = spans(attempts=3)
    assert "connect" not in found
    said = attributes(found[CALL])
    assert (said["http.request.resend_count"], said["slmgate.attempts"]) == (2, 3)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("max_tokens=200 temperature=0.7", {"gen_ai.request.max_tokens": 200, "gen_ai.request.temperature": 0.7}),
        ("max_tokens=200.0", {"gen_ai.request.max_tokens": 200}),
        ("model=smollm2-next n=2", {"gen_ai.request.choice.count": 2}),
        ("top_p=true top_k=other max_tokens=-1 n=inf", {}),
        ("max_tokens=1e+30 presence_penalty=-0.5", {"gen_ai.request.presence_penalty": -0.5}),
        ("shadow=0123 stop=3", {}),
    ],
)
def test_parameters(parameters: str, said: dict[str, Any]) -> None:
    found = attributes(spans(parameters=parameters)[CALL])
    assert {
        key: value for key, value in found.items() if key.startswith("gen_ai.request.") and key[15:] not in ("model", "stream")
    } == said


@pytest.mark.parametrize(
    ("instance", "host", "port"),
    [
        ("smollm2/[2001:db8::5]:8000", "2001:db8::5", 8000),
        ("org/smollm2/gpu1:80", "gpu1", 80),
        ("smollm2/llama-server-0a1b2c3d", None, None),
    ],
)
def test_where_an_instance_is(instance: str, host: str | None, port: int | None) -> None:
    said = attributes(spans(instance=instance)[CALL])
    assert (said.get("server.address"), said.get("server.port")) == (host, port)


def test_a_path_that_the_gate_does_not_have() -> None:
    """Its name is no client's to choose: a collector keeps every name that it ever saw."""
    found = spans(
        path="/v1/anything", status=404, endpoint="", model="", instance="", overhead_us=0, queue_us=0, team=None, key=None
    )
    assert list(found) == ["POST"]
    assert attributes(found["POST"])["url.path"] == "/v1/anything"
    assert "HTTP" in spans(method="", path="", overhead_us=0, queue_us=0)


def test_shared_parts_are_encoded_once_and_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 3)
    one = Spans()
    for number in range(10):
        many = one.of(parted([receipt(principal=f"p{number}"), receipt(principal=f"p{number}", trace="")]))
        assert len(many) == 1
    assert repr(one) == "<Spans 1 known>"
