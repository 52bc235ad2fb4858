"""Copies of requests for another model's instances: nobody waits for their answers, which are counted and thrown away.

A copy goes out a turn of the loop after its request was taken, and only where an instance has room for it at once; it is never
in a line, never tried again, and ends by itself, whatever becomes of the request. Its receipt says `shadow`: it counts for no
limit, plan or statement. `Shadows` bounds those of one worker. It knows no client.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from slmgate.dataplane.account import written
from slmgate.dataplane.second import END_SECONDS, Second, is_refusal
from slmgate.dialects.contract import STREAMS, Scanner
from slmgate.dialects.figures import is_document, says_error
from slmgate.dialects.parameters import noted
from slmgate.http1.answers import JSON
from slmgate.http1.framing import CHUNKED
from slmgate.http1.heads import AnswerHead
from slmgate.policy.split import ShadowSpec
from slmgate.terms import Ended, Receipt, Usage

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.pool import ModelPool
    from slmgate.dataplane.upstream import UpstreamConnection
    from slmgate.dataplane.worker import Worker

KEPT_ANSWER = 256 * 1024
"""Bytes of an unstreamed answer kept for reading its usage; of a longer one usage is estimated."""
_encode = msgspec.json.Encoder().encode


class Shadows:
    """The copies that one worker has under way."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._live: set[Shadow] = set()
        self._counts: Counter[str] = Counter()  # by the model whose requests are copied

    def __repr__(self) -> str:
        return f"<Shadows {len(self._live)}>"

    def offer(self, exchange: Exchange, pool: ModelPool, spec: ShadowSpec) -> None:
        """A request for this pool's model is on its way: copy it if its turn has come, once it is out."""
        if pool.copies.take():
            self._worker.soon(lambda: self._begin(exchange, pool.spec.name, spec))

    def _begin(self, exchange: Exchange, name: str, spec: ShadowSpec) -> None:
        worker = self._worker
        if exchange.refused is not None or worker.draining:
            return
        shadow: Shadow | None = None
        try:
            pool = worker.pools.models.get(spec.model)
            if pool is None or len(exchange.outgoing) > spec.max_body or self._counts[name] >= spec.in_flight:
                worker.tally.shadows_dropped += 1
                return
            shadow = Shadow(exchange, self, pool, spec, name)
            self._live.add(shadow)
            self._counts[name] += 1
            if not pool.begin_now(shadow.as_exchange()):
                shadow.done = True
                self.over(shadow)
                worker.tally.shadows_dropped += 1
        except Exception:  # noqa: BLE001  # it costs this copy, and never the request that it is of
            worker.report_fault()
            if shadow is not None:
                shadow.end("gate_failed", "internal_error")

    def over(self, shadow: Shadow) -> None:
        """This copy has ended."""
        self._live.discard(shadow)
        self._counts[shadow.of] -= 1

    def tick(self, now: float) -> None:
        """Called each tick of the worker: the time limits of those under way."""
        for shadow in [one for one in self._live if now >= one.deadline]:
            shadow.sweep(now)

    def stop(self) -> None:
        """The worker ends, and does not wait for them."""
        for shadow in list(self._live):
            shadow.end("gate_stopped", "overloaded")


class Shadow(Second):
    """One copy."""

    __slots__ = (
        "_address",
        "_bytes",
        "_ending",
        "_ends",
        "_first_byte_at",
        "_framing",
        "_id",
        "_kept",
        "_parameters",
        "_roles",
        "_rule",
        "_scanner",
        "_shadows",
        "_size",
        "_started",
        "_status",
        "_usage",
        "deadline",
        "of",
    )

    def __init__(self, first: Exchange, shadows: Shadows, pool: ModelPool, spec: ShadowSpec, of: str) -> None:
        """`of` is the model that was asked for."""
        id = first.worker.next_id()
        super().__init__(first, pool, spec.model, id)
        assert first.asked is not None and first.admit is not None
        self._shadows = shadows
        self.of = of
        # for its receipt
        self._id = id
        self._address = first.client.address
        self._roles = first.roles()
        self._rule = first.admit.rule
        self._size = len(first.body)
        self._parameters = f"shadow={first.id.decode()} {noted(self.route.dialect.name, first.asked)}".rstrip()
        self._started = time.monotonic()
        # watched by the tick
        self._ends = self._started + spec.timeout
        self.deadline = self._ends
        # the answer
        self._status = 0
        self._framing = 0
        self._first_byte_at = 0.0
        self._bytes = 0
        self._kept: list[bytes] | None = None
        self._scanner: Scanner | None = None
        self._usage: Usage | None = None
        self._ending = False  # the dialect's own end of the stream has passed

    def _within(self, seconds: float) -> None:
        """It has so long for the next step, as long as its own time is not over."""
        self.deadline = min(self._ends, time.monotonic() + seconds)

    def complain(self, what: str) -> None:
        """Its receipt tells; the few lines that there are a second are for what clients suffer from."""

    def was_asked(self) -> None:
        self._within(self.pool.spec.first_byte_timeout)

    def sweep(self, now: float) -> None:
        """The deadline is past."""
        if self._ending:
            self.end("complete")
            return
        if self.instance is not None and self.connection is not None and now < self._ends:
            self.instance.failed("silent", "no answer came in time", self.asked_at)
        self.end("upstream_timeout", "upstream_timeout")

    def failed(self, reason: str) -> None:
        if self._ending:
            self.end("complete")
        else:
            self.end("gate_failed" if reason == "internal_error" else "upstream_error", reason)

    # -- the answer

    def answered(self, head: AnswerHead, body: bytes, connection: UpstreamConnection) -> None:
        self.answer_began(head)
        self._framing = len(body)
        self.answer_ended(body, connection)

    def answer_began(self, head: AnswerHead) -> None:
        self._first_byte_at = time.monotonic()
        self._status = status = head.status
        self._framing = head.framing
        self._within(self.pool.spec.idle_timeout)
        instance = self.instance
        assert instance is not None
        if is_refusal(status):
            if status != 500:
                instance.failed("refused", f"it answered {status}", self.asked_at)
        elif instance.watched:
            instance.answered(self.asked_at)
        if not head.content_type or head.content_type.startswith(JSON):
            self._kept = []
        elif self.ask.stream and status == 200 and head.content_type.startswith(STREAMS):
            self._scanner = self.route.dialect.scanner(self.route.endpoint, self.ask)

    def answer_data(self, data: bytes) -> None:
        if self._ending:
            return  # what an instance says after its own end is nobody's
        self._within(self.pool.spec.idle_timeout)
        self._take(data)
        if self._scanner is not None and self._scanner.finished:
            self._ending = True
            self._within(END_SECONDS)

    def _take(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._scanner is not None:
            if data:
                self._scanner.feed(data)
        elif self._kept is not None:
            if self._bytes <= KEPT_ANSWER:
                self._kept.append(data)
            else:
                self._kept = None

    def answer_ended(self, data: bytes, connection: UpstreamConnection | None) -> None:
        if not self._ending:
            self._take(data)
        scanner = self._scanner
        whole = True
        if scanner is not None:
            scanner.close()
            whole = scanner.finished
        elif self._kept is not None:
            body = b"".join(self._kept)
            self._usage = self.route.dialect.usage(self.route.endpoint, body)
            if self._usage is None and self._status == 200 and says_error(body):
                self._status = 500  # as it ought to have been
            elif self._usage is None and (said := self.route.dialect.completion(self.route.endpoint, body)) is not None:
                self._usage = Usage(self.ask.prompt_estimate, said, True)
            # Of an answer that ends with its connection only its JSON shows whether it is whole.
            whole = self._framing >= CHUNKED or self._status >= 400 or is_document(body)
        instance = self.instance
        if instance is not None and instance.watched and whole and not is_refusal(self._status):
            instance.completed(self.asked_at)
        self.give_back(connection)
        if whole and not is_refusal(self._status):
            self.end("complete")
        else:
            self.end("upstream_error", "upstream_error")

    # -- its end

    def end(self, ended: Ended, reason: str = "") -> None:
        """The one exit: what it holds is given back, and its receipt journaled."""
        if self.done:
            return
        self.done = True
        worker = self.worker
        try:
            self.give_back(None)
            worker.tally.shadows += 1
            if not worker.journal.receipt(_encode(self._receipt(ended, reason))):
                worker.tally.unjournaled += 1
        except Exception:  # noqa: BLE001  # no memory, no disk: this record is lost, and nothing hangs on it
            worker.report_fault()
            worker.tally.unjournaled += 1
        self._shadows.over(self)

    def _usage_now(self) -> Usage:
        said = self._usage if self._scanner is None else self._scanner.usage
        if said is not None:
            return said
        if self._status >= 300 or not self.asked_at:
            return Usage()
        completion = self._scanner.tokens_seen if self._scanner is not None else written(self.route, self._bytes)
        return Usage(self.ask.prompt_estimate, completion, True)

    def _receipt(self, ended: Ended, reason: str) -> Receipt:
        usage, started, worker, principal = self._usage_now(), self._started, self.worker, self.principal
        status = self._status or {"upstream_timeout": 504, "gate_failed": 500, "gate_stopped": 503}.get(ended, 502)
        return Receipt(
            id=self._id.decode(),
            request_id=self._id.decode(),
            time=datetime.fromtimestamp(started + worker.wall_offset, UTC),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            bytes_in=self._size,
            bytes_out=self._bytes,
            queue_us=int((self.asked_at - started) * 1e6) if self.asked_at else 0,
            first_byte_us=int((self._first_byte_at - started) * 1e6) if self._first_byte_at else None,
            total_us=int((time.monotonic() - started) * 1e6),
            attempts=self.attempts,
            address=self._address,
            worker=worker.slot,
            parameters=self._parameters,
            connect_us=self.connect_us,
            method=self.route.method,
            path=self.route.path,
            status=status,
            verdict="shadow",
            reason=reason,
            ended=ended,
            principal=principal.name,
            key=principal.id,
            team=principal.team,
            roles=self._roles,
            rule=self._rule,
            dialect=self.route.dialect.name,
            endpoint=self.route.endpoint,
            model=self.pool.spec.name,
            instance=self.tried[-1].spec.id if self.tried else "",
            stream=self.ask.stream,
            estimated=usage.estimated,
        )
