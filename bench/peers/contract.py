"""What the benchmark must know of a target: how to have it, how to start it, and what it claims to do.

A target is one proxy in one configuration. This module holds the shape only; the files beside it fill it in, and
none of them knows how the load is made or what becomes of the figures.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
LOOPBACK = "127.0.0.1"


class MissingError(Exception):
    """This target cannot be had or started here; the text is the reason that the table shows."""


def cache() -> Path:
    """Where the targets' own environments are kept: `SLMGATE_BENCH_PEERS`, else `.peers` in this package's directory."""
    given = os.environ.get("SLMGATE_BENCH_PEERS")
    return Path(given) if given else HERE.parent / ".peers"


@dataclass(frozen=True)
class Place:
    """Where one target runs: a directory of its own, its port, the mock instance's port and one port to spare."""

    directory: Path
    port: int
    upstream: int
    spare: int

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path


@dataclass(frozen=True)
class Start:
    """A command line and what goes with it."""

    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Headers that requests to this target need besides the common ones."""


@dataclass(frozen=True)
class Target:
    """`have(install)` returns the version that is there, brings it first when `install`, or raises `MissingError`."""

    name: str
    does: str
    """Its work on each request, in a few words, for the table."""
    checks_key: bool
    have: Callable[[bool], str]
    start: Callable[[Place], Start]
    patience: float = 20.0
    """Seconds until it must give the right answer."""
