"""W3C Trace Context: whose trace a request says that it is part of, and whether a trace is among those that are recorded.

Read strictly: what is not exactly a `traceparent` is none, since whoever guesses joins traces that do not belong together.
This module draws no ids, and does not know whether anybody is believed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

FIELDS = (b"traceparent", b"tracestate")
SAMPLED = 0x01
RANDOM = 0x02
"""The flag of a trace whose id's last seven bytes were drawn at random, so that everyone can choose by them."""
MAX_STATE = 512
"""Bytes of a `tracestate` that pass on (section 3.3.1.5: at least so many); a longer one is left out whole."""
MAX_MEMBERS = 32
_BITS = 56
"""Bits of a trace's id that decide whether it is recorded."""
NONE = 1 << _BITS
"""The threshold that no trace reaches."""
_MAX_PARENT = 512

# A later version may say more behind a further dash; what this one knows stands where it always stood (section 3.2.4).
_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})((?:-[!-~]*)?)")
# The last character of a value is no blank; entries may be empty.
_MEMBER = rb"[ \t]*(?:[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\x2d-<>-~]{0,255}[!-+\x2d-<>-~][ \t]*)?"
_STATE = re.compile(rb"%b(?:,%b){0,%d}" % (_MEMBER, _MEMBER, MAX_STATE))


class Parent(NamedTuple):
    """The span that a request was sent in: hexadecimal digits as they stand in the header, and the flags that are known."""

    trace_id: bytes
    span_id: bytes
    flags: int


def parent_of(value: bytes) -> Parent | None:
    """Who a `traceparent` names; None where it is malformed, or came more than once (then there are commas in it)."""
    found = _PARENT.fullmatch(value) if len(value) <= _MAX_PARENT else None
    if found is None or (found[1] == b"00" and found[5]):
        return None
    return Parent(found[2], found[3], int(found[4], 16) & (SAMPLED | RANDOM))


def sane_state(value: bytes) -> bytes | None:
    """A `tracestate` that may pass on, as it came, or None where it is malformed, empty or too much."""
    if not value or len(value) > MAX_STATE or _STATE.fullmatch(value) is None:
        return None
    members = sum(1 for member in value.split(b",") if member.strip(b" \t"))
    return value if 0 < members <= MAX_MEMBERS else None


def threshold(share: float) -> int:
    """What the last 56 bits of a trace's id must reach for the trace to be among this share of all.

    The rule of OpenTelemetry's consistent probability sampling: who keeps less keeps some of what others keep.
    """
    return round((1.0 - share) * NONE)


def is_chosen(trace_id: bytes, threshold: int) -> bool:
    """Whether a trace (32 hexadecimal digits) is recorded; the same for everyone who asks."""
    return int(trace_id[18:], 16) >= threshold
