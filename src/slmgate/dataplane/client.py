"""The client's connection: bytes to requests, one after the other, and the exchange's bytes back.

Heads are checked by llhttp and `http1/heads.py`, bodies are framed here by `http1/framing.py`: the next request is not even
looked at before the last one is answered, so that garbage behind a good request cannot spoil the good one's answer. This
module knows no policy, dialect or instance. A head that came before on its connection is not read again: `repeat.py`.
Length: one connection, one state machine; each of its states is a method of a few lines.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import httptools

from slmgate.dataplane.challenges import is_answered
from slmgate.dataplane.exchange import NO_HEAD, Exchange, begin, begin_again
from slmgate.dataplane.guard import TURNED_AWAY, Visitor
from slmgate.dataplane.proxied import Proxied
from slmgate.dataplane.repeat import Repeat
from slmgate.dataplane.tls import certificate_of
from slmgate.http1.answers import CONTINUE
from slmgate.http1.framing import CHUNKED, MAX_DIGITS, ChunkedReader, request_framing
from slmgate.http1.heads import RequestHead
from slmgate.http1.repeats import seen_head
from slmgate.policy.certificates import Certificate
from slmgate.policy.identify import Unverified
from slmgate.policy.networks import number_of
from slmgate.terms import Principal, Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.door import Arrival
    from slmgate.dataplane.worker import Worker

# The states of a connection.
HEAD: Final = "head"  # waiting for, or in the middle of, a request's head
BODY: Final = "body"  # reading the body of a request that may go on
SKIP: Final = "skip"  # reading past the rest of a small body that was refused
BUSY: Final = "busy"  # an exchange is at work; what comes meanwhile waits in the backlog
LINGER: Final = "linger"  # answered and half closed: reading what is still on its way, so that the answer is not lost to a reset
CLOSED: Final = "closed"

MAX_BACKLOG = 64 * 1024
HEADS_A_TURN = 16
"""Requests of one connection that are looked at in one turn of the event loop, where the gate answers them itself."""
SKIPPED = 64 * 1024
"""A refused body up to this size is read past, and the connection kept; a larger one costs the connection."""
LINGER_SECONDS = 2.0
TRICKLE_SECONDS = 60.0
"""So long a body may come as slowly as it likes."""
SAY_WHO_SECONDS = 1.0
"""So long a client has to show a credential before a full gate may close its connection."""
IDLE_SECONDS = 10.0
"""The same, for a client that has shown one and has nothing to ask."""
MEMORY_FULL = Refuse("overloaded", "The gate has no memory for more requests at the moment. Try again soon.", retry_after=1)
MAX_UNLIKE = 4
"""How often a connection's head may be kept in vain, before its client is taken for one whose heads all differ."""
NEVER = float("inf")
_BAD_LINE_END = re.compile(rb"\r[^\n]|(?<!\r)\n|\r\n[ \t]")
"""A bare carriage return or line feed, or a folded line (RFC 9112 sections 2.2 and 5.2): no good head has one."""


class Held(NamedTuple):
    """A request that waits for the verdict on who calls, with what its connection needs to go on."""

    raw: bytes
    """Its head as it came."""
    body: bytes | None
    """None: it has not been read."""
    framing: int = 0
    expect: bytes | None = None
    keep_alive: bool = False
    """As the client wants it, once the body is read."""
    skippable: bool = False
    """A refusal now keeps the connection too."""


class ClientConnection(asyncio.Protocol):
    __slots__ = (
        "_arrival",
        "_backlog",
        "_body",
        "_body_from",
        "_body_got",
        "_buffered",
        "_chunks",
        "_fields",
        "_held",
        "_in_step",
        "_left",
        "_number",
        "_parser",
        "_reading",
        "_repeat",
        "_running",
        "_scanned",
        "_settled",
        "_unlike",
        "_worker",
        "address",
        "born",
        "came_from",
        "certificate",
        "deadline",
        "exchange",
        "known",
        "on_header",
        "paused_at",
        "proxied",
        "read_head",
        "state",
        "transport",
        "visitor",
    )

    def __init__(self, worker: Worker, arrival: Arrival | None = None) -> None:
        """`arrival`: what the door of its listener has learnt of it, where that has one."""
        # connection
        self._worker = worker
        self.transport: asyncio.Transport | None = None
        # Whose the request is: whoever goes by an address goes by this one. What a trusted proxy says stands here too.
        self.address = "" if arrival is None else arrival.address
        self._settled = arrival is not None and arrival.settled  # no head on it can say otherwise
        self._arrival = arrival if arrival is not None and arrival.counted else None  # until it is made
        self.proxied: Proxied | None = None  # the other end is a trusted proxy, whose heads say whose they are
        self.read_head = worker.heads.read
        self.certificate: Certificate | None = None  # what the client showed in a TLS handshake, verified
        self._number: int | None = None  # the address as a number, once somebody asked for it
        self.born = 0.0  # monotonic
        self.came_from: Visitor | None = None  # who is counted for the connection; None: nobody
        self.visitor: Visitor | None = None  # who is counted for its requests
        self.known = False  # it has shown a good credential
        self._buffered = 0  # bytes of the worker's `buffered` that are of this connection
        self._fields: dict[bytes, bytes] = {}
        # llhttp calls this for each field; the dict's own method spares a Python call per header (first one wins,
        # and `HeadReader` notices by the count of lines that there was a second)
        self.on_header = self._fields.setdefault
        self._parser = httptools.HttpRequestParser(self)
        self._in_step = True  # it counts the body that follows; else it waits for the next head
        self.paused_at = 0.0  # when the client stopped taking bytes; 0: it takes them
        self._reading = True  # the transport may hand over bytes
        self._running = False  # `_run` is on the stack
        self._repeat: Repeat | None = None  # the last head that may come again, and what follows from it
        self._unlike = 0  # heads that were kept for that in vain
        # between requests
        self.state = HEAD
        self.deadline = NEVER
        self._backlog = b""  # bytes not looked at yet
        self._scanned = 0  # of them, how many are known to hold no end of a head
        # request
        self.exchange: Exchange | None = None
        self._held: Held | None = None  # while the exchange is asking who calls; the state is BUSY meanwhile
        self._left = 0  # bytes of a sized body still to come
        self._chunks: ChunkedReader | None = None
        self._body: list[bytes] = []
        # of a body that does not come at once: when it began, and how many bytes have come
        self._body_from = 0.0
        self._body_got = 0

    def __repr__(self) -> str:
        return f"<ClientConnection {self.address} {self.state}>"

    @property
    def number(self) -> int:
        """The address as policy compares it; worked out once for a connection, if at all."""
        if self._number is None:
            self._number = number_of(self.address)
        return self._number

    def _enter(self, state: str, deadline: float) -> None:
        self.state = state
        self.deadline = deadline

    @property
    def has_another(self) -> bool:
        """Whether the client has begun to send a further request while one is being answered."""
        return self.state is BUSY and bool(self._backlog)

    # -- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        if not self.address:
            peer = transport.get_extra_info("peername")
            self.address = peer[0] if isinstance(peer, tuple) else ""
        arrival, self._arrival = self._arrival, None
        if arrival is None:
            visitor = self._worker.guard.connected(self.address)
        else:
            visitor, arrival.visitor = arrival.visitor, None  # what the door has counted is this connection's from now on
        if visitor is TURNED_AWAY:
            self._enter(CLOSED, NEVER)
            self._abort()
            return
        self.came_from = self.visitor = visitor
        self.certificate = certificate_of(transport)
        if self._worker.snapshot.gate.trusted_proxies:
            self.look_whose()
        self.born = time.monotonic()
        self._enter(HEAD, self.born + self._worker.snapshot.gate.header_timeout)
        self._worker.joined(self)
        if self._worker.challenges.ever and is_answered(transport):
            self._close()

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is HEAD and not self._backlog and not self.paused_at:
            repeat = self._repeat
            if repeat is not None and repeat.snapshot is self._worker.snapshot:
                body = repeat.seen.body(data)
                if body is not None:
                    self._begin_again(repeat, body)
                    return
        if state is BUSY:
            self._backlog += data
            if len(self._backlog) > MAX_BACKLOG:
                self._set_reading(False)
        elif state is HEAD:
            self._backlog = self._backlog + data if self._backlog else data
            if self.paused_at and len(self._backlog) > MAX_BACKLOG:
                self._set_reading(False)  # until it takes its answers
            self._run()
        elif state is BODY or state is SKIP:
            self._backlog += data
            self._body_got += len(data)
            self.deadline = self._body_due()
            self._run()
        # LINGER and CLOSED: nobody is to read it

    def eof_received(self) -> bool:
        """The client will send no more. Like nginx, we take that for leaving, also while its answer is under way."""
        self._worker.outbox.flush()  # it may come in one turn with what was answered: the loop closes when we return
        if self.state is BODY:
            assert self.exchange is not None
            self.exchange.keep_alive = False
            self.exchange.refuse(Refuse("invalid_request", "The connection ended before the body did."))
        elif self.state is HEAD and self._backlog:
            self._refuse_bytes(Refuse("invalid_request", "The connection ended before the request did."))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._enter(CLOSED, NEVER)
        exchange, self.exchange = self.exchange, None
        if self._buffered:
            self._buffer(0)
        if exchange is not None:
            exchange.client_left()
        self._worker.left(self)

    def pause_writing(self) -> None:
        self.paused_at = time.monotonic()
        self._worker.calm.discard(self)
        if self.exchange is not None:
            self.exchange.pause()

    def resume_writing(self) -> None:
        self.paused_at = 0.0
        if self.exchange is not None:
            self.exchange.resume()
        elif self._backlog and self.state is HEAD and not self._running:
            self._worker.soon(self._go_on)

    # -- whose its requests are

    def look_whose(self) -> None:
        """Whether heads may say whose their requests are: asked when it is made, and when others may say so than before."""
        if self.proxied is None and not self._settled and self._worker.snapshot.forwarders.holds(self.number):
            self.proxied = Proxied(self, self._worker)
            self.read_head = self.proxied.read
            self.certificate = None  # it is the proxy's, and says nothing of the clients behind it

    def is_for(self, address: str) -> None:
        """The request that is being read is a client's at this address."""
        if address != self.address:
            self.address = address
            self._number = None
            self.visitor = self._worker.guard.visitor(address)
            self.known = False
            if self._repeat is not None:  # a head that is kept is one of the address that stands here
                self._repeat = None
                self._unlike += 1

    def is_direct(self) -> None:
        """The other end is no trusted proxy any more: it speaks for itself."""
        if self.proxied is not None and self.transport is not None:
            self.is_for(self.proxied.address)
            self.proxied = None
            self.read_head = self._worker.heads.read
            self.certificate = certificate_of(self.transport)

    # -- called by the worker

    def sweep(self, now: float) -> None:
        """Called when a time limit of this connection or of its exchange may be over; `now` is monotonic."""
        try:
            self._sweep(now)
        except Exception:  # noqa: BLE001  # a fault of our own costs this connection; the worker's tick must go on
            self._worker.report_fault()
            self._abort()

    def _sweep(self, now: float) -> None:
        if self.paused_at and now - self.paused_at > self._worker.snapshot.gate.send_timeout:
            self._abort()
        elif self.state is BUSY:
            if self.exchange is not None and now >= self.exchange.deadline:
                self.exchange.sweep(now)
        elif now >= self.deadline:
            self._time_out()

    def drain(self) -> None:
        """The worker stops: an idle connection is closed now, a busy one after its answer."""
        if self.state is HEAD and not self._backlog:
            self._close()

    def stop(self) -> None:
        """The drain limit is over."""
        if self.exchange is not None:
            self.exchange.gate_stops()
        self._close()

    def banned(self) -> None:
        """Its address is: what is under way goes on to its end, and nothing after it."""
        if self.exchange is None:
            self._abort()
        else:
            self.exchange.keep_alive = False

    def expendable(self, now: float) -> tuple[int, float] | None:
        """How well the gate can do without this connection when it is full: the least first; None: not at all.

        First who has shown no good credential and had time to, the youngest before the others; then who has had nothing to ask
        for a while, the longest idle first. A body that was refused is no request any more, and its rest not waited for.
        """
        if self.exchange is not None or not (self.state is HEAD or (self.state is SKIP and not self.known)):
            return None
        if not self.known:
            return (0, -self.born) if now - self.born >= SAY_WHO_SECONDS else None
        idle = self._worker.snapshot.gate.keep_alive - (self.deadline - now)
        return (1, -idle) if not self._backlog and idle >= IDLE_SECONDS else None

    def give_way(self, answer: bytes) -> None:
        """Close for others' sake; whoever has begun to ask for something is given the answer."""
        if self._backlog:
            self.write(answer)
        self._close()

    # -- called by the exchange

    def recognised(self) -> None:
        """It has shown a good credential."""
        self.known = True
        if self.visitor is not None:
            self._worker.guard.knows(self.visitor)

    def write(self, data: bytes) -> None:
        """Send bytes to the client, at the end of this turn of the loop."""
        if self.transport is not None:
            self._worker.outbox.put(self.transport, data)

    def exchange_over(self, last: bytes, keep_alive: bool, cut: bool) -> None:
        """The exchange ended; `last` are its last bytes. `cut`: the answer must not look whole: the line is closed behind it."""
        self.exchange = None
        if self._buffered:
            self._buffer(0)
        if self.state is CLOSED or self.transport is None:
            return
        if last:
            try:
                self.write(last)
            except Exception:  # noqa: BLE001  # the exchange is over: nobody else is left to end the client's waiting
                self._worker.report_fault()
                self._abort()
                return
        if self.state is BUSY and keep_alive and not cut:
            self._next()
            if not self._reading:
                self._set_reading(True)
            if self._backlog and not self._running:
                self._worker.outbox.flush()  # whether the client takes this answer is to be known before the next is begun
                self._run()
        elif cut or self.state is BUSY:
            if self._worker.handed_over and not cut:
                self._linger()  # what it may have sent on must not cost it this answer
            else:
                self._close()
        elif not keep_alive:
            self._linger()
        else:
            # refused at the head, or in the middle of the body: what is left of it is small, and read past
            self._enter(SKIP, self._body_due())

    # -- reading requests

    def _run(self) -> None:
        """Read what the backlog holds, one request after the other, until it waits for more bytes or for an exchange."""
        self._running = True
        goes_on = True
        heads = 0
        try:
            while goes_on:
                state = self.state
                if state is HEAD:
                    if not self._backlog or self.paused_at:
                        break  # a client that takes no answers is not asked what else it wants: see `resume_writing`
                    if heads == HEADS_A_TURN:
                        self._go_on_later()
                        break
                    if heads:
                        self._worker.outbox.flush()  # whether it takes them shows only now
                        if self.paused_at:
                            break
                    heads += 1
                    goes_on = self._read_head()
                elif state is BODY:
                    goes_on = self._read_body()
                else:
                    goes_on = self._skip_body() if state is SKIP else False
        except Exception:  # noqa: BLE001  # a fault of our own costs this request, with a 500 and a receipt, and no other
            self._failed()
        finally:
            self._running = False

    def _failed(self) -> None:
        """A fault of our own, which is being handled: end the request that it hit."""
        self._worker.report_fault()
        if self.exchange is None:
            self._abort()
        else:
            self.exchange.keep_alive = False  # nor is what was read of the connection to be relied on
            self.exchange.gate_failed()

    def _go_on_later(self) -> None:
        """Let the others have their turn before more of what one client sent at once is looked at."""
        self._set_reading(False)
        self._worker.soon(self._go_on)

    def _go_on(self) -> None:
        if self.state is HEAD:
            self._set_reading(True)
            self._run()

    def _read_head(self) -> bool:
        """Take one head off the backlog. False: it is not whole yet, or it was refused."""
        data = self._backlog
        gate = self._worker.snapshot.gate
        if data.startswith(b"\r\n"):
            data = self._backlog = data[_empty_lines(data) :]  # are to be ignored before a request (RFC 9112 section 2.2)
            if not data:
                self._scanned = 0
                return False  # and they buy no time
        end = data.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0 or end > gate.max_header:
            return self._unfinished_head(data, gate.max_header)
        self._scanned = 0
        if self._buffered:
            self._buffer(0)
        self._backlog = data[end + 4 :]
        self._fields.clear()
        self._in_step = True
        try:
            self._parser.feed_data(data[: end + 4])
        except httptools.HttpParserUpgrade:
            self._renew_parser()  # an offer to upgrade is ignored (RFC 9110 section 7.8)
            self._in_step = False
        except httptools.HttpParserError:
            return self._refuse_bytes(Refuse("invalid_request", "The request is not valid HTTP/1.1."))
        if data.count(b"\r\n", 0, end) > gate.max_headers:  # of their lines: one name may come many times
            return self._refuse_bytes(Refuse("headers_too_large", f"A request may have {gate.max_headers} headers at the most."))
        head = self.read_head(data[:end], self._fields)
        if isinstance(head, Refuse):
            return self._refuse_bytes(head)
        framing = request_framing(head.fields, head.minor)
        if isinstance(framing, Refuse):
            return self._refuse_bytes(framing)
        return self._begin(head, framing, data[: end + 4])

    def _unfinished_head(self, data: bytes, bound: int) -> bool:
        """A head that is not whole: wait for the rest, unless what is here can never become a good one."""
        if data == b"\r":
            return False  # half of an empty line, which buys no more time than a whole one
        looked_at = self._scanned
        if not looked_at:
            self.deadline = time.monotonic() + self._worker.snapshot.gate.header_timeout
        self._scanned = len(data)
        line_end = data.find(b"\n")
        if len(data) > bound + 3:  # three bytes of the empty line may be here
            code = "headers_too_large" if 0 <= line_end <= bound else "uri_too_long"
            return self._refuse_bytes(Refuse(code, f"A request's head may have {bound} bytes at the most."))
        if not data[:1].isalpha():
            return self._refuse_bytes(Refuse("invalid_request", "This is not HTTP (TLS is not spoken on this address)."))
        if line_end >= 0 and b" HTTP/" not in data[:line_end]:
            return self._refuse_bytes(Refuse("invalid_request", "The request line is malformed."))
        if _BAD_LINE_END.search(data, max(0, looked_at - 2)):
            return self._refuse_bytes(Refuse("invalid_request", "A line of the head does not end as it must."))
        if not self._buffer(len(data)):
            self._worker.tally.guarded += 1
            return self._refuse_bytes(MEMORY_FULL, recorded=False)
        return False

    def _begin_again(self, repeat: Repeat, body: bytes) -> None:
        """A request begins whose head came before, and its body is here: the common request on a kept connection."""
        worker = self._worker
        exchange = self.exchange = begin_again(self, worker, repeat)
        self._enter(BUSY, NEVER)
        visitor = self.visitor
        try:
            if visitor is not None and (refused := visitor.asks()) is not None:
                self._turn_away(exchange, refused)
            elif len(body) > worker.snapshot.gate.max_body:
                self._too_large(exchange)
            elif exchange.until > exchange.started + worker.wall_offset:
                exchange.body_complete(body)
            else:
                exchange.repeat = self._repeat = None
                exchange.ask_who(exchange.started)
                self._body_here(exchange, b"", body)
        except Exception:  # noqa: BLE001  # a fault of our own costs this request, with a 500 and a receipt, and no other
            self._failed()

    def _remember(self, raw: bytes, exchange: Exchange) -> None:
        """Keep a head (with its empty line) that question 1 let pass: clients repeat theirs. Who does not is soon left alone."""
        route, principal, snapshot = exchange.route, exchange.principal, exchange.snapshot
        if self._repeat is not None and self._repeat.snapshot is snapshot:
            self._unlike += 1
        if b"idempotency-key" in exchange.head.fields:
            return  # it is looked at each time
        if self._unlike > MAX_UNLIKE or not exchange.keep_alive or len(raw) + MAX_DIGITS > self._worker.snapshot.gate.max_header:
            return
        seen = seen_head(raw)
        if seen is not None and route is not None and principal is not None and snapshot is not None:
            exchange.repeat = self._repeat = Repeat(seen, exchange.head, route, principal, exchange.until, snapshot)

    def _begin(self, head: RequestHead, framing: int, raw: bytes) -> bool:
        """A request begins: make its exchange and, if it may go on, its body. True: the next request may be looked at.

        `raw` is the head as it came, with its empty line.
        """
        exchange = self.exchange = begin(self, self._worker, head)
        expect = head.fields.get(b"expect")
        backlog = self._backlog
        if 0 <= framing <= len(backlog) and expect is None:
            # the common request: it is here whole
            self._enter(BUSY, NEVER)
            body = b""
            if framing:
                body, self._backlog = (backlog, b"") if framing == len(backlog) else (backlog[:framing], backlog[framing:])
                self._feed_parser(body)
            if framing > self._worker.snapshot.gate.max_body:
                self._too_large(exchange)
            else:
                self._open(exchange)
                self._body_here(exchange, raw, body)
            return self.state is HEAD
        return self._begin_partial(exchange, framing, expect, raw)

    def _open(self, exchange: Exchange) -> None:
        """Go on with a request whose address may still make one. Else it is refused without a receipt."""
        visitor = self.visitor
        if visitor is not None and (refused := visitor.asks()) is not None:
            self._turn_away(exchange, refused)
        else:
            self._ask(exchange)

    def _ask(self, exchange: Exchange) -> None:
        """Ask question 1 of a request that came the right way."""
        exchange.open()

    def _turn_away(self, exchange: Exchange, refuse: Refuse) -> None:
        """Refuse what the guard does not let in; it reached no verdict, and an attack must not fill the ledger."""
        exchange.recorded = False
        exchange.refuse(refuse)

    def _body_here(self, exchange: Exchange, raw: bytes, body: bytes) -> None:
        """Question 1 was asked, and the whole body is here."""
        if exchange.asking is not None:
            self._held = Held(raw, body)
        elif not exchange.done:
            if raw and body:
                self._remember(raw, exchange)
            exchange.body_complete(body)

    def identified(self, unverified: Unverified, row: tuple[Principal, float] | Refuse) -> None:
        """The verdict on a token for which a request may still be waiting: it goes on where its head had been read."""
        exchange, held = self.exchange, self._held
        if exchange is None or held is None or exchange.asking is None or exchange.asking.digest != unverified.digest:
            return  # it has ended meanwhile
        self._held = None
        try:
            if held.body is not None:
                exchange.whole_at = time.monotonic()
                exchange.told_who(row)
                self._body_here(exchange, held.raw, held.body)
                return
            self._set_reading(True)
            self._body_from, self._body_got = time.monotonic(), len(self._backlog)
            self._enter(BODY, self._body_due())
            exchange.keep_alive = held.skippable
            exchange.told_who(row)
            self._go_on_partial(exchange, held.framing, held.expect, held.keep_alive)
            self._run()
        except Exception:  # noqa: BLE001  # a fault of our own costs this request, with a 500 and a receipt, and no other
            self._failed()

    def _begin_partial(self, exchange: Exchange, framing: int, expect: bytes | None, raw: bytes) -> bool:
        """A request whose body is still on its way, or which asks whether to send it."""
        self._left = framing
        self._body = []
        # While the body is not here, a refusal keeps the connection only if the rest is small and sure to come.
        keep_alive = exchange.keep_alive
        exchange.keep_alive = keep_alive and 0 <= framing <= SKIPPED and expect is None
        self._chunks = ChunkedReader() if framing == CHUNKED else None
        if framing == CHUNKED:
            self._renew_parser()  # llhttp waits for a body that it will not get
        self._body_from, self._body_got = time.monotonic(), len(self._backlog)
        self._enter(BODY, self._body_due())
        if expect is not None and expect.lower() != b"100-continue":
            exchange.refuse(Refuse("expectation_failed", "The only expectation that is understood is 100-continue."))
        elif framing > self._worker.snapshot.gate.max_body:
            self._too_large(exchange)
        else:
            self._open(exchange)
        if exchange.asking is not None:
            self._held = Held(raw, None, framing, expect, keep_alive, exchange.keep_alive)
            exchange.keep_alive = False  # whatever ends it now leaves a body behind that nobody reads
            self._enter(BUSY, NEVER)
            return False
        return self._go_on_partial(exchange, framing, expect, keep_alive)

    def _go_on_partial(self, exchange: Exchange, framing: int, expect: bytes | None, keep_alive: bool) -> bool:
        """Question 1 is answered: the body may come, unless it was refused."""
        if exchange.done:
            return self.state is SKIP
        exchange.keep_alive = keep_alive
        if expect is not None and not self._backlog and framing and exchange.head.minor == 1:
            self.write(CONTINUE)
        return True

    def _read_body(self) -> bool:
        """Take body bytes off the backlog. True: the request is complete, and the next may be looked at."""
        exchange, data = self.exchange, self._backlog
        assert exchange is not None
        if self._chunks is None:
            if len(data) >= self._left:
                body, self._backlog = (data, b"") if len(data) == self._left else (data[: self._left], data[self._left :])
                self._feed_parser(body)
                if self._body:
                    self._body.append(body)
                    body = b"".join(self._body)
                    self._body = []
                return self._body_complete(exchange, body)
            if data:
                self._feed_parser(data)
                self._body.append(data)
                self._left -= len(data)
                self._backlog = b""
                if not self._buffer(self._buffered + len(data)):
                    exchange.keep_alive = False
                    exchange.refuse(MEMORY_FULL)
            return False
        pieces, self._backlog = self._chunks.feed(data)
        self._body += pieces
        if self._chunks.fault is not None:
            exchange.keep_alive = False
            exchange.refuse(Refuse("invalid_request", self._chunks.fault))
            return False
        if self._chunks.announced > self._worker.snapshot.gate.max_body:
            exchange.keep_alive = False
            self._too_large(exchange)
            return False
        if not self._chunks.done:
            if not self._buffer(self._buffered + len(data)):
                exchange.keep_alive = False
                exchange.refuse(MEMORY_FULL)
            return False
        body, self._body = b"".join(self._body), []
        return self._body_complete(exchange, body)

    def _body_complete(self, exchange: Exchange, body: bytes) -> bool:
        self._enter(BUSY, NEVER)
        exchange.whole_at = time.monotonic()
        if exchange.still_known():
            exchange.body_complete(body)
        elif exchange.asking is not None:
            self._held = Held(b"", body)
        return self.state is HEAD

    def _skip_body(self) -> bool:
        """Read past the rest of a refused body (always a sized one). True: it is through."""
        data = self._backlog[: self._left]
        if data:
            self._feed_parser(data)
            self._left -= len(data)
            self._backlog = self._backlog[len(data) :]
        if self._left:
            return False
        self._body = []
        self._next()
        return True

    def _body_due(self) -> float:
        """Until when more of the body has to come: it may neither pause for long, nor trickle, nor take for ever."""
        gate = self._worker.snapshot.gate
        begun = self._body_from
        trickles = begun + TRICKLE_SECONDS + self._body_got / gate.body_rate
        return min(time.monotonic() + gate.body_timeout, trickles, begun + gate.body_total)

    def _buffer(self, size: int) -> bool:
        """So many bytes of a request that is not whole are kept here. False: the worker keeps more than it may."""
        worker = self._worker
        worker.buffered += size - self._buffered
        self._buffered = size
        return worker.buffered <= worker.snapshot.gate.max_buffered

    def _feed_parser(self, body: bytes) -> None:
        """Keep llhttp in step: it counts a sized body down by itself. Once it is not, the rest would be a head to it."""
        if self._in_step:
            try:
                self._parser.feed_data(body)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self._renew_parser()
                self._in_step = False

    def _renew_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def _too_large(self, exchange: Exchange) -> None:
        bound = self._worker.snapshot.gate.max_body
        exchange.refuse(Refuse("request_too_large", f"The request body is larger than the {bound} bytes that this gate accepts."))

    def _refuse_bytes(self, refuse: Refuse, *, recorded: bool = True) -> bool:
        """What came is no request that can be read in one way: say so and close; where the next would begin is not known."""
        if self.proxied is not None:
            self.is_for(self.proxied.address)  # nor is it known whose it is
        visitor = self.visitor
        if visitor is not None and visitor.asks() is not None:
            self._close()
            return False
        exchange = self.exchange = begin(self, self._worker, NO_HEAD)
        exchange.recorded = recorded
        exchange.keep_alive = False
        self._backlog = b""
        exchange.refuse(refuse)
        return False

    def _next(self) -> None:
        """Ready for the next request, or through if the worker is stopping."""
        worker = self._worker
        if worker.draining and not self._backlog:
            self._close()
        else:
            self._enter(HEAD, worker.now + worker.snapshot.gate.keep_alive)

    # -- ends

    def _time_out(self) -> None:
        if self.state is BODY:
            exchange = self.exchange
            assert exchange is not None
            exchange.keep_alive = False
            exchange.refuse(Refuse("request_timeout", "The request's body did not arrive in time."))
        elif self.state is HEAD and self._backlog:
            self._refuse_bytes(Refuse("request_timeout", "The request's head did not arrive in time."))
        elif self.state in (LINGER, CLOSED):
            self._abort()
        else:
            self._close()

    def _linger(self) -> None:
        """Close so that the answer survives: no more is sent, what still comes is read for a while and thrown away."""
        assert self.transport is not None
        self._backlog = b""
        self._body = []
        self._enter(LINGER, time.monotonic() + LINGER_SECONDS)
        self._worker.outbox.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        """Close once everything written has gone out, or when the client takes too long over that."""
        self._enter(CLOSED, time.monotonic() + self._worker.snapshot.gate.send_timeout)
        if self.transport is not None:
            self._worker.outbox.flush()
            self.transport.close()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _set_reading(self, on: bool) -> None:
        if on == self._reading or self.transport is None or self.transport.is_closing():
            return
        self._reading = on
        if on:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()


def _empty_lines(data: bytes) -> int:
    """How many bytes of empty lines `data` begins with."""
    at = 0
    while data.startswith(b"\r\n", at):
        at += 2
    return at
