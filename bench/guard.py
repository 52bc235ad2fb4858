"""What addresses cost the gate: an event in the table, a request, and the knock of a banned address, with the sieve and without.

`python -m bench.guard` sends 10 million addresses through the table of a worker (`--events` for another number), and says what
each took and how the process has grown; then an address knocks at a listening socket of the gate's event loop: let in, banned and
closed at once, banned and dropped by the kernel, whose work for a packet is nobody's process's. It knows the guard and the sieve,
and starts no gate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import resource
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop

from slmgate.dataplane.guard import SIEVED, TURNED_AWAY, Guard
from slmgate.dataplane.sieve import Sieve
from slmgate.dataplane.tally import Tally
from slmgate.policy.guard import GuardSpec, RateSpec
from slmgate.policy.networks import number_of

SPEC = GuardSpec(
    requests=RateSpec(1000, 1, 2000),
    connections=1000,
    new_connections=RateSpec(200, 1, 1000),
    failed_auth=RateSpec(10, 60, 10),
    ban=86_400.0,  # longer than any run takes
    exempt=("127.0.0.1",),
)
BANNED = "127.9.0.1"


def address(number: int) -> str:
    return f"{11 + (number >> 24)}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def through_the_table(events: int) -> None:
    """Each event is a connection that comes, asks once, shows a wrong key and leaves; one address is banned all along."""
    with tempfile.TemporaryDirectory() as home:
        guard = Guard(Path(home) / "addresses", (0, 2), Tally(), print, len)
        guard.update(SPEC)
        bad = guard.connected(BANNED)
        assert bad is not None
        while not guard.failed(bad):
            pass
        chance = random.Random(7)
        begun, size = time.process_time(), 0
        for count in range(events):
            visitor = guard.connected(address(chance.getrandbits(31)))
            if visitor is not None and visitor is not TURNED_AWAY:
                visitor.asks()
                guard.failed(visitor)
                guard.left(visitor)
            if count == events // 10:
                size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if count % 4096 == 0:
                guard.tick()
        took = time.process_time() - begun
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size
        print(f"{events:,} addresses: {took / events * 1e6:.1f} us each (connection, request, wrong key, end), all in one worker")
        file = Path(home) / "addresses"
        print(f"memory after the first tenth grew by {grown} KiB; the file has {file.stat().st_blocks // 2} KiB")
        assert guard.connected(BANNED) is TURNED_AWAY, "the ban was lost"
        begun = time.process_time()
        for _ in range(100_000):
            guard.connected(BANNED)
        print(f"a banned address that connects: {(time.process_time() - begun) * 10:.2f} us in the guard")
        guard.update(GuardSpec(requests=RateSpec(10_000_000, 1, 10_000_000)))
        visitor = guard.connected(address(1))
        assert visitor is not None
        begun = time.process_time()
        for _ in range(1_000_000):
            visitor.asks()
        print(f"a request of an address far under its limit: {time.process_time() - begun:.3f} us")


class Turned(asyncio.Protocol):
    """What the gate does with a banned connection that the kernel has let in; `ends`: with any other too."""

    def __init__(self, guard: Guard, ends: bool) -> None:
        self.guard, self.ends = guard, ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        if self.guard.connected(peer[0] if peer else "") is TURNED_AWAY or self.ends:
            cast(asyncio.Transport, transport).abort()


def knocks(port: int, count: int) -> int:
    """A process that knocks so many times; without waiting for an answer, as a flood does."""
    pid = os.fork()
    if pid:
        return pid
    for _ in range(count):
        one = socket.socket()
        one.bind((BANNED, 0))
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(BlockingIOError):
            one.connect(("127.0.0.1", port))
        one.close()
        time.sleep(0.0002)  # so that the one knocked at keeps up: a line that is full would refuse for it
    os._exit(0)


async def refused(count: int, banned: bool, sieved: bool) -> float:
    """Microseconds of this process for each knock."""
    loop = asyncio.get_running_loop()
    guard = Guard(None, (0, 1), Tally(), len, len)
    guard.update(SPEC)
    if banned:
        bad = guard.connected(BANNED)
        assert bad is not None
        while not guard.failed(bad):
            pass
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    if sieved:
        chance = random.Random(1)
        others = [0xFFFF << 32 | chance.getrandbits(32) for _ in range(SIEVED - 1)]
        sieve = Sieve([listener])
        sieve.keep_out([*others, number_of(BANNED)])
        assert sieve.works, "the kernel takes no filter"
    server = await loop.create_server(lambda: Turned(guard, not banned), sock=listener)
    begun = time.process_time()
    pid = knocks(listener.getsockname()[1], count)
    await asyncio.to_thread(os.waitpid, pid, 0)
    await asyncio.sleep(0.2)
    took = time.process_time() - begun
    server.close()
    return took / count * 1e6


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m bench.guard", description=sys.modules[__name__].__doc__)
    words.add_argument("--events", type=int, default=10_000_000)
    words.add_argument("--knocks", type=int, default=20_000)
    given = words.parse_args()
    through_the_table(given.events)
    for what, banned, sieved in (
        ("let in, and ended", False, False),
        ("banned, closed by the worker", True, False),
        ("banned, dropped by the kernel", True, True),
    ):
        took = uvloop.run(refused(given.knocks, banned, sieved))
        print(f"a knock that is {what}: {took:.1f} us of the worker's CPU")


if __name__ == "__main__":
    main()
