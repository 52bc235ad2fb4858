"""The documented fields are those of receipts, all of them and in their order, with the types that lines have."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from slmgate.control.access.fields import FIELDS, table
from slmgate.terms import Receipt


def test_every_field_is_told_of_and_no_other() -> None:
    assert list(FIELDS) == list(Receipt.__struct_fields__)
    assert all(said.endswith(".") for said in FIELDS.values())


def test_the_types_are_those_of_the_lines() -> None:
    receipt = Receipt(
        id="i", request_id="r", time=datetime.now(UTC), method="GET", path="/", status=200, verdict="admit", reason="",
        ended="complete", principal="p", key="k", team="t", first_byte_us=1,
    )  # fmt: skip
    line = msgspec.json.decode(msgspec.json.encode(receipt))
    kinds = {str: "text", int: "number", bool: "boolean"}
    told = {row.split("|")[1].strip(" `"): row.split("|")[2].strip() for row in table().splitlines()[2:]}
    assert {name: kind.removesuffix(" or null") for name, kind in told.items()} == {
        name: kinds[type(value)] for name, value in line.items()
    }
    assert [name for name, kind in told.items() if kind.endswith("null")] == ["first_byte_us", "key", "team"]
