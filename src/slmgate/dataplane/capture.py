"""Prompts and answers that a role wants kept: gathered beside the request, and handed to control over the link.

Only exchanges that such a role admitted are of these classes, so that no other request pays for it. Their bytes wait in
memory, bounded, until control says that it has them, masked; they are never in a file here. What there is no room for is
counted. It knows neither what is masked nor where it is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from slmgate.dataplane.exchange import Exchange
from slmgate.dataplane.keyed import KeyedExchange
from slmgate.link.messages import Captured, CaptureKept, Captures

if TYPE_CHECKING:
    from slmgate.dataplane.upstream import UpstreamConnection
    from slmgate.http1.heads import AnswerHead
    from slmgate.terms import Ended

MOST = 1024 * 1024
"""Bytes of one body that are handed over; of a stream that is what its events take, not their text alone."""
WAITING = 16 * 1024 * 1024
"""Bytes that may wait for control in each worker."""
BATCH = 2 * 1024 * 1024
"""Bytes of one message, unless a single record has more."""

_encode = msgspec.json.Encoder().encode


class Gathered:
    """What one exchange has of its answer so far."""

    __slots__ = ("cut", "pieces", "size", "what")

    def __init__(self, what: str) -> None:
        self.what = what  # `prompts`, `answers` or `both`
        self.anew()

    def anew(self) -> None:
        """An answer begins, in the place of one before."""
        self.pieces: list[bytes] = []
        self.size = 0
        self.cut = False

    def add(self, data: bytes) -> None:
        """More of the answer."""
        if self.cut or self.what == "prompts":
            return
        room = MOST - self.size
        if len(data) > room:
            data = data[:room]
            self.cut = True
        self.pieces.append(data)
        self.size += len(data)


class CapturedExchange(Exchange):
    """An exchange that a role admitted whose prompts or answers are kept. One becomes it when its verdict is there."""

    __slots__ = ()

    def answered(self, head: AnswerHead, body: bytes, connection: UpstreamConnection) -> None:
        self.gathered.anew()
        self.gathered.add(body)
        super().answered(head, body, connection)

    def answer_began(self, head: AnswerHead, length: int | None = None) -> None:
        self.gathered.anew()
        super().answer_began(head, length)

    def answer_data(self, data: bytes) -> None:
        self.gathered.add(data)
        super().answer_data(data)

    def answer_ended(self, data: bytes, connection: UpstreamConnection | None) -> None:
        self.gathered.add(data)
        super().answer_ended(data, connection)

    def let_pass(self, connection: UpstreamConnection) -> None:
        """Nothing goes past: each piece is to be kept."""

    def _finish(self, ended: Ended, status: int, last: bytes = b"", reason: str = "", cut: bool = False) -> None:
        before = self.done
        super()._finish(ended, status, last, reason, cut)
        if not before:
            self.worker.captures.put(record_of(self))


class CapturedKeyedExchange(CapturedExchange, KeyedExchange):
    """The same of one with an `Idempotency-Key`."""

    __slots__ = ()


def begin_capture(exchange: Exchange, what: str) -> None:
    """Gather `what` of this exchange from now on."""
    exchange.gathered = Gathered(what)
    # What is kept of it lies in fields that all exchanges have, so that one can become the other.
    keyed = isinstance(exchange, KeyedExchange)
    exchange.__class__ = CapturedKeyedExchange if keyed else CapturedExchange


def record_of(exchange: Exchange) -> Captured:
    """What is handed over of a finished exchange. Of a form only its text fields are: the rest is a file, and no prompt."""
    gathered, route, ask = exchange.gathered, exchange.route, exchange.asked
    assert route is not None and ask is not None and exchange.admit is not None
    prompt = None
    if gathered.what != "answers":
        prompt = exchange.body if route.kind == "json" else _encode(ask.fields)
    answer = None
    if gathered.what != "prompts" and exchange.refused is None:
        answer = b"".join(gathered.pieces)
    return Captured(
        id=exchange.id.decode(),
        role=exchange.admit.role,
        time=exchange.started + exchange.worker.wall_offset,
        dialect=route.dialect.name,
        stream=exchange.scanner is not None,
        prompt=None if prompt is None else prompt[:MOST],
        prompt_cut=prompt is not None and len(prompt) > MOST,
        answer=answer,
        answer_cut=gathered.cut and answer is not None,
    )


class CaptureBox:
    """Records of one worker on their way to control: sent in batches, one under way at a time, each until it is confirmed."""

    def __init__(self, send: Callable[[Captures], None]) -> None:
        self._send = send
        self._waiting: deque[Captured] = deque()
        self._size = 0  # of all that wait, the batch under way among them
        self._batch: tuple[Captured, ...] = ()
        self._number = 0  # of the batch under way
        self._sent = False  # to the control process that is there now
        self.dropped = 0  # for which there was no room
        self._told = 0  # of those, confirmed

    def __repr__(self) -> str:
        return f"<CaptureBox {len(self._waiting) + len(self._batch)} waiting, {self.dropped} dropped>"

    @property
    def empty(self) -> bool:
        """Nothing is left to be handed over."""
        return not self._waiting and not self._batch and self._told == self.dropped

    def put(self, record: Captured) -> None:
        """Hand this over when there is time."""
        size = _size(record)
        if self._size + size > WAITING:
            self.dropped += 1
            return
        self._waiting.append(record)
        self._size += size

    def tick(self) -> None:
        """Send what waits, unless a batch is under way."""
        if self._sent or self.empty:
            return
        if not self._batch:
            size = 0
            taken: list[Captured] = []
            while self._waiting and (not taken or size + _size(self._waiting[0]) <= BATCH):
                record = self._waiting.popleft()
                size += _size(record)
                taken.append(record)
            self._batch = tuple(taken)
            self._number += 1
        self._sent = True
        self._send(Captures(self._number, self._batch, self.dropped))

    def kept(self, message: CaptureKept) -> None:
        """Control has that batch; or it had been told of it twice."""
        if message.number != self._number:
            return
        self._size -= sum(map(_size, self._batch))
        self._batch = ()
        self._sent = False
        self._told = message.dropped
        self.tick()

    def again(self) -> None:
        """Another control process is there, which may not have what was sent last."""
        self._sent = False


def _size(record: Captured) -> int:
    return len(record.prompt or b"") + len(record.answer or b"") + 500  # and what belongs to it
