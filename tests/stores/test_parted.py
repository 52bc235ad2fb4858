"""Receipts cut in two: nothing is lost, and each field is in the part that its table has a column for."""

from __future__ import annotations

import msgspec

from slmgate.stores import schema
from slmgate.stores.parted import FACET_FIELDS, OWN_FIELDS, Parted, part, parted
from slmgate.terms import Receipt
from tests.tools.journal_writer import NOON, make_receipt


def test_each_field_is_in_one_part_and_its_table() -> None:
    assert Receipt.__struct_fields__ == OWN_FIELDS + FACET_FIELDS
    assert OWN_FIELDS[:3] == ("id", "request_id", "time")
    assert set(OWN_FIELDS) <= set(schema.entries.c.keys())
    assert set(FACET_FIELDS) <= set(schema.facets.c.keys())


def test_a_receipt_in_two_parts() -> None:
    receipt = make_receipt("r1", model="m", cost=9)
    own, facet = part(receipt)
    assert (own[0], own[2], own[OWN_FIELDS.index("cost")], facet[FACET_FIELDS.index("model")]) == ("r1", NOON, 9, "m")
    assert own + facet == msgspec.structs.astuple(receipt)


def test_lists_of_parts() -> None:
    some = [make_receipt(f"r{number}", status=200 + number) for number in range(4)]
    parts = parted(some[:1])
    parts.add(parted(some[1:]))
    assert parts == parted(some)
    assert (len(parts), len(Parted())) == (4, 0)
    assert parts.only([True, False, False, True]) == parted([some[0], some[3]])
    assert parts == parted(some)
