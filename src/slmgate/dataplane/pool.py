"""Connections to instances: found, opened, handed over, taken back, retired; and who waits when there is no room.

A freed connection goes straight to the exchange that `policy/queue.py` says is next. This module keeps the numbers that
`policy/balance.py` chooses by. It does not know what a request says, nor what becomes of the answer.
Length: an instance and the pool that it is in change each other's numbers at every step, and are read together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from math import ceil, inf
from random import getrandbits
from typing import TYPE_CHECKING

from msgspec.structs import replace

from slmgate.dataplane.account import named
from slmgate.dataplane.balancing import affinity_of, chooser_of, shares_loads
from slmgate.dataplane.held import connect
from slmgate.dataplane.secured import Secured, closing, connecting, secured, trouble
from slmgate.dataplane.sleepers import NEWS_SECONDS, Sleepers
from slmgate.dataplane.upstream import UpstreamConnection
from slmgate.http1.heads import instance_fields
from slmgate.link.loads import MARK, Loads
from slmgate.link.messages import Checked, CheckedOut, InstanceTally, NotStarted
from slmgate.link.trust import Trusts
from slmgate.policy.balance import SCANNED, Chooser, learned
from slmgate.policy.health import Failure, Health, State, outliers, passed_over
from slmgate.policy.queue import FairQueue, tokens
from slmgate.policy.retries import Budget
from slmgate.policy.specs import InstanceSpec, ModelSpec
from slmgate.policy.split import Turns
from slmgate.terms import Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange

IDLE_CONNECTIONS = 256
"""Idle connections kept per instance and worker; more are closed when they come back."""
IDLE_SECONDS = 60.0
LOOK_SECONDS = 0.01
"""How old the view of the other workers' requests may be, at least. It is renewed only when somebody is to have an instance."""
LOOK_SECONDS_EACH = 5e-6
"""And how much more for each instance and worker, so that looking takes a small part of the time."""
ONE_CELL = memoryview(bytearray(4)).cast("I")
"""Written to by instances whose requests no other worker wants to know of."""


class Instance:
    """One instance as this worker sees it. Outlives snapshots: `update` takes a new one's settings."""

    __slots__ = (
        "_loop",
        "_stood",
        "_tasks",
        "busy",
        "cells",
        "column",
        "connect_timeout",
        "down_until",
        "fields",
        "gone",
        "health",
        "idle",
        "learned_at",
        "learns",
        "max_in_flight",
        "model",
        "name",
        "named",
        "others",
        "over",
        "removed",
        "salted",
        "secured",
        "served",
        "share",
        "slowness",
        "spec",
        "waited",
        "waits",
        "watched",
        "weight",
    )

    def __init__(self, model: ModelPool, spec: InstanceSpec, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.model = model
        self.name = spec.id
        self.named = named(spec.id)
        # of the snapshot in force
        self.spec = spec
        self.weight = spec.weight
        self.max_in_flight = spec.max_in_flight
        self.connect_timeout = 2.0
        self.learns = False  # whether its model's strategy asks for how slow it is
        self.salted = False  # whether its engine is told whose cache a request may use
        self.fields = b""
        self.secured: Secured | None = None  # whom it must be over TLS
        # of this worker's life with the instance
        self.idle: deque[UpstreamConnection] = deque()  # newest right: the warmest is used first, the oldest ages out
        self.busy = 0  # exchanges that have it, connecting or connected
        self.served = 0.0
        self.slowness = 0.0  # see `policy/balance.py`
        self.learned_at = 0.0
        self.health = Health()
        self._stood: tuple[State, float, Failure | None] = ("healthy", 0.0, None)  # its health when it was last looked at
        self.watched = False  # there is something to be remembered of its health: only then is it told what goes well
        self.down_until = 0.0  # passed over until then: by its health, unless too few of the model's instances are left
        self.share = 1.0  # of the work that is its due: less for a while when it has come back
        self.waits = 0  # answers since outliers were last looked for, and the seconds until they began
        self.waited = 0.0
        self._tasks: set[asyncio.Task[None]] = set()  # a task nobody holds may be collected before it ends
        self.removed = False
        self.gone = False  # the last that failed here did so because it could not be reached, or was lost
        self.over = False  # it runs anew, as another one: this one was its last run
        # of the node: what other workers have in flight here, and where they are told of this one's; None: nothing is chosen
        self.others = 0
        self.cells: memoryview | None = None
        self.column = -1

    def __repr__(self) -> str:
        return f"<Instance {self.spec.id}: {self.busy} busy, {len(self.idle)} idle{', removed' if self.removed else ''}>"

    def update(self, spec: InstanceSpec, model: ModelSpec) -> None:
        """Take the settings of a new snapshot. Connections opened before go on; what they send is made afresh."""
        self.spec = spec
        self.weight = spec.weight
        self.max_in_flight = spec.max_in_flight
        self.connect_timeout = model.connect_timeout
        self.learns = model.balance == "peak_ewma"
        self.salted = model.cache_salt == "tenant" and spec.engine == "vllm"
        self.fields = instance_fields(spec.server_name or spec.host, spec.port, spec.tls, spec.bearer)
        must = secured(spec, self.model.trusts)
        if must != self.secured:
            self.secured = must
            while self.idle:  # those that are busy are found not to be usable when they are wanted next
                self.idle.pop().retire()

    def begin(self, exchange: Exchange) -> None:
        """Give the exchange a connection: an idle one in this very call, else a new one when it is open."""
        self.busy = busy = self.busy + 1
        cells = self.cells
        if cells is not None:  # `_has`, written out: here and in `release` every request comes by
            self.model.in_flight += 1
            cells[self.column] = MARK + busy
        if self.watched:
            self._begin_watched()
        else:
            self.served += 1
        exchange.instance = self
        exchange.tried += (self,)
        exchange.attempts += 1
        idle = self.idle
        while idle:
            connection = idle.pop()
            if not connection.closing():
                exchange.connected(connection)
                return
        self.renew(exchange)

    def renew(self, exchange: Exchange) -> None:
        """Give the exchange, which has this instance already, a connection that is new."""
        task = self._loop.create_task(self._open(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, exchange: Exchange) -> None:
        began, must, opened = self._loop.time(), self.secured, time.monotonic()
        try:
            async with asyncio.timeout(self.connect_timeout):
                arguments = connecting(must, self.connect_timeout)
                transport, connection = await connect(self._loop, lambda: UpstreamConnection(self), self.spec, arguments)
        except (OSError, MemoryError) as failure:  # TimeoutError is an OSError
            why = trouble(must, failure)
            self.failed("unreachable", why or "it cannot be reached", began)
            if exchange.wants(self):  # else it is over, and has given its place back already
                self._has(self.busy - 1)
                exchange.connect_failed(self, why or str(failure) or "the connection was not accepted in time")
            self.model.serve_next()
            return
        if must is not None:
            connection.closing = closing(transport, must, lambda: self.secured)
        if self.watched:
            self.health.connected(began, self._loop.time(), self.model.spec.health)
            self.learned()
        if exchange.wants(self):
            exchange.connect_us = max(1, int((time.monotonic() - opened) * 1e6))  # the loop's own clock counts milliseconds
            exchange.connected(connection)
        else:  # the client left meanwhile, and its place was given back: this is one for the connection alone
            self._has(self.busy + 1)
            self.release(connection)

    def _has(self, busy: int) -> None:
        """So many are in flight here now."""
        cells = self.cells
        if cells is not None:
            self.model.in_flight += busy - self.busy
            cells[self.column] = MARK + busy
        self.busy = busy

    def learn(self, seconds: float, now: float) -> None:
        """An answer took so long."""
        self.slowness = learned(self.slowness, self.learned_at, seconds, now)
        self.learned_at = now

    # -- its health; of who is not `watched` the road tells nothing that went well

    def failed(self, kind: Failure, why: str, asked_at: float) -> None:
        """A request asked at `asked_at` failed here, for a reason that may be the instance's."""
        self.gone = kind in ("unreachable", "broken")
        self.health.failed(kind, why, asked_at, self._loop.time(), self.model.spec.health)
        self.learned()

    def answered(self, asked_at: float) -> None:
        """A good answer has begun."""
        now = self._loop.time()
        self.waits += 1
        self.waited += now - asked_at
        self.health.answered(asked_at, now, self.model.spec.health)
        self.learned()

    def completed(self, asked_at: float) -> None:
        """A good answer came to its end."""
        self.health.completed(asked_at)
        self.learned()

    def checked(self, out: CheckedOut | None) -> None:
        """What its checks say; None: that it is well."""
        now = self._loop.time()
        if out is not None:
            self.health.checked_out(out.kind, out.why, now)
        else:
            self.health.checked_well(now, self.model.spec.health)

    def tally(self, now: float) -> InstanceTally:
        """What control is told of it."""
        health, model = self.health, self.model
        return InstanceTally(
            self.spec.id,
            model.spec.name,
            self.busy,
            len(model.waiting),
            healthy=health.down_until <= now,
            state=health.state,
            why=health.why,
            again=max(0.0, health.down_until - now) if health.state == "ejected" else 0.0,
            failures=health.failures,
            draining=self.removed,
            served=self.served,
        )

    def _begin_watched(self) -> None:
        """It is being given a request. While it has less than its share, each counts for more."""
        self.health.begin(self._loop.time())
        self.learned()
        self.served += 1 / self.share

    def learned(self) -> None:
        """Something was learned of its health: what follows from it, for it and for those beside it?"""
        health = self.health
        state, stands = health.state, (health.state, health.down_until, health.kind)
        if stands != self._stood:
            before, self._stood = self._stood[0], stands
            if state != before and "unhealthy" not in (state, before):  # of what checks find control speaks, once for all
                self.model.say(f"{self.spec.id} {health.told(self._loop.time())}")
            self.model.unweighed = True
        if self.model.unweighed and not self.model.telling:
            self.model.weigh()
        self.watched = not health.well() or self.model.spec.health.outlier is not None

    def release(self, connection: UpstreamConnection | None) -> None:
        """An exchange is through with this instance. `connection` is given when it may be used again."""
        self.busy = busy = self.busy - 1
        cells = self.cells
        if cells is not None:
            self.model.in_flight -= 1
            cells[self.column] = MARK + busy
        if connection is not None:
            if self.removed or len(self.idle) >= IDLE_CONNECTIONS:
                connection.retire()
            else:
                connection.idle_since = self._loop.time()
                self.idle.append(connection)
        if self.model.waiting:
            self.model.serve_next()

    def lost(self, connection: UpstreamConnection) -> None:
        """An idle connection was closed by the instance."""
        if connection in self.idle:
            self.idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Close connections that have been idle for long, oldest first."""
        while self.idle and now - self.idle[0].idle_since > IDLE_SECONDS:
            self.idle.popleft().retire()

    def remove(self) -> None:
        """No longer configured, or drained: close what is idle; what is busy ends with its exchange."""
        self.removed = True
        self.unlist()
        while self.idle:
            self.idle.pop().retire()

    def unlist(self) -> None:
        """Other workers need not know of it any more."""
        if self.cells is not None and self.column > 0:
            self.cells[self.column] = 0
        self.cells, self.column, self.others = None, -1, 0


class ModelPool:
    """The instances of one model, and the exchanges that wait for one of them. Each worker has its own, and its own line."""

    __slots__ = (
        "_budget",
        "_chooser",
        "_engines",
        "_loads",
        "_look_at",
        "_loop",
        "_many",
        "_only",
        "_serving",
        "_stopped",
        "apart",
        "copies",
        "in_flight",
        "in_flight_elsewhere",
        "instances",
        "leaving",
        "queue",
        "requests",
        "say",
        "spec",
        "telling",
        "trusts",
        "turns",
        "unweighed",
        "waiting",
    )

    def __init__(
        self,
        spec: ModelSpec,
        loop: asyncio.AbstractEventLoop,
        say: Callable[[str], None],
        loads: Loads | None = None,
        want: Callable[[str], None] = lambda _: None,
        trusts: Trusts | None = None,
    ) -> None:
        """`say` brings what is new of an instance before the operator, `want` that the model with this name wants one started."""
        self._loop = loop
        self.trusts = trusts or Trusts(say)  # what all models share
        self.say = say
        self._engines = Sleepers(spec, want)
        self.unweighed = False  # what is known of the instances' health has yet to be put together
        self.telling = False  # and there is more to come
        self._loads = loads  # None: there are no other workers
        self.spec = spec
        self.instances: list[Instance] = []
        self._chooser: Chooser[Instance] = chooser_of(spec, (), None)  # made anew for each snapshot
        self._many = False  # more than are all looked at
        self._look_at = inf  # when the other workers' requests are to be looked at again; infinite: nobody asks for them
        self.in_flight = 0  # at all instances together, where there are several
        self.in_flight_elsewhere = 0  # the same of other workers
        self.leaving: list[Instance] = []  # drained, or gone from the snapshot and still at work: they are given nothing
        self.queue: FairQueue[Exchange] = FairQueue()
        self.waiting = self.queue.places  # to be looked at only: the road asks nothing else while there is room
        self._serving = False  # somebody in line is being given an instance
        self._stopped = False  # nobody is any more
        self._only: Instance | None = None  # the one instance of a model that has but one
        self.requests = 0  # that came to it so far
        self._budget = Budget(spec.retry_budget)
        self.apart = False  # some of its requests may go another way: see `split.py`
        self.turns = Turns(0.0)  # whose turn it is to be served by the canary
        self.copies = Turns(0.0)  # and to be copied
        self.update(spec)

    def __repr__(self) -> str:
        return f"<ModelPool {self.spec.name}: {self.instances}, {len(self.waiting)} waiting>"

    def update(self, spec: ModelSpec) -> None:
        """Take a new snapshot's instances: known ones (same id) go on with their connections and counts.

        Whoever is new to the choosing, or back from a drain, starts where the others are.
        """
        self.spec = spec
        self._budget.share = spec.retry_budget
        self.apart = bool(spec.fallback or spec.canary or spec.shadow or spec.hedge_after)
        self.turns.update(spec.canary.share if spec.canary is not None else 0.0)
        self.copies.update(spec.shadow.share if spec.shadow is not None else 0.0)
        known = {instance.spec.id: instance for instance in (*self.instances, *self.leaving) if not instance.over}
        least = self._least_served()
        self.instances, self.leaving = [], [instance for instance in self.leaving if instance.over]
        for wanted in spec.instances:
            instance = known.pop(wanted.id, None)
            if instance is not None and instance.gone and instance.removed and not wanted.asleep:
                instance.over = True  # it was started again: whoever was lost with it may ask it, as another one
                self.leaving.append(instance)
                instance = None
            if instance is None or instance.removed:
                instance = instance or Instance(self, wanted, self._loop)
                instance.served = max(instance.served, least)
            instance.update(wanted, spec)
            if wanted.draining or wanted.asleep:
                instance.remove()
                self.leaving.append(instance)
            else:
                instance.removed = False
                self.instances.append(instance)
        for instance in known.values():
            instance.remove()
            if instance.busy:
                self.leaving.append(instance)
        self._engines.update(spec)
        self._only = self.instances[0] if len(self.instances) == 1 else None
        self._chooser = chooser_of(spec, self.instances, self._chooser)
        self._many = len(self.instances) > SCANNED
        self._list()
        for one in self.instances:
            one.learned()
        self.weigh()
        self.serve_next()
        if self.waiting:
            self._engines.wake(self.waiting, self._loop.time())

    def _list(self) -> None:
        """Let the other workers know of what is in flight, and look at theirs, where that decides anything."""
        loads = self._loads if self._only is None and shares_loads(self.spec.balance) else None
        unlisted = [one for one in self.instances if one.column < 1]
        columns = loads.claim([one.name for one in unlisted]) if loads is not None and unlisted else {}
        for instance in self.instances:
            if self._only is not None:
                instance.unlist()
            elif loads is None:
                instance.unlist()
                instance.cells, instance.column = ONE_CELL, 0
            elif instance.column < 1:
                instance.column = columns.get(instance.name, 0)
                instance.cells = loads.cells if instance.column else ONE_CELL
                instance.cells[instance.column] = MARK + instance.busy
        self.in_flight = sum(one.busy for one in self.instances)
        self.in_flight_elsewhere = 0
        self._look_at = 0.0 if loads is not None else inf

    def _look(self, now: float) -> None:
        """See what the other workers have in flight."""
        loads = self._loads
        assert loads is not None
        listed = [one for one in self.instances if one.column > 0]
        for instance, others in zip(listed, loads.others([one.column for one in listed]), strict=True):
            instance.others = others
        self.in_flight_elsewhere = sum([one.others for one in listed])
        self._look_at = now + LOOK_SECONDS + LOOK_SECONDS_EACH * len(listed) * loads.workers

    def weigh(self) -> None:
        """Work out, for choosing, what the instances' health comes to for all of them together.

        Who may be asked again starts where the others are, so that it is not flooded to catch up.
        """
        now, spec = self._loop.time(), self.spec.health
        self.unweighed = False
        least = self._least_served()
        for one, until in zip(self.instances, passed_over([one.health for one in self.instances], now, spec.panic), strict=True):
            if one.down_until and not until:
                one.served = max(one.served, least)
            one.down_until = until
            one.share = one.health.share(now, spec)
        self._chooser.changed()

    def tell(self, told: Mapping[str, CheckedOut | None]) -> None:
        """What the checks of some instances say, by their ids; None: that it is well.

        One that is drained is told too, so that when it is enabled again it is asked, or not, by what it is then.
        """
        self.telling = True
        for one in (*self.instances, *self.leaving):
            if one.spec.id in told:
                one.checked(told[one.spec.id])
                one.learned()
        self._all_told()

    def tick(self, now: float) -> None:
        """Called once a second: what time makes of the instances' health, and who is too slow beside the others."""
        spec = self.spec.health
        self.telling = True
        for one in (*self.instances, *self.leaving):
            if one.watched:
                one.health.tick(now, spec)
                one.learned()
                self.unweighed = True  # their shares rise
        if spec.outlier is not None and all(one.waits >= spec.samples for one in self.instances):
            self._find_slow(spec.outlier, now)
        self._all_told()

    def _find_slow(self, factor: float, now: float) -> None:
        for index in outliers([one.waited / one.waits for one in self.instances], factor):
            self.instances[index].health.found_slow("its answers begin late beside those of the others", now)
            self.instances[index].learned()
        for one in self.instances:
            one.waits, one.waited = 0, 0.0

    def _all_told(self) -> None:
        self.telling = False
        if self.unweighed:
            self.weigh()
            self.serve_next()

    def _least_served(self) -> float:
        """The smallest count of those that are asked: where a newcomer starts, so that it is not flooded to catch up."""
        up = [one.served for one in self.instances if not one.down_until]
        return min(up or [one.served for one in self.instances], default=0.0)

    def begin(self, exchange: Exchange) -> bool:
        """Give the exchange an instance it has not tried, or a place in line. False: there is neither."""
        if not self.waiting:
            only = self._only
            if only is not None and not exchange.tried and (only.max_in_flight is None or only.busy < only.max_in_flight):
                only.begin(exchange)  # there is nothing to choose
                return True
            instance = self._choose(exchange)
            if instance is not None:
                instance.begin(exchange)
                return True
        if self._has_tried_all(exchange):
            return False
        queue = self.queue
        flow, priority, weight = self._flow(exchange)
        if exchange.tried:
            queue.rejoin(exchange, flow, priority, weight, self._loop.time())
        else:
            queue.join(exchange, flow, priority, weight, self._cost(exchange), self._loop.time())
        if self._engines.asleep:
            self._engines.wake((exchange,), self._loop.time())
        elif exchange.tried and all(one in exchange.tried for one in self.instances):
            exchange.deadline = self._loop.time() + NEWS_SECONDS  # it was lost with its engine, and that is soon known
        if len(self.waiting) > 1:  # all of those before may be waiting for other instances
            self.serve_next()
        if len(self.waiting) > self.spec.queue_waiting:
            last = queue.surplus()
            if last is exchange:
                queue.leave(exchange)
                return False
            last.no_room(f"All of the {self.spec.queue_waiting} places in line are taken, and nobody has more of them than you.")
        return True

    def begin_now(self, exchange: Exchange, retry: bool = False) -> bool:
        """Give the exchange a fit instance that has room now. False: there is none, or others wait; it gets no place in line.

        `retry`: it counts as one, and must be within what there may be of them.
        """
        instance = self._choose(exchange) if not self.waiting and self.ready(self._loop.time()) else None
        if instance is None or (retry and not self.may_retry(exchange)):
            return False
        instance.begin(exchange)
        return True

    def _has_tried_all(self, exchange: Exchange) -> bool:
        """Whether there is no instance that it could still be given. What it tried may be drained or gone by now."""
        tried = exchange.tried
        if self.instances and not (tried and all(one in tried for one in self.instances)):
            return False
        return not self._engines.may_come(tried, self._loop.time())

    def may_retry(self, exchange: Exchange) -> bool:
        """Whether the exchange, which has failed, may try another instance; if so, it counts as a retry."""
        if self._has_tried_all(exchange):
            return False
        live = sum(instance.busy for instance in (*self.instances, *self.leaving)) + len(self.waiting)
        return self._budget.take(self.requests, live, self._loop.time())

    def tried_again(self) -> None:
        """An exchange is tried again at its own instance, as its connection was being closed: that counts, and is not refused."""
        self._budget.spend()

    def _flow(self, exchange: Exchange) -> tuple[str, int, int]:
        """The line it stands in, the class of that and its weight: by what was decided, never by the client's own words."""
        principal, admit = exchange.principal, exchange.admit
        if self.spec.queue_fairness == "none" or principal is None or admit is None:
            return "", 0, 1
        return principal.id, admit.priority, admit.weight

    def _cost(self, exchange: Exchange) -> int:
        ask = exchange.ask
        return 1 if self.spec.queue_fairness != "tokens" or ask is None else tokens(ask)

    def _choose(self, exchange: Exchange | None) -> Instance | None:
        """An instance for the exchange; None: for whoever it may be."""
        now, chooser = self._loop.time(), self._chooser
        if now >= self._look_at:
            self._look(now)
        number = getrandbits(64) if self._many else 0
        if exchange is None:
            return self._usable(chooser.choose(now, (), number), now)
        if not chooser.by:
            return self._usable(chooser.choose(now, exchange.tried, number), now, exchange.tried)
        affinity = exchange.affinity
        if affinity is None:
            affinity = exchange.affinity = affinity_of(exchange, self.spec)
        found = chooser.choose(now, exchange.tried, number, self.in_flight + self.in_flight_elsewhere, affinity)
        instance = self._usable(found, now, exchange.tried)
        if instance is not None:
            chooser.took(affinity, instance)
        return instance

    def _usable(self, chosen: Instance | None, now: float, tried: tuple[Instance, ...] = ()) -> Instance | None:
        """The chosen instance; but none that is passed over as long as there is another, for whose room can be waited."""
        if chosen is None or chosen.down_until <= now:
            return chosen
        return None if any(one.down_until <= now and one not in tried for one in self.instances) else chosen

    def serve_next(self) -> None:
        """Room may have come free: let those in line have it, in their order.

        Who gives back at once what it gets comes here too: then it is the call that serves already which goes on. So the stack
        does not grow with the line.
        """
        if self._serving:
            return
        self._serving = True
        try:
            while self.waiting and not self._stopped and self._served_one():
                pass
        finally:
            self._serving = False

    def _served_one(self) -> bool:
        """Who has tried the instance that is free lets the others pass; those who have tried none are all alike."""
        queue = self.queue
        for exchange in queue.again:
            instance = self._choose(exchange)
            if instance is not None:
                queue.next_again(exchange, self._loop.time())
                instance.begin(exchange)
                return True
        instance = self._choose(None) if queue.fresh else None
        if instance is None:
            return False
        exchange = queue.next(self._loop.time())
        if self._chooser.by:  # now it is known whose turn it is, and which of those that have room is best for it
            instance = self._choose(exchange) or instance
        instance.begin(exchange)
        return True

    def leave(self, exchange: Exchange) -> None:
        """The exchange waits no more."""
        self.queue.leave(exchange)

    def stop(self) -> None:
        """The gate's time is over: what comes free now is given to nobody."""
        self._stopped = True

    def no_room(self, exchange: Exchange, why: str) -> Refuse:
        """The refusal of one that found no place or waited too long, with where it stood and how long it may take.

        Whoever is in line now has gone one way or the other once the time limit is over, so that nobody is sent away for longer.
        """
        queue = self.queue
        if not self.instances:
            queue.leave(exchange)
            if self._engines.asleep:
                return self._engines.refusal(why, self._loop.time())
            return Refuse("overloaded", "The model has no instance that takes requests now. Try again soon.", retry_after=1)
        if not self.waiting:
            return Refuse("overloaded", f"The model is busy. {why} Try again soon.", retry_after=1)
        longest = max(1, ceil(self.spec.queue_timeout))
        number = queue.number(exchange, *self._flow(exchange))
        seconds = queue.seconds(number, self._loop.time())
        stands = "was" if exchange in self.waiting else "would be"
        if seconds is None:
            wait, after = "and no place has come free lately", longest
        else:
            after = max(1, min(ceil(seconds), longest))
            wait = f"which takes about {_seconds(max(1, ceil(seconds)))} at the present pace"
        queue.leave(exchange)
        said = f"The model is busy. {why} This request {stands} about number {number} in line, {wait}."
        return Refuse("overloaded", f"{said} Try again in {_seconds(after)}.", retry_after=after)

    def sweep(self, now: float) -> None:
        """Called once a second: what is idle for long is closed, what was long ago does not count for retries any more, and who
        is gone from the snapshot and has done its work is forgotten."""
        self._budget.look(self.requests, now)
        for instance in self.instances:
            instance.sweep(now)
        if self.leaving:
            configured = {spec.id for spec in self.spec.instances}
            self.leaving = [one for one in self.leaving if one.busy or (one.spec.id in configured and not one.over)]

    def not_started(self, seconds: float) -> None:
        """An engine of the model could not be started, and is left alone for so long: who waits for nothing else is told so."""
        self._engines.left_alone(self._loop.time() + seconds)
        if not self.instances:
            for exchange in list(self.waiting):
                exchange.no_room("")

    def ready(self, now: float) -> bool:
        return any(instance.health.down_until <= now for instance in self.instances) or self._engines.may_come((), now)


def _seconds(count: int) -> str:
    return "1 second" if count == 1 else f"{count} seconds"


class Pools:
    """All models of this worker, by name."""

    __slots__ = ("_leaving", "_loads", "_loop", "_say", "_told", "_trusts", "_want", "models")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        say: Callable[[str], None],
        loads: Loads | None = None,
        want: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`say` brings what is new of an instance before the operator; `want` has one started for the model with this name."""
        self._want = want
        self._loop = loop
        self._say = say
        self._loads = loads
        self._told: dict[str, CheckedOut | None] = {}  # what checks have said before the first snapshot was here
        self._leaving: list[Instance] = []  # of models that are gone, and still at work
        self._trusts = Trusts(say)
        self.models: dict[str, ModelPool] = {}

    def update(self, specs: dict[str, ModelSpec]) -> None:
        """Take a new snapshot's models."""
        for name in [name for name in self.models if name not in specs]:
            gone = self.models.pop(name)
            for instance in gone.instances:
                instance.remove()  # those that were leaving are removed already
            self._leaving += [instance for instance in (*gone.instances, *gone.leaving) if instance.busy]
            for exchange in list(gone.waiting):
                exchange.model_gone()
        for name, spec in specs.items():
            pool = self.models.get(name)
            if pool is None:
                self.models[name] = ModelPool(spec, self._loop, self._say, self._loads, self._want, self._trusts)
            elif pool.spec != spec:  # of a thousand models, a reload changes few
                pool.update(spec)
        told, self._told = self._told, {}
        if told:
            for pool in self.models.values():
                pool.tell(told)

    def checked(self, message: Checked) -> None:
        """Control's checks have come to this. What is said before the first snapshot is kept until then."""
        told: dict[str, CheckedOut | None] = {**dict.fromkeys(message.well), **{one.id: one for one in message.out}}
        for pool in self.models.values():
            pool.tell(told)
        if not self.models:
            self._told.update(told)

    def not_started(self, message: NotStarted) -> None:
        """An engine could not be started."""
        pool = self.models.get(message.model)
        if pool is not None:
            pool.not_started(message.seconds)

    def tick(self, now: float) -> None:
        """Called once a second."""
        for pool in self.models.values():
            pool.tick(now)

    def sweep(self, now: float) -> None:
        for pool in self.models.values():
            pool.sweep(now)
        if self._leaving:
            self._leaving = [one for one in self._leaving if one.busy]

    def each_instance(self, act: Callable[[Instance], None]) -> None:
        for pool in self.models.values():
            for instance in pool.instances:
                act(instance)
            for instance in pool.leaving:
                act(instance)
        for instance in self._leaving:
            act(instance)

    def tallies(self, now: float) -> tuple[InstanceTally, ...]:
        """Each instance as this worker sees it; what one had in an earlier life still counts as in flight there."""
        rows: dict[str, InstanceTally] = {}

        def add(one: Instance) -> None:
            row = one.tally(now)
            newer = rows.get(row.id)
            rows[row.id] = row if newer is None else replace(newer, in_flight=newer.in_flight + row.in_flight)

        self.each_instance(add)
        return tuple(rows.values())
