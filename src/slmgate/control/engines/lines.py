"""An engine's output in lines that a log can take: whole, bounded in length and number, nothing in them but visible characters.

Bytes in, lines out. It knows no engine and writes nowhere; `now` is an argument.
"""

from __future__ import annotations

LONGEST = 1000
"""Bytes of a line; the rest of it is left out."""
BURST = 200
PER_SECOND = 20.0
"""Lines in the long run; of more it is only said how many there were."""


class Lines:
    """Of one engine. What is fed comes out in whole lines."""

    __slots__ = ("_allowed", "_at", "_cut", "_left_out", "_rest")

    def __init__(self) -> None:
        self._rest = b""  # of a line that has not ended
        self._cut = False  # it is longer than may be, and was told already
        self._allowed = float(BURST)
        self._at = 0.0
        self._left_out = 0

    def __repr__(self) -> str:
        return f"<Lines: {self._left_out} left out>"

    def feed(self, data: bytes, now: float) -> list[str]:
        """The lines that `data` completes, as many as may be told now."""
        self._allowed = min(float(BURST), self._allowed + max(0.0, now - self._at) * PER_SECOND)
        self._at = now
        *whole, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        told: list[str] = []
        for line in whole:
            if not self._cut:
                self._tell(line, told)
            self._cut = False
        if len(rest) > LONGEST:
            if not self._cut:
                self._tell(rest, told)
            self._cut, rest = True, b""
        self._rest = b"" if self._cut else rest
        return told

    def close(self) -> list[str]:
        """The end of the output: what was not ended by a line's end."""
        told: list[str] = []
        if self._rest:
            self._tell(self._rest, told)
        if self._left_out:
            told.append(f"({self._left_out} lines left out)")
        self._rest, self._left_out = b"", 0
        return told

    def _tell(self, line: bytes, told: list[str]) -> None:
        text = "".join(one if one.isprintable() else " " for one in line[:LONGEST].decode(errors="replace")).strip()
        if not text:
            return
        if self._allowed < 1.0:
            self._left_out += 1
            return
        self._allowed -= 1.0
        if self._left_out:
            told.append(f"({self._left_out} lines left out)")
            self._left_out = 0
        told.append(text + (" ..." if len(line) > LONGEST else ""))
