"""What tells that a file is not what it was: its identity, its size and when it was changed.

Files are looked at, not watched: a look sees one that was replaced, a link that was turned and a single file mounted into a
container, of which the kernel's notices miss one or the other. This module reads no file and remembers nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

Stamp = tuple[int, int, int] | None
"""None: there is no such file, or it cannot be looked at."""


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path.stat())
    except (OSError, ValueError):  # the latter: no name of a file
        return None


def stamps(paths: Iterable[Path]) -> list[Stamp]:
    return [stamp(path) for path in paths]


def changed(seen: Mapping[Path, Stamp]) -> bool:
    """Whether one of these files is not what it was when it was seen."""
    return any(stamp(path) != before for path, before in seen.items())


def stamp_text(path: Path) -> str:
    """A stamp as part of a record that travels to workers, who only compare it."""
    found = stamp(path)
    return "-" if found is None else "-".join(map(str, found))
