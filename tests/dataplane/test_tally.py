"""Counters start at nothing and are plain numbers.

Who counts what is tested with those who count.
"""

from __future__ import annotations

from slmgate.dataplane.tally import Tally


def test_a_new_tally() -> None:
    tally = Tally()
    assert {name: getattr(tally, name) for name in Tally.__slots__} == dict.fromkeys(Tally.__slots__, 0)
