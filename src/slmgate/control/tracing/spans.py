"""Receipts -> spans: what a request was, in OpenTelemetry's words, and where its time went.

The gate's own span (`POST /v1/chat/completions`, a server's) has below it the time in line (`queue`), opening a connection
(`connect`) and the call of the model (`chat smollm2`, a client's, which the instance was told of), and below that `first byte`
and `stream`. Each time is a receipt's figure; what a receipt does not tell exactly has no span. Never a prompt, answer or secret.
What receipts share is encoded once. This module knows no collector.
"""

from __future__ import annotations

from collections import namedtuple
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any, NamedTuple

from slmgate.control.tracing import wire
from slmgate.control.tracing.wire import Key
from slmgate.control.tracing.words import is_recorded, parent_id, trace_id
from slmgate.dialects import PATHS
from slmgate.dialects.parameters import read_noted
from slmgate.policy.roles import Scalar
from slmgate.stores.parted import FACET_FIELDS, OWN_FIELDS, Facet, Own, Parted

MAX_KNOWN = 4096
"""Different shared parts of receipts whose spans' fixed parts are kept, about two kilobytes each."""
OPERATIONS = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "completion": "text_completion",
    "generate": "text_completion",
    "generate_stream": "text_completion",
    "infill": "text_completion",
    "embed": "embeddings",
    "embeddings": "embeddings",
}
"""What the conventions for generative AI call an endpoint's work; other endpoints go under their own names."""
_FAILED = ("upstream_error", "upstream_timeout", "gate_failed", "gate_stopped", "unknown")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# The other spans' ids, each by its distance from that of the span that the instance was told of.
_GATE, _QUEUE, _CONNECT = 0x9B05688C2B3E6C1F, 0x510E527FADE682D1, 0x3C6EF372FE94F82B
_FIRST_BYTE, _STREAM = 0xA54FF53A5F1D36F1, 0xBB67AE8584CAA73B

_id = Struct(">Q").pack
_TRACE = OWN_FIELDS.index("trace")
_Own: Any = namedtuple("_Own", list(OWN_FIELDS))  # type: ignore[misc]  # the names are the schema's: none are given by hand
"""Of `terms.Receipt`, what is each one's own, under its names there."""

# Of the gate's span.
_RECEIPT, _REQUEST_ID, _ADDRESS = Key("slmgate.receipt"), Key("slmgate.request_id"), Key("client.address")
_SIZE_IN, _SIZE_OUT = Key("http.request.body.size"), Key("http.response.body.size")
_WORKER, _ATTEMPTS, _COST, _OVERHEAD = (
    Key("slmgate.worker"),
    Key("slmgate.attempts"),
    Key("slmgate.cost"),
    Key("slmgate.overhead"),
)
_STATUS_CODE = Key("http.response.status_code")
# Of the call of the model.
_INPUT, _OUTPUT = Key("gen_ai.usage.input_tokens"), Key("gen_ai.usage.output_tokens")
_FIRST_CHUNK, _RESENT = Key("gen_ai.response.time_to_first_chunk"), Key("http.request.resend_count")
_PARAMETERS = {
    "max_tokens": Key("gen_ai.request.max_tokens"),
    "temperature": Key("gen_ai.request.temperature"),
    "top_p": Key("gen_ai.request.top_p"),
    "top_k": Key("gen_ai.request.top_k"),
    "n": Key("gen_ai.request.choice.count"),
    "frequency_penalty": Key("gen_ai.request.frequency_penalty"),
    "presence_penalty": Key("gen_ai.request.presence_penalty"),
}
_WHOLE = ("max_tokens", "n")

_QUEUE_NAME, _CONNECT_NAME = wire.texted(5, "queue"), wire.texted(5, "connect")
_FIRST_BYTE_NAME, _STREAM_NAME = wire.texted(5, "first byte"), wire.texted(5, "stream")


class Fixed(NamedTuple):
    """Names, attributes and status that a shared part of receipts comes to: of the gate's span, and of the call of the model."""

    gate: bytes
    call: bytes
    stream: bool


class Spans:
    """Makes spans of receipts."""

    def __init__(self) -> None:
        self._known: dict[Facet, Fixed] = {}

    def __repr__(self) -> str:
        return f"<Spans {len(self._known)} known>"

    def of(self, receipts: Parted) -> list[tuple[bytes, int]]:
        """The spans of each receipt whose trace is recorded, with their number."""
        return [
            self._all(own, facet)
            for own, facet in zip(receipts.own, receipts.facets, strict=True)
            if (trace := own[_TRACE]) and is_recorded(trace)
        ]

    def _all(self, own: Own, facet: Facet) -> tuple[bytes, int]:
        fixed = self._known.get(facet)
        if fixed is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            fixed = self._known[facet] = _fixed(facet)
        return _spans_of(_Own(*own), fixed)


def _spans_of(receipt: Any, fixed: Fixed) -> tuple[bytes, int]:
    """All spans of one receipt (its own part), in a row, and their number."""
    trace = bytes.fromhex(trace_id(receipt.trace))
    told = int(receipt.id[-16:], 16)
    gate, call = _id(told ^ _GATE), _id(told)
    began = (receipt.time - _EPOCH) // _MICROSECOND
    ended = began + receipt.total_us
    parent = parent_id(receipt.trace)
    of_trace = int(receipt.trace[-2:], 16) if parent else 3
    own_flags, child_flags = wire.flags(of_trace, bool(parent)), wire.flags(of_trace, False)

    def child(id: int, below: bytes, first: int, last: int, rest: bytes, kind: int = wire.INTERNAL) -> bytes:
        return wire.span((trace, _id(id), below), child_flags, kind, (first * 1000, last * 1000), rest)

    ids = trace, gate, bytes.fromhex(parent)
    made = [wire.span(ids, own_flags, wire.SERVER, (began * 1000, ended * 1000), fixed.gate + _own(receipt))]
    asked = began + receipt.queue_us
    if receipt.overhead_us:  # an instance was asked
        # of one that was tried again, it is another connection's, later than the first time it was asked
        connect = receipt.connect_us if receipt.attempts == 1 else 0
        waited = receipt.queue_us - receipt.receive_us - connect - receipt.overhead_us
        connecting = asked - connect
        if waited > 0:
            made.append(child(told ^ _QUEUE, gate, connecting - waited, connecting, _QUEUE_NAME))
        if connect:
            made.append(child(told ^ _CONNECT, gate, connecting, asked, _CONNECT_NAME))
        made.append(child(told, gate, asked, ended, fixed.call + _called(receipt, fixed.stream), wire.CLIENT))
        if receipt.first_byte_us is not None and receipt.first_byte_us >= receipt.queue_us:
            first = began + receipt.first_byte_us
            made.append(child(told ^ _FIRST_BYTE, call, asked, first, _FIRST_BYTE_NAME))
            if fixed.stream:
                made.append(child(told ^ _STREAM, call, first, ended, _STREAM_NAME))
    elif receipt.queue_us:  # it waited in vain
        made.append(child(told ^ _QUEUE, gate, ended - receipt.queue_us, ended, _QUEUE_NAME))
    return b"".join(made), len(made)


def _own(receipt: Any) -> bytes:
    """What the gate's span says of this request alone."""
    said = [
        _RECEIPT.text(receipt.id),
        _ADDRESS.text(receipt.address),
        _SIZE_IN.whole(receipt.bytes_in),
        _SIZE_OUT.whole(receipt.bytes_out),
        _WORKER.whole(receipt.worker),
    ]
    if receipt.request_id != receipt.id:
        said.append(_REQUEST_ID.text(receipt.request_id))
    if receipt.overhead_us:
        said.append(_OVERHEAD.fraction(receipt.overhead_us / 1e6))
    if receipt.cost:
        said.append(_COST.fraction(receipt.cost / 1e9))
    return b"".join(said)


def _called(receipt: Any, stream: bool) -> bytes:
    """What the call of the model says of this request alone."""
    said: list[bytes] = []
    if receipt.prompt_tokens or receipt.completion_tokens:
        said += [_INPUT.whole(receipt.prompt_tokens), _OUTPUT.whole(receipt.completion_tokens)]
    if stream and receipt.first_byte_us is not None:
        said.append(_FIRST_CHUNK.fraction((receipt.first_byte_us - receipt.queue_us) / 1e6))
    if receipt.attempts > 1:
        said += [_RESENT.whole(receipt.attempts - 1), _ATTEMPTS.whole(receipt.attempts)]
    if receipt.parameters:
        for name, values in read_noted(receipt.parameters).items():
            if (key := _PARAMETERS.get(name)) is not None and (told := _parameter(name, key, values[0])) is not None:
                said.append(told)
    return b"".join(said)


def _parameter(name: str, key: Key, value: Scalar) -> bytes | None:
    if isinstance(value, bool | str) or not 0 <= abs(value) < 1 << 63:
        return None
    if name not in _WHOLE:
        return key.fraction(float(value))
    return key.whole(int(value)) if value >= 0 else None


def _fixed(facet: Facet) -> Fixed:
    """The names, attributes and states that follow from what a receipt shares with others."""
    said = dict(zip(FACET_FIELDS, facet, strict=True))
    known = said["path"] in PATHS
    name = " ".join(filter(None, (said["method"] or "HTTP", said["path"] if known else "")))
    failed = said["status"] >= 500 or said["ended"] in _FAILED
    why = said["reason"] or said["ended"]
    gate = [
        wire.texted(5, name),
        wire.texts(
            (
                ("http.request.method", said["method"]),
                ("http.route", said["path"] if known else ""),
                ("url.path", said["path"]),
                ("slmgate.principal", said["principal"]),
                ("slmgate.key", said["key"] or ""),
                ("slmgate.team", said["team"] or ""),
                ("slmgate.roles", said["roles"]),
                ("slmgate.rule", said["rule"]),
                ("slmgate.plan", said["plan"]),
                ("slmgate.verdict", said["verdict"]),
                ("slmgate.reason", said["reason"]),
                ("slmgate.ended", said["ended"]),
                ("slmgate.dialect", said["dialect"]),
                ("slmgate.endpoint", said["endpoint"]),
                ("slmgate.model", said["model"]),
                ("slmgate.instance", said["instance"]),
                ("error.type", why if failed else ""),
            )
        ),
        _STATUS_CODE.whole(said["status"]) if said["status"] else b"",
        wire.FAILED if failed else b"",
    ]
    operation = OPERATIONS.get(said["endpoint"], said["endpoint"])
    broken = said["status"] >= 400 or said["ended"] in _FAILED
    host, _, port = said["instance"].rpartition("/")[2].rpartition(":")
    call = [
        wire.texted(5, f"{operation} {said['model']}"),
        wire.texts(
            (
                ("gen_ai.operation.name", operation),
                ("gen_ai.provider.name", said["dialect"]),
                ("gen_ai.request.model", said["model"]),
                ("server.address", host.strip("[]")),
                ("slmgate.instance", said["instance"]),
                ("error.type", why if broken else ""),
            )
        ),
        Key("server.port").whole(int(port)) if host and port.isdigit() else b"",
        Key("gen_ai.request.stream").switch(True) if said["stream"] else b"",
        Key("slmgate.estimated").switch(True) if said["estimated"] else b"",
        wire.FAILED if broken else b"",
    ]
    return Fixed(b"".join(gate), b"".join(call), said["stream"])
