"""A request that an instance is asked beside the one that a client waits for: what pools and connections need of it.

To them it looks like an exchange, of which it takes what is to be sent. What becomes of the answer is said by those built on it
(`shadow.py`, `hedge.py`). It never stands in line, and holds nothing of limits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from slmgate.dialects.salt import salted
from slmgate.http1.answers import JSON
from slmgate.http1.heads import AnswerHead, client_fields, request_line, upstream_request

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.pool import Instance, ModelPool
    from slmgate.dataplane.upstream import UpstreamConnection
    from slmgate.policy.balance import Affinity

END_SECONDS = 0.25
"""How long an instance may take from the dialect's end of a stream to the end of the answer, before it is ended for it."""
STALE_SECONDS = 0.1
"""A kept connection that is lost sooner than this after a request was written to it had been closed before."""


class Caller:
    """Stands for the client's connection where an instance is chosen by it."""

    __slots__ = ("address",)

    def __init__(self, address: str) -> None:
        self.address = address


class Second:
    """States, told by fields: waiting (`instance` None), connecting (`connection` None), asked, `done`."""

    __slots__ = (
        "affinity",
        "ask",
        "asked_at",
        "attempts",
        "client",
        "connect_us",
        "connection",
        "context",
        "done",
        "head",
        "instance",
        "name",
        "outgoing",
        "pool",
        "principal",
        "request_id",
        "route",
        "tried",
        "worker",
    )

    def __init__(self, first: Exchange, pool: ModelPool, name: str | None, request_id: bytes) -> None:
        """`name`: what the model is called where an instance has no other name for it; None: as the client did."""
        assert first.route is not None and first.ask is not None and first.principal is not None
        self.worker = first.worker
        self.client = Caller(first.client.address)
        self.head = first.head
        self.request_id = request_id
        tracer = first.worker.tracer
        self.context = b"" if tracer is None else tracer.lines(first)  # to its instance it is part of the same work
        self.route = first.route
        self.principal = first.principal
        self.ask = first.ask
        self.outgoing = first.outgoing
        self.pool = pool
        self.name = name
        # the way to an instance, as `Exchange` has it
        self.affinity: Affinity | None = None
        self.tried: tuple[Instance, ...] = ()
        self.attempts = 0
        self.instance: Instance | None = None
        self.connection: UpstreamConnection | None = None
        self.asked_at = 0.0
        self.connect_us = 0
        self.done = False

    def __repr__(self) -> str:
        state = "over" if self.done else "asked" if self.connection is not None else "waiting"
        return f"<{type(self).__name__} {self.request_id.decode()} {state}>"

    def as_exchange(self) -> Exchange:
        """Itself, as pools and connections call what they serve."""
        return cast("Exchange", self)

    def give_back(self, connection: UpstreamConnection | None) -> None:
        """It is through with its instance. `connection` is given when it may be used again; else what it had is closed."""
        instance, self.instance = self.instance, None
        held, self.connection = self.connection, None
        if held is not None and held is not connection:
            held.retire()
        if instance is not None:
            instance.release(connection)

    def complain(self, what: str) -> None:
        """Something went wrong at an instance: bring it before the operator."""
        self.worker.complain(what, self.request_id.decode())

    # -- from the pool's side

    def wants(self, instance: Instance) -> bool:
        """Whether it is still waiting for a connection to `instance`."""
        return not self.done and self.instance is instance and self.connection is None

    def connected(self, connection: UpstreamConnection) -> None:
        """Send the request. Nothing is raised: whoever frees a connection calls this."""
        try:
            instance, route = self.instance, self.route
            assert instance is not None
            self.connection = connection
            self.asked_at = time.monotonic()
            body = route.dialect.patch(route.endpoint, self.ask, self.outgoing, instance.spec.upstream_model or self.name)
            if instance.salted:
                body = salted(route, self.ask, body, self.worker.salts.of(self.principal))
            content_type = JSON if route.kind == "json" else self.head.fields[b"content-type"]
            line, fields = request_line(route.method, route.path), client_fields(self.head, content_type, bool(self.context))
            fields += self.context
            connection.ask(self.as_exchange(), upstream_request(line, instance.fields, fields, self.request_id, body))
            self.was_asked()
        except Exception:  # noqa: BLE001  # a fault of our own costs this and no other
            self.worker.report_fault()
            self.gate_failed()

    def was_asked(self) -> None:
        """The request was sent."""

    def connect_failed(self, instance: Instance, why: str) -> None:
        if self.wants(instance):
            self.instance = None
            self.complain(f"{instance.spec.id}: cannot connect: {why}")
            self.failed("upstream_error")

    # -- from the instance's side

    def let_pass(self, connection: UpstreamConnection) -> None:
        """Nothing goes past: there is no client."""

    def connection_was_stale(self) -> None:
        """See `Exchange.connection_was_stale`: at once it is sent over a new connection, later it has failed."""
        instance = self.instance
        assert instance is not None
        if time.monotonic() - self.asked_at > STALE_SECONDS:
            self.upstream_failed("the connection was closed before the answer began", began=False)
            return
        self.connection = None
        self.attempts += 1
        instance.renew(self.as_exchange())

    def upstream_failed(self, why: str, began: bool) -> None:
        """The connection died or broke the protocol."""
        if self.instance is not None:
            self.complain(f"{self.instance.spec.id}: {why}")
            self.instance.failed("broken", why, self.asked_at)
        self.failed("upstream_error")

    def gate_failed(self) -> None:
        """A fault of the gate's own."""
        self.failed("internal_error")

    def failed(self, reason: str) -> None:
        """It came to nothing. What it holds is to be given back."""
        raise NotImplementedError  # those built on it say what becomes of it

    def answered(self, head: AnswerHead, body: bytes, connection: UpstreamConnection) -> None:
        """A whole answer in one piece, whose head came before with another length."""
        raise NotImplementedError  # those built on it say what becomes of it

    def answer_began(self, head: AnswerHead) -> None:
        """The answer's head."""
        raise NotImplementedError  # those built on it say what becomes of it

    def answer_data(self, data: bytes) -> None:
        """More of the body, not its end."""
        raise NotImplementedError  # those built on it say what becomes of it

    def answer_ended(self, data: bytes, connection: UpstreamConnection | None) -> None:
        """The end of the answer, with its last bytes. `connection` is given if it may serve again."""
        raise NotImplementedError  # those built on it say what becomes of it


def is_refusal(status: int) -> bool:
    """Whether a status is not about the request: 401 and 403 speak of the gate's own credential, 3xx of another place, 5xx of the
    instance.
    """
    return status >= 500 or 300 <= status < 400 or status in (401, 403, 407, 429)
