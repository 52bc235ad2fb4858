"""The life of a worker process: take the listening sockets, decide by the newest snapshot, beat, drain, exit.

It is started by the supervisor with inherited sockets and knows control only through the link: it serves on while control
is away, and waits for its first snapshot before it accepts anyone. It holds no rule about a single request.
Length: what the connections of one process share, and its one life; what could stand alone does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import secrets
import signal
import socket
import ssl
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from slmgate import __version__
from slmgate.dataplane import bans, live
from slmgate.dataplane.capture import CaptureBox, begin_capture
from slmgate.dataplane.challenges import Pending
from slmgate.dataplane.client import ClientConnection
from slmgate.dataplane.counting import Counters
from slmgate.dataplane.door import (
    MOST_ASKED_AGAIN,
    MOST_HANDSHAKES,
    MOST_WAITING,
    Arrival,
    Door,
    Step,
    announced_by,
    counted_by,
    whole_hello,
)
from slmgate.dataplane.exchange import Exchange
from slmgate.dataplane.guard import Guard
from slmgate.dataplane.journal import NEEDED, Journal
from slmgate.dataplane.keyed import Keyed
from slmgate.dataplane.limiter import Limiter
from slmgate.dataplane.looking import looked
from slmgate.dataplane.mine import Holders
from slmgate.dataplane.named import NamedConnection
from slmgate.dataplane.outbox import Outbox
from slmgate.dataplane.pool import Pools
from slmgate.dataplane.reading import Reading, buffer
from slmgate.dataplane.salts import Salts
from slmgate.dataplane.shadow import Shadows
from slmgate.dataplane.shedding import shed
from slmgate.dataplane.sieve import Sieve
from slmgate.dataplane.tally import Tally
from slmgate.dataplane.tls import Front, Fronts, context_of
from slmgate.dataplane.tokens import Tokens
from slmgate.dataplane.tracing import Tracer, tracer_of
from slmgate.dialects.resaid import quoted
from slmgate.http1.answers import date_line
from slmgate.http1.heads import HeadReader
from slmgate.link.beats import READY, Beats
from slmgate.link.channel import LinkClient
from slmgate.link.lines import tell
from slmgate.link.loads import Loads
from slmgate.link.lookups import OwnLookups
from slmgate.link.messages import (
    Answering,
    AskBans,
    CancelLive,
    CaptureKept,
    Challenges,
    Checked,
    Confirm,
    Grounds,
    Hello,
    KeysChanged,
    KeysWhole,
    LiftBan,
    ListLive,
    Look,
    Message,
    MineTold,
    NotStarted,
    Publish,
    Verified,
    Wanted,
)
from slmgate.link.messages import Tally as TallyMessage
from slmgate.link.orders import WorkerOrders
from slmgate.link.tls import Tls
from slmgate.link.unhurried import never_wait
from slmgate.policy.keytable import KeyTable
from slmgate.policy.snapshot import Snapshot
from slmgate.policy.specs import SnapshotSpec

TICK = 0.25
"""Seconds between two sweeps over the connections: how late a time limit may be noticed."""
CALM_TICKS = 4
"""Of so many sweeps, streams that are `calm` are in one: how late a long time limit of theirs may be noticed."""
CALM_SECONDS = 2.0
"""A stream with less time left than this is not calm."""
RESERVED_DESCRIPTORS = 64
COMPLAINTS_PER_SECOND = 20
CAPTURE_SECONDS = 2.0
"""How long a worker that ends waits for control to take what is to be kept of requests."""
DOOR_SECONDS = 2.0
"""How long a worker that stops waits for those who have yet to say something before they are served, or to end a handshake."""
STARVED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""What the kernel says where there is no descriptor, or no memory of its own: for a while, and no fault of whoever asked."""
OUT_OF_MEMORY = 71
"""Exit code of a worker whose event loop had no memory for its own work (`EX_OSERR` of sysexits.h)."""
_LINE = (socket.IPPROTO_TCP, socket.TCP_INFO, 28)
"""Of a listening socket, bytes 24 to 28 of this are how many stand in its line: `tcpi_unacked` (Linux, tcp_diag.c)."""


class Worker:
    """What all connections of this process share."""

    def __init__(self, orders: WorkerOrders, loop: asyncio.AbstractEventLoop) -> None:
        self.slot = orders.slot
        self.incarnation = secrets.token_hex(6)
        self._name = self.incarnation.encode()
        self._orders = orders
        self._loop = loop
        self._counter = 0
        self.serves_unaccounted = orders.serve_unaccounted
        self.now = time.monotonic()  # as of the last tick: good enough for time limits
        self.wall_offset = time.time() - self.now  # what is to be added to the monotonic clock; follows steps within a tick
        self._stamped = -1  # the second of `_stamp`
        self._stamp = b""
        self._link = LinkClient(orders.link, self._hello, self._told)
        self.tokens = Tokens(self._link.send)
        # by the snapshot in force
        self.keys = KeyTable()
        self.snapshot = Snapshot(SnapshotSpec(generation=0), self.keys, self.tokens.known)
        self.tracer: Tracer | None = None
        self._prepared: Snapshot | None = None  # the first one, until all keys are here
        self._confirmed = 0  # the generation that was last confirmed
        # for the life of the process
        self.journal = Journal(Path(orders.journal), self.incarnation, orders.segment_size)
        self.limiter = Limiter(Path(orders.limits), orders.slot, orders.workers)
        self.counters = Counters()
        loads = Loads(orders.loads, orders.slot, orders.workers) if orders.loads >= 0 else None
        self.pools = Pools(loop, self.say, loads, lambda model: self._link.send(Wanted(orders.slot, model)))
        self.salts = Salts(orders.salt_key)
        if self.salts.problem:
            tell(self.salts.problem)
        self.heads = HeadReader()
        self.challenges = Pending()
        self.outbox = Outbox(loop.call_soon, self.report_fault)
        self.keyed = Keyed(Path(orders.answers), self.soon, sweeps=orders.slot == 0)
        self.shadows = Shadows(self)
        self.holders = Holders(self._link, self.report_fault)
        self.captures = CaptureBox(self._link.send)
        self.begin_capture = begin_capture
        self._owed: Exchange | None = None  # the last one whose receipt is still to be written, and through it the others
        self.tally = Tally()
        addresses = Path(orders.addresses) if orders.addresses else None
        self.guard = Guard(addresses, (orders.slot, orders.workers), self.tally, self.say, self._banish)
        self.buffered = 0  # bytes of requests that are not whole yet, and of long ones that are under way
        self.date = date_line(time.time())
        self._connections: set[ClientConnection] = set()
        self.calm: set[ClientConnection] = set()  # those of streams under way of which nothing is due for a while
        self._ticks = 0
        self._beats = Beats(orders.beats)
        self._sockets = [socket.socket(fileno=fd) for fd in orders.listeners]
        self._sieve = Sieve(self._sockets)
        self._fronts = Fronts()  # how TLS is spoken, by listener, once control has said it
        self._decrypted = buffer()
        self._doors: dict[int, Door] = {}  # by the listener's place: of those that begin with something else than HTTP
        self._servers: list[asyncio.Server | Door] = []
        self._room_for = 0  # connections that the file descriptors allow
        self._at_door = 1  # and at each door: of those who have to say something, and of handshakes
        self._passed_by = -1  # connections so far when somebody was last seen in the kernel's line; -1: nobody was
        self._complaints_left = COMPLAINTS_PER_SECOND
        self._second = 0
        self._synced = 0.0
        self._ends = False  # no listener is opened any more
        self.draining = False
        self.handed_over = False  # drains because another gate has taken over the sockets: nobody is sent away
        self.stopping = False
        self._drained: asyncio.Future[None] | None = None  # the last connection of a worker that stops has ended

    # -- what exchanges and connections ask of it

    def next_id(self) -> bytes:
        """An id that is unique for ever: this process's random name and a count."""
        self._counter += 1
        return b"%b%08x" % (self._name, self._counter)

    def gave(self, id: str) -> bool:
        """Whether this was the id of a request here."""
        name, count = id[: len(self.incarnation)], id[len(self.incarnation) :]
        return name == self.incarnation and 0 < int(count, 16) <= self._counter

    def exchanges(self) -> list[Exchange]:
        """Everything that is under way, also what goes on without its client."""
        found = [one.exchange for one in self._connections if one.exchange is not None]
        return [*found, *(one for one in self.keyed.alone if not one.done)]

    def stamp(self, monotonic: float) -> bytes:
        """The wall clock's time at a moment of the monotonic clock, as RFC 3339 says it, in UTC with microseconds."""
        wall = monotonic + self.wall_offset
        second = int(wall)
        if second != self._stamped:
            self._stamped = second
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        return b"%b.%06dZ" % (self._stamp, int((wall - second) * 1e6))

    def finished(self, receipt: bytes, slot: int, refused: bool) -> None:
        """An exchange's receipt, before its client's last byte; `slot` is its intent's."""
        tally = self.tally
        requests = tally.requests + 1  # before it is written: behind that nothing may fail, or it is done twice
        written = self.journal.receipt(receipt, slot)
        tally.requests = requests
        if refused:
            tally.refused += 1
        if not written:
            tally.unjournaled += 1

    def owe(self, exchange: Exchange) -> None:
        """The receipt of `exchange` could not be written now: it is tried again each tick.

        A chain through the exchanges themselves: where memory is what fails, this needs none.
        """
        exchange.next_owed = self._owed
        self._owed = exchange

    def pay(self) -> None:
        """Write the receipts that are owed. Where memory or the disk fails, that is raised, and what is not written stays owed.

        Any other fault is in what is to be written, and would be there each time: it costs this receipt, and neither the others
        nor the worker. Work that was begun is settled by its intent, as `unknown`, once this worker has ended.
        """
        while (exchange := self._owed) is not None:
            try:
                exchange.account()
            except (MemoryError, OSError):
                raise
            except Exception:  # noqa: BLE001  # see above
                self.report_fault()
                self.tally.requests += 1
                self.tally.unjournaled += 1
            self._owed = exchange.next_owed

    def joined(self, connection: ClientConnection) -> None:
        self.tally.connections += 1
        self._connections.add(connection)
        if len(self._connections) >= self._most_connections() and self._servers:
            self._stop_accepting()

    def left(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self.calm.discard(connection)
        if connection.came_from is not None:
            self.guard.left(connection.came_from)
        if self._drained is not None and not self._connections and not self._drained.done():
            self._drained.set_result(None)

    def calm_until(self, connection: ClientConnection, deadline: float) -> None:
        """A stream is under way, of which nothing is due before `deadline`, unless it is taken out of `calm` again."""
        if deadline >= self.now + CALM_SECONDS:
            self.calm.add(connection)

    def ready(self) -> bool:
        """Every model that clients may ask for has an instance, and work can be recorded."""
        now = time.monotonic()
        recordable = self.journal.room >= NEEDED or self.serves_unaccounted
        taking = not self.draining or self.handed_over
        pools = self.pools.models.values()
        return taking and recordable and all(pool.ready(now) or pool.spec.hidden for pool in pools)

    def complain(self, what: str, request_id: str) -> None:
        """A line for the operator about an instance; so many a second at most, as a dying pool has much to say."""
        if self._complaints_left > 0 and self._orders.complains:
            self._complaints_left -= 1
            tell(f"request {request_id}: {what}")

    def quoted(self, body: bytes, asked: bytes) -> str:
        """An instance's words for `complain`, unless that would say nothing now: to look through them takes its time."""
        return quoted(body, asked) if self._complaints_left > 0 and self._orders.complains else ""

    def say(self, what: str) -> None:
        """A line for the operator about what has become of an instance; as seldom as `complain`."""
        if self._complaints_left > 0 and self._orders.complains:
            self._complaints_left -= 1
            tell(f"worker {self.slot}: {what}")

    def soon(self, act: Callable[[], None]) -> None:
        """Call `act` in the next turn of the event loop."""
        self._loop.call_soon(act)

    def later(self, seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        """Call `act` after so many seconds, unless what is returned is cancelled before."""
        return self._loop.call_later(seconds, act)

    def report_fault(self) -> None:
        """The traceback of an exception that is being handled, for the operator; never a client's bytes."""
        if self._complaints_left > 0:
            self._complaints_left -= 1
            with contextlib.suppress(MemoryError):  # who calls has a fault to mend, and needs no second one
                tell(f"worker {self.slot}: this failed", traceback.format_exc())

    # -- the link

    def _hello(self) -> Hello:
        self.captures.again()
        return Hello(self.slot, os.getpid(), self.incarnation, self._confirmed, self._orders.gate, __version__)

    def _told(self, message: Message) -> None:
        if isinstance(message, Publish):
            self.keys.drop(message.gone)
            self.keys.put(message.put)
            self.apply(message.snapshot)
        elif isinstance(message, KeysChanged):
            self.keys.drop(message.gone)
            self.keys.put(message.put)
            self._keys_changed(message.generation)
        elif isinstance(message, KeysWhole):
            if message.first:
                self.keys.begin()
            self.keys.put(message.put)
            if message.last:
                self.keys.end()
            self._keys_changed(message.generation)
        elif isinstance(message, Verified):
            self.tokens.verified(message, time.time())
        elif isinstance(message, Look):
            self._link.send(looked(self.limiter, message, time.time()))
        elif isinstance(message, AskBans):
            self._link.send(bans.told(self.guard, message))
        elif isinstance(message, LiftBan):
            self._link.send(bans.lifted(self.guard, message))
        elif isinstance(message, ListLive):
            live.tell(self, message, self._link.send)
        elif isinstance(message, CancelLive):
            self._link.send(live.cancel(self, message))
        elif isinstance(message, MineTold):
            self.holders.told(message)
        elif isinstance(message, Checked):
            self.pools.checked(message)
        elif isinstance(message, NotStarted):
            self.pools.not_started(message)
        elif isinstance(message, CaptureKept):
            self.captures.kept(message)
        elif isinstance(message, Tls):
            self._speak(message)
        elif isinstance(message, Challenges):
            self._answer(message)
        elif isinstance(message, Grounds) and self.tokens.rest_on(frozenset(message.valid)):
            self.snapshot = self.snapshot.again(self.snapshot.generation)

    def apply(self, spec: SnapshotSpec) -> None:
        """Decide by `spec` from now on; exchanges under way keep what they began with. The first has to wait for the keys."""
        snapshot = Snapshot(spec, self.keys, self.tokens.known)
        if self.keys.whole:
            self._put_in_force(snapshot)
        else:
            self._prepared = snapshot

    def _keys_changed(self, generation: int) -> None:
        """Some keys are not what they were: what was worked out by them is to be asked anew."""
        snapshot = self._prepared or self.snapshot
        if self.keys.whole and snapshot.generation:
            self._put_in_force(snapshot.again(generation))

    def _put_in_force(self, snapshot: Snapshot) -> None:
        if snapshot.models is not self.snapshot.models:
            self.pools.update(snapshot.models)
            for problem in self.counters.update(snapshot.models):
                tell(problem)
        self.limiter.prepare(snapshot.charges)
        self.guard.update(snapshot.gate.guard)
        self.tracer = tracer_of(snapshot.tracing, self.tracer)
        first, others = self.snapshot.generation == 0, snapshot.forwarders is not self.snapshot.forwarders
        self.snapshot, self._prepared = snapshot, None
        if others:
            for connection in self._connections:
                connection.look_whose()
        if not self.keys.renewed:  # else there are keys of that generation which have not come yet
            self._confirmed = snapshot.generation
            self._link.send(Confirm(self.slot, snapshot.generation))
        if first and not self._ends:
            self._loop.create_task(self._accept())

    # -- listening

    def _most_connections(self) -> int:
        return min(self.snapshot.gate.max_connections, self._room_for)

    async def _accept(self) -> None:
        """Listen. The sockets stay open in the supervisor: who knocks while nobody accepts waits in the kernel's line."""
        if self._servers or self._ends:
            return
        try:
            for place, one, front in self._spoken():
                if steps := self._steps(place, front):
                    self._servers.append(self._door(place, steps, front))
                    continue
                self._servers.append(await self._loop.create_server(self._connection(front), sock=one.dup(), backlog=4096))
        except OSError as error:  # there is no descriptor left: the next tick tries again, at all of them
            self.say(f"nobody new can be let in now: {error}")
            self._stop_accepting()
            return
        self._beats.mark(self.slot, READY)

    def _spoken(self) -> list[tuple[int, socket.socket, Front | None]]:
        """The listeners, by their place, with what is spoken there; None: plain HTTP. Not those of which nobody has said it."""
        names = [name for name, _ in self._begins()]
        found = [(place, one, self._fronts.get(names[place] or "")) for place, one in enumerate(self._sockets)]
        return [(place, one, front) for place, one, front in found if names[place] is None or front is not None]

    def _begins(self) -> list[tuple[str | None, bool]]:
        """Of each listener under which name it is said how TLS is spoken there (None: it is not), and whether proxies come."""
        count = len(self._sockets)
        names, proxied = self._orders.tls or (None,) * count, self._orders.proxied or (False,) * count
        return list(zip(names, proxied, strict=True))

    def _connection(self, front: Front | None) -> Callable[..., ClientConnection | Reading]:
        """What makes the connections of a listener."""
        if front is None:
            return lambda arrival=None: ClientConnection(self, arrival)
        if front.several:
            return lambda arrival=None: Reading(NamedConnection(self, front, arrival), self._decrypted)
        return lambda arrival=None: Reading(ClientConnection(self, arrival), self._decrypted)

    def _speak(self, tls: Tls) -> None:
        """Speak TLS so from now on. Connections and handshakes under way go on as they began.

        To listen anew costs nobody anything: who knocks meanwhile waits in the kernel's line.
        """
        try:
            changed = self._fronts.take(tls)
        except (ssl.SSLError, OSError) as error:  # control has tried the same before: here something is missing
            self.say(f"TLS goes on as before, what is new cannot be used: {error}")
            return
        self.challenges.dress(self._fronts.contexts())
        if changed and self._servers:
            self._stop_accepting()
            self._loop.create_task(self._accept())

    def _answer(self, challenges: Challenges) -> None:
        """Answer an authority so from now on."""
        try:
            self.challenges.take(challenges, self._fronts.contexts())
        except (ssl.SSLError, OSError) as error:
            self.say(f"a challenge cannot be answered: {error}")
        self._link.send(Answering(self.slot, challenges.number))

    def _steps(self, place: int, front: Front | None) -> list[Step]:
        """What a connection of that listener goes through before it is one; of plain ones for clients, nothing."""
        _, proxied = self._begins()[place]
        steps = [announced_by(lambda: self.snapshot.proxies)] if proxied else []
        return steps if front is None else [*steps, counted_by(self.guard), whole_hello]

    def _no_arrival(self, arrival: Arrival) -> None:
        """One that had come to a door is served, or will not be: then it is no connection of its address any more."""
        visitor, arrival.visitor = arrival.visitor, None
        if visitor is not None:
            self.guard.left(visitor)

    def _door(self, place: int, steps: list[Step], front: Front | None) -> Door:
        """The open door of that listener."""
        door = self._doors.get(place)
        if door is None:
            door = self._doors[place] = Door(self._loop, self._sockets[place], self._connection(front), self._no_arrival)
        door.most_waiting = door.most_handshakes = self._at_door
        door.most_asked_again = min(MOST_ASKED_AGAIN, door.most_handshakes)
        door.make, door.context, door.steps = self._connection(front), context_of(front), tuple(steps)
        door.open()
        return door

    def _is_deaf(self) -> bool:
        """Whether somebody has stood in the kernel's line for a whole tick in which nobody was let in.

        A loop that had no memory for a newcomer asks the kernel for no more of them and says nothing: it has to listen anew.
        """
        before = self._passed_by
        in_line = self._in_line()
        came = self.tally.connections + self.tally.turned_away + sum(door.came for door in self._doors.values())
        self._passed_by = came if in_line else -1
        return in_line and self._passed_by == before

    def _in_line(self) -> bool:
        """Whether anybody stands in the kernel's line."""
        return any(int.from_bytes(one.getsockopt(*_LINE)[24:], sys.byteorder) for one in self._sockets)

    def _stop_accepting(self) -> None:
        for server in self._servers:
            server.close()
        self._servers = []

    # -- time

    async def _tick(self) -> None:
        while not self.stopping:
            await asyncio.sleep(TICK)
            # What a tick without memory, or descriptors, left undone, the next one does; none at all would look like frost, and
            # cost everyone.
            try:
                await self._each_tick()
            except MemoryError:
                continue
            except OSError as error:
                if error.errno not in STARVED:
                    raise

    async def _each_tick(self) -> None:
        self.now = now = time.monotonic()
        wall = time.time()
        self.wall_offset = wall - now
        self._beats.beat(self.slot)
        self._ticks += 1
        # To look at a thousand streams costs as much as some of their chunks: no near cache holds them all.
        whole = self._ticks % CALM_TICKS == 0
        for connection in list(self._connections if whole else self._connections - self.calm):
            exchange = connection.exchange
            # told apart here, since nearly all have time left: a call for each would be a good part of a quiet worker's work
            if now >= connection.deadline or connection.paused_at or (exchange is not None and now >= exchange.deadline):
                connection.sweep(now)
            if exchange is not None and exchange.hold is not None:
                exchange.note_progress()
        if whole and self.calm:
            self.calm = {one for one in self.calm if one.exchange is not None and one.exchange.deadline >= now + CALM_SECONDS}
        with contextlib.suppress(OSError):  # a journal without room: it is asked for once a second
            self.pay()
        self.limiter.tick(wall)
        self._loop.call_later(TICK / 2, self._half_tick)
        self.keyed.tick(now)
        self.shadows.tick(now)
        self.captures.tick()
        self.tokens.sweep(now, wall)
        self.holders.sweep(now)
        if int(wall) != self._second:
            self._second = int(wall)
            self._each_second(now, wall)
        if self._servers and self._is_deaf():
            self._stop_accepting()
        self.guard.tick()
        if self._ends:
            return
        self._sieve.keep_out(self.guard.kept_out())
        if not self._servers and self.snapshot.generation > 0:
            most = self._most_connections()
            if len(self._connections) < most * 0.95:
                await self._accept()
            elif self._in_line():
                self.tally.shed += shed(self._connections, now, max(1, most // 20), self.date)

    def _banish(self, subjects: frozenset[int]) -> None:
        """These are banned now: their connections end, and requests of theirs that come over a proxy's are asked about."""
        for connection in list(self._connections):
            if connection.visitor is not None and connection.visitor.subject in subjects:
                connection.visitor.left = 0
            if connection.came_from is not None and connection.came_from.subject in subjects:
                connection.came_from.left = 0
                connection.banned()

    def _half_tick(self) -> None:
        """The limiter has twice as many ticks: what it holds of limits and does not need goes back within two of its own."""
        with contextlib.suppress(MemoryError):
            self.limiter.tick(time.monotonic() + self.wall_offset)

    def _each_second(self, now: float, wall: float) -> None:
        self.date = date_line(wall)
        self._complaints_left = COMPLAINTS_PER_SECOND
        self.guard.each_second()
        for door in self._doors.values():
            for line in door.tell():
                self.say(line)
        self.journal.prepare()
        self.limiter.prepare(self.snapshot.charges)
        if self._orders.sync is not None and now - self._synced >= self._orders.sync:
            self._synced = now
            self._loop.run_in_executor(None, self.journal.syncer())
        if parts := self.keyed.to_sweep():
            self._loop.run_in_executor(None, self.keyed.kept.sweep_all, parts)
        self.pools.sweep(now)
        self.pools.tick(now)
        self._link.send(self._figures(now))

    def _figures(self, now: float) -> TallyMessage:
        tally = self.tally
        in_flight = sum(1 for connection in self._connections if connection.exchange is not None)
        return TallyMessage(
            self.slot,
            len(self._connections),
            in_flight,
            tally.requests,
            tally.refused,
            tally.unjournaled,
            self.pools.tallies(now),
            tally.shadows,
            tally.shadows_dropped,
            tally.turned_away + sum(door.turned_away for door in self._doors.values()),
            tally.guarded,
            tally.bans,
            tally.shed,
            tally.mine,
        )

    # -- life

    async def run(self) -> None:
        """Serve until told to stop, then drain.

        SIGTERM, or the supervisor's end of the lifeline closes: the gate stops. SIGUSR1: another one has taken over.
        """
        self._raise_descriptors()
        loop = self._loop
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, self._terminate, stop)
        loop.add_signal_handler(signal.SIGUSR1, self._hand_over, stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # is for the supervisor, even when the whole group gets it
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C goes to the whole group: the supervisor decides
        loop.add_reader(self._orders.lifeline, self._supervisor_gone, stop)
        tick = loop.create_task(self._tick())
        link = loop.create_task(self._link.run())
        ended, _ = await asyncio.wait({tick, link, loop.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()  # tick and link end only by a fault: half a worker is none, and another takes over
        await self._drain()
        await self._hand_over_captures()
        self.stopping = True
        link.cancel()
        await asyncio.gather(tick, link, return_exceptions=True)
        with contextlib.suppress(MemoryError, OSError):  # control settles by the intents what this worker could not write
            self.pay()
        self.journal.close()

    def _hand_over(self, stop: asyncio.Event) -> None:
        """Who knocks from now on is another's; who is here keeps the connection until its next answer.

        An idle client cannot be told to go: it may be sending its next request just now.
        """
        if not self.draining:
            self.handed_over = True
        stop.set()

    def _terminate(self, stop: asyncio.Event) -> None:
        if self.handed_over:
            self.handed_over = False
            self._send_idle_away()
        stop.set()

    def _send_idle_away(self) -> None:
        for connection in list(self._connections):
            connection.drain()

    def _supervisor_gone(self, stop: asyncio.Event) -> None:
        self._loop.remove_reader(self._orders.lifeline)
        stop.set()

    def _raise_descriptors(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        room = hard - min(RESERVED_DESCRIPTORS, hard // 2)
        # Who stands at a door is no connection yet, and has a descriptor: a quarter of all are for those, that nobody takes from
        # clients what the work for them needs.
        if doors := sum(name is not None or proxied for name, proxied in self._begins()):
            self._at_door = max(1, min(MOST_WAITING, MOST_HANDSHAKES, room // 8 // doors))
            room -= 2 * self._at_door * doors
        # each client may need one more descriptor on its instance's side
        self._room_for = max(1, room // 2)

    async def _drain(self) -> None:
        """Take what has knocked already, finish what is under way within the limit, then close."""
        waiting = self._spoken() if self._servers else []
        self._ends = True
        self._stop_accepting()
        for place, one, front in waiting:
            if (door := self._doors.get(place)) is not None:
                door.take_the_rest()
            elif front is None:  # else TLS has only just been said there, and nobody was let in yet
                await self._accept_the_rest(one)
        self.draining = True
        self.shadows.stop()
        for one in self._sockets:
            one.close()
        if not self.handed_over:
            self._send_idle_away()
        until = time.monotonic() + self.snapshot.gate.drain_timeout
        await self._empty_doors()
        if self._connections:
            self._drained = self._loop.create_future()
            try:
                await asyncio.wait_for(self._drained, until - time.monotonic())
            except TimeoutError:
                for connection in list(self._connections):
                    connection.stop()
                await asyncio.sleep(TICK)  # the last words go out
        while self.keyed.alone and time.monotonic() < until:  # noqa: ASYNC110  # the tick is what sees them end
            await asyncio.sleep(TICK)
        self.keyed.stop()

    async def _empty_doors(self) -> None:
        """Who had come to a door is served as well; who says nothing there holds up a gate that stops for a moment only."""
        if not self._doors:
            return
        limit = self.snapshot.gate.drain_timeout
        seconds = limit if self.handed_over else min(DOOR_SECONDS, limit)
        before = self.tally.connections
        await asyncio.gather(*(door.emptied(seconds) for door in self._doors.values()))
        if not self.handed_over:
            if self._connections and self.tally.connections > before:  # whoever has just come in has yet to ask
                await asyncio.sleep(2 * TICK)
            self._send_idle_away()

    async def _hand_over_captures(self) -> None:
        """What roles want kept goes to control before this worker does, unless nobody takes it."""
        until = time.monotonic() + CAPTURE_SECONDS
        while not self.captures.empty and time.monotonic() < until:
            self.captures.tick()
            await asyncio.sleep(TICK / 5)
        if not self.captures.empty:
            tell(f"worker {self.slot}: contents that roles want kept are lost: {self.captures}")

    async def _accept_the_rest(self, listener: socket.socket) -> None:
        """Whom the kernel has let in at a listener without a door counts as accepted: they are served before the worker goes."""
        listener.setblocking(False)
        let_in: list[socket.socket] = []
        with contextlib.suppress(OSError):
            while True:
                let_in.append(listener.accept()[0])
        make = self._connection(None)
        # Who has left meanwhile loses its own connection only.
        await asyncio.gather(*(self._loop.connect_accepted_socket(make, one) for one in let_in), return_exceptions=True)


class WorkerLoop(OwnLookups, uvloop.Loop):  # type: ignore[misc]  # what uvloop says of its own methods is not what asyncio does
    """uvloop's, which looks up two names at a time by itself: two that get no answer would keep all others from theirs."""


def _uncaught(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop met an exception that nobody took.

    Where memory was missing for the loop's own work, wake-ups are lost and nobody can say which: a timer, a client. Such a
    loop is not to be relied on, and ends at once, without tidying up (that needs memory too), for another worker to take over.
    What one connection had no room for costs that connection: the loop has closed it.
    """
    if "transport" not in context and isinstance(context.get("exception", sys.exc_info()[1]), MemoryError):
        os._exit(OUT_OF_MEMORY)
    loop.default_exception_handler(context)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """The same for a place from which no exception can be handed on, in the loop's C code.

    Who asks in a handshake for a name that is no ASCII has it ended by the `ssl` module, which says so here: that is no news,
    and anybody could fill the log with it.
    """
    failure = unraisable.exc_value
    if isinstance(failure, MemoryError):
        os._exit(OUT_OF_MEMORY)
    if not (isinstance(failure, UnicodeDecodeError) and failure.object == unraisable.object):
        sys.__unraisablehook__(unraisable)


async def _main(orders: WorkerOrders) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_uncaught)
    sys.unraisablehook = _unraisable
    try:
        await Worker(orders, loop).run()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def main() -> None:
    """Entry of `python -m slmgate.dataplane.worker ORDERS`."""
    orders = msgspec.json.decode(sys.argv[1], type=WorkerOrders)
    never_wait("stderr")
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # the road makes few cycles; frequent young collections would only cost
    uvloop.run(_main(orders), loop_factory=WorkerLoop)


if __name__ == "__main__":
    main()
