"""Whom a full gate closes: the most expendable ones, with an answer where something was asked, and never more than said."""

from __future__ import annotations

from typing import cast

import pytest

from slmgate.dataplane.client import ClientConnection
from slmgate.dataplane.shedding import shed


class Connection:
    def __init__(self, rank: tuple[int, float] | None) -> None:
        self.rank = rank
        self.told: bytes | None = None

    def expendable(self, now: float) -> tuple[int, float] | None:
        assert now == 7
        return self.rank

    def give_way(self, answer: bytes) -> None:
        self.told = answer


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9])
def test_the_most_expendable_first(count: int) -> None:
    order = [(0, -30.0), (0, -10.0), (1, -99.0), (1, -20.0)]
    connections = [Connection(rank) for rank in (order[3], None, order[1], order[0], None, order[2])]
    assert shed(cast(list[ClientConnection], connections), 7, count, b"date: x\r\n") == min(count, 4)
    closed = sorted(one.rank for one in connections if one.told is not None and one.rank is not None)
    assert closed == order[:count]


def test_what_they_are_told() -> None:
    one = Connection((0, 0.0))
    shed(cast(list[ClientConnection], [one]), 7, 1, b"date: x\r\n")
    assert one.told is not None
    head, _, body = one.told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert {b"date: x", b"retry-after: 1", b"connection: close"} < set(head.split(b"\r\n"))
    assert b'"overloaded"' in body
