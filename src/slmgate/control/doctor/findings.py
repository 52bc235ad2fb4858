"""What a check of the doctor comes to: its name, a verdict, what was seen, and what to do next.

It knows no check.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

Verdict = Literal["ok", "warn", "bad"]
_WORST: tuple[Verdict, ...] = ("bad", "warn", "ok")


class Finding(msgspec.Struct, frozen=True):
    """One check, or one thing that it found. `next` is empty where all is well."""

    check: str
    verdict: Verdict
    seen: str
    next: str = ""


def ok(check: str, seen: str) -> list[Finding]:
    """All is well, and this is what was looked at."""
    return [Finding(check, "ok", seen)]


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict among them."""
    verdicts = {one.verdict for one in findings}
    return next((verdict for verdict in _WORST if verdict in verdicts), "ok")


def sorted_by_weight(findings: Iterable[Finding]) -> Sequence[Finding]:
    """The worst first, otherwise in their order."""
    return sorted(findings, key=lambda one: _WORST.index(one.verdict))
