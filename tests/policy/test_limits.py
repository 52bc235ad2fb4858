"""The records of limits, prices and plans travel over the link as they are."""

from __future__ import annotations

import msgspec
import pytest

from slmgate.policy.limits import NANO, LimitSpec, PlanSpec, Price

RECORDS = [
    LimitSpec(name="n", text="t", identity="i", unit="requests", amount=10**18, seconds=60, burst=2, per=("team", "model")),
    LimitSpec(
        name="n", text="t", identity="i", unit="cost", amount=NANO, calendar="month", currency="EUR", raised=5, raised_until=1.5
    ),
    PlanSpec(name="gold", currency="EUR", prices=(("*", Price(100, 300)),)),
]


@pytest.mark.parametrize("record", RECORDS)
def test_records_travel(record: LimitSpec | PlanSpec) -> None:
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record
