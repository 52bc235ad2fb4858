"""The door of a listener: its steps, what they take and choose, and whom they turn away; bounds of number and time.

Sockets are fakes that keep what has come, as the kernel does; a loop's own handling of them is tried in tests/system.

Length: all steps and bounds are tried on one kind of fake sockets, in one hall.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, cast

import pytest

from slmgate.dataplane import door as module
from slmgate.dataplane.door import (
    AT_ONCE,
    BROKEN,
    CROWDED,
    ENDLESS,
    LATE,
    LEFT,
    LONG,
    MOST_HELLO,
    PAUSE_SECONDS,
    PEEKED,
    PRESSED,
    STRANGER,
    WAIT_SECONDS,
    Arrival,
    Door,
    Step,
    announced_by,
    counted_by,
    whole_hello,
)
from slmgate.dataplane.guard import Guard
from slmgate.dataplane.tally import Tally
from slmgate.policy.guard import GuardSpec
from slmgate.policy.networks import Networks
from tests.tools.fakes import Clock, FakeLoop

PROXY = "10.0.0.5"
MSG_PEEK, SOL_SOCKET, SO_RCVLOWAT = 2, 1, 18  # Linux
HEADER = b"PROXY TCP4 203.0.113.9 192.0.2.1 50000 443\r\n"


class FakeSocket:
    """One connection as the kernel has it: what has come and was not taken. `failure` is raised instead of giving any of it."""

    def __init__(self, loop: FakeLoop, number: int, came: bytes = b"") -> None:
        self.loop = loop
        self.number = number
        self.came = came
        self.ended = False
        self.failure: OSError | None = None
        self.closed = False
        self.low_water = 1
        self.looks = 0

    def fileno(self) -> int:
        return self.number

    def setblocking(self, on: bool) -> None:
        assert not on

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert (level, option) == (SOL_SOCKET, SO_RCVLOWAT)
        self.low_water = value

    def recv(self, size: int, flags: int = 0) -> bytes:
        assert not self.closed
        if self.failure is not None:
            raise self.failure
        if not self.came and not self.ended:
            raise BlockingIOError
        found = self.came[:size]
        if flags == MSG_PEEK:
            self.looks += 1
        else:
            self.came = self.came[size:]
        return found

    def close(self) -> None:
        assert self.number not in self.loop.readers, "closed under a reader"
        self.closed = True

    # -- the other side

    def feed(self, data: bytes) -> None:
        self.came += data
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def fail(self) -> None:
        self.failure = ConnectionResetError()
        self._wake()

    def _wake(self) -> None:
        if self.number in self.loop.readers and (self.ended or self.failure or len(self.came) >= self.low_water):
            self.loop.readers[self.number]()
        self.loop.settle()


class FakeListener:
    def __init__(self) -> None:
        self.line: list[tuple[FakeSocket, Any] | OSError] = []
        self.name: tuple[Any, ...] = ("0.0.0.0", 8443)

    def fileno(self) -> int:
        return 3

    def setblocking(self, on: bool) -> None:
        assert not on

    def getsockname(self) -> tuple[Any, ...]:
        return self.name

    def accept(self) -> tuple[FakeSocket, Any]:
        if not self.line:
            raise BlockingIOError
        first = self.line.pop(0)
        if isinstance(first, OSError):
            raise first
        return first


class Served:
    """The protocol that serves an arrival."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport


class Hall:
    """A door with its listener on a turned clock, and whom it has let through."""

    def __init__(self, *steps: Step) -> None:
        self.loop = FakeLoop(Clock())
        self.listener = FakeListener()
        self.served: list[Served] = []
        self.door = Door(self.loop, cast(Any, self.listener), self.make)
        self.door.steps = steps
        self.numbers = iter(range(10, 10_000))
        self.door.open()

    def make(self, arrival: Arrival) -> Any:
        self.served.append(Served(arrival))
        return self.served[-1]

    def stands(self, came: bytes = b"", peer: Any = (PROXY, 40000)) -> FakeSocket:
        """Somebody stands in the kernel's line."""
        one = FakeSocket(self.loop, next(self.numbers), came)
        self.listener.line.append((one, peer))
        return one

    def knocks(self, came: bytes = b"", peer: Any = (PROXY, 40000)) -> FakeSocket:
        one = self.stands(came, peer)
        self.wake()
        return one

    def wake(self) -> None:
        self.loop.readers[3]()
        self.loop.settle()

    @property
    def told(self) -> str:
        return "\n".join(self.door.tell())


@pytest.fixture
def hall() -> Iterator[Hall]:
    """The door of a listener with the PROXY protocol, of which the network of `PROXY` is trusted."""
    trusted = Networks(["10.0.0.0/24"])
    made = Hall(announced_by(lambda: trusted))
    yield made
    made.loop.shut()
    assert not made.loop.failures


def two_bytes(arrival: Arrival, seen: bytes) -> int | str | None:
    """A step that wants two bytes and takes them off."""
    return 2 if len(seen) >= 2 else None


def test_whom_the_guard_turns_away() -> None:
    """At once, without a task and without a word, since the guard tells of it. Of all others their end is told."""
    guard = Guard(None, (0, 1), Tally(), str, len)
    guard.update(GuardSpec(connections=1))
    hall = Hall(counted_by(guard))
    over: list[Arrival] = []
    hall.door = Door(hall.loop, cast(Any, hall.listener), hall.make, over.append)
    hall.door.steps = (counted_by(guard),)
    hall.loop.readers.clear()
    hall.door.open()
    first, second = hall.knocks(), hall.knocks()
    assert (first.closed, second.closed) == (False, True)
    assert (hall.told, hall.door.turned_away, len(hall.served)) == ("", 0, 1)
    (arrival,) = over
    assert arrival.counted
    assert arrival.visitor is not None
    assert arrival.visitor.live == 1
    hall.loop.shut()


def dragged_out(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Handshakes have no end from now on but that they are cut off: the numbers of those sockets, as it happens."""
    ended: list[int] = []

    async def shake(make: Any, one: FakeSocket, **_: Any) -> None:
        try:
            await hall.loop.create_future()
        finally:
            ended.append(one.number)

    monkeypatch.setattr(hall.loop, "connect_accepted_socket", shake)
    return ended


def test_handshakes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are dragged out the oldest goes: whoever means it is through in a moment."""
    hall = Hall(lambda arrival, seen: 0)
    hall.door.context = cast(Any, object())
    hall.door.most_handshakes = 2
    ended = dragged_out(hall, monkeypatch)
    sockets = [hall.knocks() for _ in range(4)]
    assert ended == [one.number for one in sockets[:2]]
    assert (hall.door.turned_away, PRESSED in hall.told) == (2, True)
    hall.loop.shut()


@pytest.mark.parametrize(("size", "through"), [(40, True), (MOST_HELLO, True), (MOST_HELLO + 1, False), (0xFFFFFF, False)])
def test_what_a_client_says_first_is_bounded(size: int, through: bool) -> None:
    """By what it says of its length: nothing of a long one is waited for, and a short one is OpenSSL's when it has come."""
    hall = Hall(whole_hello)
    one = hall.knocks(b"\x16\x03\x01\x3f\xff")
    assert not one.closed
    one.feed(b"\x01" + size.to_bytes(3))
    assert (hall.served, one.closed, LONG in hall.told) == ([], not through, not through)
    if through:
        body = b"\x03\x03" + bytes(size - 2)
        one.feed(body[:-1] if size < 0x3FFB else body[: 0x3FFF - 4] + b"\x16\x03\x01\x00\x05" + body[0x3FFF - 4 : -1])
        assert not hall.served
        looks = one.looks
        one.feed(body[-1:])
        assert len(hall.served) == 1
        assert one.looks == looks + 1
        assert len(one.came) >= 5 + 4 + size, "it is OpenSSL that reads it"
    hall.loop.shut()


def test_what_no_client_may_begin_with() -> None:
    hall = Hall(whole_hello)
    one = hall.knocks(b"\x16\x03\x01\x00\x00\x16\x03\x01\x40\x00\x01\x01\xe0\x00")
    assert one.closed
    assert BROKEN in hall.told
    hall.loop.shut()


def test_those_who_are_asked_again_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of them as well the oldest goes, and of nobody else."""

    def again(arrival: Arrival, seen: bytes) -> int | str | None:
        arrival.asked_again = seen == b"again"
        return 0 if seen else None

    hall = Hall(again)
    hall.door.context = cast(Any, object())
    hall.door.most_asked_again = 2
    ended = dragged_out(hall, monkeypatch)
    other = hall.knocks(b"once")
    sockets = [hall.knocks(b"again") for _ in range(4)]
    assert ended == [one.number for one in sockets[:2]]
    hall.knocks(b"once")
    assert other.number not in ended
    assert (hall.door.turned_away, PRESSED in hall.told) == (2, True)
    hall.loop.shut()


def test_of_those_who_begin_no_handshake_nobody_is_told() -> None:
    """As of a balancer that looks whether the port is open. What is no TLS is OpenSSL's to refuse."""
    hall = Hall(whole_hello)
    leaves, fails, waits = hall.knocks(), hall.knocks(b"\x16"), hall.knocks(b"\x16\x03")
    leaves.end()
    fails.fail()
    hall.loop.turn(WAIT_SECONDS + 0.5)
    assert (leaves.closed, fails.closed, waits.closed) == (True, True, True)
    assert (hall.told, hall.door.turned_away) == ("", 0)
    hall.knocks(b"GET / HTTP/1.1\r\n")
    assert len(hall.served) == 1
    hall.loop.shut()


# --- the PROXY protocol ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\n"])
def test_what_a_proxy_says_is_taken_off(hall: Hall, behind: bytes) -> None:
    one = hall.knocks(HEADER + behind)
    (served,) = hall.served
    assert (served.arrival.address, served.arrival.settled) == ("203.0.113.9", False)
    assert one.came == behind
    assert served.transport is not None
    assert not one.closed
    assert hall.told == ""


def test_byte_by_byte(hall: Hall) -> None:
    """Each look waits for a byte more than there were: the kernel would wake us for ever for those that stay."""
    one = hall.knocks()
    for number, byte in enumerate(HEADER):
        assert hall.loop.readers, number
        assert one.low_water == number + 1
        assert not hall.served
        one.feed(bytes((byte,)))
    assert len(hall.served) == 1
    assert one.low_water == 1
    assert one.came == b""
    assert one.looks == len(HEADER)
    assert list(hall.loop.readers) == [3]


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"])
def test_a_proxy_that_names_nobody(hall: Hall, header: bytes) -> None:
    """It counts as the proxy's own, and no word of its requests can change that."""
    hall.knocks(header)
    (served,) = hall.served
    assert (served.arrival.address, served.arrival.settled) == (PROXY, True)


@pytest.mark.parametrize("peer", [("10.0.1.5", 40000), ("203.0.113.9", 1), ("::1", 1, 0, 0), "", ("", 0)])
def test_whoever_is_no_proxy(hall: Hall, peer: Any) -> None:
    one = hall.knocks(HEADER, peer)
    assert one.closed
    assert one.looks == 0
    assert not hall.served
    assert STRANGER in hall.told


def test_a_proxy_behind_a_socket_of_both_families(hall: Hall) -> None:
    hall.knocks(HEADER, ("::ffff:10.0.0.5", 40000, 0, 0))
    assert hall.served


@pytest.mark.parametrize("came", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", HEADER[:-2] + b"x\r\n"])
def test_no_header(hall: Hall, came: bytes) -> None:
    one = hall.knocks(came)
    assert one.closed
    assert not hall.served
    assert hall.door.turned_away == 1
    assert f"0.0.0.0:8443: a connection from {PROXY} was closed: it" in hall.told


# --- steps -------------------------------------------------------------------------------------------------------------


def test_steps_in_their_order() -> None:
    """Each sees what the one before it left; a step may choose who serves, and how."""

    class Other(Served):
        pass

    others: list[Other] = []

    def make(arrival: Arrival) -> Any:
        others.append(Other(arrival))
        return others[-1]

    def chooses(arrival: Arrival, seen: bytes) -> int | str | None:
        if seen[:2] == b"XY":
            arrival.make = make
        return 0 if len(seen) >= 2 else None

    hall = Hall(two_bytes, chooses)
    one = hall.knocks(b"a")
    one.feed(b"bX")
    one.feed(b"Y")
    assert one.came == b"XY"
    assert (len(others), len(hall.served)) == (1, 0)
    hall.knocks(b"abcd")
    assert (len(others), len(hall.served)) == (1, 1)
    hall.loop.shut()


def test_steps_hold_for_who_comes_later() -> None:
    hall = Hall(two_bytes)
    one = hall.knocks(b"a")
    hall.door.steps = ()
    hall.knocks(b"a")
    assert len(hall.served) == 1
    one.feed(b"b")
    assert len(hall.served) == 2
    hall.loop.shut()


def test_a_step_that_wants_ever_more() -> None:
    hall = Hall(lambda arrival, seen: None)
    one = hall.knocks(bytes(PEEKED - 1))
    assert not one.closed
    one.feed(bytes(1))
    assert one.closed
    assert ENDLESS in hall.told
    hall.loop.shut()


def test_a_step_with_a_fault_costs_one_connection() -> None:
    def fails(arrival: Arrival, seen: bytes) -> int | str | None:
        if seen == b"x":
            raise ValueError("a fault of our own")
        return len(seen) or None

    hall = Hall(fails)
    bad, good = hall.knocks(b"x"), hall.knocks(b"y")
    assert bad.closed
    assert not good.closed
    assert len(hall.served) == 1
    assert [type(failure) for failure in hall.loop.failures] == [ValueError]
    hall.loop.shut()


# --- bounds ------------------------------------------------------------------------------------------------------------


def test_who_says_nothing(hall: Hall) -> None:
    one = hall.knocks(HEADER[:5])
    hall.loop.turn(WAIT_SECONDS - 0.5)
    one.feed(HEADER[5:9])  # buys no time
    assert not one.closed
    hall.loop.turn(1)
    assert one.closed
    assert LATE in hall.told


@pytest.mark.parametrize("came", [b"", HEADER[:9]])
@pytest.mark.parametrize("leaves", ["end", "fail"])
def test_who_leaves(hall: Hall, came: bytes, leaves: str) -> None:
    one = hall.knocks(came)
    getattr(one, leaves)()
    assert one.closed
    assert LEFT in hall.told
    assert not hall.served


@pytest.mark.parametrize("bound", [1, 3])
def test_how_many_wait(hall: Hall, bound: int) -> None:
    """One too many costs whoever has waited longest; who has said his word is not among them."""
    hall.door.most_waiting = bound
    hall.knocks(HEADER)
    waiting = [hall.knocks() for _ in range(bound)]
    assert not any(one.closed for one in waiting)
    assert hall.door.turned_away == 0
    more = hall.knocks()
    assert [one.closed for one in waiting] == [True] + [False] * (bound - 1)
    assert not more.closed
    assert CROWDED in hall.told
    assert f"{bound} waiting" in repr(hall.door)


def test_a_crowd_at_once(hall: Hall) -> None:
    """Also those are closed whom no task has looked at yet."""
    hall.door.most_waiting = 2
    crowd = [hall.stands() for _ in range(6)]
    hall.wake()
    assert [one.closed for one in crowd] == [True] * 4 + [False] * 2
    assert hall.door.came == 6
    for one in crowd[4:]:
        one.feed(HEADER)
    assert len(hall.served) == 2


def test_how_many_in_one_turn(hall: Hall) -> None:
    for _ in range(AT_ONCE + 1):
        hall.stands(HEADER)
    hall.wake()
    assert len(hall.listener.line) == 1
    hall.wake()
    assert len(hall.served) == AT_ONCE + 1


# --- accepting ---------------------------------------------------------------------------------------------------------


def test_a_closed_door(hall: Hall) -> None:
    waiting = hall.knocks()
    hall.door.close()
    hall.door.close()
    assert 3 not in hall.loop.readers
    waiting.feed(HEADER)
    assert len(hall.served) == 1
    hall.door.open()
    hall.door.open()
    hall.knocks(HEADER)
    assert len(hall.served) == 2


def test_one_that_is_gone_already(hall: Hall) -> None:
    hall.listener.line.append(ConnectionAbortedError())
    hall.knocks(HEADER)
    assert len(hall.served) == 1


@pytest.mark.parametrize("closes", [False, True])
def test_without_descriptors(hall: Hall, closes: bool) -> None:
    """It does not ask at once again: the line would wake it without end."""
    hall.listener.line.append(OSError(errno.EMFILE, "Too many open files"))
    hall.stands(HEADER)
    hall.wake()
    assert 3 not in hall.loop.readers
    if closes:
        hall.door.close()
        hall.loop.turn(PAUSE_SECONDS + 0.25)
        assert 3 not in hall.loop.readers
        hall.door.open()
    hall.loop.turn(PAUSE_SECONDS + 0.25)
    hall.wake()
    assert len(hall.served) == 1


def test_the_rest_of_the_line(hall: Hall) -> None:
    """A worker that stops serves whom the kernel has let in, also those who have yet to speak."""
    late, early = hall.stands(HEADER[:3]), hall.stands(HEADER)
    hall.door.close()
    hall.door.take_the_rest()
    waits = hall.loop.create_task(hall.door.emptied(WAIT_SECONDS))
    hall.loop.settle()
    assert len(hall.served) == 1
    assert not waits.done()
    late.feed(HEADER[3:])
    assert waits.done()
    sockets: list[Any] = [one.arrival.socket for one in hall.served]
    assert sockets == [early, late]
    hall.listener.line.append(OSError(errno.EMFILE, "Too many open files"))
    hall.door.take_the_rest()
    assert 3 not in hall.loop.readers


def test_the_rest_of_the_line_has_an_end(hall: Hall) -> None:
    """Whoever has said nothing when that is over is closed, and nobody told of it."""
    silent = hall.knocks(HEADER[:3])
    hall.door.close()
    waits = hall.loop.create_task(hall.door.emptied(1.0))
    hall.loop.turn(0.75)
    assert not waits.done()
    assert not silent.closed
    hall.loop.turn(0.5)
    assert waits.done()
    assert silent.closed
    assert (hall.told, hall.served) == ("", [])


def test_what_it_tells_when_its_listener_is_closed(hall: Hall) -> None:
    """A worker that stops closes its listeners, and is asked every second all the same."""
    hall.knocks(b"GET")
    hall.listener.name = ()  # of a closed one the kernel says nothing
    assert "0.0.0.0:8443: a connection" in hall.told


def test_a_failed_handshake_is_nobody_elses(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any, **__: Any) -> Any:
        raise ConnectionResetError

    monkeypatch.setattr(hall.loop, "connect_accepted_socket", fails)
    one = hall.knocks(HEADER)
    assert not hall.served
    assert not one.closed  # it is the loop's to close
    assert hall.door.turned_away == 0


def test_the_context_of_a_listener(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def taken(make: Any, sock: Any, **arguments: Any) -> Any:
        seen.append(arguments)

    monkeypatch.setattr(hall.loop, "connect_accepted_socket", taken)
    hall.door.context = cast(Any, "tls")
    hall.knocks(HEADER)
    hall.door.context = None
    hall.knocks(HEADER)
    assert [one.get("ssl") for one in seen] == ["tls", None]


def test_what_it_tells(hall: Hall) -> None:
    for number in range(3):
        hall.knocks(b"", (f"192.0.2.{number}", 1))
    hall.knocks(b"GET")
    assert hall.door.tell() == [
        f"0.0.0.0:8443: 3 connections were closed, the last one from 192.0.2.2: {STRANGER}",
        f"0.0.0.0:8443: a connection from {PROXY} was closed: it does not begin with a PROXY protocol header",
    ]
    assert hall.door.tell() == []
    assert hall.door.turned_away == 4
    hall.door.close()
    hall.listener.name = "::", 8443, 0, 0
    hall.door.open()
    hall.knocks(b"", ("192.0.2.1", 1))
    assert "[::]:8443: a connection" in hall.told


def test_repr(hall: Hall) -> None:
    assert repr(hall.door) == "<Door open, 0 waiting>"
    hall.door.close()
    assert repr(hall.door) == "<Door closed, 0 waiting>"
    assert repr(Arrival(cast(Any, None), "192.0.2.1", None, cast(Any, None))) == "<Arrival 192.0.2.1>"
    assert hall.door.most_waiting == module.MOST_WAITING
