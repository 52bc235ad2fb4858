"""One request's whole life, from its head to its last byte: the only file that asks policy and dialects.

Two sockets, three questions, one exit. It knows no wire format of either side (heads come read, bodies come framed) and no
socket but through `client` and `upstream`. Whatever happens, `_finish` runs exactly once: the receipt is journaled before the
client's last byte is written, and the instance is given back.
Length: one life in one place; what needs none of its state stands in `account.py` and `elsewhere.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import structs

from slmgate.dataplane.account import intent_of, receipt_of, usage_of, what_of
from slmgate.dataplane.deadlines import FIELD as TIMEOUT
from slmgate.dataplane.deadlines import NOT_A_TIME, bounded, seconds_of
from slmgate.dataplane.elsewhere import answer_elsewhere, answer_elsewhere_with
from slmgate.dataplane.fallback import fall_back, name_of
from slmgate.dataplane.hedge import Hedge
from slmgate.dataplane.hiding import mask_for
from slmgate.dataplane.journal import NEEDED
from slmgate.dataplane.limiter import Refusal
from slmgate.dataplane.second import END_SECONDS, STALE_SECONDS, is_refusal
from slmgate.dataplane.split import goes_apart
from slmgate.dataplane.tokens import NO_VERDICT
from slmgate.dialects import TABLE, error_dialect
from slmgate.dialects.contract import STREAMS, Dialect, Route, Scanner
from slmgate.dialects.figures import is_document, says_error
from slmgate.dialects.masking import Rough
from slmgate.dialects.parameters import bound, longest_answers, settle, values
from slmgate.dialects.prompts import prompt_of
from slmgate.dialects.resaid import resaid
from slmgate.dialects.salt import salted
from slmgate.errors import FAULTS, Fault
from slmgate.http1.answers import CLOSE, JSON, KEEP_ALIVE, answer, without_body
from slmgate.http1.framing import CHUNKED
from slmgate.http1.heads import (
    AnswerHead,
    RequestHead,
    answer_head,
    client_fields,
    request_line,
    sane_request_id,
    upstream_request,
    whole_answer,
)
from slmgate.policy.access import GENERATING, NO_ROLE, Access, Admit, no_such_model
from slmgate.policy.balance import Affinity, first_byte_of
from slmgate.policy.decide import decide
from slmgate.policy.identify import MISSING, WRONG, Unverified, identify, not_from_here
from slmgate.policy.networks import networks_of
from slmgate.policy.roles import Scalar
from slmgate.policy.snapshot import Snapshot
from slmgate.policy.specs import ModelSpec
from slmgate.terms import Ask, Bearer, Ended, Principal, Refuse, Usage

if TYPE_CHECKING:
    from slmgate.dataplane.account import What
    from slmgate.dataplane.capture import Gathered
    from slmgate.dataplane.client import ClientConnection
    from slmgate.dataplane.fallback import Detour
    from slmgate.dataplane.hedge import Alarm
    from slmgate.dataplane.limiter import Hold
    from slmgate.dataplane.pool import Instance, ModelPool
    from slmgate.dataplane.repeat import Repeat
    from slmgate.dataplane.upstream import UpstreamConnection
    from slmgate.dataplane.worker import Worker
    from slmgate.policy.charges import Charges, Tariff

KEPT_ANSWER = 4 * 1024 * 1024
"""Bytes of an unstreamed answer kept for reading its usage; of a longer one usage is estimated."""
HEARD_WITHIN = 0.25
"""Seconds after `Exchange.heard` in which the bytes may have come: a tick of the worker, which a test holds it to."""
NEVER = float("inf")
NO_RECORD = Refuse("accounting_unavailable", "The gate cannot record work at the moment. Try again soon.", retry_after=5)
NO_ASK = Ask("")
"""Stands for what a request without a body asks."""
NO_HEAD = RequestHead("", "", {}, 1, False)
"""Stands for the head of a request that could not be read."""
_LINES = {route.path: request_line(route.method, route.path) for route in TABLE.values() if route.kind != "list"}


def begin(client: ClientConnection, worker: Worker, head: RequestHead) -> Exchange:
    """The exchange of a request whose head has come."""
    id = worker.next_id()
    wished = head.fields.get(b"x-request-id")
    request_id = id if wished is None else sane_request_id(wished) or id
    if b"idempotency-key" in head.fields:
        return worker.keyed.exchange(client, worker, head, (id, request_id), time.monotonic())
    return Exchange(client, worker, head, id, request_id, time.monotonic())


def begin_again(client: ClientConnection, worker: Worker, repeat: Repeat) -> Exchange:
    """The exchange of a request whose head came before: what question 1 said then holds as long as the key does."""
    id = worker.next_id()
    wished = repeat.head.fields.get(b"x-request-id")
    request_id = id if wished is None else sane_request_id(wished) or id
    exchange = Exchange(client, worker, repeat.head, id, request_id, time.monotonic())
    exchange.repeat = repeat
    exchange.route = repeat.route
    exchange.principal = repeat.principal
    exchange.until = repeat.until
    exchange.snapshot = repeat.snapshot
    return exchange


class Exchange:
    """States, told by fields: reading (`ask` None), waiting (`instance` None), asked, answering (`upstream_status`), `done`."""

    __slots__ = (
        "admit",
        "affinity",
        "alarm",
        "ask",
        "asked",
        "asked_at",
        "asking",
        "attempts",
        "began",
        "body",
        "bytes_out",
        "chunked",
        "client",
        "connect_us",
        "connection",
        "deadline",
        "detour",
        "done",
        "ended",
        "ending",
        "first_byte_at",
        "framing",
        "gathered",
        "handed_at",
        "head",
        "heard",
        "held",
        "hold",
        "id",
        "instance",
        "keep_alive",
        "kept",
        "kept_size",
        "limit_fields",
        "model",
        "next_owed",
        "outgoing",
        "passing",
        "pending_head",
        "pool",
        "principal",
        "queued_at",
        "reason",
        "recorded",
        "refused",
        "repeat",
        "request_id",
        "rough",
        "route",
        "scanner",
        "sent_at",
        "slot",
        "snapshot",
        "started",
        "status",
        "tariff",
        "trace",
        "tried",
        "until",
        "unwanted",
        "upstream_status",
        "usage",
        "what",
        "whole_at",
        "worker",
    )

    gathered: Gathered
    """Only where a role wants it kept; see `capture.py`."""

    def __init__(
        self,
        client: ClientConnection,
        worker: Worker,
        head: RequestHead,
        id: bytes,
        request_id: bytes,
        started: float,
    ) -> None:
        # who and when; `started` is monotonic
        self.client = client
        self.worker = worker
        self.head = head
        self.keep_alive = head.keep_alive
        self.id = id
        self.request_id = request_id
        self.started = started
        self.whole_at = started  # when all of it was here, and its caller known
        self.trace = b""  # the trace that it is part of, for its receipt
        self.repeat: Repeat | None = None  # what was worked out for this head before, where it came before
        self.what: What | None = None  # what its records have in common with others, once an intent is journaled
        self.began = b""  # the wall clock's time of `started`, for the records
        # question 1 and 2
        self.route: Route | None = None
        self.principal: Principal | None = None
        self.asking: Unverified | None = None  # the token whose verdict is waited for, before the body is read
        self.until = 0.0  # the second at which the key ends
        self.snapshot: Snapshot | None = None  # what the key was last known by
        self.ask: Ask | None = None
        self.asked: Ask | None = None  # as the client put it, before the verdict set anything
        self.admit: Admit | None = None
        self.refused: Refuse | None = None
        self.model: ModelSpec | None = None
        self.slot = 0  # of its intent in the journal, given back with the receipt; 0: none is journaled
        self.recorded = True  # health checks and OPTIONS reach no verdict and leave no receipt
        self.hold: Hold | None = None  # what it has taken of its limits
        self.tariff: Tariff | None = None
        self.limit_fields = b""
        # the way to an instance
        self.pool: ModelPool | None = None
        self.affinity: Affinity | None = None  # what ties it to an instance, once that was asked for
        self.instance: Instance | None = None
        self.connection: UpstreamConnection | None = None
        self.tried: tuple[Instance, ...] = ()  # of the model's instances
        self.detour: Detour | None = None  # to other models than the one that was asked for
        self.attempts = 0
        self.body = b""
        self.outgoing = b""  # the same, with what the verdict sets
        self.queued_at = 0.0  # 0: it had a connection at once
        self.handed_at = 0.0
        self.sent_at = 0.0  # when the first instance had been handed it
        self.asked_at = 0.0
        self.connect_us = 0  # what opening `connection` took; 0: it was there
        # the answer
        self.upstream_status = 0
        self.unwanted = False  # the instance's answer is not for the client: it is read past, and said in the gate's words
        self.framing = 0
        self.chunked = False
        self.pending_head = b""  # built, not yet written: it goes out with the first bytes of the body
        self.scanner: Scanner | None = None
        self.passing = False  # the client is being sent its stream in chunks: usual ones go past here
        self.kept: list[bytes] | None = None  # an unstreamed JSON answer so far, which goes on when it is whole
        self.kept_size = 0
        self.rough: Rough | None = None  # masks one that was too long to be kept
        self.usage: Usage | None = None
        self.ending = False
        self.held = b""  # the end of a stream, which waits for the end of the answer that carries it
        self.first_byte_at = 0.0
        self.status = 0  # what the client was told; 0 while it was told nothing
        self.bytes_out = 0
        self.alarm: Alarm | None = None  # for the end of the time that all of it may take, where that is bounded; or a hedge
        # watched by the sweep
        self.deadline = NEVER
        self.heard = 0.0  # when the instance's last bytes came, to a tick; 0: none that moves the deadline
        self.done = False
        # how it ended, once `done`
        self.ended: Ended = "complete"
        self.reason = ""
        self.next_owed: Exchange | None = None  # see `Worker.owe`

    def __repr__(self) -> str:
        if self.done:
            state = "over"
        elif self.asking is not None:
            state = "asking who calls"
        elif self.upstream_status:
            state = "answering"
        elif self.connection is not None:
            state = "asked"
        elif self.pool is not None:
            state = "waiting"
        else:
            state = "reading"
        return f"<Exchange {self.id.decode()} {self.head.method} {self.head.path} {state}>"

    # -- from the client's side

    def open(self) -> None:
        """The head is here: find the dialect, ask question 1. A stranger is answered now, before the body is read."""
        head = self.head
        route = self.route = TABLE.get((head.method, head.path))
        if route is None:
            method = "GET" if head.method == "HEAD" else head.method
            route = self.route = TABLE.get((method, head.path))
            if route is None:
                answer_elsewhere(self, method)
                return
        self.ask_who(self.started)

    def ask_who(self, now: float) -> None:
        """Question 1; `now` is monotonic. Afterwards the exchange may go on, or it was refused, or it is `asking`."""
        worker = self.worker
        row = identify(worker.snapshot, self.head.fields, now + worker.wall_offset, self.client.certificate)
        if isinstance(row, Unverified):
            refused = worker.tokens.ask(row, self.client)
            if refused is None:
                self.asking = row
                return
            row = refused
        self.told_who(row)

    def told_who(self, row: tuple[Principal, float] | Refuse) -> None:
        """The answer to question 1. A stranger is refused."""
        self.asking = None
        if isinstance(row, Refuse):
            self.refuse(row)
            return
        refused = self._known_as(row)
        if refused is not None:
            self.refuse(refused)
        elif not self.roles():
            self.refuse(NO_ROLE)
        elif b"content-encoding" in self.head.fields:
            self.refuse(Refuse("unsupported_media_type", "A compressed body is not accepted: send it without Content-Encoding."))
        elif TIMEOUT in self.head.fields and seconds_of(self.head.fields[TIMEOUT]) is None:
            self.refuse(NOT_A_TIME)

    def _known_as(self, row: tuple[Principal, float]) -> Refuse | None:
        """The caller is known, by the snapshot in force; unless it calls from where it may not."""
        self.principal, self.until = principal, _ = row
        self.snapshot = self.worker.snapshot
        if not self.client.known and principal.kind != "anonymous":
            self.client.recognised()
        if principal.networks and not networks_of(principal.networks).holds(self.client.number):
            return not_from_here(principal)
        return None

    def still_known(self) -> bool:
        """Ask question 1 again, when time has passed since: a key that was revoked meanwhile opens nothing any more.

        A verdict on a token is for the whole request that it was given for, unless what it rests on is gone.
        """
        if isinstance(self.principal, Bearer) and not self.worker.tokens.void(self.principal):
            self.snapshot = self.worker.snapshot
            return True
        self.ask_who(time.monotonic())
        return not self.done and self.asking is None

    def _refused_in_line(self) -> Refuse | None:
        """Question 1 for a request that stood in line while the snapshot changed: there is no asking about tokens any more."""
        worker = self.worker
        if isinstance(self.principal, Bearer):
            self.snapshot = worker.snapshot
            return NO_VERDICT if worker.tokens.void(self.principal) else None
        row = identify(worker.snapshot, self.head.fields, time.monotonic() + worker.wall_offset, self.client.certificate)
        if isinstance(row, tuple):
            return self._known_as(row)
        return row if isinstance(row, Refuse) else WRONG

    def _still_admitted(self) -> Refuse | None:
        """Ask question 2 again, of the snapshot in force, about what the client asked: what was set then may be set otherwise."""
        route, asked = self.route, self.asked
        assert self.principal is not None and asked is not None and route is not None and self.admit is not None
        taken = self._longest()
        self.ask = asked
        verdict = decide(self.worker.snapshot.access(self.principal), asked, route.access, self)
        if isinstance(verdict, Refuse):
            return verdict
        if verdict.model.name != self.admit.model.name:  # it named none, and another is the only one now
            return no_such_model(asked.model)
        self.admit = verdict
        self.ask, self.outgoing = settle(route, asked, self.body, verdict.settings)
        now = self._longest()
        if taken is not None and now is not None and taken[0] is not None:
            # no more than was taken of its limits, whatever is set now
            most = max(1, taken[0] * taken[1] // now[1]) if taken[0] else 0
            if now[0] is None or now[0] > most:
                self.ask, self.outgoing = bound(route, self.ask, self.outgoing, most)
        return None

    def _longest(self) -> tuple[int | None, int] | None:
        """How long each of how many answers may be; None: nothing that counts them was taken."""
        route, ask, tariff = self.route, self.ask, self.tariff
        if self.hold is None or tariff is None or not tariff.bounded or route is None or ask is None:
            return None
        return longest_answers(route.dialect.name, ask) if route.access in GENERATING else None

    def body_complete(self, body: bytes) -> None:
        """The body is here, whole and within its bound: read it, ask question 2, and go."""
        route, principal, worker = self.route, self.principal, self.worker
        if route is None or principal is None:
            answer_elsewhere_with(self, body)
            return
        self.body = body
        access = worker.snapshot.access(principal)
        if route.kind == "list":
            self._list(route, access)
            return
        if self.repeat is not None:
            content_type = self.repeat.content_type
        else:
            content_type = self.head.fields.get(b"content-type", b"").decode("latin-1")
        ask = route.dialect.read(route.endpoint, body, content_type)
        if isinstance(ask, Refuse):
            self.refuse(ask)
            return
        self.ask = self.asked = ask
        verdict = decide(access, ask, route.access, self)
        if isinstance(verdict, Refuse):
            self.refuse(verdict)
            return
        self.admit = verdict
        self.outgoing = body
        if verdict.settings:
            self.ask, self.outgoing = settle(route, ask, body, verdict.settings)
        self.model = model = verdict.model
        if verdict.capture:
            worker.begin_capture(self, verdict.capture)
        if worker.journal.room < NEEDED and not worker.serves_unaccounted:
            self.refuse(NO_RECORD)
            return
        if (model.total_timeout or TIMEOUT in self.head.fields) and not bounded(self):
            return
        pool = worker.pools.models[model.name]
        if pool.apart and goes_apart(self, pool):
            return
        charges = worker.snapshot.charges
        if charges.any and (refusal := self.take(charges)) is not None:
            self.refuse(refusal.refuse, refusal.fields)
            return
        self.pool = pool
        pool.requests += 1
        self.deadline = self.started + model.queue_timeout
        if not pool.begin(self):
            self.no_room(f"All of the {model.queue_waiting} places in line are taken.")
        elif self.connection is None:
            self.queued_at = time.monotonic()

    def take(self, charges: Charges) -> Refusal | None:
        """Take what the request may come to of all its limits. If there is no room, why."""
        route, ask, principal, admit, model, worker = self.route, self.ask, self.principal, self.admit, self.model, self.worker
        assert route is not None and ask is not None and principal is not None and admit is not None and model is not None
        account = worker.limiter.account(charges, principal, admit.model.name, admit.role, self.client.address)
        length: int | None = 0
        several = 1
        if account.tariff.bounded and route.access in GENERATING:
            length, several = longest_answers(route.dialect.name, ask)
        if model.tokenizer is not None and account.tariff.prompts:
            assert self.asked is not None
            counted = self.prompt_tokens()
            self.ask = ask = structs.replace(ask, prompt_estimate=counted)
            self.asked = structs.replace(self.asked, prompt_estimate=counted)
        taken = worker.limiter.take(account, ask.prompt_estimate, length, several, self.second())
        if isinstance(taken, Refusal):
            return taken
        self.hold = taken
        self.tariff = account.tariff
        self.limit_fields = taken.fields
        if taken.completion is not None:
            self.ask, self.outgoing = bound(route, ask, self.outgoing, taken.completion)
        return None

    def prompt_tokens(self) -> int:
        """The prompt's tokens by the model's own tokenizer, where it has one here that can count them; else the estimate."""
        ask, route, model = self.ask, self.route, self.model
        assert ask is not None
        if model is None or model.tokenizer is None or route is None:
            return ask.prompt_estimate
        counted = self.worker.counters.count(model.name, prompt_of(route.access, route.dialect.name, ask.fields))
        return ask.prompt_estimate if counted is None else counted

    def _list(self, route: Route, access: Access) -> None:
        names = access.listing(NO_ASK, self)
        if isinstance(names, Refuse):
            self.refuse(names)
        else:
            self.answer_self(200, route.dialect.list_models(route.endpoint, names))

    def note_progress(self) -> None:
        """Called now and then while an instance is at work: what that has come to is charged whatever becomes of this worker."""
        hold = self.hold
        if hold is not None and self.asked_at and not self.done:
            self.worker.limiter.note(hold, self.generated(), int((time.monotonic() - self.handed_at) * 1e6))

    def generated(self) -> int:
        """The tokens of a stream so far, as the gate counts them."""
        self._add_up()
        return self.scanner.tokens_seen if self.scanner is not None else 0

    # -- what policy may ask (`access.Facts`)

    @property
    def address(self) -> int:
        return self.client.number

    @property
    def body_size(self) -> int:
        return len(self.body)

    def second(self) -> float:
        return time.monotonic() + self.worker.wall_offset

    def roles(self) -> str:
        """The principal's roles, for the records."""
        principal, snapshot = self.principal, self.snapshot
        return snapshot.access(principal).names if principal is not None and snapshot is not None else ""

    def parameter(self, name: str) -> list[Scalar]:
        assert self.route is not None and self.ask is not None
        return values(self.route.dialect.name, self.ask.fields, name)

    # -- more of the client's side

    def client_left(self) -> None:
        """The client closed: stop the instance's work at once."""
        if not self.done:
            self._finish("client_left", 499 if not self.status else self.status, reason="client_left")

    def gate_stops(self) -> None:
        """The drain limit is over."""
        if self.pool is not None:
            self.pool.stop()
        if not self.done:
            self._break("gate_stopped", FAULTS["overloaded"], "The gate is being stopped.")

    def gate_failed(self) -> None:
        """A fault of the gate's own."""
        if not self.done:
            self._break("gate_failed", FAULTS["internal_error"], "The gate failed. Its operator finds more under the request id.")

    def pause(self) -> None:
        """The client reads slower than the instance writes."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.connection is not None:
            if self.model is not None and not self.ending:  # the instance was kept from writing: it has its time from now on
                self.deadline = max(self.deadline, time.monotonic() + self.model.idle_timeout)
            self.connection.resume()

    def sweep(self, now: float) -> None:
        """Called when `deadline` is past: the time limits of the way to an instance and of its answer.

        Pieces of an answer only leave their time behind: what that means for the deadline is worked out here, seldom.
        """
        self._add_up()
        heard, self.heard = self.heard, 0.0
        silent_at = heard + HEARD_WITHIN + self.model.idle_timeout if heard and self.model is not None else 0.0
        if silent_at > now:
            self.deadline = silent_at
            if self.passing and self.hold is None:
                self.worker.calm_until(self.client, silent_at)
        elif not self.client.paused_at:
            if self.ending:
                self._complete(self.held)
            elif self.upstream_status or self.connection is not None or self.instance is not None:
                if self.instance is not None and self.connection is not None:
                    self.instance.failed("silent", "no answer came in time", self.asked_at)
                    self._learn(now)
                self._silent()
            else:
                self.no_room("No instance of the model came free in time.")

    def cut_short(self, refuse: Refuse, ended: Ended) -> None:
        """It may not go on, wherever it is: the time that all of it may take is over, or it is cancelled; `refuse` says so."""
        if self.done:
            return
        if self.ending:
            self._complete(self.held)
        elif self.status:
            self.refused = refuse
            self._break(ended, FAULTS[refuse.code], refuse.message)
        else:
            self.pending_head = b""
            self.chunked = False
            self.refuse(refuse, ended=ended)

    # -- from the pool's side

    def wants(self, instance: Instance) -> bool:
        """Whether this exchange is still waiting for a connection to `instance`."""
        return not self.done and self.instance is instance and self.connection is None

    def connected(self, connection: UpstreamConnection) -> None:
        """Send the request. The first time, the intent is journaled before.

        Whoever frees a connection calls this: a fault in here is this exchange's own, and must not become theirs.
        """
        try:
            worker, instance, route = self.worker, self.instance, self.route
            assert instance is not None and route is not None and self.model is not None
            if worker.snapshot is not self.snapshot:
                refused = self._refused_in_line() or self._still_admitted()
                if refused is not None:  # it stood in line, and its key was revoked meanwhile, or a role changed
                    self._give_back(connection)
                    self.refuse(refused)
                    return
                self.repeat = None  # what was worked out for its head was so under the snapshot before
            if not self.slot and worker.journal.room < NEEDED and not worker.serves_unaccounted:
                self._give_back(connection)  # there was room when it came, but others took it while this one stood in line
                self.refuse(NO_RECORD)
                return
            ask = self.ask
            assert ask is not None
            self.connection = connection
            self.asked_at = now = time.monotonic()
            if not self.slot:
                self.handed_at = now
                journal = worker.journal
                if journal.room >= NEEDED:  # else the operator wants it served all the same
                    self.began = worker.stamp(self.started)
                    self.what = what_of(self)
                    self.slot = journal.intent(intent_of(self))
            self.deadline = now + self.model.first_byte_timeout
            name = instance.spec.upstream_model or (None if self.detour is None else name_of(self))
            body = route.dialect.patch(route.endpoint, ask, self.outgoing, name)
            if instance.salted and self.principal is not None:
                body = salted(route, ask, body, worker.salts.of(self.principal))
            repeat, tracer = self.repeat, worker.tracer
            fields = b"" if repeat is None else repeat.client_fields
            if not fields:
                content_type = JSON if route.kind == "json" else self.head.fields[b"content-type"]
                fields = client_fields(self.head, content_type, tracer is not None)
                if repeat is not None:
                    repeat.client_fields = fields
            if tracer is not None:
                fields += tracer.lines(self)
            connection.ask(self, upstream_request(_LINES[route.path], instance.fields, fields, self.request_id, body))
            if not self.sent_at:
                self.sent_at = time.monotonic()
            if self.client.paused_at:  # it has yet to take the answer before
                connection.pause()
        except Exception:  # noqa: BLE001  # whatever it was, it costs this request, with a 500 and a receipt, and no other
            self.worker.report_fault()
            self.gate_failed()

    def connect_failed(self, instance: Instance, why: str) -> None:
        if self.wants(instance):
            self.instance = None
            self.worker.complain(f"{instance.spec.id}: cannot connect: {why}", self.request_id.decode())
            if not self._again("connect"):
                self._fail_upstream("upstream_error", "The model cannot be reached.")

    def no_room(self, why: str) -> None:
        assert self.pool is not None
        refuse = self.pool.no_room(self, why)
        if not fall_back(self):
            self.refuse(refuse)

    def model_gone(self) -> None:
        """The model in whose line it stands is configured no more."""
        if not fall_back(self):
            self.refuse(Refuse("model_not_found", "The model is no longer served here.", "model"))

    def goes_on_at(self, instance: Instance, connection: UpstreamConnection, asked_at: float) -> None:
        """Another instance, asked beside its own at `asked_at`, is the one whose answer counts from now on."""
        if self.instance is not None:
            self._learn(time.monotonic())
            if self.connection is not None:
                self.connection.retire()
            self._give_back(None)
        assert self.model is not None
        self.instance, self.connection, self.asked_at = instance, connection, asked_at
        self.tried = (*[one for one in self.tried if one is not instance], instance)
        self.upstream_status = 0
        self.unwanted = False
        self.heard = 0.0
        self.deadline = asked_at + self.model.first_byte_timeout

    # -- from the instance's side

    def answered(self, head: AnswerHead, body: bytes, connection: UpstreamConnection) -> None:
        """A whole answer in one piece, whose head came before with another length; `connection` may serve again.

        The short way of the most common answer: JSON that is forwarded as it is. It ends as every other does, in `_finish`.
        """
        worker, route = self.worker, self.route
        if not self.keep_alive or worker.draining or self.head.minor == 0 or not head.content_type.startswith(JSON):
            self.answer_began(head, len(body))
            self.answer_ended(body, connection)
            return
        assert route is not None
        self.first_byte_at = now = time.monotonic()
        self.usage, name = route.dialect.told(route.endpoint, body)
        if self.usage is None:
            if says_error(body):
                self._fail_in_words(connection, body)
                return
            self.usage = self._half_said(body)
        if name is None or self.asked is None or name != self.asked.model:
            body = mask_for(self).document(body)
        self.upstream_status = 200
        instance = self.instance
        if instance is not None and instance.watched:
            instance.answered(self.asked_at)
            instance.completed(self.asked_at)
        if instance is not None and instance.learns:
            self._learn(now)
        self._give_back(connection)
        self.bytes_out = len(body)
        handed = self.handed_at
        if self.queued_at:
            waited = self._waited(now)
        else:
            waited = 0, int((now - handed) * 1e6), int((handed - self.started) * 1e6)
        whole = whole_answer(head.passed, worker.date, self.request_id, waited, self.limit_fields, body)
        self._finish("complete", 200, whole)

    def answer_began(self, head: AnswerHead, length: int | None = None) -> None:
        """The answer's head; `length` is its body's, where it is not what the head says.

        Nothing is written yet: it goes with the first bytes of the body, in one call.
        """
        status, content_type = head.status, head.content_type
        framing = head.framing if length is None else length
        self.first_byte_at = now = time.monotonic()
        self.upstream_status = status
        self.framing = framing
        assert self.model is not None
        self.deadline = now + self.model.idle_timeout
        route, ask, worker = self.route, self.ask, self.worker
        assert route is not None and ask is not None
        if (status != 200 and self._is_unwanted(status)) or content_type.startswith(b"text/html"):
            self.unwanted = True
            return  # answer_ended or answer_data says it in the gate's words
        if self.instance is not None and self.instance.watched:
            self.instance.answered(self.asked_at)
        if status >= 400 or not content_type or content_type.startswith(JSON):
            self.kept = []
        elif ask.stream and status == 200 and content_type.startswith(STREAMS):
            self.scanner = route.dialect.scanner(route.endpoint, ask, mask_for(self))
            self._learn(now)
        if status == 204 or status == 304:
            framing_line = b""  # neither has a body, and 204 no length (RFC 9110 section 8.6)
        elif framing >= 0 and self.scanner is None and (self.kept is None or framing <= KEPT_ANSWER):
            framing_line = b"content-length: %d\r\n" % framing
        elif self.head.minor == 1:
            self.chunked = True
            framing_line = b"transfer-encoding: chunked\r\n"
        else:
            self.keep_alive = False
            framing_line = b""
        if not self.keep_alive or (worker.draining and not self.client.has_another):
            self.keep_alive = False
            framing_line += CLOSE
        elif self.head.minor == 0:
            framing_line += KEEP_ALIVE
        framing_line += self.limit_fields
        waited = self._waited(now)
        self.pending_head = answer_head(status, head.passed, worker.date, self.request_id, waited, framing_line)

    def let_pass(self, connection: UpstreamConnection) -> None:
        """No chunk is under way: if no event is either, the connection sends the stream's usual chunks on by itself."""
        scanner, transport, worker = self.scanner, self.client.transport, self.worker
        if self.passing and not self.done and scanner is not None and scanner.at_rest and transport is not None:
            worker.outbox.flush()  # what was written before goes first
            connection.let_pass(scanner.usual, transport, worker, scanner.swap)

    def _add_up(self) -> None:
        """Take over what the connection has let pass since the last time."""
        if self.connection is not None and self.scanner is not None:
            heard, size, tokens = self.connection.passed()
            self.heard = max(self.heard, heard)
            self.bytes_out += size
            self.scanner.tokens_seen += tokens

    def _hold(self, data: bytes) -> None:
        """The dialect's own end of a stream has passed.

        The client's last bytes wait for the answer's formal end, a moment, so that the receipt comes first. What an instance
        says after its own end is nobody's.
        """
        self._add_up()
        self.heard = 0.0
        self.passing = False
        self.worker.calm.discard(self.client)
        if not self.ending:
            self.ending = True
            self.held = data
            self.deadline = time.monotonic() + END_SECONDS
        elif data.startswith(b"\n") and self.held.endswith(b"\r"):
            self.held += b"\n"  # the end's own line end, which came in two

    def answer_data(self, data: bytes) -> None:
        """More of the body, not its end."""
        if self.unwanted:
            self._fail_status()
            return
        self.heard = self.worker.now
        scanner = self.scanner
        if scanner is not None:
            data = scanner.feed(data)
            if scanner.failed is not None:
                self._fail_in_stream(data)
                return
            if scanner.finished:
                self._hold(data)
                return
        elif self.kept is not None:
            data = self._keep(data)
        elif self.rough is not None:
            data = self.rough.feed(data)
        if self.chunked and not self.pending_head:  # the common piece of a stream
            if data:
                self.bytes_out += len(data)
                self.client.write(b"%x\r\n%b\r\n" % (len(data), data))
        elif data or (self.pending_head and self.kept is None):
            self.client.write(self._framed(data))

    def answer_ended(self, data: bytes, connection: UpstreamConnection | None) -> None:
        """The end of the answer, with its last bytes. `connection` is given if it may serve again."""
        if self.unwanted:
            self._fail_status(connection)
            return
        scanner = self.scanner
        if scanner is None and self.kept is not None:
            data = self._keep(data)
            if self.kept is not None:
                body = self.kept[0] if len(self.kept) == 1 else b"".join(self.kept)
                if self.upstream_status >= 400:
                    self._say_again(body, connection)
                    return
                if self._read_usage(body):
                    self._fail_in_words(connection, body)
                    return
                data = self._masked(body)
        elif self.rough is not None:
            data = self.rough.feed(data)
        if self.rough is not None:
            data += self.rough.close()
        if scanner is None and self.upstream_status == 200:
            self._learn(time.monotonic())
        self._give_back(connection)
        if scanner is not None:
            if self.ending:
                self._hold(data)
                data = self.held
            else:
                if data:
                    data = scanner.feed(data)
                rest = scanner.close()
                if scanner.failed is not None:
                    self._fail_in_stream(data)
                    return
                if not scanner.finished:
                    self._fail_upstream("upstream_error", "The model's answer broke off.", data)
                    return
                data += rest
        elif self.kept is not None and self.framing < CHUNKED and self.upstream_status < 400 and not is_document(data):
            # Of an answer that ends with its connection only its JSON shows whether it is whole.
            self._fail_upstream("upstream_error", "The model's answer broke off.", data)
            return
        self._complete(data)

    def _complete(self, data: bytes) -> None:
        instance = self.tried[-1]
        if instance.watched:
            instance.completed(self.asked_at)
        last = self._framed(data)
        if self.chunked:
            last += b"0\r\n\r\n"
        self._finish("complete", self.upstream_status, last)

    def connection_was_stale(self) -> None:
        """A kept connection was closed by the instance before a byte of its answer came.

        At once: it had been closing it already, in the race of RFC 9112 section 9.3.1, and is asked again on a new one. Later:
        it may have worked on the request, so that this counts like any other loss.
        """
        assert self.instance is not None
        if time.monotonic() - self.asked_at > STALE_SECONDS:
            self.upstream_failed("the connection was closed before the answer began", began=False)
            return
        self.connection = None
        self.attempts += 1
        self.instance.model.tried_again()
        self.instance.renew(self)

    def upstream_failed(self, why: str, began: bool) -> None:
        """The connection died or broke the protocol. `began`: the answer's head had been read."""
        instance = self.instance
        if instance is not None:
            self.worker.complain(f"{instance.spec.id}: {why}", self.request_id.decode())
            if not self.ending:
                instance.failed("broken", why, self.asked_at)
        self._give_back(None)
        if self.ending:
            self._complete(self.held)  # the dialect's own end had passed: the answer is whole
        elif began or not self._again("connect"):
            self._fail_upstream("upstream_error", "The model's answer broke off." if began else "The model did not answer.")

    # -- inner steps

    def _learn(self, now: float) -> None:
        """How long the instance let this request wait, for strategies that go by it."""
        instance = self.instance
        if instance is not None and instance.learns:
            usage = self.usage
            took = now - self.asked_at
            instance.learn(took if usage is None else first_byte_of(took, usage.completion_tokens), now)

    def _keep(self, data: bytes) -> bytes:
        """Keep an unstreamed answer until it is whole: its usage is to be read, and it is to be masked. Of one that is longer
        than is kept, return what goes on now: of a refusal nothing, since it is said again by how it begins.
        """
        assert self.kept is not None
        if self.upstream_status >= 400 and self.kept_size + len(data) > KEPT_ANSWER:
            return b""
        self.kept.append(data)
        self.kept_size += len(data)
        if self.kept_size <= KEPT_ANSWER:
            return b""
        whole, self.kept = b"".join(self.kept), None
        self.rough = Rough(mask_for(self))
        return self.rough.feed(whole)

    def _masked(self, body: bytes) -> bytes:
        """A whole answer as the client sees it. Its head waits, and is told another length if it has one."""
        masked = mask_for(self).document(body)
        if len(masked) != len(body) and not self.chunked:
            line = b"\r\ncontent-length: %d\r\n"
            self.pending_head = self.pending_head.replace(line % len(body), line % len(masked), 1)
        return masked

    def _framed(self, out: bytes) -> bytes:
        """`out` as it goes on the client's wire, behind the head if that is still to be written."""
        self.bytes_out += len(out)
        if self.chunked and out:
            out = b"%x\r\n%b\r\n" % (len(out), out)
        if self.pending_head:
            out = self.pending_head + out
            self.pending_head = b""
            self.status = self.upstream_status
            if self.scanner is not None:
                self.first_byte_at = time.monotonic()  # engines send a stream's head before there is a token
                if self.chunked:
                    self.passing = True
                    if self.hold is None:  # else it is looked at with each tick, for what it has come to
                        self.worker.calm_until(self.client, self.deadline)
        return out

    def _read_usage(self, body: bytes) -> bool:
        """Read the usage of a whole answer. True: it is an error, of which the client has seen nothing yet."""
        route = self.route
        assert route is not None
        self.usage = route.dialect.usage(route.endpoint, body)
        if self.usage is None:
            if self.upstream_status == 200 and says_error(body):
                return True
            self.usage = self._half_said(body)
        return False

    def _half_said(self, body: bytes) -> Usage | None:
        """The usage of a whole answer whose instance said the completion's figure and not the prompt's."""
        assert self.route is not None
        said = self.route.dialect.completion(self.route.endpoint, body)
        return None if said is None else Usage(self.prompt_tokens(), said, True)

    def _waited(self, now: float) -> tuple[int, int, int]:
        """Microseconds in line or until a connection was there, at the instance, and the gate's own before."""
        handed = self.handed_at
        queued = self.queued_at or handed
        return int((handed - queued) * 1e6), int((now - handed) * 1e6), int((queued - self.started) * 1e6)

    def _dialect(self) -> Dialect:
        """The dialect to say a fault in: the route's, or what the path looks like."""
        return self.route.dialect if self.route is not None else error_dialect(self.head.path)

    def _again(self, on: str) -> bool:
        """Try another instance, or another model, if policy allows. Nothing was sent to the client. False: no more."""
        model, pool = self.model, self.pool
        assert model is not None and pool is not None
        if isinstance(self.alarm, Hedge) and self.alarm.stands_in():
            return True
        if on not in model.retry_on or self.worker.stopping:
            return False
        self.instance = None
        self.connect_us = 0
        self.upstream_status = 0
        self.unwanted = False
        self.heard = 0.0
        if len(self.tried) < model.attempts and pool.may_retry(self):
            self.deadline = max(self.deadline, time.monotonic() + model.connect_timeout)
            if pool.begin(self):
                return True
        return fall_back(self)

    def _give_back(self, connection: UpstreamConnection | None) -> None:
        if self.scanner is not None:
            self._add_up()
        instance, self.instance = self.instance, None
        self.connection = None
        if instance is not None:
            instance.release(connection)

    def _is_unwanted(self, status: int) -> bool:
        """Whether a status is the operator's affair, or another instance's chance, and not the client's.

        A listed status is retried. What is left (400, 404, 413, 422 ...) tells the client of its request, and passes.
        """
        assert self.model is not None
        return is_refusal(status) or str(status) in self.model.retry_on

    def _fail_in_words(self, connection: UpstreamConnection | None, body: bytes) -> None:
        """The instance says in its answer that it failed, under a status that says the contrary: it ought to have been 500."""
        self.upstream_status = 500
        self._unsay()
        words = self._quoted(body)
        self._fail_status(connection, f"answered 200, and that it failed: {words}")

    def _fail_in_stream(self, data: bytes) -> None:
        """The instance says in the middle of its stream that it failed; `data` goes before that."""
        scanner = self.scanner
        assert scanner is not None and scanner.failed is not None
        words = self._quoted(scanner.failed)
        self.worker.complain(f"{self.tried[-1].spec.id}: failed in its answer: {words}", self.request_id.decode())
        if not self.status:
            self.upstream_status = 500
            self._unsay()
            self._fail_status(None, "answered 200")
            return
        self._fail_upstream("upstream_error", "The model failed in its answer.", data)

    def _say_again(self, body: bytes, connection: UpstreamConnection | None) -> None:
        """The engine does not accept the request: the client is told what it can do about it, and the operator all of it."""
        instance, ask = self.instance, self.ask
        assert ask is not None
        refuse = resaid(self.upstream_status, body, ask.fields)
        if instance is not None:
            words = self._quoted(body)
            self.worker.complain(f"{instance.spec.id}: answered {self.upstream_status}: {words}", self.request_id.decode())
            if instance.watched:
                instance.completed(self.asked_at)
        self._give_back(connection)
        self._unsay()
        self.refuse(refuse, ended="complete")

    def _quoted(self, words: bytes) -> str:
        """An instance's words for the operator, without what it was sent: neither the prompt nor the gate's own credential."""
        return self.worker.quoted(words, self.tried[-1].fields + self.body)

    def _unsay(self) -> None:
        """Nothing of the answer went out: the next one has a head and a framing of its own."""
        self.pending_head = b""
        self.chunked = False
        self.kept = self.rough = self.scanner = None
        self.kept_size = 0

    def _fail_status(self, connection: UpstreamConnection | None = None, why: str = "") -> None:
        """The answer is not for the client: another instance may do better, else it is said in the gate's words."""
        status = self.upstream_status
        if self.connection is not None and connection is None:
            self.connection.retire()  # the rest of what it says is of no use
        if self.instance is not None:
            self.worker.complain(f"{self.instance.spec.id}: {why or f'answered {status}'}", self.request_id.decode())
            if status != 500:  # that speaks of the request as often as of the instance
                self.instance.failed("refused", f"it answered {status}", self.asked_at)
        self._give_back(connection)
        if self._again(str(status)):
            return
        self.upstream_status = status if status >= 300 else 0
        if status in (429, 503):
            self.no_room("Its instances take no more work now.")
        else:
            self._fail_upstream("upstream_error", "The model failed to answer.")

    def _silent(self) -> None:
        """The instance let a time limit pass. As long as its answer has not begun, another one may be asked."""
        if not self.upstream_status:
            if self.connection is not None:
                self.connection.retire()
            self._give_back(None)
            if self._again("timeout"):
                return
        self._fail_upstream("upstream_timeout", "The model did not answer in time.")

    def _fail_upstream(self, code: str, message: str, out: bytes = b"") -> None:
        """The instance failed for good. Before the first byte this is an answer, after it a broken stream."""
        if self.status:
            self._break("upstream_timeout" if code == "upstream_timeout" else "upstream_error", FAULTS[code], message, out)
        else:
            self.pending_head = b""
            self.chunked = False
            self.refuse(Refuse(code, message))

    def _break(self, ended: Ended, fault: Fault, message: str, out: bytes = b"") -> None:
        """End an answer that has begun so that nobody takes it for whole: an error event, no last chunk, and the line cut."""
        if not self.status:
            self.refuse(Refuse(fault.code, message, retry_after=1), ended=ended)
            return
        self.keep_alive = False
        if self.scanner is not None:
            out += self._dialect().stream_error(fault, message, self.scanner.mid_event)
        self._finish(ended, self.status, self._framed(out) if out else b"", reason=fault.code, cut=True)

    def refuse(self, refuse: Refuse, fields: bytes = b"", ended: Ended | None = None) -> None:
        """Answer with a fault in the client's own dialect. Ends the exchange."""
        fault = FAULTS[refuse.code]
        self.refused = refuse
        body = self._dialect().error(fault, refuse, self.request_id.decode())
        if refuse.retry_after is not None:
            fields += b"retry-after: %d\r\n" % refuse.retry_after
        if fault.status == 401:
            fields += b"www-authenticate: Bearer\r\n"
            visitor = self.client.visitor
            if visitor is not None and refuse is not MISSING:
                self.worker.guard.failed(visitor)
        if ended is None:
            ended = "refused"
            if fault.source == "upstream":
                ended = "upstream_timeout" if refuse.code == "upstream_timeout" else "upstream_error"
        self.answer_self(fault.status, body, fields, ended=ended, reason=refuse.code)

    def answer_self(
        self,
        status: int,
        body: bytes,
        fields: bytes = b"",
        *,
        content_type: bytes = b"application/json",
        ended: Ended = "complete",
        reason: str = "",
    ) -> None:
        """Answer in the gate's own words. Ends the exchange."""
        if self.worker.draining and not self.client.has_another:
            self.keep_alive = False
        if self.asked_at:
            fields += self.limit_fields
        if not self.keep_alive:
            fields += CLOSE
        elif self.head.minor == 0:
            fields += KEEP_ALIVE
        whole = answer(status, body, self.worker.date, fields=fields, request_id=self.request_id, content_type=content_type)
        if self.head.method == "HEAD":
            whole = without_body(whole)
        else:
            self.bytes_out = len(body)
        self._finish(ended, status, whole, reason=reason)

    def _finish(self, ended: Ended, status: int, last: bytes = b"", reason: str = "", cut: bool = False) -> None:
        """The one exit. Gives back what is held, journals the receipt, then writes the client's last bytes."""
        if self.done:
            return
        self.done = True
        if self.passing:
            self.worker.calm.discard(self.client)
        self.status = status
        self.ended = ended
        self.reason = reason
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        try:
            if self.instance is not None:
                if self.connection is not None:
                    self.connection.retire()
                self._give_back(None)
            elif self.pool is not None and self.pool.waiting:
                self.pool.leave(self)
            if self.recorded:
                self.account()
        except Exception:  # noqa: BLE001  # no memory, say: the record stays owed, and without it nobody gets a last byte
            self.worker.report_fault()
            if ended == "complete":
                self.ended, self.reason = "gate_failed", "internal_error"
            if self.recorded:
                self.worker.owe(self)
            last, cut = b"", True
        self.client.exchange_over(last, self.keep_alive, cut)

    def account(self) -> None:
        """Settle what was taken of limits, and journal the receipt. What raises may be tried again: nothing is done twice."""
        hold = self.hold
        if hold is not None:
            self.usage = self.usage or usage_of(self)
            worker, now = self.worker, time.monotonic()
            engine_us = int((now - self.handed_at) * 1e6) if self.handed_at else 0
            worker.limiter.settle(hold, self.usage, engine_us, now + worker.wall_offset, forwarded=self.asked_at > 0)
            self.hold = None
        elif self.principal is None and self.ended == "refused" and not self.worker.guard.records(time.monotonic()):
            return
        self.worker.finished(receipt_of(self, self.ended, self.reason), self.slot, self.ended == "refused")
