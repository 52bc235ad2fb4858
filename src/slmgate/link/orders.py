"""What the supervisor tells a worker at its start: one JSON argument, file descriptors inherited.

Only the form stands here, since both sides need it and neither imports the other.
"""

from __future__ import annotations

import msgspec


class WorkerOrders(msgspec.Struct, frozen=True, kw_only=True):
    """`listeners`, `beats` and `lifeline` are file descriptors; `link` and `journal` are paths.

    `sync`: seconds between two times that the journal is forced to the disk, None for never.
    `serve_unaccounted`: go on when the journal is full, instead of refusing. `complains`: say what instances do wrong.
    """

    slot: int
    listeners: tuple[int, ...]
    beats: int
    lifeline: int
    link: str
    journal: str
    segment_size: int = 8 * 1024 * 1024
    sync: float | None = 1.0
    serve_unaccounted: bool = False
    complains: bool = True
