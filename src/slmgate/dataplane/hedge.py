"""A second instance is asked for embeddings where the first lets them wait: the answer that begins first counts.

A `Hedge` stands where its exchange has its alarm, so that it ends with it, and no other request pays for it. The second try (a
`Rival`) counts within the retries that the model may have; when it is answered, or the first one fails, the exchange goes on with
it, and there is one answer, one receipt and one charge. Whose requests are hedged is not known here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from slmgate.dataplane.fallback import name_of
from slmgate.dataplane.second import Second, is_refusal
from slmgate.dialects.figures import says_error

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.pool import ModelPool
    from slmgate.dataplane.upstream import UpstreamConnection
    from slmgate.http1.heads import AnswerHead

SOON = 0.001
"""Seconds by which a timer may be early."""


class Alarm(Protocol):
    """What an exchange ends when it is over."""

    def cancel(self) -> None: ...


class Hedge:
    """The time after which an exchange's request is asked of a second instance, and that one."""

    __slots__ = ("_alarm", "_exchange", "_rival", "_timer")

    def __init__(self, exchange: Exchange, after: float) -> None:
        self._exchange = exchange
        self._alarm = exchange.alarm  # the one that was there before, for the end of its time
        self._rival: Rival | None = None
        self._timer: TimerHandle = exchange.worker.later(after, self._ring)
        exchange.alarm = self

    def __repr__(self) -> str:
        return f"<Hedge {'waiting' if self._rival is None else self._rival}>"

    def cancel(self) -> None:
        """The exchange is over."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._timer.cancel()
        self._drop()

    def stands_in(self) -> bool:
        """The exchange's own instance has failed it: have it go on with the second one. False: none was asked yet."""
        rival = self._rival
        if rival is None or rival.connection is None:
            self._drop()  # the next try may be at that very instance
            return False
        rival.takes_over()
        return True

    def over(self) -> None:
        """There is no rival any more."""
        self._rival = None

    def _drop(self) -> None:
        if self._rival is not None:
            self._rival.drop(None)

    def _ring(self) -> None:
        try:
            self._look()
        except Exception:  # noqa: BLE001  # it costs the second try, and not the first
            self._exchange.worker.report_fault()

    def _look(self) -> None:
        """If the exchange has waited for so long since its instance was asked, ask another one; else look again later."""
        exchange = self._exchange
        model, pool = exchange.model, exchange.pool
        if is_settled(exchange) or model is None or pool is None or not model.hedge_after:
            return
        waited = time.monotonic() - exchange.asked_at if exchange.connection is not None else 0.0
        if waited < model.hedge_after - SOON:
            self._timer = exchange.worker.later(model.hedge_after - waited, self._ring)
            return
        rival = Rival(exchange, pool, self)
        self._rival = rival
        if not pool.begin_now(rival.as_exchange(), retry=True):
            rival.done = True
            self._rival = None


def is_settled(exchange: Exchange) -> bool:
    """Whether an answer for its client has begun, or it is over."""
    return exchange.done or (exchange.upstream_status > 0 and not exchange.unwanted)


class Rival(Second):
    """The same request at another instance. Once it has `won`, what comes of its answer is the exchange's."""

    __slots__ = ("_first", "_hedge", "won")

    def __init__(self, first: Exchange, pool: ModelPool, hedge: Hedge) -> None:
        super().__init__(first, pool, name_of(first), first.request_id)
        self._first = first
        self._hedge = hedge
        self.tried = first.tried
        self.won = False

    def drop(self, connection: UpstreamConnection | None) -> None:
        """It is not wanted any more. `connection` is given when that may be used again."""
        if not self.done:
            self.done = True
            self._hedge.over()
            self.give_back(connection)

    def failed(self, reason: str) -> None:
        self.drop(None)

    def connected(self, connection: UpstreamConnection) -> None:
        first = self._first
        if is_settled(first):  # its answer has begun meanwhile
            self.drop(connection)
        else:
            super().connected(connection)

    def was_asked(self) -> None:
        first, instance = self._first, self.instance
        assert instance is not None
        if instance not in first.tried:  # else it was sent over another connection
            first.attempts += 1
            first.tried = (*first.tried[:-1], instance, first.tried[-1])  # the last one is where it is being served

    def takes_over(self) -> None:
        """The exchange goes on here, and leaves where it is."""
        instance, connection = self.instance, self.connection
        assert instance is not None and connection is not None
        self.done = self.won = True
        self.instance = self.connection = None
        self._hedge.over()
        if connection.exchange is not None:
            connection.exchange = self._first
        self._first.connect_us = self.connect_us
        self._first.goes_on_at(instance, connection, self.asked_at)

    def _wins(self, head: AnswerHead) -> bool:
        """Whether this answer counts: the first to begin, unless it is none for a client."""
        first, instance, status = self._first, self.instance, head.status
        if self.done or is_settled(first) or first.model is None or instance is None:
            return False
        if is_refusal(status) or str(status) in first.model.retry_on or head.content_type.startswith(b"text/html"):
            if status != 500:
                instance.failed("refused", f"it answered {status}", self.asked_at)
            return False
        self.takes_over()
        return True

    # -- its answer

    def answered(self, head: AnswerHead, body: bytes, connection: UpstreamConnection) -> None:
        if not says_error(body) and self._wins(head):
            self._first.answered(head, body, connection)
        else:
            self.drop(connection)

    def answer_began(self, head: AnswerHead) -> None:
        if self._wins(head):
            self._first.answer_began(head)
        else:
            self.drop(None)

    def answer_data(self, data: bytes) -> None:
        if self.won:  # of the same bytes that its head came with; later ones go to the exchange by themselves
            self._first.answer_data(data)

    def answer_ended(self, data: bytes, connection: UpstreamConnection | None) -> None:
        if self.won:
            self._first.answer_ended(data, connection)
