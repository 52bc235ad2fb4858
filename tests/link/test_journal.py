"""The journal's format: whatever is cut off or overwritten, what is read back is a beginning of what was written.

Segments are built here by the format's own description, independently of `dataplane/journal.py`.
"""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.link import journal
from slmgate.link.journal import HEADER_SIZE, SLOT, padded, read_intents, read_payloads


def record(payload: bytes) -> bytes:
    whole = struct.pack("=II", len(payload), crc32(payload)) + payload
    return whole + b"\0" * (-len(whole) % 8)


def segment(*payloads: bytes, tail: int = 64) -> bytes:
    return journal.new_header() + b"".join(record(payload) for payload in payloads) + b"\0" * tail


payloads = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


def read(data: bytes, offset: int = journal.HEADER_SIZE) -> list[bytes]:
    return read_payloads(data, offset)[0]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("0123456789ab-00000001.seg", ("0123456789ab", 1)),
        ("ffffffffffff-99999999.seg", ("ffffffffffff", 99_999_999)),
        ("0123456789ab-00000001.seg\n", None),
        ("0123456789AB-00000001.seg", None),
        ("0123456789ab-1.seg", None),
        ("0123456789ab-00000001.tmp", None),
        ("x0123456789ab-00000001.seg", None),
        ("", None),
    ],
)
def test_names(name: str, parts: tuple[str, int] | None) -> None:
    assert journal.parse_segment_name(name) == parts
    if parts:
        assert journal.segment_name(*parts) == name


def test_the_header() -> None:
    header = journal.new_header()
    assert (len(header), header[:8]) == (journal.HEADER_SIZE, journal.MAGIC)
    assert not journal.is_sealed(header)
    sealed = bytearray(header)
    journal.WORD.pack_into(sealed, journal.SEALED_OFFSET, 1)
    assert journal.is_sealed(bytes(sealed))


@pytest.mark.parametrize(("length", "takes"), [(0, 8), (1, 16), (7, 16), (8, 16), (9, 24), (4088, 4096)])
def test_padding(length: int, takes: int) -> None:
    assert padded(length) == takes
    assert length == 0 or len(record(b"x" * length)) == takes


def test_payloads_and_where_they_end() -> None:
    data = segment(b"{}", b"12345678")
    assert read_payloads(data, 64) == ([b"{}", b"12345678"], 96)
    assert read_payloads(data, 80) == ([b"12345678"], 96)
    assert read_payloads(data, 96) == ([], 96)


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0" * 8, b"\0" * 64, b"\xff" * 64])
def test_nothing_there(data: bytes) -> None:
    assert read_payloads(data) == ([], 0)


@given(payloads)
def test_all_come_back(wrote: list[bytes]) -> None:
    assert read(segment(*wrote)) == wrote


@given(payloads, st.integers(0))
def test_cut_off_anywhere(wrote: list[bytes], at: int) -> None:
    """A segment that ends early, and one whose rest was never written, hold the same beginning."""
    data = segment(*wrote)
    at = journal.HEADER_SIZE + at % (len(data) - journal.HEADER_SIZE + 1)
    got = read(data[:at])
    assert got == wrote[: len(got)]
    kept = sum(len(record(one)) for one in got)
    left = wrote[len(got) :]
    assert not left or journal.HEADER_SIZE + kept + 8 + len(left[0]) > at, "a whole record was left out"
    zeros = read(data[:at] + b"\0" * (len(data) - at))
    assert zeros == wrote[: len(zeros)]


@given(payloads, st.integers(0), st.integers(1, 255))
def test_a_byte_that_changed(wrote: list[bytes], at: int, change: int) -> None:
    data = bytearray(segment(*wrote))
    at = journal.HEADER_SIZE + at % (len(data) - journal.HEADER_SIZE)
    data[at] ^= change
    got = read(bytes(data))
    end, whole = journal.HEADER_SIZE, 0
    for one in wrote:
        padding = range(end + 8 + len(one), end + len(record(one)))
        if end <= at < end + len(record(one)) and at not in padding:
            break
        end, whole = end + len(record(one)), whole + 1
    assert got == wrote[:whole], "what is not a record was read, or one was lost without need"


@given(st.binary(max_size=300), st.integers(0, 320))
def test_no_bytes_at_all_raise(data: bytes, offset: int) -> None:
    payloads, end = read_payloads(data, offset)
    assert end == offset + sum(len(record(one)) for one in payloads)
    assert end <= max(offset, len(data) + 7)


@given(payloads, payloads)
def test_reading_goes_on_where_it_ended(first: list[bytes], then: list[bytes]) -> None:
    _, end = read_payloads(segment(*first), journal.HEADER_SIZE)
    assert read(segment(*first, *then), end) == then


# Intents


def table(*payloads: bytes | None, slots: int = 8) -> bytes:
    """A table whose first slots hold these records, or none."""
    header = b"SLMINTN1" + bytes(56)
    taken = [b"" if payload is None else record(payload) for payload in payloads]
    return header + b"".join(one.ljust(SLOT, b"\0") for one in taken).ljust(slots * SLOT, b"\0")


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("0123456789ab.intents", "0123456789ab"),
        ("0123456789ab.intents\n", None),
        ("0123456789AB.intents", None),
        ("0123456789ab.intents.bad", None),
        ("0123456789ab.new", None),
        ("0123456789ab-00000001.seg", None),
        ("", None),
    ],
)
def test_names_of_tables(name: str, run: str | None) -> None:
    assert journal.parse_intents_name(name) == run
    if run:
        assert journal.intents_name(run) == name


def test_the_header_of_a_table() -> None:
    assert journal.new_header(journal.INTENTS_MAGIC) == table(slots=0)


def test_slots_stand_on_their_own() -> None:
    assert SLOT % 8 == 0
    assert SLOT >= journal.MAX_RECORD
    assert read_intents(table(None, b"a", None, b"b" * (SLOT - 8), b"c")) == ([b"a", b"b" * (SLOT - 8), b"c"], [])
    assert read_intents(table(b"a", slots=1)) == ([b"a"], [])


@pytest.mark.parametrize("data", [b"", bytes(64), bytes(71), bytes(72), table(), table(slots=0)])
def test_no_intents(data: bytes) -> None:
    assert read_intents(data) == ([], [])


intents = st.lists(st.none() | st.binary(min_size=1, max_size=40), max_size=4)


@given(intents, st.integers(0), st.integers(1, 255))
def test_a_byte_of_a_table_that_changed(wrote: list[bytes | None], at: int, change: int) -> None:
    """It costs the slot that it is in, at the most."""
    data = bytearray(table(*wrote, slots=4))
    at = HEADER_SIZE + at % (len(data) - HEADER_SIZE)
    data[at] ^= change
    got, damaged = read_intents(bytes(data))
    spared = [one for place, one in enumerate(wrote) if one is not None and place != (at - HEADER_SIZE) // SLOT]
    assert got in (spared, [one for one in wrote if one is not None])
    assert damaged in ([], [HEADER_SIZE + (at - HEADER_SIZE) // SLOT * SLOT])


@given(intents, st.integers(0))
def test_a_table_that_is_cut_off(wrote: list[bytes | None], at: int) -> None:
    data = table(*wrote, slots=4)[: at % (4 * SLOT + HEADER_SIZE + 1)]
    got, damaged = read_intents(data)
    assert got == [one for one in wrote if one is not None][: len(got)]
    assert len(damaged) <= 1


@pytest.mark.parametrize("length", [SLOT - 7, SLOT, 2 * SLOT, 2**32 - 1])
def test_a_length_beyond_the_slot_is_damage(length: int) -> None:
    whole = bytes(length) if length < 2 * SLOT else b""
    data = bytearray(table(None, slots=2))
    struct.pack_into("=II", data, HEADER_SIZE, length, crc32(whole))
    assert read_intents(bytes(data)) == ([], [HEADER_SIZE])
