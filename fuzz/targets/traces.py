"""`traceparent` and `tracestate`: what is taken is what a slow reading of W3C Trace Context takes, to the byte.

The first byte of an input chooses which of both the rest is. What is read off a `traceparent` stands in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fuzz.target import Target
from slmgate.http1.trace_context import MAX_MEMBERS, MAX_STATE, parent_of, sane_state

HEX = b"0123456789abcdef"
KEY = b"abcdefghijklmnopqrstuvwxyz0123456789_-*/@"
GOOD = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def is_parent(value: bytes) -> bool:
    """Section 3.2, field by field."""
    version, trace, span, flags = value[:2], value[3:35], value[36:52], value[53:55]
    if len(value) < 55 or len(value) > 512 or any(value[at] != ord("-") for at in (2, 35, 52)):
        return False
    if any(digit not in HEX for digit in version + trace + span + flags):
        return False
    if version == b"ff" or not trace.strip(b"0") or not span.strip(b"0"):
        return False
    more = value[55:]
    return not more if version == b"00" else not more or (more[:1] == b"-" and all(0x21 <= byte <= 0x7E for byte in more))


def is_state(value: bytes) -> bool:
    """Section 3.3, member by member."""
    members = [one for one in (part.strip(b" \t") for part in value.split(b",")) if one]
    if len(value) > MAX_STATE or not 0 < len(members) <= MAX_MEMBERS:
        return False
    for one in members:
        key, equals, said = one.partition(b"=")
        if not equals or not 0 < len(key) <= 256 or not 0 < len(said) <= 256 or key[:1] in (b"_", b"-", b"*", b"/", b"@"):
            return False
        if any(byte not in KEY for byte in key) or any(byte == ord("=") or not 0x20 <= byte <= 0x7E for byte in said):
            return False
    # a blank before the value belongs to it: a value may begin with one, and a key cannot end with one
    return True


def check(data: bytes) -> None:
    if not data:
        return
    value = data[1:]
    if data[0] % 2:
        found = parent_of(value)
        assert (found is not None) == is_parent(value), f"{value!r}: {found}"
        if found is not None:
            assert (found.trace_id, found.span_id) == (value[3:35], value[36:52])
            assert found.flags == int(value[53:55], 16) & 3
    else:
        assert (sane_state(value) is not None) == is_state(value), f"{value!r}"


def seeds() -> Iterable[bytes]:
    for value in (
        GOOD,
        b"cc" + GOOD[2:] + b"-more",
        b"ff" + GOOD[2:],
        GOOD[:-1],
        GOOD + b", " + GOOD,
        b"00-" + b"0" * 32 + GOOD[35:],
    ):
        yield b"\x01" + value
    for value in (
        b"foo=1",
        b"foo=1 \t, bar=2,,",
        b"a@b=c d",
        b"foo= 1",
        b"foo=1=2",
        b",".join(b"k%d=v" % at for at in range(33)),
        b"z" * 256 + b"=1",
    ):
        yield b"\x00" + value


TARGET = Target(check, seeds, 600)
