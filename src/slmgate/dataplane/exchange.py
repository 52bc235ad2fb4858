"""One request's whole life, from its head to its receipt: the only file that asks policy and dialects.

Two sockets, three questions, one exit. It knows no wire format of either side (heads come read, bodies come framed) and no
socket but through `client` and `upstream`. Whatever happens, `_finish` runs exactly once: the receipt is journaled before the
client's last byte is written, and the instance is given back.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from slmgate.dataplane.journal import NEEDED
from slmgate.dialects import PATHS, TABLE, error_dialect
from slmgate.dialects.contract import Dialect, Route, Scanner
from slmgate.errors import FAULTS, Fault
from slmgate.http1.answers import CLOSE, KEEP_ALIVE, answer, without_body
from slmgate.http1.framing import CHUNKED
from slmgate.http1.heads import RequestHead, answer_head, sane_request_id, upstream_request
from slmgate.policy.decide import decide
from slmgate.policy.identify import identify
from slmgate.policy.snapshot import ModelSpec
from slmgate.terms import Ask, Ended, Intent, Key, Receipt, Refuse, Usage

if TYPE_CHECKING:
    from slmgate.dataplane.client import ClientConnection
    from slmgate.dataplane.pool import Instance, ModelPool
    from slmgate.dataplane.upstream import UpstreamConnection
    from slmgate.dataplane.worker import Worker

KEPT_ANSWER = 4 * 1024 * 1024
"""Bytes of an unstreamed answer kept for reading its usage; of a longer one usage is estimated."""
HEALTH_PATHS = ("/healthz", "/readyz")
NEVER = float("inf")
_NO_HEAD = RequestHead("", "", {}, 1, False)


class Exchange:
    """States, told by fields: reading (`ask` None), waiting (`instance` None), asked, answering (`status`), over (`done`)."""

    __slots__ = (
        "_admitted",
        "_attempts",
        "_began",
        "_body",
        "_bytes_out",
        "_chunked",
        "_connection",
        "_first_byte_at",
        "_framing",
        "_handed_at",
        "_kept",
        "_key",
        "_model",
        "_pending_head",
        "_pool",
        "_recorded",
        "_route",
        "_scanner",
        "_started",
        "_status",
        "_time",
        "_upstream_status",
        "active",
        "ask",
        "client",
        "deadline",
        "done",
        "head",
        "id",
        "instance",
        "keep_alive",
        "request_id",
        "tried",
        "worker",
    )

    def __init__(self, client: ClientConnection, worker: Worker, head: RequestHead = _NO_HEAD) -> None:
        # who and when
        self.client = client
        self.head = head
        self.keep_alive = head.keep_alive
        self.worker = worker
        self._started = started = time.monotonic()
        self._time = worker.wall(started)
        self._began: datetime | None = None  # the same, made once for the intent and the receipt
        self.id = worker.next_id()
        wished = head.fields.get(b"x-request-id")
        self.request_id = self.id if wished is None else sane_request_id(wished) or self.id
        # question 1 and 2
        self._route: Route | None = None
        self._key: Key | None = None
        self.ask: Ask | None = None
        self._model: ModelSpec | None = None
        self._admitted = False  # an intent is journaled, its receipt is owed
        self._recorded = True  # health checks and OPTIONS reach no verdict and leave no receipt
        # the way to an instance
        self._pool: ModelPool | None = None
        self.instance: Instance | None = None
        self._connection: UpstreamConnection | None = None
        self.tried: tuple[Instance, ...] = ()
        self._attempts = 0
        self._body = b""
        self._handed_at = 0.0
        # the answer
        self._upstream_status = 0
        self._framing = 0
        self._chunked = False
        self._pending_head = b""  # built, not yet written: it goes out with the first bytes of the body
        self._scanner: Scanner | None = None
        self._kept: list[bytes] | None = None  # pieces of an unstreamed answer, for its usage
        self._first_byte_at = 0.0
        self._status = 0
        self._bytes_out = 0
        # watched by the sweep
        self.deadline = NEVER
        self.active = False  # bytes came since the last sweep
        self.done = False

    def __repr__(self) -> str:
        if self.done:
            state = "over"
        elif self._upstream_status:
            state = "answering"
        elif self._connection is not None:
            state = "asked"
        elif self._pool is not None:
            state = "waiting"
        else:
            state = "reading"
        return f"<Exchange {self.id} {self.head.method} {self.head.path} {state}>"

    # -- from the client's side

    def open(self) -> None:
        """The head is here: find the dialect, ask question 1. A stranger is answered now, before the body is read."""
        head = self.head
        method = "GET" if head.method == "HEAD" else head.method
        route = TABLE.get((method, head.path))
        if route is None:
            self._open_elsewhere(method)
            return
        self._route = route
        key = identify(self.worker.snapshot, head.fields, self._time)
        if isinstance(key, Refuse):
            self.refuse(key)
            return
        self._key = key
        if b"content-encoding" in head.fields:
            self.refuse(Refuse("unsupported_media_type", "A compressed body is not accepted: send it without Content-Encoding."))

    def _open_elsewhere(self, method: str) -> None:
        """A path or method that is in no row."""
        path = self.head.path
        allowed = ("GET",) if path in HEALTH_PATHS else PATHS.get(path, ())
        if path == "*" and method == "OPTIONS":
            allowed = ("GET", "POST")
        if not allowed:
            self.refuse(Refuse("not_found", f"There is nothing at {path[:200]}."))
        elif method == "OPTIONS":
            self._recorded = False
            self._answer_self(204, b"", b"allow: %b\r\n" % _allow(allowed))
        elif method not in allowed:
            self.refuse(
                Refuse("method_not_allowed", f"{path} takes {' and '.join(allowed)}, not {method}."),
                b"allow: %b\r\n" % _allow(allowed),
            )
        else:
            self._recorded = False
            if path == "/healthz" or self.worker.ready():
                self._answer_self(200, b"ok\n", content_type=b"text/plain")
            else:
                self._answer_self(503, b"not ready\n", b"retry-after: 1\r\n", content_type=b"text/plain")

    def body_complete(self, body: bytes) -> None:
        """The body is here, whole and within its bound: read it, ask question 2, and go."""
        route, key, worker = self._route, self._key, self.worker
        assert route is not None and key is not None
        self._body = body
        snapshot = worker.snapshot
        if route.kind == "list":
            self._answer_self(200, route.dialect.list_models(route.endpoint, snapshot.model_names))
            return
        content_type = self.head.fields.get(b"content-type", b"").decode("latin-1")
        ask = route.dialect.read(route.endpoint, body, content_type)
        if isinstance(ask, Refuse):
            self.refuse(ask)
            return
        self.ask = ask
        model = decide(snapshot, key, ask)
        if isinstance(model, Refuse):
            self.refuse(model)
            return
        self._model = model
        if worker.journal.room < NEEDED and not worker.serves_unaccounted:
            self.refuse(
                Refuse("accounting_unavailable", "The gate cannot record work at the moment. Try again soon.", retry_after=5)
            )
            return
        self._pool = pool = worker.pools.models[model.name]
        self.deadline = self._started + model.queue_timeout
        if not pool.begin(self):
            self.no_room(f"All of the {model.queue_waiting} places in line are taken.")

    def client_left(self) -> None:
        """The client closed: stop the instance's work at once."""
        if not self.done:
            self._finish("client_left", 499 if not self._status else self._status, reason="client_left")

    def gate_stops(self) -> None:
        """The drain limit is over."""
        if not self.done:
            self._break("gate_stopped", FAULTS["overloaded"], "The gate is being stopped.")

    def gate_failed(self) -> None:
        """A fault of the gate's own."""
        if not self.done:
            self._break("gate_failed", FAULTS["internal_error"], "The gate failed. Its operator finds more under the request id.")

    def pause(self) -> None:
        """The client reads slower than the instance writes."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def sweep(self, now: float) -> None:
        """Called every tick of the worker: time limits of the way to an instance and of its answer."""
        if self.active:
            self.active = False
            assert self._model is not None
            self.deadline = now + self._model.idle_timeout
        elif now >= self.deadline and not self.client.writing_paused():
            if self._upstream_status or self._connection is not None or self.instance is not None:
                self._fail_upstream("upstream_timeout", "The model did not answer in time.")
            else:
                self.no_room("No instance of the model came free in time.")

    # -- from the pool's side

    def assigned(self, instance: Instance) -> None:
        """It is this instance's turn; a connection follows."""
        self.instance = instance
        self.tried = (*self.tried, instance)
        self._attempts += 1

    def wants(self, instance: Instance) -> bool:
        """Whether this exchange is still waiting for a connection to `instance`."""
        return not self.done and self.instance is instance and self._connection is None

    def connected(self, connection: UpstreamConnection) -> None:
        """Send the request. The first time, the intent is journaled before."""
        instance, ask, route, model, worker = self.instance, self.ask, self._route, self._model, self.worker
        assert instance is not None and ask is not None and route is not None and model is not None
        now = time.monotonic()
        if not self._admitted:
            self._handed_at = now
            if worker.journal.room >= NEEDED:  # else the operator wants it served all the same
                self._admitted = True
                worker.journal.intent(self._intent(instance))
        self._connection = connection
        self.deadline = now + model.first_byte_timeout
        body = route.dialect.patch(route.endpoint, ask, self._body, instance.spec.upstream_model)
        connection.ask(self, upstream_request(route.method, route.path, self.head.fields, instance.fields, self.request_id, body))

    def connect_failed(self, instance: Instance, why: str) -> None:
        if self.wants(instance):
            self.instance = None
            self.worker.complain(f"{instance.spec.id}: cannot connect: {why}", self.request_id)
            if not self._again("connect"):
                self._fail_upstream("upstream_error", "The model cannot be reached.")

    def no_room(self, why: str) -> None:
        if self._pool is not None:
            self._pool.leave(self)
        self.refuse(Refuse("overloaded", f"The model is busy. {why} Try again soon.", retry_after=1))

    # -- from the instance's side

    def answer_began(self, status: int, fields: dict[bytes, bytes], framing: int) -> None:
        """The answer's head. Nothing is written yet: it goes with the first bytes of the body, in one call."""
        self._first_byte_at = now = time.monotonic()
        self._upstream_status = status
        self._framing = framing
        self.active = True
        if status >= 500:
            return  # answer_ended or answer_data says it in the gate's words
        route, ask, worker = self._route, self.ask, self.worker
        assert route is not None and ask is not None
        if worker.draining:
            self.keep_alive = False
        if ask.stream and status == 200:
            self._scanner = route.dialect.scanner(route.endpoint, ask)
        else:
            self._kept = []
        if framing >= 0 and self._scanner is None:
            framing_line = b"content-length: %d\r\n" % framing
        elif self.head.minor == 1:
            self._chunked = True
            framing_line = b"transfer-encoding: chunked\r\n"
        else:
            self.keep_alive = False
            framing_line = b""
        if not self.keep_alive:
            framing_line += CLOSE
        elif self.head.minor == 0:
            framing_line += KEEP_ALIVE
        handed = self._handed_at
        self._pending_head = answer_head(
            status,
            fields,
            worker.date,
            self.request_id,
            (int((handed - self._started) * 1e6), int((now - handed) * 1e6)),
            framing_line,
        )

    def answer_data(self, data: bytes) -> None:
        """More of the body, not its end."""
        if self._upstream_status >= 500:
            self._fail_status()
            return
        self.active = True
        if self._scanner is not None:
            data = self._scanner.feed(data)
        else:
            self._keep(data)
        if data or self._pending_head:
            self.client.write(self._framed(data))

    def answer_ended(self, data: bytes, connection: UpstreamConnection | None) -> None:
        """The end of the answer, with its last bytes. `connection` is given if it may serve again."""
        status = self._upstream_status
        if status >= 500:
            self._give_back(connection)
            self._fail_status()
            return
        scanner = self._scanner
        if scanner is not None:
            data = scanner.feed(data) + scanner.close()
            whole = scanner.finished
        else:
            self._keep(data)
            # An answer that ended with its connection is whole if its JSON is; otherwise its framing has shown it.
            whole = self._framing >= CHUNKED or self._usage_of_kept() is not None
        self._give_back(connection)
        if not whole:
            self._fail_upstream("upstream_error", "The model's answer broke off.", data)
            return
        last = self._framed(data)
        if self._chunked:
            last += b"0\r\n\r\n"
        self._finish("complete", status, last)

    def connection_was_stale(self) -> None:
        """A kept connection was closed by the instance before it saw the request: ask it again on a new one.

        Not a second attempt: the instance did nothing with the first (the race of RFC 9112 section 9.3.1).
        """
        self._connection = None
        assert self.instance is not None
        self.instance.renew(self)

    def upstream_failed(self, why: str, began: bool) -> None:
        """The connection died or broke the protocol. `began`: the answer's head had been read."""
        self._connection = None
        instance = self.instance
        if instance is not None:
            self.worker.complain(f"{instance.spec.id}: {why}", self.request_id)
        self._give_back(None)
        if began or not self._again("connect"):
            self._fail_upstream("upstream_error", "The model's answer broke off." if began else "The model did not answer.")

    # -- inner steps

    def _keep(self, data: bytes) -> None:
        """Keep an unstreamed answer's bytes for reading its usage, up to a bound."""
        kept = self._kept
        if kept is not None:
            if self._bytes_out + len(data) > KEPT_ANSWER:
                self._kept = None
            elif data:
                kept.append(data)

    def _framed(self, out: bytes) -> bytes:
        """`out` as it goes on the client's wire, behind the head if that is still to be written."""
        self._bytes_out += len(out)
        if self._chunked and out:
            out = b"%x\r\n%b\r\n" % (len(out), out)
        if self._pending_head:
            out = self._pending_head + out
            self._pending_head = b""
            self._status = self._upstream_status
        return out

    def _usage_of_kept(self) -> Usage | None:
        kept, route = self._kept, self._route
        if kept is None or route is None:
            return None
        return route.dialect.usage(route.endpoint, kept[0] if len(kept) == 1 else b"".join(kept))

    def _dialect(self) -> Dialect:
        """The dialect to say a fault in: the route's, or what the path looks like."""
        return self._route.dialect if self._route is not None else error_dialect(self.head.path)

    def _again(self, on: str) -> bool:
        """Try another instance, if policy allows and nothing was sent to the client. False: no more."""
        model, pool = self._model, self._pool
        assert model is not None and pool is not None
        if self._attempts >= model.attempts or on not in model.retry_on or self.worker.stopping:
            return False
        self.instance = None
        self._upstream_status = 0
        self.active = False
        self.deadline = max(self.deadline, time.monotonic() + model.connect_timeout)
        return pool.begin(self)

    def _give_back(self, connection: UpstreamConnection | None) -> None:
        instance, self.instance = self.instance, None
        self._connection = None
        if instance is not None:
            instance.release(connection)

    def _fail_status(self) -> None:
        """The instance answered 5xx: another one may do better, else it is said in the gate's words."""
        status = self._upstream_status
        connection, instance = self._connection, self.instance
        if connection is not None:
            connection.retire()
        if instance is not None:
            self.worker.complain(f"{instance.spec.id}: answered {status}", self.request_id)
        self._give_back(None)
        if self._again(str(status)):
            return
        self._upstream_status = 0
        if status == 503:
            self.no_room("Its instances take no more work now.")
        else:
            self._fail_upstream("upstream_error", "The model failed to answer.")

    def _fail_upstream(self, code: str, message: str, out: bytes = b"") -> None:
        """The instance failed for good. Before the first byte this is an answer, after it a broken stream."""
        if self._status:
            self._break("upstream_timeout" if code == "upstream_timeout" else "upstream_error", FAULTS[code], message, out)
        else:
            self._pending_head = b""
            self._chunked = False
            self.refuse(Refuse(code, message))

    def _break(self, ended: Ended, fault: Fault, message: str, out: bytes = b"") -> None:
        """End an answer that has begun so that nobody takes it for whole: an error event, no last chunk, and the line cut."""
        if not self._status:
            self.refuse(Refuse(fault.code, message, retry_after=1), ended=ended)
            return
        self.keep_alive = False
        if self._scanner is not None:
            out += self._dialect().stream_error(fault, message, self._scanner.mid_event)
        self._finish(ended, self._status, self._framed(out) if out else b"", reason=fault.code, cut=True)

    def refuse(self, refuse: Refuse, fields: bytes = b"", ended: Ended | None = None) -> None:
        """Answer with a fault in the client's own dialect. Ends the exchange."""
        fault = FAULTS[refuse.code]
        body = self._dialect().error(fault, refuse, self.request_id)
        if refuse.retry_after is not None:
            fields += b"retry-after: %d\r\n" % refuse.retry_after
        if fault.status == 401:
            fields += b"www-authenticate: Bearer\r\n"
        if ended is None:
            ended = "refused"
            if fault.source == "upstream":
                ended = "upstream_timeout" if refuse.code == "upstream_timeout" else "upstream_error"
        self._answer_self(fault.status, body, fields, ended=ended, reason=refuse.code)

    def _answer_self(
        self,
        status: int,
        body: bytes,
        fields: bytes = b"",
        *,
        content_type: bytes = b"application/json",
        ended: Ended = "complete",
        reason: str = "",
    ) -> None:
        if self.worker.draining:
            self.keep_alive = False
        if not self.keep_alive:
            fields += CLOSE
        elif self.head.minor == 0:
            fields += KEEP_ALIVE
        whole = answer(status, body, self.worker.date, fields=fields, request_id=self.request_id, content_type=content_type)
        if self.head.method == "HEAD":
            whole = without_body(whole)
        else:
            self._bytes_out = len(body)
        self._finish(ended, status, whole, reason=reason)

    def _finish(self, ended: Ended, status: int, last: bytes = b"", reason: str = "", cut: bool = False) -> None:
        """The one exit. Gives back what is held, journals the receipt, then writes the client's last bytes."""
        if self.done:
            return
        self.done = True
        self._status = status
        if self.instance is not None:
            if self._connection is not None:
                self._connection.retire()
            self._give_back(None)
        elif self._pool is not None and self._pool.waiting:
            self._pool.leave(self)
        if self._recorded:
            self.worker.finished(self._receipt(ended, status, reason), self._admitted)
        self.client.exchange_over(last, self.keep_alive, cut)

    def _usage(self, ended: Ended) -> Usage:
        """The engine's figures, or the gate's own count where the engine did not say."""
        if not self._admitted:
            return Usage()
        scanner = self._scanner
        if scanner is not None and scanner.usage is not None:
            return scanner.usage
        if self._upstream_status == 0 or self._upstream_status >= 400:
            return Usage()  # nothing was generated, as far as the instance told
        if scanner is None and ended == "complete":
            said = self._usage_of_kept()
            if said is not None:
                return said
        assert self.ask is not None
        return Usage(self.ask.prompt_estimate, scanner.tokens_seen if scanner is not None else -(-self._bytes_out // 4), True)

    def _intent(self, instance: Instance) -> Intent:
        key, ask, route = self._key, self.ask, self._route
        assert key is not None and ask is not None and route is not None
        self._began = began = datetime.fromtimestamp(self._time, UTC)
        return Intent(
            self.id,
            self.request_id,
            began,
            key.id,
            key.name,
            key.team,
            self._model.name if self._model is not None else "",
            instance.spec.id,
            route.dialect.name,
            route.endpoint,
            ask.stream,
            ask.prompt_estimate,
            self.client.address,
            self.worker.slot,
        )

    def _receipt(self, ended: Ended, status: int, reason: str) -> Receipt:
        usage = self._usage(ended)
        key, ask, route = self._key, self.ask, self._route
        started = self._started
        return Receipt(
            self.id,
            self.request_id,
            self._began or datetime.fromtimestamp(self._time, UTC),
            self.head.method,
            # a path in no row is the client's own text: bounded, and its oddities stay out of the log's way
            route.path if route is not None else self.head.path[:200],
            status,
            "refuse" if ended == "refused" or (self._model is None and ended != "complete") else "admit",
            reason,
            ended,
            key.name if key is not None else "",
            key.id if key is not None else None,
            key.team if key is not None else None,
            route.dialect.name if route is not None else self._dialect().name,
            route.endpoint if route is not None else "",
            self._model.name if self._model is not None else (ask.model if ask is not None else ""),
            self.tried[-1].spec.id if self.tried else "",
            ask.stream if ask is not None else False,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.estimated,
            len(self._body),
            self._bytes_out,
            int((self._handed_at - started) * 1e6) if self._handed_at else 0,
            int((self._first_byte_at - started) * 1e6) if self._first_byte_at else None,
            int((time.monotonic() - started) * 1e6),
            self._attempts,
            self.client.address,
            self.worker.slot,
        )


def _allow(methods: tuple[str, ...]) -> bytes:
    return ", ".join((*methods, *(("HEAD",) if "GET" in methods else ()), "OPTIONS")).encode()
