"""What the control process is told at its start: one JSON argument, file descriptors inherited from the supervisor.

Only forms stand here, and how a configuration's source is read; the control process acts on them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from slmgate.control.config import Loaded, from_upstream, load


class ConfigSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the configuration comes from: a file, or (`serve --upstream`) an instance and what it said of itself."""

    path: str | None = None
    upstream: str | None = None
    models: tuple[str, ...] = ()
    engine: str = "openai"
    listen: str | None = None

    def load(self) -> Loaded:
        """Read it afresh. Raises ConfigError only for an upstream that the same values in a file would be faults for."""
        if self.path is not None:
            return load(Path(self.path))
        assert self.upstream is not None
        return Loaded(config=from_upstream(self.upstream, self.models, self.engine))  # type: ignore[arg-type]  # checked inside


class ControlOrders(msgspec.Struct, frozen=True, kw_only=True):
    """`admin`, `link`, `beats` and `lifeline` are file descriptors, `row` is control's own on the board of heartbeats.

    `again`: this is not the first control process of this gate, so that workers may be serving already.
    """

    source: ConfigSource
    state_dir: str
    admin: int
    link: int
    beats: int
    row: int
    lifeline: int
    workers: int
    again: bool = False
