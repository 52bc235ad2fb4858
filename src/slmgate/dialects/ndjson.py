"""The incremental scanner of newline-delimited JSON, as Ollama streams it: one object a line.

A dialect's scanner extends `NdjsonScanner` with three questions about a line. Nothing is ever held back or stripped:
the figures stand in the last object, which the client needs. This module does not know what a line says.
"""

from __future__ import annotations

from slmgate.terms import Usage

MAX_KEPT = 256 * 1024
"""Bytes of one unfinished line that are kept for reading. What is longer passes unread."""


class NdjsonScanner:
    """Reads a stream of lines as it passes; `feed` returns the very chunk that it was given."""

    __slots__ = ("_buffer", "_lost", "finished", "tokens_seen", "usage")

    def __init__(self) -> None:
        # What the road asks for; see `contract.Scanner`.
        self.usage: Usage | None = None
        self.tokens_seen = 0
        self.finished = False
        # The unfinished line, and whether it was too long to keep.
        self._buffer = bytearray()
        self._lost = False

    def special(self, data: bytes) -> bool:
        """Whether these bytes may hold a line that must be looked at."""
        raise NotImplementedError

    def count(self, data: bytes) -> int:
        """How many lines with generated text these bytes hold."""
        raise NotImplementedError

    def look(self, line: bytes) -> None:
        """Learn from one special line."""
        raise NotImplementedError

    @property
    def mid_event(self) -> bool:
        """Whether the client has been sent the beginning of a line without its end."""
        return self._lost or len(self._buffer) > 0

    @property
    def at_rest(self) -> bool:
        """No line is unfinished."""
        return not self._buffer and not self._lost

    def usual(self, chunk: bytes) -> int:
        """The tokens in whole lines with nothing special in them; -1 where it is anything else."""
        return self.count(chunk) if chunk.endswith(b"\n") and not self.special(chunk) else -1

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the body and return them."""
        if self.at_rest and (tokens := self.usual(chunk)) >= 0:
            self.tokens_seen += tokens
            return chunk
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            if not self._lost:
                self._line(bytes(self._buffer) + part)
            self._buffer.clear()
            self._lost = False
        if not self._lost:
            self._buffer += rest
            if len(self._buffer) > MAX_KEPT:
                self._buffer.clear()
                self._lost = True
        return chunk

    def close(self) -> bytes:
        """The body ended: a last line without its newline counts, if it is whole."""
        if self._buffer:
            self._line(bytes(self._buffer))
            self._buffer.clear()
        return b""

    def _line(self, line: bytes) -> None:
        self.tokens_seen += self.count(line)
        if self.special(line):
            self.look(line)
