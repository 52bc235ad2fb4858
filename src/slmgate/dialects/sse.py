"""The incremental scanner of server-sent events (WHATWG HTML, section 9.2): finds whole events at any chunk boundary.

A dialect's scanner extends `SseScanner` with three questions about an event. The common chunk, whole events with
nothing special in them, costs a few substring searches and is returned as the object that came. This module knows
how events end, not what they say.
"""

from __future__ import annotations

import re

from slmgate.dialects.figures import says_failure
from slmgate.dialects.masking import Edit, Mask, Rough, Swap, edited, learnt
from slmgate.terms import Usage

MAX_HELD = 256 * 1024
"""Bytes of one unfinished event that are kept. What is longer passes unread, but is masked all the same."""

_HEAD = 1024  # bytes of an event longer than MAX_HELD: enough to see how it begins
_OVERLAP = 3  # bytes of an event's end, at most four long, that may have come before the chunk that completes it
ENDS = (b"\n\n", b"\r\n\r\n")
"""What a chunk of whole events ends with, in nearly all streams."""
_EOL = (b"\n", b"\r")
_CR = 0x0D
_BOM = b"\xef\xbb\xbf"  # clients pass over it before the first event

# A blank line ends an event; a line ends with CR LF, LF or CR. Atomic groups: CR LF is never read as two line ends.
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")


def event_data(event: bytes) -> bytes:
    """The data of one event: its `data` lines, joined by LF, without the one space that may follow the colon."""
    lines = [line for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join([line[6:] if line.startswith(b"data: ") else line[5:] for line in lines])


class SseScanner:
    """Forwards a stream of events and reads it as it passes.

    With `strip` or a mask, an unfinished event is held back until it is known how it goes on; without, nothing is.
    Subclasses answer `special`, `count` and `look`, which must say the same of a chunk as of its events one by one.
    """

    __slots__ = (
        "_buffer",
        "_cut",
        "_dropped",
        "_head",
        "_holds",
        "_learning",
        "_mask",
        "_open",
        "_rough",
        "_searched",
        "_sent",
        "_strip",
        "failed",
        "finished",
        "swap",
        "tokens_seen",
        "usage",
    )
    swaps = False
    """Whether each event with text says what the model is called, so that what is to be masked in one is so in all."""

    def __init__(self, strip: bool = False, mask: Mask | None = None) -> None:
        # What the road asks for; see `contract.Scanner`.
        self.usage: Usage | None = None
        self.tokens_seen = 0
        self.finished = False
        self.failed: bytes | None = None
        self.swap: Swap | None = None
        # The unfinished event and how far it was searched for its end; `_head` is its beginning, once it was too long
        # to keep: then the buffer holds only its last bytes.
        self._buffer = bytearray()
        self._searched = 0
        self._head: bytes | None = None
        # `_cut`: the last event ended with a CR at the very end of a chunk, so that an LF that comes next still belongs
        # to it; `_dropped`: that event's own end was not sent on. `_open`: one of these forbids the short way
        # for the next chunk.
        self._cut = False
        self._dropped = False
        self._open = False
        self._strip = strip
        self._mask = mask
        self._learning = mask is not None  # no event with text has come yet to show what is to be masked
        self._holds = strip or mask is not None
        self._rough: Rough | None = None  # masks an event that was too long to keep
        self._sent = 0  # of the buffer's bytes, when they belong to an event too long to keep

    def special(self, data: bytes) -> bool:
        """Whether these bytes may hold an event that must be looked at."""
        raise NotImplementedError

    def odd(self, data: bytes) -> bool:
        """Whether these bytes may hold an event that is no part of an answer, or tells of the inside.

        It is not asked of a chunk that is one event with generated text: what is to be masked there is learnt.
        """
        return data.find(b"error") >= 0

    def count(self, data: bytes) -> int:
        """How many events with generated text these bytes hold."""
        raise NotImplementedError

    def look(self, event: bytes) -> bytes:
        """Learn from one special event; return what to forward of it (`event` itself, if it is to stay)."""
        raise NotImplementedError

    def skim(self, head: bytes) -> None:
        """Learn what can be learnt from the beginning of an event that was too long to keep."""

    @property
    def mid_event(self) -> bool:
        """Whether the client has been sent the beginning of an event without its end."""
        return self._head is not None or (not self._holds and len(self._buffer) > 0)

    @property
    def at_rest(self) -> bool:
        """No event is unfinished, nor its last line end in doubt; and what to mask is known."""
        return not self._open and not self._learning

    def usual(self, chunk: bytes) -> int:
        """The tokens in whole events with nothing special in them; -1 where it is anything else."""
        written = self.count(chunk)
        if written and chunk.find(b"\n\n") == len(chunk) - 2 > 0:
            return -1 if self.special(chunk) else written
        return written if chunk.endswith(ENDS) and not self.special(chunk) and not self.odd(chunk) else -1

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the body, return what to send on: `chunk` itself, where nothing is held or stripped."""
        if self.at_rest and self.swap is None and (tokens := self.usual(chunk)) >= 0:
            self.tokens_seen += tokens
            return chunk
        out = self._split(chunk)
        return out if self._holds else chunk

    def close(self) -> bytes:
        """The body ended: return what was held back. It is looked at first, in case only its last blank line is missing."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._open = False
        if self._head is not None or not rest:
            return b"" if self._rough is None else self._rough.close()
        kept = self._event(rest)
        return kept if self._holds else b""

    def _split(self, chunk: bytes) -> bytes:
        """Take `chunk` apart into events; return what a scanner that holds back sends on."""
        out = []
        if self._cut and chunk:
            self._cut = False
            if chunk.startswith(b"\n"):
                out.append(b"" if self._dropped else b"\n")
                chunk = chunk[1:]
        buffer = self._buffer
        buffer += chunk
        start = 0
        while (end := self._end(start)) > start:
            if self._head is None:
                kept = self._event(bytes(buffer[start:end]))
                out.append(kept)
                self._dropped = not kept.endswith(b"\r")
            else:
                self.skim(self._head)
                self._head = None
                out.append(self._passed(bytes(buffer[start + self._sent : end])))
                if self._rough is not None:
                    out.append(self._rough.close())
                    self._rough = None
                self._sent = 0
                self._dropped = False
            self._cut = end == len(buffer) and buffer[-1] == _CR
            start = end
        del buffer[:start]
        if self._head is None and len(buffer) > MAX_HELD:
            self._rough = None if self._mask is None else Rough(self._mask)
            out.append(self._passed(bytes(buffer)))
            self._head = bytes(buffer[:_HEAD])
            self._sent = len(buffer)
        if self._head is not None:
            out.append(self._passed(bytes(buffer[self._sent :])))
            del buffer[:-_OVERLAP]
            self._sent = len(buffer)
        self._searched = max(0, len(buffer) - _OVERLAP)
        self._open = len(buffer) > 0 or self._cut
        return b"".join(out)

    def _passed(self, part: bytes) -> bytes:
        """What goes on of a part of an event that is too long to keep."""
        return part if self._rough is None else self._rough.feed(part)

    def _end(self, start: int) -> int:
        """The end of the event that starts at `start` of the buffer; `start` itself while there is none."""
        buffer = self._buffer
        if self._head is None and (start or not self._searched):
            if buffer[start : start + 2] == b"\r\n":
                return start + 2
            if bytes(buffer[start : start + 1]) in _EOL:  # a blank line on its own
                return start + 1
        at = max(start, self._searched)
        if buffer.find(b"\n", at) < 0 and buffer.find(b"\r", at) < 0:
            return start  # a flood without a line's end is told as one at a tenth of the expression's cost
        found = _END.search(buffer, at)
        return found.end() if found else start

    def _event(self, event: bytes) -> bytes:
        mask, tokens = self._mask, self.count(event)
        self.tokens_seen += tokens
        if mask is None:
            return self.look(event) if self.special(event) else event
        if self.failed is not None:
            return b""
        if self.odd(event) and _is_failure(event):
            self.failed = event_data(event) or event
            return b""
        kept = self.look(event) if self.special(event) else event
        if not kept or mask.clean(kept):
            if tokens:
                self._learning = False
            return kept
        lines = kept.splitlines(keepends=True)
        of_data = [number for number, line in enumerate(lines) if line.startswith(b"data:")]
        if len(of_data) != 1:
            return mask.rough(kept) if of_data or kept.startswith(_BOM) else kept
        line = lines[of_data[0]]
        edits = mask.edits(line[5:])
        if edits is None:
            return mask.rough(kept)
        lines[of_data[0]] = line[:5] + edited(line[5:], edits)
        if tokens and self._learning:
            self._learn(mask, kept, edits)
        return b"".join(lines)

    def _learn(self, mask: Mask, event: bytes, edits: list[Edit]) -> None:
        """From an event with text: how the next ones can be masked. What is not so simple is looked at each time."""
        if not edits:
            self._learning = False
        elif self.swaps and event.startswith(b"data:"):
            self.swap = learnt(mask, event, 5, self.usual, b"\n\n")
            self._learning = self.swap is None


def _is_failure(event: bytes) -> bool:
    if any(line.replace(b" ", b"") == b"event:error" or line.startswith(b"error:") for line in event.splitlines()):
        return True  # older llama.cpp had a field of that name
    return says_failure(event_data(event))
