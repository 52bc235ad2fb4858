"""The door of a listener whose connections begin with something else than HTTP: a proxy's word, or a TLS handshake.

Each connection that the kernel has let in is looked at (`MSG_PEEK`) by a few steps, which may take bytes off its beginning, say
whose it is, count it, choose its TLS context, or turn it away; then the event loop makes a connection of it as of any other.
How many wait here, and how long, is bounded. It knows no HTTP and no policy. Plain listeners have none: the loop's own server is
cheaper.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from slmgate.dataplane import client_hello
from slmgate.dataplane.guard import TURNED_AWAY, Guard, Visitor
from slmgate.dataplane.tls import accepting
from slmgate.http1 import proxy_header
from slmgate.policy.networks import Networks, number_of

WAIT_SECONDS = 5.0
"""How long a connection may take from its first moment to the last byte that a step has to see."""
MOST_WAITING = 4096
"""Connections that wait at one door; a further one costs the one that has waited longest."""
MOST_HANDSHAKES = 4096
"""Connections in the middle of their handshake, which are none of the worker's yet; the same holds of a further one."""
MOST_ASKED_AGAIN = 64
"""The same of those whose first message has no key that could be used: the second one, which they are asked for, OpenSSL takes
when it has 128 KiB as well, and keeps it, and there is no bound that it could be given."""
MOST_HELLO = 16 * 1024
"""Bytes of a client's first message of TLS. OpenSSL would take eight times as much, and keep it until the rest has come; clients
send a tenth of this (those that offer keys of post-quantum algorithms nearly 2 KiB)."""
AT_ONCE = 64
"""Connections that are let in in one turn of the event loop."""
PEEKED = 20 * 1024
"""Bytes of a connection's beginning that are looked at: a first message of TLS, also when it comes in records of 20 bytes."""
PAUSE_SECONDS = 0.25
"""How long nobody is let in after the kernel had no descriptor or no memory for a newcomer."""

STRANGER: Final = "only trusted proxies may connect here (guard.trusted_proxies)"
LEFT: Final = "it left before it had said whose it is"
LATE: Final = f"it did not say whose it is within {WAIT_SECONDS:g} s"
CROWDED: Final = "too many others came while it had yet to say something"
GUARDED: Final = "its address may not connect now"
"""The guard tells and counts such ones itself."""
MUTE: Final = "it left, or went on saying nothing, before its handshake began"
"""Nobody is told of such ones: whoever only looks whether the port is open does that."""
BROKEN: Final = "its TLS handshake begins with something that no client may send"
LONG: Final = f"its TLS handshake begins with a message of more than {MOST_HELLO} bytes"
PRESSED: Final = "too many others came while it was in the middle of its TLS handshake"
ENDLESS: Final = f"it did not say whose it is within {PEEKED} bytes"


class Arrival:
    """A connection that nobody serves yet."""

    __slots__ = ("address", "asked_again", "context", "counted", "make", "settled", "socket", "taken", "visitor", "wants")

    def __init__(
        self, one: socket.socket, address: str, context: ssl.SSLContext | None, make: Callable[[Arrival], asyncio.BaseProtocol]
    ) -> None:
        self.socket = one
        self.address = address  # of its other end, until a step knows better
        self.settled = False  # whether no word of its requests can change that
        self.context = context  # by which TLS is spoken on it; None: none is
        self.make = make  # makes the protocol that serves it
        self.taken = False  # whether the loop has the socket
        self.wants = 1  # so many bytes have to have come before a step can say more
        self.asked_again = False  # whether its first message of TLS is not to be the last of its kind
        self.counted = False  # whether the guard has been asked about its address
        self.visitor: Visitor | None = None  # as the guard counts it, until somebody serves it

    def __repr__(self) -> str:
        return f"<Arrival {self.address}>"


Step = Callable[[Arrival, bytes], int | str | None]
"""Looks at an arrival and at what has come of it, first at nothing at all. It returns how many bytes are taken off, and is done;
or why the arrival is turned away, in one of a few sentences; or None: more has to come."""


def announced_by(trusted: Callable[[], Networks]) -> Step:
    """The step of the PROXY protocol, which is required: only whom `trusted` holds may say so whose the connection is."""

    def step(arrival: Arrival, seen: bytes) -> int | str | None:
        if not seen:
            return None if trusted().holds(number_of(arrival.address)) else STRANGER
        header = proxy_header.read(seen)
        if isinstance(header, proxy_header.Malformed):
            return header.why
        if header is None:
            return None
        if header.address is None:
            arrival.settled = True  # it is the proxy's own, or of somebody whom it cannot name: then nobody else can
        else:
            arrival.address = header.address
        return header.length

    return step


def counted_by(guard: Guard) -> Step:
    """The step that asks the guard, who else is asked when a connection is served: with TLS, that is behind the handshake, which
    costs more than most requests do and may be dragged out.
    """

    def step(arrival: Arrival, seen: bytes) -> int | str | None:
        if not arrival.counted:
            visitor = guard.connected(arrival.address)
            if visitor is TURNED_AWAY:
                return GUARDED
            arrival.counted, arrival.visitor = True, visitor
        return 0

    return step


def whole_hello(arrival: Arrival, seen: bytes) -> int | str | None:
    """The step before a handshake: what a client says first is bounded, and has come, before OpenSSL keeps any of it."""
    begun = client_hello.begun(seen)
    if begun is None:
        return 0  # it is no TLS, as OpenSSL says to whoever it is
    if begun is client_hello.BROKEN:
        return BROKEN
    if begun.length > MOST_HELLO:
        return LONG
    if begun.missing:
        arrival.wants = len(seen) + begun.missing
        return None
    arrival.asked_again = client_hello.is_asked_again(begun.message)
    return 0


class Door:
    """One listening socket, for the life of the worker. Open or closed; who came before it closed is served all the same."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        make: Callable[[Arrival], asyncio.BaseProtocol],
        over: Callable[[Arrival], object] = lambda arrival: None,
    ) -> None:
        """`over` is called with each arrival that is none any more: it is served, or came to nothing."""
        self._loop = loop
        self._listener = listener
        self._tell_over = over
        # may be changed at any time: they hold for those who come from then on
        self.make = make
        self.context: ssl.SSLContext | None = None
        self.steps: tuple[Step, ...] = ()
        self.most_waiting = MOST_WAITING
        self.most_handshakes = MOST_HANDSHAKES
        self.most_asked_again = MOST_ASKED_AGAIN
        # state
        self._open = False
        self._where = ""  # as the operator knows the listener
        self._pause: asyncio.TimerHandle | None = None
        self._waiting: dict[asyncio.Task[None], Arrival] = {}  # those at a step, oldest first
        self._shaking: dict[asyncio.Task[None], Arrival] = {}  # those at their handshake, oldest first
        self._asked_again: dict[asyncio.Task[None], Arrival] = {}  # those of them who are
        self._tasks: set[asyncio.Task[None]] = set()  # all of them
        self.came = 0  # so far
        self.turned_away = 0  # of them
        self._untold: dict[str, tuple[int, str]] = {}  # why -> how many, and who was the last

    def __repr__(self) -> str:
        return f"<Door {'open' if self._open else 'closed'}, {len(self._waiting)} waiting>"

    def open(self) -> None:
        """Let in who knocks."""
        if not self._open:
            self._open = True
            host, port = self._listener.getsockname()[:2]  # asked while it is open: those of a stopping worker are closed
            self._where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener.fileno(), self._let_in)

    def close(self) -> None:
        """Let nobody in any more; who knocks waits in the kernel's line."""
        if self._open:
            self._open = False
            if self._pause is not None:
                self._pause.cancel()
                self._pause = None
            self._loop.remove_reader(self._listener.fileno())

    def take_the_rest(self) -> None:
        """Of a closed door: let in whom the kernel has let in already."""
        while self._accept():
            pass

    async def emptied(self, seconds: float) -> None:
        """Wait until nobody is at a step or at a handshake; whoever is so after so many seconds is closed."""
        until = self._loop.time() + seconds
        while self._tasks and (left := until - self._loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def tell(self) -> list[str]:
        """Whom it has turned away since it was last asked: a line for each reason, for the operator."""
        untold, self._untold = self._untold, {}
        return [
            f"{self._where}: a connection from {last} was closed: {why}"
            if number == 1
            else f"{self._where}: {number} connections were closed, the last one from {last}: {why}"
            for why, (number, last) in untold.items()
        ]

    # -- letting in

    def _let_in(self) -> None:
        for _ in range(AT_ONCE):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Let one in. False: nobody stands in the kernel's line, or there is no room for anybody."""
        try:
            one, peer = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionError:
            return True  # that one has left
        except OSError:
            if self._open:  # whoever could not come in stands in the line still, which would wake us at once
                self._loop.remove_reader(self._listener.fileno())
                self._pause = self._loop.call_later(PAUSE_SECONDS, self._go_on)
            return False
        one.setblocking(False)
        self.came += 1
        arrival = Arrival(one, peer[0] if isinstance(peer, tuple) else "", self.context, self.make)
        for step in self.steps[:1]:
            if isinstance(why := step(arrival, b""), str):  # no task for those who may not come in at all
                self._turn_away(arrival, why)
                one.close()
                return True
        if len(self._waiting) >= self.most_waiting:
            self._lose_the_oldest(self._waiting, CROWDED)
        task = self._loop.create_task(self._receive(arrival, self.steps))
        self._tasks.add(task)
        self._waiting[task] = arrival
        task.add_done_callback(lambda task: self._over(task, arrival))
        return True

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._let_in)

    def _turn_away(self, arrival: Arrival, why: str) -> None:
        if why in (GUARDED, MUTE):
            return
        self.turned_away += 1
        self._untold[why] = self._untold.get(why, (0, ""))[0] + 1, arrival.address

    def _lose_the_oldest(self, of: dict[asyncio.Task[None], Arrival], why: str) -> None:
        oldest = next(iter(of))
        self._turn_away(of.pop(oldest), why)
        oldest.cancel()

    def _over(self, task: asyncio.Task[None], arrival: Arrival) -> None:
        self._tasks.discard(task)
        self._waiting.pop(task, None)
        self._shaking.pop(task, None)
        self._asked_again.pop(task, None)
        if not arrival.taken:
            arrival.socket.close()
        self._tell_over(arrival)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "A connection could not be let in.", "exception": failure})

    # -- one of them

    async def _receive(self, arrival: Arrival, steps: tuple[Step, ...]) -> None:
        """Take an arrival through the steps and hand it to the loop, or turn it away."""
        why = await self._ask(arrival, steps)
        if why:
            self._turn_away(arrival, why)
            return
        task = asyncio.current_task()
        assert task is not None
        del self._waiting[task]  # whoever is turned away meanwhile was cancelled, and does not come here
        arrival.taken = True
        if arrival.context is not None:
            if len(self._shaking) >= self.most_handshakes:
                self._lose_the_oldest(self._shaking, PRESSED)
            self._shaking[task] = arrival
            if arrival.asked_again:
                if len(self._asked_again) >= self.most_asked_again:
                    self._lose_the_oldest(self._asked_again, PRESSED)
                self._asked_again[task] = arrival
        with contextlib.suppress(OSError):  # who leaves, or fails the handshake, loses its own connection only
            await self._loop.connect_accepted_socket(lambda: arrival.make(arrival), arrival.socket, **accepting(arrival.context))

    async def _ask(self, arrival: Arrival, steps: tuple[Step, ...]) -> str:
        """Each step in its turn. The result is why the arrival is to be turned away, or empty."""
        left, late = LEFT, LATE
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                for step in steps:
                    seen = b""
                    if step is whole_hello:
                        left = late = MUTE
                    while (took := step(arrival, seen)) is None:
                        if len(seen) == PEEKED:
                            return ENDLESS
                        known, seen = len(seen), b""  # the kernel has them: to keep them here as well would cost twice
                        seen = await self._more(arrival.socket, known, max(known + 1, min(arrival.wants, PEEKED)))
                        if len(seen) <= known:
                            return left
                    if isinstance(took, str):
                        return took
                    if took:
                        arrival.socket.recv(took)  # they are there: they were seen
            return ""
        except TimeoutError:
            return late
        except OSError:
            return left

    async def _more(self, one: socket.socket, known: int, wanted: int) -> bytes:
        """The connection's first bytes, once so many are there as are `wanted`; no more than the `known` ones: none will come."""
        if not known and (seen := _peek(one)) is not None:
            return seen
        # What was seen is still there to be read: without this, the kernel would go on saying so, and the loop would spin.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
        ready = self._loop.create_future()
        self._loop.add_reader(one.fileno(), _wake, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(one.fileno())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return _peek(one) or b""


def _peek(one: socket.socket) -> bytes | None:
    """What has come, without taking it; None: nothing yet."""
    try:
        return one.recv(PEEKED, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return None


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
