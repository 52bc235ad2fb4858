"""One connection to an instance: a request written, the answer's pieces handed to its exchange as they come.

llhttp reads the answer; what it leaves open (bounds, 1xx, bytes that nobody asked for) is refused here. A connection serves
one exchange at a time and goes back to the pool only after an answer that ended cleanly. It knows no dialect and no client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httptools

from slmgate.http1.framing import CHUNKED
from slmgate.http1.heads import ANSWER_FIELDS_PASSED, FieldNames, answer_fields

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.pool import Instance

MAX_HEAD = 32 * 1024
"""Bytes of an answer's heads, interim ones (1xx) included, before its body begins."""
MAX_INTERIMS = 16
_NAMES = FieldNames(ANSWER_FIELDS_PASSED)
UNTIL_CLOSE = -2
"""Framing of an answer that ends with its connection (RFC 9112 section 6.3, last rule)."""


class UpstreamConnection(asyncio.Protocol):
    """States, told by fields: idle (`exchange` None), asked (no head yet), answering, over (`transport` closing)."""

    __slots__ = (
        "_asked",
        "_body",
        "_fault",
        "_fields",
        "_framing",
        "_head_bytes",
        "_head_done",
        "_interims",
        "_parser",
        "_pending",
        "_reusable",
        "_stray",
        "_whole",
        "closing",
        "exchange",
        "idle_since",
        "instance",
        "on_body",
        "on_header",
        "on_message_complete",
        "transport",
    )

    def __init__(self, instance: Instance) -> None:
        # connection
        self.instance = instance
        self.transport: asyncio.Transport | None = None
        self.closing: Callable[[], bool] = bool  # the transport's own `is_closing`, once there is one
        self.idle_since = 0.0
        self._asked = 0  # requests sent over this connection
        # llhttp calls these for each field, each piece of body and the end: methods of C containers, which spares a Python
        # call each. `_fields` keeps the first of its name; `_pending` holds one thing for as long as an answer is awaited.
        self._fields: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._pending: list[bool] = []
        self.on_header = self._fields.setdefault
        self.on_body = self._body.append
        self.on_message_complete = self._pending.clear
        self._parser = httptools.HttpResponseParser(self)
        # exchange
        self.exchange: Exchange | None = None
        self._head_done = False
        self._head_bytes = 0
        self._framing = 0
        self._reusable = False
        self._interims = 0  # interim answers (1xx) before this one
        self._fault = ""  # what was found wrong with the head
        self._stray = False
        self._whole = 0  # with `_stray`: how many pieces of body are the answer's

    def __repr__(self) -> str:
        if self.transport is None or self.transport.is_closing():
            state = "over"
        elif self.exchange is None:
            state = "idle"
        else:
            state = "answering" if self._head_done else "asked"
        return f"<UpstreamConnection {self.instance.spec.id} {state}>"

    # -- called by the pool and the exchange

    def ask(self, exchange: Exchange, request: bytes) -> None:
        """Send a whole request; its answer goes to `exchange`."""
        assert self.transport is not None
        self.exchange = exchange
        self._asked += 1
        self._head_done = False
        self._head_bytes = 0
        self._interims = 0
        self._stray = False
        self._pending.append(True)
        self._fields.clear()
        self.transport.write(request)

    def retire(self) -> None:
        """Close for good, at once; the instance sees that its work is not wanted."""
        self.exchange = None
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

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.instance.lost(self)  # it speaks without having been asked
            self.retire()
            return
        try:
            self._answer(exchange, data)
        except Exception:  # noqa: BLE001  # a fault of our own costs this request, with a receipt, and no other
            self.retire()
            exchange.worker.report_fault()
            exchange.gate_failed()

    def _answer(self, exchange: Exchange, data: bytes) -> None:
        if not self._head_done:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                end = data.find(b"\r\n\r\n")
                if end < 0 or self._head_bytes - len(data) + end > MAX_HEAD:
                    self._fail("the answer's head is too large")
                    return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # not the instance's fault: `answer_began` failed
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._pending or not self._head_done:
                if self._body:
                    exchange.answer_data(b"".join(self._body))  # what came before the garbage is good
                    self._body.clear()
                self._fail("the answer is not valid HTTP")
                return
            self._reusable = False  # the answer is whole; what is behind it costs the connection
        if self._fault:
            self._fail(self._fault)
            return
        if not self._head_done:
            return
        body = self._body
        if not self._pending:
            if self._stray:
                self._reusable = False
                del body[self._whole :]
            out = body[0] if len(body) == 1 else b"".join(body)
            body.clear()
            self.exchange = None
            if self._reusable:
                exchange.answer_ended(out, self)
            else:
                self.retire()
                exchange.answer_ended(out, None)
        elif body:
            out = body[0] if len(body) == 1 else b"".join(body)
            body.clear()
            exchange.answer_data(out)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            self.instance.lost(self)
        elif self._asked > 1 and self._head_bytes == 0:
            exchange.connection_was_stale()
        elif self._head_done and self._framing == UNTIL_CLOSE and exc is None:
            exchange.answer_ended(b"", None)
        else:
            exchange.upstream_failed("the connection was closed before the answer's end", began=self._head_done)

    def pause_writing(self) -> None:
        """Nothing to hold: a request is written whole, and bounded."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def _fail(self, why: str) -> None:
        exchange, began = self.exchange, self._head_done
        self.retire()
        if exchange is not None:
            exchange.upstream_failed(why, began=began)

    # -- called by llhttp

    def on_message_begin(self) -> None:
        if self._head_done and not self._pending and not self._stray:
            # bytes behind the answer's end: they are nobody's
            self._stray = True
            self._whole = len(self._body)

    def on_headers_complete(self) -> None:
        if self._head_done:
            return  # a second answer, in the same bytes as the first
        parser, raw = self._parser, self._fields
        status = parser.get_status_code()
        if parser.get_http_version() not in ("1.1", "1.0") or status < 100:
            self._fault = "the answer is not HTTP/1.1"
            return
        if status < 200:
            # an interim answer, after which the real one is still awaited (101 ends in HttpParserUpgrade: a fault)
            raw.clear()
            self._interims += 1
            if self._interims > MAX_INTERIMS:
                self._fault = "the instance sends interim answers without end"
            return
        if not self._pending:
            self._pending.append(True)  # the interim answer's end has cleared it
        lowered, names = _NAMES.look(tuple(raw))
        fields = dict(zip(lowered, raw.values(), strict=True))
        if status == 204 or status == 304:
            framing = 0
        elif b"transfer-encoding" in fields:
            framing = CHUNKED
            if fields[b"transfer-encoding"].lower() != b"chunked":
                self._fault = "the answer has a transfer coding that is not understood"
                return
        elif b"content-length" in fields:
            framing = int(fields[b"content-length"])  # llhttp has seen that it is a number
        else:
            framing = UNTIL_CLOSE
        self._framing = framing
        self._reusable = framing != UNTIL_CLOSE and parser.should_keep_alive()
        self._head_done = True
        assert self.exchange is not None
        self.exchange.answer_began(status, fields.get(b"content-type", b""), answer_fields(fields, names), framing)
