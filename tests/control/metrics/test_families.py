"""The table of families: names as Prometheus' conventions have them, and bounds that can be counted in."""

from __future__ import annotations

import re

import pytest

from slmgate.control.metrics.families import BOUNDS, BY_NAME, FAMILIES, FROM_RECEIPTS, Family

UNITS = ("seconds", "bytes", "ratio", "tokens")
BOUNDED_OTHERWISE = {"ended", "direction", "why", "state", "version", "worker", "limit", "subject", "team", "plan", "certificate"}
"""Labels with few values by nature, or whose families tell only so many."""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_well_made(family: Family) -> None:
    assert re.fullmatch(r"slmgate(_[a-z]+)+", family.name)
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert (family.kind == "info") == family.name.endswith("_info")
    assert family.help.endswith(".") and family.help[0].isupper()
    assert family.unit in ("", *UNITS) and family.told_name().endswith(family.unit)
    assert any(family.name.endswith(f"_{unit}") for unit in UNITS[:3]) == (family.unit in UNITS[:3])
    assert set(family.labels) <= BOUNDS.keys() | BOUNDED_OTHERWISE
    assert (family.kind == "histogram") == bool(family.bounds)
    assert list(family.bounds) == sorted(set(family.bounds)) and all(isinstance(bound, int) for bound in family.bounds)


def test_each_name_is_there_once() -> None:
    assert len(BY_NAME) == len(FAMILIES)
    assert {family.kind for family in FROM_RECEIPTS} == {"counter", "histogram"}


def test_the_name_without_its_ending() -> None:
    names = ["slmgate_requests_total", "slmgate_build_info", "slmgate_queue_length", "slmgate_queue_duration_seconds"]
    told = ["slmgate_requests", "slmgate_build", "slmgate_queue_length", "slmgate_queue_duration_seconds"]
    assert [BY_NAME[name].told_name() for name in names] == told
