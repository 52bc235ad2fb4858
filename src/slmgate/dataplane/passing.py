"""The part of a connection to an instance that a stream's usual chunk needs, and nothing else of the data plane is needed for it.

Nearly all that comes of a stream are chunks of whole events with nothing to be looked at: they go on as they came. No near
cache holds what belongs to a thousand streams, so that each object such a chunk touches costs more than what is done with it.
Here it touches two: the connection, in whose memory these fields come first, and the client's transport. What the chunks have
come to is kept until the exchange asks. This module knows neither what an event says nor when a stream may pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from slmgate.http1.framing import CHUNK_LINES, USUAL

if TYPE_CHECKING:
    from slmgate.dataplane.worker import Worker
    from slmgate.dialects.masking import Swap


class Passing(asyncio.Protocol):
    """What the loop hands over is one usual chunk, which goes on from here, or it is `received`."""

    __slots__ = ("_clock", "_heard", "_size", "_swap", "_to", "_tokens", "_usual")

    _clock: Worker
    _to: asyncio.Transport

    def __init__(self) -> None:
        self._usual: Callable[[bytes], int] | None = None  # None: nothing may pass
        # of what has passed since `passed` was asked
        self._heard = 0.0  # when the last of it came, to a tick
        self._size = 0  # bytes of body
        self._tokens = 0
        self._swap: Swap | None = None  # masks each chunk, if there is one: then `_usual` is its own

    def let_pass(self, usual: Callable[[bytes], int], to: asyncio.Transport, clock: Worker, swap: Swap | None = None) -> None:
        """The next bytes begin a chunk and an event: while they are `usual` (see `contract.Scanner`), they go on `to` the client.

        With `swap`, they go on as it changes them.

        They are written at once, where all else waits for the end of the loop's turn: what was put there before must be out.
        """
        self._usual = usual if swap is None else swap.usual
        self._swap = swap
        self._to = to
        self._clock = clock

    def stop_passing(self) -> None:
        """The next bytes are to be looked at."""
        self._usual = None

    def passed(self) -> tuple[float, int, int]:
        """When the last chunk passed, the bytes of body and the tokens of all, since this was asked before; zeros for none."""
        passed = self._heard, self._size, self._tokens
        self._heard, self._size, self._tokens = 0.0, 0, 0
        return passed

    def data_received(self, data: bytes) -> None:
        # `only_chunk`, written out: a call less for each chunk.
        usual = self._usual
        size = len(data)
        if usual is None or size >= USUAL:
            self.received(data)
            return
        line = CHUNK_LINES[size]
        if not data.startswith(line) or not data.endswith(b"\r\n"):
            self.received(data)
            return
        try:
            tokens = usual(data[len(line) : -2])
            if tokens < 0:
                if tokens == -1 or self._swap is None:
                    self.received(data)
                    return
                tokens = -2 - tokens
                data = self._swap.out
                size = len(data)
                line = CHUNK_LINES[size] if size < USUAL else data[: data.index(b"\n") + 1]
            self._heard = self._clock.now
            self._size += size - len(line) - 2
            self._tokens += tokens
            to = self._to
            if not to.is_closing():  # else there is nobody left to read it
                to.write(data)
        except Exception:  # noqa: BLE001  # a fault of our own costs this request, with a receipt, and no other
            self.failed()

    def received(self, data: bytes) -> None:
        """Read what is not, or not surely, one usual chunk. Nothing is raised."""
        raise NotImplementedError

    def failed(self) -> None:
        """A fault of our own, which is being handled: end the request that it hit."""
        raise NotImplementedError
