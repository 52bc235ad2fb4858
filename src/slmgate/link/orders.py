"""What the supervisor tells a worker at its start: one JSON argument, file descriptors inherited.

Only the form stands here, since both sides need it and neither imports the other.
"""

from __future__ import annotations

import msgspec

LIMITS_FORMAT = b"SLMLIMT2"
"""What the workers' table of limits begins with. Changed with its form: a table of another is begun anew."""


class WorkerOrders(msgspec.Struct, frozen=True, kw_only=True):
    """`listeners`, `beats`, `lifeline` and `loads` are file descriptors; `link`, `journal`, `limits` (a file), `answers`,
    `salt_key` (a file) and `addresses` (a file; empty: none) are paths. `loads` is -1 where there is one worker.

    `sync`: seconds between two times that the journal is forced to the disk, None for never.
    `serve_unaccounted`: go on when the journal is full, instead of refusing. `complains`: say what instances do wrong.
    `slot` is one of `workers`; `gate` is the run of their supervisor. `tls` has an entry for each listener: its address as
    configured, by which control says how TLS is spoken there (`tls.py`), or None for plain HTTP; empty: all are plain. `proxied`
    has one, whether every connection begins with a PROXY protocol header; empty: none does.
    """

    slot: int
    listeners: tuple[int, ...]
    beats: int
    lifeline: int
    link: str
    journal: str
    answers: str
    limits: str = ""
    workers: int = 1
    loads: int = -1
    salt_key: str = ""
    addresses: str = ""
    segment_size: int = 8 * 1024 * 1024
    sync: float | None = 1.0
    serve_unaccounted: bool = False
    complains: bool = True
    tls: tuple[str | None, ...] = ()
    proxied: tuple[bool, ...] = ()
    gate: str = ""
