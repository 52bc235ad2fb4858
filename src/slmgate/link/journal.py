"""The journal's format: how a worker leaves records in memory-mapped files, and how control finds them.

Pure functions over bytes, used by `dataplane/journal.py` (writes) and `control/ledger.py` (reads); this module
opens no file and holds no state. The format is made so that a process may die at any instant, even inside a copy:
a record counts only when its length is set and its checksum holds.

A record is, at a multiple of 8:

    u32 length of the payload | u32 CRC-32 of the payload | payload | zeros up to a multiple of 8

The payload is written before the eight bytes in front of it, and those in one aligned store. A length of 0 means
"nothing here (yet)". Every file is filled with zeros to begin with, and its worker holds an exclusive `flock` on it as long as
it may write there; the kernel drops it when the worker dies. There are two kinds of files:

*Segments* hold receipts, one behind the other. They have a fixed size and are named `<incarnation>-<sequence>.seg`:

    offset 0   8 bytes   magic
    offset 8   u64       sealed: 0 while its worker may still write to it, 1 after
    offset 16  48 bytes  zero
    offset 64  records, each with a receipt: the JSON of it, in one line

*Intents* of requests that are under way stand in a table, one for each worker run, named `<incarnation>.intents`:

    offset 0   8 bytes   magic
    offset 8   56 bytes  zero
    offset 64  slots of `SLOT` bytes, each with a record (JSON of an intent) or none; the file grows by whole slots

A slot is taken before its request is forwarded, and given back, by setting its length to 0, after the receipt is in a segment.
"""

from __future__ import annotations

import re
from struct import Struct
from zlib import crc32

MAGIC = b"SLMJRNL1"
INTENTS_MAGIC = b"SLMINTN1"
HEADER_SIZE = 64
SEALED_OFFSET = 8
FRAME = Struct("=II")
WORD = Struct("=Q")
MAX_RECORD = 4096
"""Bytes of one record with its frame and padding, at the most. Writers bound their texts to keep it."""
SLOT = MAX_RECORD + 64
"""Bytes of a slot. Not a power of two: the slots in use would then all want the same few lines of the processor's cache."""

_NAME = re.compile(r"([0-9a-f]{12})-([0-9]{8})\.seg")
_INTENTS_NAME = re.compile(r"([0-9a-f]{12})\.intents")


def segment_name(incarnation: str, sequence: int) -> str:
    """The file name of the `sequence`-th segment of the worker run `incarnation` (12 hex digits)."""
    return f"{incarnation}-{sequence:08d}.seg"


def parse_segment_name(name: str) -> tuple[str, int] | None:
    """The parts of a segment's file name, None for any other file."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def intents_name(incarnation: str) -> str:
    """The file name of the table of intents of the worker run `incarnation`."""
    return f"{incarnation}.intents"


def parse_intents_name(name: str) -> str | None:
    """The worker run that a table of intents is named after, None for any other file."""
    found = _INTENTS_NAME.fullmatch(name)
    return found[1] if found else None


def new_header(magic: bytes = MAGIC) -> bytes:
    return magic.ljust(HEADER_SIZE, b"\0")


def is_sealed(header: bytes) -> bool:
    return header[SEALED_OFFSET] != 0


def padded(length: int) -> int:
    """Bytes that a record with a payload of `length` takes in its segment."""
    return (FRAME.size + length + 7) & ~7


def read_payloads(data: bytes, offset: int = 0) -> tuple[list[bytes], int]:
    """The payloads of the whole records in `data` from `offset` on, in order, and the offset where they end.

    Stops at the first place that holds no whole, intact record: the end so far, or a copy that is under way. One loop
    without a generator or an object for each record, because control spends more time here than in any other of its loops.
    """
    payloads: list[bytes] = []
    size, header, unpack = len(data), FRAME.size, FRAME.unpack_from
    while (start := offset + header) <= size:
        length, checksum = unpack(data, offset)
        end = start + length
        if length == 0 or end > size:
            break
        payload = data[start:end]
        if crc32(payload) != checksum:
            break
        payloads.append(payload)
        offset = (end + 7) & ~7
    return payloads, offset


def read_intents(data: bytes) -> tuple[list[bytes], list[int]]:
    """The payloads in a whole table of intents, and the offsets of slots that hold neither a whole record nor nothing.

    The latter only a loss of power leaves behind, or damage: a worker that dies in the middle of a copy has set no length yet.
    """
    payloads: list[bytes] = []
    damaged: list[int] = []
    for offset in range(HEADER_SIZE, len(data) - FRAME.size + 1, SLOT):
        length, checksum = FRAME.unpack_from(data, offset)
        if length == 0:
            continue
        start = offset + FRAME.size
        payload = data[start : start + length]
        if length <= SLOT - FRAME.size and len(payload) == length and crc32(payload) == checksum:
            payloads.append(payload)
        else:
            damaged.append(offset)
    return payloads, damaged
