"""Requests with an `Idempotency-Key`: one that comes again is answered again, and neither worked on nor charged twice.

A `KeyedExchange` is an exchange that looks for an answer under its key before it goes to an instance, and keeps what it got.
`Keyed` is what those of one worker share: who waits for another's answer, and who goes on without a client. Streams are not
kept, and a key on one counts for nothing. It knows `exchange.py`, which does not know it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, cast

from slmgate.dataplane.deadlines import FIELD as TIMEOUT
from slmgate.dataplane.deadlines import bounded
from slmgate.dataplane.exchange import KEPT_ANSWER, Exchange
from slmgate.dataplane.fallback import field_of
from slmgate.dataplane.hiding import mask_for
from slmgate.dataplane.kept import OTHER, PARTS, Answer, Claim, Kept, name_of
from slmgate.dialects.multipart import boundary_of
from slmgate.policy.access import Admit
from slmgate.policy.decide import decide
from slmgate.terms import Ask, Ended, Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.client import ClientConnection
    from slmgate.dataplane.upstream import UpstreamConnection
    from slmgate.dataplane.worker import Worker
    from slmgate.dialects.contract import Route
    from slmgate.http1.heads import AnswerHead, RequestHead

FIELD = b"idempotency-key"
WAIT_SECONDS = 300.0
"""How long a request waits for the answer of another with its key."""
AGAIN = b"idempotent-replayed: true\r\n"
REPLAYED = "replayed"
"""The reason in a receipt whose answer had been given before."""
_KEY = re.compile(rb"[!-~](?:[ -~]{0,253}[!-~])?")
_NO_KEY = Refuse("invalid_request", "An Idempotency-Key has 1 to 255 printable ASCII characters.")
_CONFLICT = Refuse(
    "idempotency_conflict",
    "This Idempotency-Key was used for another request. Use a new key for a new request, and the same one to ask again.",
)
_STILL_BUSY = Refuse("overloaded", "A request with this Idempotency-Key is still being worked on. Try again soon.", retry_after=1)
_NOT_KEPT = Refuse(
    "accounting_unavailable",
    "The gate cannot keep answers at the moment, as the Idempotency-Key asks. Try again soon.",
    retry_after=5,
)


class Gone:
    """Stands for the client of a request that goes on without one."""

    __slots__ = ("address", "certificate", "number", "paused_at")
    known = True
    """What its credential was good for, its connection has been told."""
    visitor = None
    """Nor is anybody counted: what becomes of the request now is no try of anyone's."""

    def __init__(self, client: ClientConnection) -> None:
        self.address = client.address
        self.certificate = client.certificate
        self.number = client.number
        self.paused_at = 0.0

    @property
    def has_another(self) -> bool:
        """Nobody is there to send any."""
        return False

    def write(self, data: bytes) -> None:
        """Nobody is there to take it."""

    def exchange_over(self, last: bytes, keep_alive: bool, cut: bool) -> None:
        """Nor to be told."""


class Keyed:
    """What a worker's requests with keys share."""

    def __init__(self, directory: Path, soon: Callable[[Callable[[], None]], None], sweeps: bool) -> None:
        """`sweeps`: this worker is the one that lets old answers go."""
        self.kept = Kept(directory)
        self._directory = directory
        self._sweeps = sweeps
        self._soon = soon
        self._waiting: list[KeyedExchange] = []
        self.alone: list[KeyedExchange] = []  # those that go on without a client
        self._part = 0  # to be swept next

    def __repr__(self) -> str:
        return f"<Keyed {len(self._waiting)} waiting, {len(self.alone)} without a client>"

    def exchange(
        self, client: ClientConnection, worker: Worker, head: RequestHead, ids: tuple[bytes, bytes], started: float
    ) -> KeyedExchange:
        """The exchange of a request whose head has the field. `ids`: its own, and the one that it is called by."""
        return KeyedExchange(client, worker, head, *ids, started)

    def wait(self, exchange: KeyedExchange) -> None:
        self._waiting.append(exchange)

    def goes_on(self, exchange: KeyedExchange) -> None:
        """The exchange has no client any more: its time limits are ours to watch."""
        self.alone.append(exchange)

    def freed(self) -> None:
        """Somebody is through: those who wait may be waiting for that."""
        if self._waiting:
            self._soon(self.look_again)

    def look_again(self) -> None:
        """Let those who wait look whether the answer is there: one of each name, as it is the same for all."""
        waiting, self._waiting = self._waiting, []
        busy: set[str] = set()
        for exchange in waiting:
            if exchange.done:
                continue
            if exchange.name in busy:
                self._waiting.append(exchange)
                continue
            try:
                exchange.look()
            except Exception:  # noqa: BLE001  # a fault of our own costs this request; the worker's tick must go on
                exchange.worker.report_fault()
                exchange.gate_failed()
            if exchange.waits:
                busy.add(exchange.name)

    def tick(self, now: float) -> None:
        """Called each tick of the worker; `now` is monotonic."""
        self.look_again()  # the answer may be another worker's
        self.alone = [exchange for exchange in self.alone if not exchange.done]
        for exchange in self.alone:
            exchange.note_progress()
            if now >= exchange.deadline:
                try:
                    exchange.sweep(now)
                except Exception:  # noqa: BLE001  # as above
                    exchange.worker.report_fault()
                    exchange.gate_failed()

    def stop(self) -> None:
        """The worker ends."""
        for exchange in self.alone:
            exchange.gate_stops()

    def to_sweep(self) -> Sequence[int]:
        """Called each second: the parts of what is kept that are to be swept now, off the loop; mostly one."""
        if not self._sweeps or self.kept.sweeping or not self._directory.is_dir():
            return ()
        parts = [(self._part + step) % PARTS for step in range(1, self.kept.hurry + 1)]
        self._part = parts[-1]
        return parts


class KeyedExchange(Exchange):
    """An exchange whose request bears an `Idempotency-Key`."""

    __slots__ = ("_answer", "_claim", "_pieces", "_print", "_size", "name", "waits")

    def __init__(
        self, client: ClientConnection, worker: Worker, head: RequestHead, id: bytes, request_id: bytes, started: float
    ) -> None:
        super().__init__(client, worker, head, id, request_id, started)
        self.name = ""
        self._print = b""
        self._claim: Claim | None = None
        self.waits = False  # for the answer of another
        # the answer so far, as it will be kept
        self._answer: AnswerHead | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    # -- before an instance is asked

    def body_complete(self, body: bytes) -> None:
        route, principal = self.route, self.principal
        if route is None or principal is None:
            super().body_complete(body)
            return
        self.body = body
        key = self.head.fields[FIELD]
        if not _KEY.fullmatch(key):
            self.refuse(_NO_KEY)
            return
        content_type = self.head.fields.get(b"content-type", b"").decode("latin-1")
        ask = None if route.kind == "list" else route.dialect.read(route.endpoint, body, content_type)
        if not isinstance(ask, Ask) or ask.stream:
            super().body_complete(body)
            return
        self.asked = ask
        # All anonymous callers are one principal, and have nothing to do with each other.
        address = self.client.address if principal.kind == "anonymous" else ""
        self.name = name_of(principal.id, address, key.decode("ascii"))
        self._print = fingerprint(route, body, content_type)
        self.look()

    def look(self) -> None:
        """Look for the answer under the key, and go on by what is found."""
        worker = self.worker
        try:
            found = worker.keyed.kept.claim(self.name, self._print, time.time())
        except OSError:
            self.refuse(_NOT_KEPT)
            return
        if isinstance(found, Claim):
            self.waits = False
            self._claim = found
            super().body_complete(self.body)
        elif isinstance(found, Answer):
            self._tell_again(found)
        elif found is OTHER:
            self.refuse(_CONFLICT)
        else:
            if not self.waits:
                self.waits = True
                self.deadline = self.started + WAIT_SECONDS
                if TIMEOUT in self.head.fields and not bounded(self):
                    return
            worker.keyed.wait(self)

    def _tell_again(self, answer: Answer) -> None:
        """Give the answer that was given before, to one who may still have it."""
        route, principal, worker = self.route, self.principal, self.worker
        assert route is not None and principal is not None and self.asked is not None
        verdict: Admit | Refuse | None = self._refused_in_line() if worker.snapshot is not self.snapshot else None
        if verdict is None:
            self.ask = self.asked
            verdict = decide(worker.snapshot.access(principal), self.asked, route.access, self)
        if isinstance(verdict, Refuse):
            self.refuse(verdict)
            return
        self.admit = verdict
        self.model = verdict.model
        self.answer_self(
            answer.status,
            answer.body,
            AGAIN + answer.fields.encode("latin-1"),
            content_type=answer.content_type.encode("latin-1"),
            reason=REPLAYED,
        )

    def sweep(self, now: float) -> None:
        if self.waits:
            self.refuse(_STILL_BUSY)
        else:
            super().sweep(now)

    def client_left(self) -> None:
        """Who sends a key will ask again: what an instance works on already goes on, and waits for that."""
        if self._claim is None or not self.asked_at or self.done or self.worker.draining:
            super().client_left()
            return
        paused = self.client.paused_at
        self.client = cast("ClientConnection", Gone(self.client))
        if paused:
            self.resume()
        self.worker.keyed.goes_on(self)

    # -- the answer, on its way through

    def answered(self, head: AnswerHead, body: bytes, connection: UpstreamConnection) -> None:
        self._begins(head)
        self._holds(body)
        super().answered(head, body, connection)

    def answer_began(self, head: AnswerHead, length: int | None = None) -> None:
        self._begins(head)
        super().answer_began(head, length)

    def answer_data(self, data: bytes) -> None:
        self._holds(data)
        super().answer_data(data)

    def answer_ended(self, data: bytes, connection: UpstreamConnection | None) -> None:
        self._holds(data)
        super().answer_ended(data, connection)

    def _begins(self, head: AnswerHead) -> None:
        self._answer = head
        self._pieces = []
        self._size = 0

    def _holds(self, data: bytes) -> None:
        """More of the body. Of one that is too long to be kept nothing is."""
        self._size += len(data)
        if self._size <= KEPT_ANSWER:
            self._pieces.append(data)
        else:
            self._pieces = []

    def _finish(self, ended: Ended, status: int, last: bytes = b"", reason: str = "", cut: bool = False) -> None:
        claim, self._claim = self._claim, None
        self.waits = False
        if claim is not None:
            try:
                # before the receipt, and so before the client's last byte: whoever asks again finds it
                self._keep_answer(claim, whole=ended == "complete" and not cut)
            except Exception:  # noqa: BLE001  # a full disk, or no memory: this answer is good, and only the next one dearer
                self.worker.report_fault()
            self.worker.keyed.freed()
        super()._finish(ended, status, last, reason, cut)

    def _keep_answer(self, claim: Claim, whole: bool) -> None:
        head = self._answer
        if not whole or head is None or head.status >= 400 or self._size > KEPT_ANSWER:
            claim.release()
            return
        lines = head.passed.decode("latin-1").split("\r\n")
        fields = "".join(f"{line}\r\n" for line in lines if line and not line.startswith("content-type:"))
        fields += field_of(self).decode("latin-1")
        told = [line for line in lines if line.startswith("content-type: ")]  # as the client was told it
        content_type = told[0].removeprefix("content-type: ") if told else "application/octet-stream"
        body = b"".join(self._pieces)
        if content_type.startswith("application/json"):
            body = mask_for(self).document(body)
        claim.keep(Answer(head.status, content_type, fields, time.time(), len(body), body))


def fingerprint(route: Route, body: bytes, content_type: str) -> bytes:
    """What makes two requests the same: path and body. A form's boundary is chosen anew each time, and says nothing."""
    if route.kind == "multipart":
        boundary = boundary_of(content_type)
        if isinstance(boundary, bytes):
            body = body.replace(b"--" + boundary, b"--")
    return sha256(b"%b\0%b" % (route.path.encode(), body)).digest()
