"""The counts in a file, so that they go on where they were when the control process dies or is replaced.

The file says up to which receipt of the ledger it has counted: what came later is counted again from the ledger, so that no
receipt is left out and none counts twice. A file of another ledger, or one that is too old, is not used: counters then begin at
zero, as those of any program do that was started again. It knows what is written and read, not when.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from slmgate.control.metrics.counting import Counts
from slmgate.control.metrics.families import BY_NAME


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the file. `seq` is the ledger's newest receipt that was counted. `workers` are the figures that each worker run
    had told last, `slots` which run was the last of each place.
    """

    seq: int
    counters: dict[str, list[tuple[tuple[str, ...], int]]]
    histograms: dict[str, list[tuple[tuple[str, ...], tuple[int, ...], list[int], int]]]
    """Labels, bounds, buckets and sum of each series."""
    workers: dict[str, tuple[int, ...]] = {}
    slots: dict[str, str] = {}


def kept_of(counts: Counts, seq: int, workers: dict[str, tuple[int, ...]], slots: dict[str, str]) -> Kept:
    """What there is to keep."""
    counters, histograms = counts.copied()
    return Kept(
        seq=seq,
        counters={name: list(known.items()) for name, known in counters.items()},
        histograms={
            name: [(labels, one.bounds, one.counts, one.sum) for labels, one in known.items()]
            for name, known in histograms.items()
        },
        workers=dict(workers),
        slots=dict(slots),
    )


def restore(kept: Kept, counts: Counts) -> None:
    """Go on from there. A family that is made otherwise by now begins at zero."""
    for name, known in kept.counters.items():
        for labels, number in known:
            if name in counts.counters and len(labels) == len(BY_NAME[name].labels):
                counts.series(name, *labels)[0] += number
    for name, rows in kept.histograms.items():
        for labels, bounds, buckets, total in rows:
            family = BY_NAME.get(name) if name in counts.histograms else None
            if family is not None and len(labels) == len(family.labels) and bounds == family.bounds:
                one = counts.histogram(name, *labels)
                one.counts = [before + more for before, more in zip(one.counts, buckets, strict=True)]
                one.sum += total


def read(file: Path) -> Kept | None:
    """What the file has; None: there is none that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def write(file: Path, kept: Kept) -> None:
    """Replace the file. One that cannot be written is left as it is: the counts are made again from the ledger."""
    new = file.with_name(f"{file.name}.new")
    with contextlib.suppress(OSError):
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as to:
            to.write(msgspec.json.encode(kept))
        new.replace(file)
