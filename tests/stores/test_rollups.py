"""Sums of a batch in memory, and the calendar that they are kept by. That they equal the receipts is in tests/contracts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from slmgate.stores import schema
from slmgate.stores.rollups import DAY, FIGURES, HOUR, LEVELS, MINUTE, MOST, Level, coarser, month_after, month_of, summed
from slmgate.stores.schema import to_us

MINUTES, HOURS, DAYS, MONTHS = LEVELS


def at(*parts: int) -> int:
    return to_us(datetime(*parts, tzinfo=UTC))  # type: ignore[arg-type]  # the parts of a moment are all whole numbers


def row(time: int, facet: int = 1, **figures: int | None) -> tuple[object, ...]:
    names = [column.name for column in list(schema.entries.columns)[1:]]
    texts = ("id", "request_id", "address", "parameters")
    return tuple({"time": time, "facet": facet, **figures}.get(name, "" if name in texts else 0) for name in names)


@pytest.mark.parametrize(
    ("level", "time", "floor", "ceil"),
    [
        (MINUTES, at(2026, 11, 30, 23, 59, 59, 999_999), at(2026, 11, 30, 23, 59), at(2026, 12, 1)),
        (HOURS, at(2026, 11, 30, 23, 59, 59, 999_999), at(2026, 11, 30, 23), at(2026, 12, 1)),
        (DAYS, at(2026, 11, 30, 23, 59, 59, 999_999), at(2026, 11, 30), at(2026, 12, 1)),
        (MONTHS, at(2026, 12, 31, 23, 59, 59, 999_999), at(2026, 12, 1), at(2027, 1, 1)),
        (MONTHS, at(2024, 2, 29), at(2024, 2, 1), at(2024, 3, 1)),
        *((level, at(2026, 1, 1), at(2026, 1, 1), at(2026, 1, 1)) for level in LEVELS),
        *((level, 0, 0, 0) for level in LEVELS),
    ],
)
def test_where_spans_begin(level: Level, time: int, floor: int, ceil: int) -> None:
    assert (level.floor(time), level.ceil(time)) == (floor, ceil)


def test_the_last_month_of_all() -> None:
    last = at(9999, 12, 1)
    assert month_of(at(9999, 12, 31, 23)) == last
    assert month_after(last) == last + 31 * DAY


def test_a_batch_is_summed_by_minute_and_facets() -> None:
    rows = [
        row(
            MINUTE, prompt_tokens=1, completion_tokens=2, bytes_in=3, bytes_out=4, queue_us=5, total_us=6, cost=7, first_byte_us=8
        ),
        row(2 * MINUTE - 1, prompt_tokens=10, first_byte_us=None),
        row(2 * MINUTE, first_byte_us=None),
        row(MINUTE, facet=2, first_byte_us=0),
    ]
    assert {place: dict(zip(FIGURES, sums, strict=True)) for place, sums in summed(rows).items()} == {
        (MINUTE, 1): {
            "requests": 2, "prompt_tokens": 11, "completion_tokens": 2, "bytes_in": 3, "bytes_out": 4, "queue_us": 5,
            "first_bytes": 1, "first_byte_us": 8, "total_us": 6, "cost": 7,
        },
        (2 * MINUTE, 1): {**dict.fromkeys(FIGURES, 0), "requests": 1},
        (MINUTE, 2): {**dict.fromkeys(FIGURES, 0), "requests": 1, "first_bytes": 1},
    }  # fmt: skip
    assert summed([]) == {}


@pytest.mark.parametrize(("figure", "added"), [(MOST - 1, MOST - 1), (MOST, MOST), (MOST + 1, MOST), (2**63 - 1, MOST)])
def test_a_figure_beyond_belief_is_bounded(figure: int, added: int) -> None:
    ((_, sums),) = summed([row(0, cost=figure, first_byte_us=None), row(0, cost=1, first_byte_us=None)]).items()
    assert dict(zip(FIGURES, sums, strict=True))["cost"] == added + 1


def test_spans_are_added_up() -> None:
    one, two = (1,) * len(FIGURES), (2,) * len(FIGURES)
    spans = {(HOUR, 1): one, (HOUR + MINUTE, 1): two, (2 * HOUR, 1): one, (HOUR, 2): one}
    assert coarser(spans, HOURS.floor) == {(HOUR, 1): (3,) * len(FIGURES), (2 * HOUR, 1): one, (HOUR, 2): one}
