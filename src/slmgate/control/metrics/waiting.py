"""How much of the journal is not in the ledger yet: looked up in the files, as far as it is cheap.

It reads what `link/journal.py` describes and how far the ledger is; it takes nothing and locks nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from slmgate.link import journal

LOOKED_AT = 4 * 1024 * 1024
"""Bytes of a segment in use that are looked at; of more it is said that there are so many."""


def waiting_bytes(directory: Path, positions: Mapping[str, int]) -> int:
    """Bytes of records in segments behind these positions. What comes or goes meanwhile may or may not be counted."""
    newest: dict[str, int] = {}
    found: list[tuple[str, int, Path]] = []
    for entry in os.scandir(directory):
        parts = journal.parse_segment_name(entry.name)
        if parts is not None:
            found.append((*parts, directory / entry.name))
            newest[parts[0]] = max(parts[1], newest.get(parts[0], 0))
    total = 0
    for run, number, path in found:
        position = positions.get(path.name, journal.HEADER_SIZE)
        try:
            if number == newest[run] or number == newest[run] - 1:  # the one in use, and the next, which is empty
                with path.open("rb") as file:
                    file.seek(position)
                    total += _written(file.read(LOOKED_AT))
            else:
                total += max(0, path.stat().st_size - position)
        except OSError:
            continue  # it has been taken
    return total


def _written(data: bytes) -> int:
    """Where the records end."""
    offset = 0
    while offset + journal.FRAME.size <= len(data):
        length = journal.FRAME.unpack_from(data, offset)[0]
        if not length:
            break
        offset += journal.padded(length)
    return min(offset, len(data))
