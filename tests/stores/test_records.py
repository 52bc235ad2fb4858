"""The names that usage can be grouped by; the rest of the module is records without code."""

from __future__ import annotations

from slmgate.stores.records import USAGE_GROUPS, unknown_groups
from slmgate.terms import Receipt


def test_unknown_groups() -> None:
    assert unknown_groups(["client", "cow", "day", "principal"]) == ["cow", "principal"]
    assert unknown_groups([]) == []


def test_every_group_is_a_field() -> None:
    assert set(USAGE_GROUPS.values()) <= set(Receipt.__struct_fields__)
