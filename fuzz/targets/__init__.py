"""The table of fuzz targets by name. It knows where each is, not what it looks for."""

from __future__ import annotations

from importlib import import_module

from fuzz.target import Target

NAMES = ("requests", "answers", "chunks", "scanners", "bodies", "forms", "configuration", "tokens", "routes", "traces")


def target(name: str) -> Target:
    """The target of that name; only its own module is read, since each knows other parts of the gate."""
    found = import_module(f"fuzz.targets.{name}").TARGET
    assert isinstance(found, Target)
    return found
