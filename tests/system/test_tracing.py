"""Traces across three processes: an instrumented client, the gate, an instance; and what a collector is told of them.

The client is OpenAI's under OpenTelemetry's own instrumentation, the collector reads with the official protobuf classes. What a
collector that is away, slow or refuses costs is shown too: nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Self, cast

import httpx
import openai
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from tests.system.conftest import Launch
from tests.tools.gate import SECRET, Gate, eventually, free_port, model
from tests.tools.otlp import Collector, attributes
from tests.tools.upstream import MockUpstream

SAID: list[Any] = [{"role": "user", "content": "a very private question"}]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()
    assert made.failures == []


class Caller:
    """OpenAI's client under OpenTelemetry's instrumentation, which records a share of its traces."""

    def __init__(self, gate: Gate, share: float) -> None:
        self.kept = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)))
        provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.http = httpx.Client()
        HTTPXClientInstrumentor.instrument_client(self.http, tracer_provider=provider)
        self.client: Any = openai.OpenAI(
            base_url=f"http://127.0.0.1:{gate.port}/v1",
            api_key=SECRET,
            http_client=cast(Any, self.http),
            max_retries=0,
            timeout=30,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, **more: Any) -> None:
        answer = self.client.chat.completions.create(model="tiny", messages=SAID, **more)
        if more.get("stream"):
            assert list(answer)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.kept.get_finished_spans())


def told(upstream: MockUpstream) -> list[list[str]]:
    """The parts of the `traceparent` of each request that the instance was sent."""
    found = []
    for asked in upstream.journal():
        (value,) = [value for name, value in asked["headers"] if name == "traceparent"]
        found.append(value.split("-"))
    return found


def ask(gate: Gate, **fields: str) -> float:
    """One request without any instrumentation; returns the seconds that it took."""
    began = time.monotonic()
    headers = {"authorization": f"Bearer {SECRET}"} | fields
    url = f"http://127.0.0.1:{gate.port}/v1/chat/completions"
    answer = httpx.post(url, json={"model": "tiny", "messages": SAID}, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return time.monotonic() - began


def test_one_trace_from_the_client_to_the_instance(launch: Launch, upstream: MockUpstream, collector: Collector) -> None:
    """Each span's parent is the one before it on the way; with and without a stream, recorded or not."""
    tracing = {"otlp": collector.url, "sample": 0, "headers": {"x-scope": "abc"}}
    gate = launch({"tiny": model(upstream.url)}, tracing=tracing, log={"access": ["stdout", f"otlp:{collector.url}"]})
    upstream.default(delay=0.2)
    before = time.time_ns()
    with Caller(gate, 1.0) as caller, Caller(gate, 0.0) as other:
        caller.ask()
        caller.ask(stream=True, max_tokens=5)
        other.ask()  # its client records nothing, so nobody does
    eventually(lambda: len(collector.spans) >= 7, 20, "the spans of two requests")
    of_clients = {span.context.trace_id: span for span in caller.spans}
    assert len(of_clients) == 2
    for of_client, at_instance in zip(caller.spans, told(upstream), strict=False):
        trace = f"{of_client.context.trace_id:032x}"
        ours = [span for span in collector.spans if span.trace_id.hex() == trace]
        (gate_span,) = [span for span in ours if span.name == "POST /v1/chat/completions"]
        (call,) = [span for span in ours if span.name == "chat tiny"]
        assert gate_span.parent_span_id.hex() == f"{of_client.context.span_id:016x}"
        assert call.parent_span_id == gate_span.span_id
        assert at_instance[:3] == ["00", trace, call.span_id.hex()]
        assert int(at_instance[3], 16) & 1
        assert of_client.start_time is not None
        assert before < of_client.start_time <= gate_span.start_time_unix_nano <= call.start_time_unix_nano
        assert call.end_time_unix_nano <= gate_span.end_time_unix_nano < time.time_ns()
        (first,) = [span for span in ours if span.name == "first byte"]
        assert 200_000_000 <= first.end_time_unix_nano - first.start_time_unix_nano < 20_000_000_000
        receipt = gate.receipt(attributes(gate_span)["slmgate.receipt"])
        assert receipt["trace"].startswith(trace)
        said = attributes(call)
        assert said["gen_ai.usage.input_tokens"] == receipt["prompt_tokens"] > 0
        assert said["gen_ai.usage.output_tokens"] == receipt["completion_tokens"] > 0
    (unrecorded,) = [parts for parts in told(upstream) if int(parts[1], 16) not in of_clients]
    assert not int(unrecorded[3], 16) & 1
    assert unrecorded[1] not in {span.trace_id.hex() for span in collector.spans}
    assert collector.resource["service.name"] == "slmgate"
    assert "abc" in [headers.get("x-scope") for headers in collector.headers]
    eventually(lambda: len(collector.logs) >= 3, 20, "the access log's lines")
    calls = {(span.trace_id, span.span_id) for span in collector.spans if span.name == "chat tiny"}
    assert len(collector.logs) == 3
    assert {(record.trace_id, record.span_id) for record in collector.logs if record.flags & 1} == calls
    told_of: list[Any] = [*collector.spans, *collector.logs]
    everything = b"".join(one.SerializeToString() for one in told_of)
    assert b"private" not in everything and SECRET.encode() not in everything


def test_traces_that_begin_here_are_chosen_by_the_share(launch: Launch, upstream: MockUpstream, collector: Collector) -> None:
    """And a reload changes it for requests to come, on all workers, down to none at all."""
    gate = launch({"tiny": model(upstream.url)}, tracing={"otlp": collector.url, "sample": "50%"})
    for _ in range(40):
        ask(gate)
    parts = told(upstream)
    recorded = {trace for _, trace, _, flags in parts if flags == "03"}
    assert {flags for *_, flags in parts} == {"02", "03"}
    assert len({trace for _, trace, *_ in parts}) == 40
    assert all((int(trace[18:], 16) >= 1 << 55) == (trace in recorded) for _, trace, *_ in parts)
    gates = eventually(
        lambda: found if len(found := {one.trace_id.hex() for one in collector.spans}) >= len(recorded) else None,
        20,
        "their spans",
    )
    assert gates == recorded
    upstream.clear()
    gate.write(tracing={})
    own = f"00-{7:032x}-{8:016x}-01"

    def passes() -> bool:
        upstream.clear()
        for _ in range(8):
            ask(gate, traceparent=own)
        return all("-".join(parts) == own for parts in told(upstream))

    eventually(passes, 20, "untraced, a client's own word passes on")


@pytest.mark.parametrize("trouble", ["away", "silent", "refuses"])
def test_a_collector_in_trouble_costs_no_request(launch: Launch, upstream: MockUpstream, trouble: str) -> None:
    """Nobody waits for it, and once it is well again it is told what happens then, and what it may have missed."""
    port = free_port()
    collector = None if trouble == "away" else Collector(port)
    if collector is not None and trouble == "silent":
        collector.hold.clear()
    elif collector is not None:
        collector.status = 503
    gate = launch({"tiny": model(upstream.url)}, tracing={"otlp": f"http://127.0.0.1:{port}"})
    try:
        ask(gate)
        if (ill := collector) is not None:
            eventually(lambda: ill.requests, 20, "the collector is asked")
        else:
            eventually(lambda: "does not take spans" in gate.text(), 20, "the operator is told")
        assert max(ask(gate) for _ in range(20)) < 5.0
        if collector is None:
            collector = Collector(port)
        collector.status = 200
        collector.hold.set()
        well = collector
        eventually(lambda: len({one.trace_id for one in well.spans}) == 21, 40, "all 21 traces")
        assert gate.text().count("does not take spans") <= 1
    finally:
        if collector is not None:
            collector.close()
    assert collector is not None and collector.failures == []
