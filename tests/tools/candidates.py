"""Instances as strategies see them: plain numbers, nothing behind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class One:
    """What a strategy may know of an instance."""

    name: str = "a"
    busy: int = 0
    others: int = 0
    weight: int = 1
    max_in_flight: int | None = None
    share: float = 1.0
    down_until: float = 0.0
    served: float = 0.0
    slowness: float = 0.0
    learned_at: float = 0.0
