"""What the data plane stands on in unit tests: a clock that the test turns, a loop that runs on it, transports of bytes.

The loop is asyncio's own without a selector: tasks, timers and timeouts are real, only time and the network are not.
It knows what a transport does to a protocol and when; it knows no protocol of ours.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any, TypeVarTuple

_Ts = TypeVarTuple("_Ts")

STEP = 0.25
"""Seconds by which a turned clock goes on at once: no timer is further behind than this."""


class Clock:
    """Stands for the module `time`. It stands still until it is turned."""

    def __init__(self) -> None:
        self.passed = 1000.0
        self.epoch = 1_780_000_000.0  # seconds since the epoch when `monotonic` was 0

    def monotonic(self) -> float:
        return self.passed

    def monotonic_ns(self) -> int:
        return int(self.passed * 1e9)

    def time(self) -> float:
        return self.epoch + self.passed


class FakeTransport(asyncio.Transport):
    """One end of a connection. `told` hears what our side does with it; `feed`, `end` and `lose` are the other side's doing.

    As a real one does, it calls `connection_lost` later, not inside `close` or `abort`, and loses the connection when the
    protocol raises. `stuck`: the other side takes no bytes, so that a closing transport cannot flush and stays.
    """

    def __init__(self, loop: FakeLoop, protocol: asyncio.Protocol, told: Callable[[str, bytes], None]) -> None:
        super().__init__(extra={"peername": ("192.0.2.7", 50000)})
        self._loop = loop
        self.protocol = protocol
        self._told = told
        self.reading = True
        self.closing = False
        self.lost = False
        self.stuck = False
        self.high: int | None = None  # bytes from which on `pause_writing` is called, where that was set
        self.one_way = False  # like TLS: no half close

    # -- what our side calls

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closing, "a write behind the close"
        self._told("write", bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Whether so much stays behind is said by the test, which calls `pause_writing` itself."""
        self.high = high

    def can_write_eof(self) -> bool:
        return not self.one_way

    def write_eof(self) -> None:
        self._told("half-closed", b"")

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._told("closed", b"")
            if not self.stuck:
                self._loop.call_soon(self.lose)

    def abort(self) -> None:
        if not self.lost:
            if not self.closing:
                self._told("aborted", b"")
            self.closing = True
            self._loop.call_soon(self.lose)

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False
        self._told("pauses reading", b"")

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True
        self._told("reads on", b"")

    # -- what the other side does

    def feed(self, data: bytes) -> None:
        """Bytes arrive. Our side must not be paused."""
        assert self.reading, "no bytes arrive at a paused transport"
        if self.closing:
            return
        try:
            self.protocol.data_received(data)
        except Exception as failure:  # noqa: BLE001  # a loop reports it and drops the connection
            self._loop.failures.append(failure)
            self.closing = True
            self.lose(failure)

    def end(self) -> None:
        """The other side sends no more."""
        if not self.closing and not self.protocol.eof_received():
            self.close()

    def lose(self, failure: Exception | None = None) -> None:
        """The connection is gone."""
        if not self.lost:
            self.lost = self.closing = True
            self.protocol.connection_lost(failure)


class FakeLoop(asyncio.BaseEventLoop):
    """A loop on a turned clock. `doors` says for each host what becomes of a connection to it: open, refused, or hanging."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self._selector = self  # BaseEventLoop asks it for events and gets none
        self.doors: dict[str, str] = {}
        self.opened: dict[str, list[FakeTransport]] = {}
        self.knocks: list[str] = []  # each try to connect, by host
        self.told: Callable[[str, str, bytes], None] = lambda host, what, data: None
        self.signals: dict[int, Callable[[], Any]] = {}
        self.readers: dict[int, Callable[[], Any]] = {}
        self.servers: list[FakeServer] = []
        self.failures: list[BaseException] = []
        self.set_exception_handler(
            lambda _, context: self.failures.append(context.get("exception") or RuntimeError(str(context)))
        )

    # -- turning it

    def time(self) -> float:
        return self.clock.passed

    def settle(self) -> None:
        """Run whatever is ready, until nothing is."""
        self.call_soon(self.stop)
        self.run_forever()
        while getattr(self, "_ready", ()):
            self.call_soon(self.stop)
            self.run_forever()

    def turn(self, seconds: float) -> None:
        """Let time pass, a step at a time."""
        steps = round(seconds / STEP)
        for _ in range(steps):
            self.clock.passed += STEP
            self.settle()
        self.clock.passed += seconds - steps * STEP

    def shut(self) -> None:
        """Cancel what still runs, and close."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()
        self.close()

    # -- what BaseEventLoop leaves to the platform

    def select(self, timeout: float | None) -> list[Any]:
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        pass

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        self.signals[signal.Signals(sig)] = lambda: callback(*args)

    def add_reader(self, fd: Any, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        self.readers[fd] = lambda: callback(*args)

    def remove_reader(self, fd: Any) -> bool:
        return self.readers.pop(fd, None) is not None

    # -- the network

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]  # each name is its own address

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        self.knocks.append(host)
        while self.doors.get(host) == "hangs":  # noqa: ASYNC110  # the test opens the door at any time of its clock
            await asyncio.sleep(STEP)
        if self.doors.get(host) == "refuses":
            raise ConnectionRefusedError(111, "Connection refused")
        protocol = protocol_factory()
        known = self.opened.setdefault(host, [])
        name = f"{host}{len(known) + 1}" if known else host  # a, a2, a3: in the order in which they were opened
        transport = FakeTransport(self, protocol, lambda what, data: self.told(name, what, data))
        known.append(transport)
        protocol.connection_made(transport)
        return transport, protocol

    async def create_unix_connection(self, *_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError(111, "control is away")

    async def create_server(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        server = FakeServer(protocol_factory)
        self.servers.append(server)
        return server

    async def connect_accepted_socket(self, protocol_factory: Any, sock: Any, **_: Any) -> Any:
        protocol = protocol_factory()
        transport = FakeTransport(self, protocol, lambda what, data: self.told("client", what, data))
        protocol.connection_made(transport)
        return transport, protocol


class FakeServer:
    """A listening server: who knocks is a call of `factory`."""

    def __init__(self, factory: Callable[[], asyncio.Protocol]) -> None:
        self.factory = factory
        self.closed = False

    def close(self) -> None:
        self.closed = True
