"""The incremental scanner of newline-delimited JSON, as Ollama streams it: one object a line.

A dialect's scanner extends `NdjsonScanner` with three questions about a line. Nothing is ever stripped: the figures stand in
the last object, which the client needs. With a mask, an unfinished line is held back. This module does not know what a line
says.
"""

from __future__ import annotations

from slmgate.dialects.figures import says_failure
from slmgate.dialects.masking import Mask, Rough, Swap, edited, learnt
from slmgate.terms import Usage

MAX_KEPT = 256 * 1024
"""Bytes of one unfinished line that are kept for reading. What is longer passes unread, but is masked all the same."""


class NdjsonScanner:
    """Reads a stream of lines as it passes; without a mask, `feed` returns the very chunk that it was given."""

    __slots__ = ("_buffer", "_learning", "_lost", "_mask", "_rough", "failed", "finished", "swap", "tokens_seen", "usage")

    def __init__(self, mask: Mask | None = None) -> None:
        # What the road asks for; see `contract.Scanner`.
        self.usage: Usage | None = None
        self.tokens_seen = 0
        self.finished = False
        self.failed: bytes | None = None
        self.swap: Swap | None = None
        self._mask = mask
        self._learning = mask is not None  # no line with text has come yet to show what is to be masked
        # The unfinished line, and whether it was too long to keep.
        self._buffer = bytearray()
        self._lost = False
        self._rough: Rough | None = None  # masks such a line

    def special(self, data: bytes) -> bool:
        """Whether these bytes may hold a line that must be looked at."""
        raise NotImplementedError

    def odd(self, data: bytes) -> bool:
        """Whether these bytes may hold a line that is no part of an answer; not asked of one line with generated text."""
        return data.find(b'"error"') >= 0

    def count(self, data: bytes) -> int:
        """How many lines with generated text these bytes hold."""
        raise NotImplementedError

    def look(self, line: bytes) -> None:
        """Learn from one special line."""
        raise NotImplementedError

    @property
    def mid_event(self) -> bool:
        """Whether the client has been sent the beginning of a line without its end."""
        return self._lost or (self._mask is None and len(self._buffer) > 0)

    @property
    def at_rest(self) -> bool:
        """No line is unfinished; and what to mask is known."""
        return not self._buffer and not self._lost and not self._learning

    def usual(self, chunk: bytes) -> int:
        """The tokens in whole lines with nothing special in them; -1 where it is anything else."""
        written = self.count(chunk)
        if written and chunk.find(b"\n") == len(chunk) - 1:
            return -1 if self.special(chunk) else written
        return written if chunk.endswith(b"\n") and not self.special(chunk) and not self.odd(chunk) else -1

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the body, return what to send on: `chunk` itself, where nothing is held or masked."""
        if self.at_rest and self.swap is None and (tokens := self.usual(chunk)) >= 0:
            self.tokens_seen += tokens
            return chunk
        *ended, rest = chunk.split(b"\n")
        out = []
        for part in ended:
            if not self._lost:
                out.append(self._line(bytes(self._buffer) + part, b"\n"))
            elif self._rough is None:
                out.append(part + b"\n")
            else:
                out += self._rough.feed(part + b"\n"), self._rough.close()
                self._rough = None
            self._buffer.clear()
            self._lost = False
        if self._lost:
            out.append(rest if self._rough is None else self._rough.feed(rest))
        else:
            self._buffer += rest
            if len(self._buffer) > MAX_KEPT:
                if self._mask is not None:
                    self._rough = Rough(self._mask)
                    out.append(self._rough.feed(bytes(self._buffer)))
                self._buffer.clear()
                self._lost = True
        return chunk if self._mask is None else b"".join(out)

    def close(self) -> bytes:
        """The body ended: a last line without its newline counts, if it is whole."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        kept = self._line(rest, b"") if rest else b"" if self._rough is None else self._rough.close()
        return b"" if self._mask is None else kept

    def _line(self, line: bytes, end: bytes) -> bytes:
        mask, tokens = self._mask, self.count(line)
        self.tokens_seen += tokens
        if mask is not None and self.failed is None and self.odd(line) and says_failure(line):
            self.failed = line
        if self.failed is not None:
            return b""
        if self.special(line):
            self.look(line)
        if mask is None or mask.clean(line):
            if tokens:
                self._learning = False
            return line + end
        edits = mask.edits(line)
        if edits is None:
            return mask.rough(line) + end
        if tokens and self._learning:
            self.swap = learnt(mask, line + end, 0, self.usual, b"\n") if edits else None
            self._learning = bool(edits) and self.swap is None
        return edited(line, edits) + end
