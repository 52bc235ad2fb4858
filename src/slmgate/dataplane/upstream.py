"""One connection to an instance: a request written, the answer's pieces handed to its exchange as they come.

llhttp reads the answer; what it leaves open (bounds, 1xx, bytes that nobody asked for) is refused here. A connection serves
one exchange at a time and goes back to the pool only after an answer that ended cleanly. It knows no dialect and no client.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

from slmgate.http1.framing import CHUNKED

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.pool import Instance

MAX_HEAD = 64 * 1024
"""Bytes of an answer's heads, interim ones (1xx) included, before its body begins."""
UNTIL_CLOSE = -2
"""Framing of an answer that ends with its connection (RFC 9112 section 6.3, last rule)."""


class UpstreamConnection(asyncio.Protocol):
    """States, told by fields: idle (`exchange` None), asked (no head yet), answering, over (`transport` closing)."""

    __slots__ = (
        "_asked",
        "_body",
        "_complete",
        "_fields",
        "_framing",
        "_head_bytes",
        "_head_done",
        "_interim",
        "_parser",
        "_reusable",
        "_stray",
        "exchange",
        "idle_since",
        "instance",
        "on_header",
        "transport",
    )

    def __init__(self, instance: Instance) -> None:
        # connection
        self.instance = instance
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self._asked = 0  # requests sent over this connection
        self._fields: dict[bytes, bytes] = {}
        # llhttp calls this for each field; the dict's own method spares a Python call per header (first one wins)
        self.on_header = self._fields.setdefault
        self._parser = httptools.HttpResponseParser(self)
        # exchange
        self.exchange: Exchange | None = None
        self._start_answer()

    def _start_answer(self) -> None:
        self._body: list[bytes] = []  # pieces that came in the data under way
        self._head_done = False
        self._complete = False
        self._interim = False  # the head just read is a 1xx
        self._reusable = False
        self._stray = False  # bytes behind the answer's end
        self._framing = 0
        self._head_bytes = 0

    def __repr__(self) -> str:
        if self.transport is None or self.transport.is_closing():
            state = "over"
        elif self.exchange is None:
            state = "idle"
        else:
            state = "answering" if self._head_done else "asked"
        return f"<UpstreamConnection {self.instance.spec.id} {state}>"

    # -- called by the pool and the exchange

    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def ask(self, exchange: Exchange, request: bytes) -> None:
        """Send a whole request; its answer goes to `exchange`."""
        assert self.transport is not None
        self.exchange = exchange
        self._asked += 1
        self._start_answer()
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

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.instance.lost(self)  # it speaks without having been asked
            self.retire()
            return
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self._fail("the answer is not valid HTTP")
                return
            self._stray = True
        if not self._head_done:
            if self._head_bytes > MAX_HEAD:
                self._fail("the answer's head is too large")
            return
        if self._complete:
            body = self._body
            self.exchange = None
            reusable = self._reusable and not self._stray
            exchange.answer_ended(body, self if reusable else None)
            if not reusable:
                self.retire()
        elif self._body:
            body, self._body = self._body, []
            exchange.answer_data(body)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            self.instance.lost(self)
        elif self._asked > 1 and self._head_bytes == 0:
            exchange.connection_was_stale()
        elif self._head_done and self._framing == UNTIL_CLOSE and exc is None:
            exchange.answer_ended([], None)
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
        if self._complete:
            self._stray = True

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            # an interim answer; llhttp goes on with the next head (101 ends in HttpParserUpgrade: a fault)
            self._interim = True
            self._fields.clear()
            return
        fields = {name.lower(): value.strip(b" \t") for name, value in self._fields.items()}
        length = fields.get(b"content-length")
        if b"transfer-encoding" in fields:
            self._framing = CHUNKED
        elif status in (204, 304):
            self._framing = 0
        elif length is not None:
            self._framing = int(length)  # llhttp has seen that it is a number
        else:
            self._framing = UNTIL_CLOSE
        self._reusable = self._parser.should_keep_alive() and self._framing != UNTIL_CLOSE
        self._head_done = True
        assert self.exchange is not None
        self.exchange.answer_began(status, fields, self._framing)

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        else:
            self._complete = True
