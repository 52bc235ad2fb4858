"""One connection to an instance: a request written, the answer's pieces handed to its exchange as they come.

llhttp reads the answer's head, `http1/framing.py` its body; what both leave open (bounds, 1xx, bytes that nobody asked for)
is refused here. A connection serves one exchange at a time and goes back to the pool only after an answer that ended
cleanly. It knows no dialect and no client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, cast

import httptools

from slmgate.dataplane.passing import Passing
from slmgate.dataplane.secured import trouble
from slmgate.http1.framing import CHUNKED, UNTIL_CLOSE, ChunkedReader
from slmgate.http1.heads import ANSWER_FIELDS_PASSED, AnswerHead, FieldNames, answer_fields
from slmgate.http1.repeats import SeenHead, seen_head

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.pool import Instance

MAX_HEAD = 32 * 1024
"""Bytes of an answer's heads, interim ones (1xx) included, before its body begins."""
MAX_INTERIMS = 16
_NAMES = FieldNames(ANSWER_FIELDS_PASSED)
_VERSION = b"HTTP/1."


class UpstreamConnection(Passing):
    """States, told by fields: idle (`exchange` None), asked (no head yet), answering, over (`transport` closing)."""

    __slots__ = (
        "_asked",
        "_asked_at_flush",
        "_backlog",
        "_chunks",
        "_fields",
        "_head",
        "_head_bytes",
        "_interims",
        "_keep_alive",
        "_left",
        "_parser",
        "_seen",
        "_seen_as",
        "_unsent",
        "closing",
        "exchange",
        "idle_since",
        "instance",
        "on_header",
        "transport",
    )

    def __init__(self, instance: Instance) -> None:
        super().__init__()
        # connection
        self.instance = instance
        self.transport: asyncio.Transport | None = None
        self.closing: Callable[[], bool] = bool  # the transport's own `is_closing`, once there is one
        self.idle_since = 0.0
        self._asked = 0  # requests sent over this connection
        self._unsent = False  # a part of the last one still waits for the instance to read what is before it
        self._asked_at_flush = 0  # the outbox's count of flushes when the last one was put there
        # llhttp calls this for each field; the dict's own method spares a Python call. It keeps the first of its name:
        # fields of framing that come twice are llhttp's to refuse.
        self._fields: dict[bytes, bytes] = {}
        self.on_header = self._fields.setdefault
        self._parser: httptools.HttpResponseParser | None = None
        self._keep_alive = False  # what the head under the parser's eyes says of the connection
        # the last head that may come again, and what it says
        self._seen: SeenHead | None = None
        self._seen_as: AnswerHead | None = None
        # exchange
        self.exchange: Exchange | None = None
        self._head: AnswerHead | None = None  # of the answer under way, once it was read
        self._backlog = b""  # of a head that is not whole
        self._head_bytes = 0
        self._interims = 0  # interim answers (1xx) before this one
        self._left = 0  # bytes of a sized body still to come
        self._chunks: ChunkedReader | None = None

    def __repr__(self) -> str:
        if self.transport is None or self.transport.is_closing():
            state = "over"
        elif self.exchange is None:
            state = "idle"
        else:
            state = "answering" if self._head is not None else "asked"
        return f"<UpstreamConnection {self.instance.spec.id} {state}>"

    # -- called by the pool and the exchange

    def ask(self, exchange: Exchange, request: bytes) -> None:
        """Send a whole request; its answer goes to `exchange`."""
        assert self.transport is not None
        self.exchange = exchange
        self._asked += 1
        self._head_bytes = 0
        outbox = exchange.worker.outbox
        self._asked_at_flush = outbox.flushed
        outbox.put(self.transport, request)

    def retire(self) -> None:
        """Close for good, at once; the instance sees that its work is not wanted."""
        self.exchange = None
        self.stop_passing()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()

    def pause(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # -- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self.closing = transport.is_closing
        if transport.get_extra_info("ssl_object") is None:  # what stays behind TLS is not told
            self.transport.set_write_buffer_limits(0)  # `pause_writing` is called whenever something stays behind

    def received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.instance.lost(self)  # it speaks without having been asked
            self.retire()
            return
        try:
            if self._chunks is not None:
                self._read_chunks(exchange, data)
            elif self._head is not None:
                self._read_body(exchange, data)
            elif self._asked_at_flush == exchange.worker.outbox.flushed:
                # it speaks before the request went out: that is nobody's answer, and the request goes over another connection
                self.retire()
                exchange.connection_was_stale()
            else:
                body = self._seen.body(data) if self._seen is not None and not self._head_bytes else None
                if body is not None and self._seen_as is not None:  # the common answer: a head as before, and its whole body
                    self.exchange = None
                    exchange.answered(self._seen_as, body, self)
                else:
                    self._read_heads(exchange, data)
        except Exception:  # noqa: BLE001  # a fault of our own costs this request, with a receipt, and no other
            if self.exchange is None or self.exchange is exchange:  # else it serves the next one already
                self.retire()
            exchange.worker.report_fault()
            exchange.gate_failed()

    def failed(self) -> None:
        exchange = self.exchange
        self.retire()
        if exchange is not None:
            exchange.worker.report_fault()
            exchange.gate_failed()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        self.stop_passing()
        if exchange is None:
            self.instance.lost(self)
        elif self._asked > 1 and self._head_bytes == 0:
            exchange.connection_was_stale()
        elif self._head is not None and self._head.framing == UNTIL_CLOSE and exc is None:
            exchange.answer_ended(b"", None)
        else:
            why = trouble(self.instance.secured, exc, opening=False)  # with TLS 1.3 some refuse after the handshake
            why = why or "the connection was closed before the answer's end"
            exchange.upstream_failed(why, began=self._head is not None)

    def pause_writing(self) -> None:
        """The instance does not read as fast as it is written to. Nothing is held up: a request is written whole, and bounded."""
        self._unsent = True
        self._seen = None  # an answer now is looked at the long way: see `_end`

    def resume_writing(self) -> None:
        """All of the request is on its way."""
        self._unsent = False

    def _fail(self, why: str) -> None:
        exchange, began = self.exchange, self._head is not None
        self.retire()
        if exchange is not None:
            exchange.upstream_failed(why, began=began)

    # -- reading an answer

    def _read_heads(self, exchange: Exchange, data: bytes) -> None:
        """Read the answer's head, and the interim ones before it; the rest of `data` is its body's."""
        self._head_bytes += len(data)
        self._backlog += data
        while self._head is None:
            data = self._backlog
            end = data.find(b"\r\n\r\n")
            rest = len(data) - end - 4 if end >= 0 else 0
            if self._head_bytes - rest > MAX_HEAD:
                self._fail("the answer's head is too large")
                return
            if end < 0:
                if not data.startswith(_VERSION[: len(data)]) or data.count(b"\n") != data.count(b"\r\n"):
                    self._fail("the answer is not valid HTTP")
                return
            self._backlog = data[end + 4 :]
            read = self._read_head(data[: end + 4])
            if isinstance(read, str):
                self._fail(read)
                return
            self._head = read
        head = self._head
        data, self._backlog = self._backlog, b""
        exchange.answer_began(head)
        if head.framing == CHUNKED:
            self._chunks = ChunkedReader(free=inf)
            self._read_chunks(exchange, data)
        else:
            self._left = head.framing
            self._read_body(exchange, data)

    def _read_head(self, data: bytes) -> AnswerHead | str | None:
        """What one head says, None for an interim one, or what is wrong with it."""
        if not data.startswith(_VERSION):
            return "the answer is not valid HTTP"  # llhttp passes over line ends before it
        raw = self._fields
        raw.clear()
        parser = self._parser = httptools.HttpResponseParser(self)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # an upgrade that nobody asked for
            return "the answer is not valid HTTP"
        status = parser.get_status_code()
        if parser.get_http_version() not in ("1.1", "1.0") or status < 100:
            return "the answer is not HTTP/1.1"
        if status < 200:
            self._interims += 1
            return None if self._interims <= MAX_INTERIMS else "the instance sends interim answers without end"
        lowered, names = _NAMES.look(tuple(raw))
        fields = dict(zip(lowered, raw.values(), strict=True))
        coding = fields.get(b"content-encoding")
        if coding is not None and coding.strip().lower() not in (b"", b"identity"):
            return "the answer is compressed, which the gate does not ask for"  # nobody could read it: the field does not pass
        if status == 204 or status == 304:
            framing = 0
        elif b"transfer-encoding" in fields:
            framing = CHUNKED
            # llhttp leaves the blanks behind a value, and takes several fields for a list
            if lowered.count(b"transfer-encoding") > 1 or fields[b"transfer-encoding"].rstrip(b" \t").lower() != b"chunked":
                return "the answer has a transfer coding that is not understood"
        elif b"content-length" in fields:
            framing = int(fields[b"content-length"])  # llhttp has seen that it is a number
        else:
            framing = UNTIL_CLOSE
        reusable = framing != UNTIL_CLOSE and self._keep_alive
        head = AnswerHead(status, fields.get(b"content-type", b""), answer_fields(fields, names), framing, reusable)
        if reusable and status == 200 and framing >= 0:
            self._seen, self._seen_as = seen_head(data), head
        return head

    def on_headers_complete(self) -> None:
        """Called by llhttp, which forgets the answer at the end of a message: here, with an empty body, that is the next step."""
        assert self._parser is not None
        self._keep_alive = self._parser.should_keep_alive()

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        """More of a body that is sized, or ends with the connection."""
        left = self._left
        if left == UNTIL_CLOSE:
            if data:
                exchange.answer_data(data)
        elif len(data) < left:
            self._left -= len(data)
            if data:
                exchange.answer_data(data)
        else:
            self._end(exchange, data[:left], data[left:])

    def _read_chunks(self, exchange: Exchange, data: bytes) -> None:
        chunks = self._chunks
        assert chunks is not None
        self.stop_passing()
        pieces, rest = chunks.feed(data)
        out = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if chunks.done:
            self._end(exchange, out, rest)
            return
        if out:
            exchange.answer_data(out)  # what comes before a fault is good
        if chunks.fault is not None:
            self._fail("the answer is not valid HTTP")
        elif chunks.at_rest:
            exchange.let_pass(self)

    def _end(self, exchange: Exchange, out: bytes, stray: bytes) -> None:
        """The answer's end. Bytes behind it are nobody's: they cost the connection.

        So does a request that the instance has answered and not read: whether it ever will is not known, and the next would wait
        behind what is left of it, or be taken for a part of it.
        """
        reusable = self._head is not None and self._head.reusable and not stray and not self._unsent
        self.exchange = self._head = self._chunks = None
        self._interims = 0
        if reusable:
            exchange.answer_ended(out, self)
        else:
            self.retire()
            exchange.answer_ended(out, None)
