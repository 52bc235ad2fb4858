"""Receipts in two parts, as the ledger keeps them: what is each one's own, and what it shares with many others.

Whoever has the parts already, as the ingest does, hands them over so. This module knows where a receipt is cut, and no database.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress
from typing import Any

import msgspec

from slmgate.stores import schema
from slmgate.terms import Receipt

Facet = tuple[Any, ...]
"""What a receipt shares with others: the values of `FACET_FIELDS`. The same object for many receipts, where that can be had."""
Own = tuple[Any, ...]
"""What is a receipt's own: the values of `OWN_FIELDS`, of which the first three are `id`, `request_id` and `time`."""

_NAMES = schema.RECEIPT_FIELDS
FACET_FIELDS = tuple(name for name in _NAMES if name in schema.facets.c and name != "id")
OWN_FIELDS = tuple(name for name in _NAMES if name not in FACET_FIELDS)

_CUT = len(OWN_FIELDS)


class Parted(msgspec.Struct):
    """Receipts in two lists of the same length: the parts of each stand at the same place."""

    own: list[Own] = []
    facets: list[Facet] = []

    def __len__(self) -> int:
        return len(self.own)

    def add(self, others: Parted) -> None:
        self.own += others.own
        self.facets += others.facets

    def only(self, wanted: Iterable[bool]) -> Parted:
        """Those for which this says so, in their order."""
        chosen = list(wanted)
        return Parted(list(compress(self.own, chosen)), list(compress(self.facets, chosen)))


def part(receipt: Receipt) -> tuple[Own, Facet]:
    """The two parts of a receipt."""
    values = msgspec.structs.astuple(receipt)
    return values[:_CUT], values[_CUT:]


def parted(receipts: Iterable[Receipt]) -> Parted:
    both = list(map(part, receipts))
    return Parted([own for own, _ in both], [facet for _, facet in both])
