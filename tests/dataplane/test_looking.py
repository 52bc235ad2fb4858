"""What is used of limits, as a worker tells it: what requests took, without taking anything, and nothing where it cannot know."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slmgate.dataplane import limiter as module
from slmgate.dataplane.limiter import Account, Hold, Limiter
from slmgate.dataplane.looking import looked
from slmgate.link.messages import Look, Looked
from slmgate.policy.charges import Tariff
from slmgate.policy.limits import LimitSpec, Price
from slmgate.terms import Usage

NOON = 1_800_000_000.0


def limit(text: str, unit: str = "requests", amount: int = 5, **fields: Any) -> LimitSpec:
    window = {} if unit == "concurrent" or "calendar" in fields else {"seconds": 60}
    whole = {"name": text, "text": text, "identity": text, "unit": unit, "amount": amount, **window, **fields}
    return msgspec.convert(whole, LimitSpec)


SPECS = (
    limit("rolling"),
    limit("bucket", amount=60, burst=9),
    limit("month", "tokens", 1000, calendar="month"),
    limit("at once", "concurrent", 3, raised=4, raised_until=NOON + 1),
)


def taken(limiter: Limiter, subject: str) -> Hold:
    account = Account(Tariff([(spec, subject) for spec in SPECS], "", "", Price()))
    hold = limiter.take(account, 10, 20, 1, NOON)
    assert isinstance(hold, Hold)
    return hold


def test_it_tells_what_requests_took(tmp_path: Path) -> None:
    limiter = Limiter(tmp_path / "limits", 0, 1)
    first, _ = taken(limiter, "k1"), taken(limiter, "k1")
    ask = Look(7, SPECS, (*((number, "k1") for number in range(4)), (0, "k2"), (3, "k2")))
    before = looked(limiter, ask, NOON)
    assert before == Looked(7, ((2, 5), (2, 9), (60, 1000), (2, 4), (0, 5), (0, 4)))
    assert looked(limiter, ask, NOON) == before  # nothing is taken by looking
    limiter.settle(first, Usage(10, 1), 0, NOON, forwarded=True)
    after = looked(limiter, ask, NOON + 1).found
    assert after is not None
    assert after[2:4] == ((41, 1000), (1, 3))


def test_another_worker_sees_the_same(tmp_path: Path) -> None:
    one, other = (Limiter(tmp_path / "limits", slot, 2) for slot in range(2))
    taken(one, "k1")
    assert looked(other, Look(1, SPECS[:1], ((0, "k1"),)), NOON) == Looked(1, ((1, 5),))


def test_a_table_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(module, "Table", full)
    assert looked(Limiter(tmp_path / "limits", 0, 1), Look(3, SPECS[:1], ((0, "k1"),)), NOON) == Looked(3, None)
