"""Where the time of one request went, as bars that stand one behind the other: made of its receipt, and of nothing else.

A receipt's times count from its head; here each part has its beginning and its length. What cannot be told apart is one part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from markupsafe import Markup

from slmgate.terms import Receipt

SECOND = 1e6


class Part(NamedTuple):
    """One part of a request's time: `start` and `length` in seconds, and the colour's class."""

    name: str
    start: float
    length: float
    tone: str
    note: str
    all: float

    def bar(self) -> Markup:
        """The picture, which says nothing that the figures beside it do not."""
        start = 100 * self.start / self.all if self.all else 0.0
        width = max(0.4, 100 * self.length / self.all) if self.all and self.length else 0.0
        return Markup(
            '<svg class="rank timeline" aria-hidden="true" width="100%" height="12">'
            '<rect class="track" width="100%" height="12" rx="3"/>'
            '<rect class="bar {}" x="{}%" width="{}%" height="12" rx="2"/></svg>'
        ).format(self.tone, f"{min(start, 99.6):.2f}", f"{min(width, 100.0):.2f}")


def timeline(receipt: Receipt) -> list[Part]:
    """The parts in their order. Those that took no time are left out, but for the gate's own."""
    every = receipt.total_us / SECOND
    return [Part(name, start / SECOND, length / SECOND, tone, note, every) for name, start, length, tone, note in _parts(receipt)]


def _parts(receipt: Receipt) -> Iterator[tuple[str, int, int, str, str]]:
    read, end = min(receipt.receive_us, receipt.total_us), receipt.total_us
    asked = min(receipt.queue_us, end)
    if read:
        yield "Reading", 0, read, "c6", "until all of it was here, and its caller known"
    if not receipt.attempts:
        if waited := min(asked, end - read):
            yield "In line", read, waited, "c1", "it waited for an instance in vain"
            read += waited
        yield "The gate", read, max(0, end - read), "c3", "which answered by itself"
        return
    own = min(receipt.overhead_us, end - read)
    opened = receipt.connect_us if receipt.attempts == 1 else 0  # else it is a later connection's than it stood in line for
    line = max(0, asked - read - own - opened)
    connect = min(opened, max(0, end - read - own - line))
    handed = read + own + line + connect  # a little later than it was asked: the gate's share ends when the request is written
    yield "The gate", read, own, "c3", "its own share, until the instance had been handed it"
    if line:
        yield "In line", read + own, line, "c1", "until an instance had room"
    if connect:
        yield "Connecting", handed - connect, connect, "c5", "a new connection to the instance"
    if receipt.first_byte_us is None:
        yield "Waiting", handed, end - handed, "c0", "for a first byte that never came"
        return
    first = min(max(receipt.first_byte_us, handed), end)
    yield "First byte", handed, first - handed, "c0", "until the answer began"
    if end > first:
        yield "Stream" if receipt.stream else "Answer", first, end - first, "c2", "until the client's last byte was written"
