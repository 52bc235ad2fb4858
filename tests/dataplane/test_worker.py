"""A worker's life on fakes: snapshots, listening within its bounds, beats and figures, drain, and the line to its supervisor.

The real process, with signals and sockets, is started in tests/system.
Length: one life, which every test here begins on the same stage.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import ssl
import sys
import threading
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import msgspec
import pytest
import uvloop

from slmgate import __version__
from slmgate.dataplane import worker as module
from slmgate.dataplane.client import ClientConnection
from slmgate.dataplane.door import GUARDED, STRANGER, Arrival, whole_hello
from slmgate.dataplane.exchange import HEARD_WITHIN
from slmgate.dataplane.journal import Journal
from slmgate.dataplane.named import NamedConnection
from slmgate.dataplane.reading import Reading
from slmgate.dataplane.worker import COMPLAINTS_PER_SECOND, OUT_OF_MEMORY, TICK
from slmgate.link.beats import READY, STARTING, Beats
from slmgate.link.lookups import OwnLookups
from slmgate.link.messages import (
    Checked,
    CheckedOut,
    Confirm,
    Hello,
    InstanceTally,
    KeysChanged,
    KeysWhole,
    Look,
    Looked,
    Message,
    Publish,
    Tally,
)
from slmgate.link.orders import WorkerOrders
from slmgate.link.tls import Tls, TlsSpec
from slmgate.policy.guard import GuardSpec
from slmgate.policy.specs import GateSpec, SnapshotSpec
from slmgate.terms import Key, LimitSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.fakes import Clock, FakeLoop, FakeTransport
from tests.tools.road import Road
from tests.tools.stage import Stage, instance, model, reply, request


class FakeSocket:
    """A listening socket in whose line clients may be waiting."""

    waiting = 0
    descriptors = 1000

    def __init__(self, fileno: int) -> None:
        self.fileno = fileno
        self.closed = False

    def dup(self) -> FakeSocket:
        if FakeSocket.descriptors == 0:
            raise OSError(errno.EMFILE, "Too many open files")
        FakeSocket.descriptors -= 1
        return self

    def setblocking(self, on: bool) -> None:
        assert not on

    def accept(self) -> tuple[object, str]:
        if FakeSocket.waiting == 0:
            raise BlockingIOError
        FakeSocket.waiting -= 1
        return object(), "peer"

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """Linux's `tcp_info`, of which only the length of the line is asked."""
        return FakeSocket.waiting.to_bytes(4, sys.byteorder).rjust(size, b"\xff")

    def setsockopt(self, level: int, option: int, value: object) -> None:
        """Filters of banned addresses: there is none to be taken off."""
        raise OSError

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def listening(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> OpenRoad:
    """Roads of workers that listen on two sockets."""
    monkeypatch.setattr(module, "socket", SimpleNamespace(socket=FakeSocket))

    def opened(*models: Any, **settings: Any) -> Road:
        return open_road(*models, listeners=(10, 11), **settings)

    FakeSocket.waiting = 0
    return opened


def knock(stage: Stage) -> Any:
    """A client connects through the newest listening server."""
    client: Any = stage.loop.servers[-1].factory()
    client.connection_made(FakeTransport(stage.loop, client, lambda what, data: stage.loop.told("client", what, data)))
    stage.clients.append(client)
    return client


def state(stage: Stage) -> int:
    return Beats(stage.board).read(0)[1]


def test_it_listens_after_its_first_snapshot(listening: OpenRoad) -> None:
    stage = listening().stage
    assert len(stage.loop.servers) == 2
    assert state(stage) == READY
    stage.publish()
    stage.loop.turn(1)
    assert len(stage.loop.servers) == 2


def test_it_is_not_ready_without_a_snapshot(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "publish", lambda self: None)
    stage = Stage(tmp_path, monkeypatch)
    stage.loop.turn(2)
    assert state(stage) == STARTING
    assert stage.worker.snapshot.generation == 0
    stage.shut()


@pytest.mark.parametrize("bound", [1, 2])
def test_the_bound_of_connections(listening: OpenRoad, bound: int) -> None:
    """At the bound it stops accepting: who comes then waits in the kernel's line. It goes on when some have left."""
    stage = listening(gate=GateSpec(max_connections=bound)).stage
    for number in range(bound):
        assert not stage.loop.servers[0].closed, number
        knock(stage)
    assert [server.closed for server in stage.loop.servers] == [True, True]
    stage.loop.turn(1)
    assert len(stage.loop.servers) == 2
    stage.clients[0].connection_lost(None)
    stage.loop.turn(1)
    assert [server.closed for server in stage.loop.servers] == [True, True, False, False]


def test_a_full_gate_makes_room_for_who_waits(listening: OpenRoad) -> None:
    """Only while somebody stands in the kernel's line, and only by those who had a second to show a key."""
    stage = listening(gate=GateSpec(max_connections=2)).stage
    stage.loop.told = lambda *_: None
    knock(stage)
    stage.clients[0].data_received(request({"model": "m"}))
    stage.loop.turn(2)
    knock(stage)
    FakeSocket.waiting = 1
    stage.loop.turn(0.75)
    assert [client.state for client in stage.clients] == ["busy", "head"]
    FakeSocket.waiting = 0
    stage.loop.turn(0.5)
    assert stage.clients[1].state == "head"
    FakeSocket.waiting = 1
    stage.loop.turn(2 * TICK)
    assert [client.state for client in stage.clients] == ["busy", "closed"]
    assert stage.worker.tally.shed == 1
    assert not stage.loop.servers[-1].closed


def test_a_deaf_listener_is_renewed(listening: OpenRoad) -> None:
    """Somebody waits and nobody is let in, from one tick to the next; while clients come in, a line means nothing."""
    stage = listening().stage
    stage.loop.turn(1)
    FakeSocket.waiting = 1
    for _ in range(8):
        knock(stage)
        stage.loop.turn(TICK)
    assert [server.closed for server in stage.loop.servers] == [False, False]
    stage.loop.turn(TICK)
    assert [server.closed for server in stage.loop.servers] == [True, True, False, False]
    FakeSocket.waiting = 0
    stage.loop.turn(1)
    assert len(stage.loop.servers) == 4


def test_no_connections_allowed(listening: OpenRoad) -> None:
    stage = listening(gate=GateSpec(max_connections=0)).stage
    knock(stage)
    stage.loop.turn(1)
    assert all(server.closed for server in stage.loop.servers)


def test_beats_and_figures_each_second(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    stage = road.stage
    sent: list[Message] = []
    stage.worker._link.send = sent.append  # type: ignore[method-assign, assignment]  # control is listening
    stage.connect("client").feed(request({"model": "m"}))
    stage.connect("client2").feed(request({"model": "m"}))
    stage.connect("client3").feed(request({"model": "zzz"}))
    stage.loop.turn(1)
    assert Beats(stage.board).read(0) == (stage.clock.passed, READY)
    assert sent[-1] == Tally(0, 3, 2, 1, 1, 0, (InstanceTally("a", "m", 1, 1, True, served=1.0),))
    before = stage.worker.date
    stage.loop.turn(2)
    assert len(sent) >= 3
    assert stage.worker.date != before


def test_what_it_tells_of_an_instances_health(open_road: OpenRoad) -> None:
    stage = open_road(model("a", "b", "c")).stage
    sent: list[Message] = []
    stage.worker._link.send = sent.append  # type: ignore[method-assign, assignment]  # control is listening
    stage.worker._told(Checked(out=(CheckedOut("c", "refused", "GET /health answered 503"),)))
    stage.worker.pools.models["m"].instances[0].failed("unreachable", "it cannot be reached", stage.clock.passed)
    stage.loop.turn(0.25)
    assert isinstance(sent[-1], Tally)
    a, b, c = sent[-1].instances
    assert a == InstanceTally("a", "m", 0, 0, False, "ejected", "it cannot be reached", 0.25, 1)
    assert b == InstanceTally("b", "m", 0, 0, True)
    assert c == InstanceTally("c", "m", 0, 0, False, "unhealthy", "GET /health answered 503")
    stage.worker._told(Checked(well=("c",)))
    stage.loop.turn(1)
    assert isinstance(sent[-1], Tally)
    assert [(one.healthy, one.state) for one in sent[-1].instances][2] == (True, "recovering")


def test_the_wall_clock_may_step(road: Road) -> None:
    stage = road.stage
    stage.clock.epoch += 3600
    stage.loop.turn(1)
    assert stage.clock.monotonic() + stage.worker.wall_offset == stage.clock.time()
    stage.clock.epoch -= 7200
    stage.loop.turn(1)
    assert stage.clock.monotonic() + stage.worker.wall_offset == stage.clock.time()


def test_a_tick_without_memory_is_not_the_last(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, tried = road.stage.worker, []

    def prepare() -> bool:
        tried.append(road.stage.clock.monotonic())
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr(Journal, "prepare", lambda _: prepare())
        road.stage.loop.turn(3)
    assert len(tried) >= 3
    assert worker.now == pytest.approx(road.stage.clock.monotonic(), abs=TICK)


def test_half_a_worker_ends(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in what lasts as long as the process ends it, for another to take over."""
    with monkeypatch.context() as broken:
        broken.setattr(Journal, "prepare", lambda _: 1 / 0)
        road.stage.loop.turn(1.5)
    assert isinstance(road.stage.life.exception(), ZeroDivisionError)


@pytest.mark.parametrize("times", [COMPLAINTS_PER_SECOND, COMPLAINTS_PER_SECOND + 1])
def test_complaints_are_bounded(road: Road, capsys: pytest.CaptureFixture[str], times: int) -> None:
    for number in range(times):
        road.stage.worker.complain(f"a: no {number}", "r-1")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == COMPLAINTS_PER_SECOND
    assert said[0] == "slmgate: request r-1: a: no 0"
    road.stage.worker.report_fault()
    assert bool(capsys.readouterr().err) is False
    road.stage.loop.turn(1)
    road.stage.worker.complain("again", "r-2")
    assert capsys.readouterr().err == "slmgate: request r-2: again\n"


def test_bytes_heard_within_a_tick_count() -> None:
    assert HEARD_WITHIN >= TICK


def test_ids_are_unique(road: Road) -> None:
    ids = [road.stage.worker.next_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {id[:12].decode() for id in ids} == {road.stage.worker.incarnation}


def test_what_control_says(road: Road) -> None:
    worker = road.stage.worker
    sent: list[Message] = []
    worker._link.send = sent.append  # type: ignore[method-assign, assignment]  # control is listening
    spec = SnapshotSpec(generation=9, models=(model("b", name="n"),))
    worker._told(Publish(spec))
    worker._told(Confirm(0, 1))  # not for workers: ignored
    assert sent == [Confirm(0, 9)]
    assert list(worker.pools.models) == ["n"]
    assert worker._hello() == Hello(0, os.getpid(), worker.incarnation, 9, version=__version__)


def some(id: str, **fields: Any) -> Key:
    return Key(id=id, name=id, digests=((id.encode().ljust(32), None),), **fields)


def test_keys_that_change_make_another_snapshot(road: Road) -> None:
    worker = road.stage.worker
    sent: list[Message] = []
    worker._link.send = sent.append  # type: ignore[method-assign, assignment]  # control is listening
    before, pool = worker.snapshot, worker.pools.models["m"]
    worker._told(KeysChanged(9, (some("new"),), ("k1",)))
    assert worker.snapshot is not before
    assert (worker.snapshot.generation, worker.snapshot.models) == (9, before.models)
    assert worker.keys.ids() == ["new"]
    assert worker.pools.models["m"] is pool
    worker._told(Publish(SnapshotSpec(generation=10, models=(model(),)), (some("declared:x"),), ("new",)))
    assert worker.keys.ids() == ["declared:x"]
    assert sent == [Confirm(0, 9), Confirm(0, 10)]


def test_limits_of_keys_are_in_force_with_the_change_that_brings_them(road: Road) -> None:
    worker = road.stage.worker
    sent: list[Message] = []
    worker._link.send = sent.append  # type: ignore[method-assign, assignment]  # control is listening
    before = worker.snapshot.charges
    worker._told(KeysChanged(9, (some("new"),)))
    assert worker.snapshot.charges is before
    limit = LimitSpec(name="key.limits[0]", text="1 concurrent", identity="i", unit="concurrent", amount=1)
    worker._told(KeysChanged(10, (some("new", limits=(limit,)),)))
    assert worker.snapshot.charges is not before
    assert worker.snapshot.charges.any
    del sent[:]
    worker._told(Look(5, (limit,), ((0, "new"),)))
    assert sent == [Looked(5, ((0, 1),))]


def test_all_keys_again_while_it_serves(road: Road) -> None:
    """Another control process: nothing is confirmed until all keys are here, and what is known stays known meanwhile."""
    worker = road.stage.worker
    sent: list[Message] = []
    worker._link.send = sent.append  # type: ignore[method-assign, assignment]  # control is listening
    worker._told(Publish(SnapshotSpec(generation=20, models=(model(),))))
    worker._told(KeysWhole(20, (some("a"),), first=True))
    worker._told(KeysChanged(21, (some("b"),)))
    assert set(worker.keys.ids()) == {"k1", "a", "b"}
    assert (worker._hello().generation, worker.snapshot.generation) == (20, 21)
    assert sent == [Confirm(0, 20)]
    worker._told(KeysWhole(21, (some("c"),), last=True))
    assert set(worker.keys.ids()) == {"a", "b", "c"}
    assert sent[1:] == [Confirm(0, 21)]
    assert worker._hello().generation == 21


def test_it_accepts_nobody_before_it_has_all_keys(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "publish", lambda self: None)
    monkeypatch.setattr(module, "socket", SimpleNamespace(socket=FakeSocket))
    stage = Stage(tmp_path, monkeypatch, listeners=(10,))
    stage.worker._told(Publish(SnapshotSpec(generation=3, models=(model(),)), (some("declared:x"),)))
    stage.worker._told(KeysWhole(3, (some("a"),), first=True))
    stage.worker._told(KeysChanged(4, (some("b"),)))
    stage.loop.turn(1)
    assert (stage.loop.servers, state(stage), stage.worker._hello().generation) == ([], STARTING, 0)
    stage.worker._told(KeysWhole(4, (), last=True))
    stage.loop.turn(1)
    assert len(stage.loop.servers) == 1
    assert (state(stage), stage.worker._hello().generation) == (READY, 4)
    stage.shut()


def test_listening_anew_without_descriptors(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It costs nobody who is here anything: it is tried again each tick, at all listeners, and none is forgotten."""
    monkeypatch.setattr(module, "socket", SimpleNamespace(socket=FakeSocket))
    monkeypatch.setattr(FakeSocket, "descriptors", 1)
    stage = Stage(tmp_path, monkeypatch, listeners=(10, 11))
    stage.loop.turn(TICK)
    assert [server.closed for server in stage.loop.servers] == [True]
    assert not stage.life.done()
    assert "nobody new can be let in now" in capsys.readouterr().err
    FakeSocket.descriptors = 2
    stage.loop.turn(TICK)
    assert [server.closed for server in stage.loop.servers] == [True, False, False]
    stage.shut()


@pytest.mark.parametrize(
    ("number", "lives"), [(errno.EMFILE, True), (errno.ENFILE, True), (errno.ENOMEM, True), (errno.EIO, False)]
)
def test_a_tick_that_finds_no_descriptor(road: Road, monkeypatch: pytest.MonkeyPatch, number: int, lives: bool) -> None:
    """The next one finds it; any other fault of the kernel ends the worker, for another to take over."""
    stage = road.stage

    def fails(now: float) -> None:
        raise OSError(number, "none")

    with monkeypatch.context() as patch:
        patch.setattr(stage.worker.keyed, "tick", fails)
        stage.loop.turn(TICK)
    assert stage.life.done() is not lives
    if lives:
        beat = stage.worker.now
        stage.loop.turn(TICK)
        assert stage.worker.now > beat
    else:
        assert isinstance(stage.life.exception(), OSError)


# --- TLS


class FakeDoor:
    """What a worker does with the door of a listener."""

    made: ClassVar[list[FakeDoor]] = []

    def __init__(self, loop: FakeLoop, listener: FakeSocket, make: Any, over: Any) -> None:
        FakeDoor.made.append(self)
        self.loop = loop
        self.listener = listener
        self.make = make
        self.over = over
        self.context: Any = "unset"
        self.steps: tuple[Any, ...] = ()
        self.most_waiting = self.most_handshakes = self.most_asked_again = 0
        self.came = 0
        self.turned_away = 0
        self.told: list[str] = []
        self.lines: list[str] = []
        self.waiting: asyncio.Future[None] | None = None
        self.seconds = 0.0

    def open(self) -> None:
        self.told.append("open")

    def close(self) -> None:
        self.told.append("close")

    def take_the_rest(self) -> None:
        self.told.append("rest")

    async def emptied(self, seconds: float) -> None:
        self.seconds = seconds
        if self.waiting is not None:
            await self.waiting
        self.told.append("empty")

    def tell(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


def spoken(*names: str, **options: Any) -> Tls:
    return Tls(tuple(TlsSpec(name=name, identities=(), **options) for name in names))


class FakeFront:
    """Of a listener with several certificates where its oldest version is 1.3; one for clients with certificates is broken."""

    def __init__(self, spec: TlsSpec, ticket_key: bytes) -> None:
        if spec.client_required:
            raise ssl.SSLError(1, "no such certificate")
        self.spec, self.context, self.several = spec, object(), spec.min_version == "1.3"

    def is_misdirected(self, host: str, context: object) -> bool:
        return False


def behind(protocol: Any) -> Any:
    """The connection behind what a listener with TLS makes."""
    assert isinstance(protocol, Reading)
    return protocol.client


@pytest.fixture
def speaking(listening: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A worker with one plain listener and one that is to speak TLS; nobody has said yet how."""
    FakeDoor.made = []
    monkeypatch.setattr(module, "Door", FakeDoor)
    monkeypatch.setattr("slmgate.dataplane.tls.Front", FakeFront)
    return listening(tls=(None, "a:1")).stage


def test_nobody_is_let_in_where_nobody_has_said_how_tls_is_spoken(speaking: Stage) -> None:
    assert len(speaking.loop.servers) == 1
    speaking.worker._told(spoken("another:2"))
    speaking.loop.turn(0.5)
    speaking.worker._told(spoken("a:1"))
    assert FakeDoor.made == []
    speaking.loop.settle()
    assert not speaking.loop.servers[-1].closed
    (door,) = FakeDoor.made
    assert (door.told, door.listener.fileno) == (["open"], 11)
    assert type(behind(door.make())) is ClientConnection


def test_handshakes_are_counted_before_they_begin(speaking: Stage) -> None:
    """The guard is asked at the door; what came to nothing there is given back, and what is served only by its connection."""
    worker = speaking.worker
    speaking.publish(gate=GateSpec(guard=GuardSpec(connections=2)))
    worker._told(spoken("a:1"))
    speaking.loop.settle()
    (door,) = FakeDoor.made
    step, hello = door.steps
    assert hello is whole_hello
    assert (door.most_waiting, door.most_handshakes, door.most_asked_again) == (504, 504, 64)
    first, second, third = (Arrival(cast(Any, None), "203.0.113.9", None, door.make) for _ in range(3))
    assert [step(one, b"") for one in (first, second, third, first)] == [0, 0, GUARDED, 0]
    door.over(first)
    assert step(third, b"") == 0, "the first handshake failed"
    client = behind(door.make(second))
    client.connection_made(FakeTransport(speaking.loop, client, lambda what, data: None))
    door.over(second)
    assert client.came_from is third.visitor
    fourth = Arrival(cast(Any, None), "203.0.113.9", None, door.make)
    assert step(fourth, b"") == GUARDED
    client.connection_lost(None)
    assert step(fourth, b"") == 0
    assert worker.tally.turned_away == 2
    for one in (third, fourth):
        door.over(one)


def test_new_orders_make_it_listen_anew(speaking: Stage) -> None:
    worker, loop = speaking.worker, speaking.loop
    worker._told(spoken("a:1"))
    loop.settle()
    kept = knock(speaking)
    before = list(loop.servers)
    (door,) = FakeDoor.made
    worker._told(spoken("a:1"))
    loop.settle()
    assert loop.servers == before, "nothing is new"
    worker._told(spoken("a:1", min_version="1.3"))
    loop.settle()
    assert all(server.closed for server in before)
    assert [server.closed for server in loop.servers[len(before) :]] == [False]
    assert (FakeDoor.made, door.told) == ([door], ["open", "close", "open"])
    assert kept.state == "head"
    assert type(behind(door.make())) is NamedConnection
    assert type(loop.servers[-1].factory()) is ClientConnection, "plain HTTP"


def test_what_cannot_be_used_is_said(speaking: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    speaking.worker._told(spoken("a:1"))
    speaking.loop.settle()
    before = list(speaking.loop.servers)
    speaking.worker._told(spoken("a:1", client_required=True))
    speaking.loop.settle()
    assert speaking.loop.servers == before and not before[-1].closed
    assert "TLS goes on as before, what is new cannot be used" in capsys.readouterr().err


def test_who_does_not_listen_is_not_made_to(speaking: Stage) -> None:
    """At its bound of connections, or at its end."""
    speaking.worker._told(spoken("a:1"))
    speaking.loop.settle()
    speaking.loop.signals[signal.SIGUSR1]()
    speaking.loop.settle()
    before = list(speaking.loop.servers)
    speaking.worker._told(spoken("a:1", min_version="1.3"))
    speaking.loop.settle()
    assert speaking.loop.servers == before and all(server.closed for server in before)


# --- the end


def test_an_idle_worker_ends_at_once(listening: OpenRoad) -> None:
    stage = listening().stage
    idle = knock(stage)
    stage.loop.signals[signal.SIGINT]()
    stage.loop.turn(1)
    assert not stage.life.done(), "Ctrl-C reaches the whole group: only the supervisor may act on it"
    stage.loop.signals[signal.SIGTERM]()
    stage.loop.turn(1)
    assert stage.life.done() and stage.life.exception() is None
    assert idle.state == "closed"
    assert all(server.closed for server in stage.loop.servers)
    assert [one.closed for one in stage.worker._sockets] == [True, True]  # type: ignore[attr-defined]  # they are fakes


def test_it_ends_when_its_supervisor_is_gone(road: Road) -> None:
    (gone,) = road.stage.loop.readers.values()
    gone()
    road.stage.loop.turn(1)
    assert road.stage.life.done()
    assert road.stage.loop.readers == {}


def test_who_has_knocked_already_is_served(listening: OpenRoad) -> None:
    """Those in the kernel's line count as accepted: their requests are answered before the worker goes."""
    stage = listening().stage
    FakeSocket.waiting = 2
    stage.loop.signals[signal.SIGTERM]()
    stage.loop.settle()
    assert FakeSocket.waiting == 0
    assert stage.worker.tally.connections == 2


@pytest.fixture
def behind_proxies(listening: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A worker of whose two listeners the second is for proxies."""
    FakeDoor.made = []
    monkeypatch.setattr(module, "Door", FakeDoor)
    return listening(proxied=(False, True), gate=GateSpec(trusted_proxies=("10.0.0.5",), max_connections=2)).stage


def test_a_listener_for_proxies_has_a_door(behind_proxies: Stage) -> None:
    stage = behind_proxies
    assert len(stage.loop.servers) == 1
    (door,) = FakeDoor.made
    assert (door.listener.fileno, door.context, door.told) == (11, None, ["open"])

    (step,) = door.steps
    assert step(Arrival(cast(Any, None), "10.0.0.5", None, door.make), b"") is None
    assert step(Arrival(cast(Any, None), "10.0.0.6", None, door.make), b"") == STRANGER
    stage.publish(gate=GateSpec(trusted_proxies=("10.0.0.6",), max_connections=2))
    assert step(Arrival(cast(Any, None), "10.0.0.6", None, door.make), b"") is None
    client = door.make(Arrival(cast(Any, None), "203.0.113.9", None, door.make))
    client.connection_made(FakeTransport(stage.loop, client, lambda what, data: None))
    assert client.address == "203.0.113.9"
    knock(stage)
    assert door.told == ["open", "close"], "the bound of connections holds for those too"
    client.connection_lost(None)
    stage.loop.turn(0.25)
    assert door.told == ["open", "close", "open"]
    assert door.most_waiting == 504  # a quarter of the connections for which there are descriptors
    assert FakeDoor.made == [door]


def test_who_comes_to_the_door_is_somebody(behind_proxies: Stage) -> None:
    """Those at the door are let in, though they are no connections yet: nobody is deaf."""
    stage = behind_proxies
    (door,) = FakeDoor.made
    FakeSocket.waiting = 1
    for _ in range(4):
        door.came += 1
        stage.loop.turn(0.25)
    assert door.told == ["open"]
    stage.loop.turn(0.25)
    assert door.told == ["open", "close", "open"]
    FakeSocket.waiting = 0


def test_whom_the_door_has_turned_away(behind_proxies: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    (door,) = FakeDoor.made
    door.lines = ["one", "two"]
    behind_proxies.loop.turn(1)
    assert capsys.readouterr().err == "slmgate: worker 0: one\nslmgate: worker 0: two\n"


@pytest.mark.parametrize(("by", "seconds"), [(signal.SIGTERM, 2.0), (signal.SIGUSR1, 30.0)])
def test_drain_waits_for_those_at_the_door(behind_proxies: Stage, by: int, seconds: float) -> None:
    """For a moment, or where another gate has taken over as long as for anybody; nothing else waits for them."""
    stage = behind_proxies
    (door,) = FakeDoor.made
    door.waiting = stage.loop.create_future()
    stage.loop.signals[by]()
    stage.loop.turn(1)
    assert door.told == ["open", "close", "rest"]
    assert door.seconds == seconds
    assert stage.worker.draining
    assert not stage.life.done()
    late = ClientConnection(stage.worker, None)
    late.connection_made(FakeTransport(stage.loop, late, lambda what, data: None))
    late.connection_lost(None)
    assert not stage.life.done(), "others may come of the door"
    last = ClientConnection(stage.worker, None)
    transport = FakeTransport(stage.loop, last, lambda what, data: None)
    last.connection_made(transport)
    door.waiting.set_result(None)
    stage.loop.turn(0.25)
    assert not transport.is_closing(), "it has yet to ask for something"
    stage.loop.turn(0.5)
    assert transport.is_closing() is (by == signal.SIGTERM)
    if not transport.is_closing():
        last.connection_lost(None)
    stage.loop.turn(1)
    assert door.told == ["open", "close", "rest", "empty"]
    assert stage.life.done()


def test_drain_waits_for_answers_but_no_longer_than_its_limit(listening: OpenRoad) -> None:
    stage = listening(gate=GateSpec(drain_timeout=5.0)).stage
    client = knock(stage)
    client.data_received(request({"model": "m"}))
    stage.loop.settle()
    stage.loop.signals[signal.SIGTERM]()
    stage.loop.turn(4.5)
    assert not stage.life.done()
    assert not stage.worker.ready()
    stage.publish()
    stage.loop.turn(0.25)
    assert all(server.closed for server in stage.loop.servers), "a snapshot makes no draining worker listen"
    stage.loop.turn(2)
    assert stage.life.done()
    assert [one["ended"] for one in stage.receipts] == ["gate_stopped"]


def test_drain_ends_with_the_last_answer(listening: OpenRoad) -> None:
    stage = listening().stage
    client = knock(stage)
    client.data_received(request({"model": "m"}))
    stage.loop.settle()
    stage.loop.signals[signal.SIGTERM]()
    stage.loop.turn(2)
    assert not stage.life.done()
    stage.loop.opened["a"][0].feed(reply(b"{}"))
    stage.loop.turn(0.5)
    assert stage.life.done()
    assert [one["ended"] for one in stage.receipts] == ["complete"]


def test_when_another_gate_has_taken_over_nobody_is_sent_away(listening: OpenRoad) -> None:
    """An idle client may be sending its next request just now: it is served, and told to go."""
    stage = listening().stage
    answers: list[bytes] = []
    stage.loop.told = lambda who, what, data: answers.append(data) if (who, what) == ("client", "write") else None
    idle, pipelining = knock(stage), knock(stage)
    pipelining.data_received(request({"model": "m"}) * 2)
    stage.loop.settle()
    stage.loop.signals[signal.SIGUSR1]()
    stage.loop.turn(2)
    assert all(server.closed for server in stage.loop.servers)
    assert idle.state == "head"
    assert stage.worker.ready(), "whoever asks here is not to think that the gate goes"
    (instance,) = stage.loop.opened["a"]
    instance.feed(reply(b"{}"))
    stage.loop.settle()
    assert pipelining.state == "busy", "what it has sent on is answered too"
    instance.feed(reply(b"{}"))
    stage.loop.settle()
    assert pipelining.state == "linger"
    idle.data_received(request({"model": "m"}))
    stage.loop.settle()
    instance.feed(reply(b"{}"))
    stage.loop.settle()
    assert [b"connection: close" in answer for answer in answers] == [False, True, True]
    assert not stage.life.done()
    for client in (idle, pipelining):
        client.connection_lost(None)
    stage.loop.turn(0.5)
    assert stage.life.done()
    assert [one["ended"] for one in stage.receipts] == ["complete"] * 3


def test_a_stop_after_that_sends_idle_clients_away(listening: OpenRoad) -> None:
    stage = listening(gate=GateSpec(drain_timeout=50.0)).stage
    idle = knock(stage)
    stage.loop.signals[signal.SIGUSR1]()
    stage.loop.turn(2)
    assert idle.state == "head"
    stage.loop.signals[signal.SIGUSR1]()
    stage.loop.signals[signal.SIGTERM]()
    stage.loop.turn(0.5)
    assert idle.state == "closed"
    assert stage.life.done()


def test_it_syncs_its_journal(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = open_road(sync=2.0)
    calls: list[Any] = []
    monkeypatch.setattr(FakeLoop, "run_in_executor", lambda self, where, call: calls.append(call))
    road.stage.loop.turn(6)
    assert len(calls) == 3
    for call in calls:
        call()


def test_started_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = WorkerOrders(slot=3, listeners=(), beats=-1, lifeline=-1, link="", journal="", answers="")
    started: list[WorkerOrders] = []

    class Recorder:
        def __init__(self, orders: WorkerOrders, loop: object) -> None:
            started.append(orders)

        async def run(self) -> None:
            """Ends at once."""

    def run(main: Any, *, loop_factory: type[uvloop.Loop]) -> None:
        assert issubclass(loop_factory, OwnLookups)
        loop = FakeLoop(Clock())
        task = loop.create_task(main)
        loop.settle()
        assert task.done()
        loop.close()

    monkeypatch.setattr(module, "Worker", Recorder)
    monkeypatch.setattr(module, "uvloop", SimpleNamespace(run=run))
    monkeypatch.setattr(module, "gc", SimpleNamespace(freeze=lambda: None, set_threshold=lambda *_: None))
    monkeypatch.setattr(sys, "argv", ["worker", msgspec.json.encode(orders).decode()])
    module.main()
    assert started == [orders]


def test_names_are_looked_up_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than uvloop would by itself, which has two at a time."""
    together = threading.Barrier(8)

    def answer(host: str, *_: object) -> list[object]:
        together.wait(10)
        return [host]

    monkeypatch.setattr("socket.getaddrinfo", answer)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, uvloop.Loop)
        found: list[Any] = await asyncio.gather(*(loop.getaddrinfo(f"i{number}", 80) for number in range(8)))
        assert found == [[f"i{number}"] for number in range(8)]

    uvloop.run(main(), loop_factory=module.WorkerLoop)


@pytest.mark.parametrize(("soft", "hard", "room"), [(1024, 1024, 480), (100, 4096, 2016), (10, 10, 2), (1, 1, 1)])
def test_descriptors_leave_room_for_pairs_of_connections(
    road: Road, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, room: int
) -> None:
    asked: list[tuple[int, int]] = []
    limits = SimpleNamespace(RLIMIT_NOFILE=7, getrlimit=lambda _: (soft, hard), setrlimit=lambda _, both: asked.append(both))
    monkeypatch.setattr(module, "resource", limits)
    road.stage.worker._raise_descriptors()
    assert road.stage.worker._room_for == room
    assert asked == ([(hard, hard)] if soft < hard else [])


@pytest.mark.parametrize(
    ("tls", "proxied", "hard", "room", "each"),
    [
        ((None, None), (False, False), 1064, 500, 1),
        ((None, "a:2"), (False, False), 1064, 375, 125),
        ((None, "a:2"), (True, True), 1064, 376, 62),
        ((None, "a:2"), (), 1 << 20, 520_160, 4096),
    ],
)
def test_who_stands_at_a_door_has_a_descriptor(
    road: Road,
    monkeypatch: pytest.MonkeyPatch,
    tls: tuple[str | None, ...],
    proxied: tuple[bool, ...],
    hard: int,
    room: int,
    each: int,
) -> None:
    """A quarter of all, whatever the number of doors: the rest is for clients, and for what is done for them."""
    limits = SimpleNamespace(RLIMIT_NOFILE=7, getrlimit=lambda _: (hard, hard))
    monkeypatch.setattr(module, "resource", limits)
    worker = road.stage.worker
    monkeypatch.setattr(worker, "_sockets", [cast(Any, None)] * 2)
    monkeypatch.setattr(worker, "_orders", msgspec.structs.replace(worker._orders, tls=tls, proxied=proxied))
    worker._raise_descriptors()
    assert (worker._room_for, worker._at_door) == (room, each)


@pytest.mark.parametrize("context", [{"exception": MemoryError()}, {}])
def test_a_loop_without_memory_ends_its_worker(context: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", sys.exit)

    def while_handling(context: dict[str, Any]) -> None:
        try:
            raise MemoryError
        except MemoryError:
            module._uncaught(cast(Any, None), context)

    with pytest.raises(SystemExit) as ended:
        while_handling(context)
    assert ended.value.code == OUT_OF_MEMORY
    with pytest.raises(SystemExit) as ended:
        module._unraisable(cast(Any, SimpleNamespace(exc_value=MemoryError())))
    assert ended.value.code == OUT_OF_MEMORY


def test_another_fault_of_the_loop_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "__unraisablehook__", told.append)
    loop = SimpleNamespace(default_exception_handler=told.append)
    module._uncaught(cast(Any, loop), {"exception": KeyError()})
    module._uncaught(cast(Any, loop), {"exception": MemoryError(), "transport": None})
    module._unraisable(cast(Any, SimpleNamespace(exc_value=KeyError())))
    assert len(told) == 3
