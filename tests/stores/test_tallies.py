"""How receipts become counts, and counts percentiles: within 10 % of those of the sorted times, whatever these are."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slmgate.stores import schema
from slmgate.stores.rollups import FIGURES, MINUTE
from slmgate.stores.tallies import (
    BOUNDS,
    FIRST,
    HEAD,
    KINDS,
    RELATIVE_ERROR,
    WIDTH,
    Facts,
    Tally,
    bucket,
    decode,
    encode,
    facts,
    histograms,
    middle,
    minus,
    percentiles,
    plus,
    requests_of,
    settled,
)

ADMITTED = Facts((1, 2), True, False, False, True, (), "$EUR")
FACET = {
    "verdict": "admit", "reason": "ok", "ended": "complete", "status": 200, "stream": True, "estimated": False,
    "price": "EUR 1 2",
}  # fmt: skip


def row(facet: int = 1, **figures: int | None) -> tuple[object, ...]:
    names = [column.name for column in list(schema.entries.columns)[1:]]
    texts = ("id", "request_id", "address", "parameters", "trace")
    return tuple({"facet": facet, **figures}.get(name, "" if name in texts else 0) for name in names)


def counted(tally: Tally, kind: str) -> dict[int, int]:
    """Buckets of one histogram."""
    first = FIRST + KINDS.index(kind) * WIDTH
    return {number - first: n for number, n in tally.items() if isinstance(number, int) and first <= number < first + WIDTH}


@given(st.one_of(st.integers(0, 5000), st.integers(0, BOUNDS[-1])))
@settings(max_examples=2000, deadline=None)
def test_what_stands_for_a_bucket_is_near_all_that_is_in_it(time: int) -> None:
    assert abs(middle(bucket(time)) - time) <= time * RELATIVE_ERROR


def test_buckets_at_their_bounds() -> None:
    assert (bucket(-5), bucket(0), middle(0)) == (0, 0, 0)
    for at, bound in enumerate(BOUNDS, 1):
        assert bucket(bound) >= at > bucket(bound - 1)
        assert abs(middle(bucket(bound)) - bound) <= bound * RELATIVE_ERROR
    assert bucket(2**63) == len(BOUNDS) == WIDTH - 1
    assert middle(WIDTH - 1) == BOUNDS[-1]


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=300), st.integers(1, 100))
@example([7], 50)
@example([1, 10**8], 50)
@settings(max_examples=500, deadline=None)
def test_percentiles_are_those_of_the_sorted_times(times: list[int], part: int) -> None:
    tally = histograms([row(total_us=time, first_byte_us=None) for time in times], {1: ADMITTED}, MINUTE)[0, 1]
    count, (found,) = percentiles(tally, [part])["total"]
    right = sorted(times)[-(-len(times) * part // 100) - 1]
    assert count == len(times)
    assert abs(found - right) <= right * RELATIVE_ERROR


def test_percentiles_of_every_kind_are_told_at_once() -> None:
    number = {kind: FIRST + place * WIDTH for place, kind in enumerate(KINDS)}
    tally: Tally = {number["total"] + 9: 1, number["queue"]: 99, 0: 100, number["queue"] + 4: 1}
    assert percentiles(tally, (50, 99, 100)) == {"queue": (100, [0, 0, 4]), "total": (1, [9, 9, 9])}
    assert percentiles(tally | {FIRST + len(KINDS) * WIDTH: 5}, (50,)).keys() == {"queue", "total"}  # of a later version


@given(st.integers(1, 2**63), st.integers(0, 70000))
@example(127, 0)
@example(128, 14)
@example(2**63, 70000)
@settings(max_examples=100, deadline=None)
def test_the_number_of_requests_stands_first(requests: int, others: int) -> None:
    tally: Tally = {0: requests, **dict.fromkeys(range(1, others + 1), 7)}
    assert requests_of(encode(tally)[:HEAD]) == requests


def test_where_it_does_not_the_whole_has_to_be_read() -> None:
    assert requests_of(encode({})) == 0
    assert requests_of(encode({17: 3, 0: 4})[:HEAD]) is None
    assert requests_of(encode({"$EUR": 3, 0: 4})[:HEAD]) is None
    assert requests_of(encode({0: -1})[:HEAD]) is None


def test_what_was_added_can_be_taken_away() -> None:
    tally: Tally = {}
    minus(tally, {0: 2, 17: 1})
    plus(tally, {0: 5, 17: 1, "$EUR": 3})
    assert settled(tally) == {0: 3, "$EUR": 3}


def test_nothing_has_no_percentiles() -> None:
    assert percentiles({}, [50, 99]) == {}
    assert percentiles({0: 3, 1: 3, "-rate_limited": 3}, [50, 99]) == {}
    assert histograms([], {}, MINUTE) == {}


def test_where_the_time_of_one_request_went() -> None:
    one = row(
        queue_us=1000, receive_us=100, connect_us=200, overhead_us=50, first_byte_us=5000, total_us=9000, completion_tokens=41,
        attempts=1,
    )  # fmt: skip
    ((_, tally),) = histograms([one], {1: ADMITTED}, MINUTE).items()
    right = {"queue": 650, "connect": 200, "first_byte": 5000, "instance": 4000, "stream": 4000, "overhead": 50, "total": 9000,
             "per_token": 100}  # fmt: skip
    assert {kind: counted(tally, kind) for kind in KINDS} == {kind: {bucket(time): 1} for kind, time in right.items()}


@pytest.mark.parametrize(
    ("changed", "waited"),
    [
        ({}, 650),
        ({"attempts": 2}, 850),  # the connection is that of the second try
        ({"attempts": 0, "overhead_us": 0, "receive_us": 5000}, 1000),  # it waited in vain, after its body had come slowly
    ],
)
@pytest.mark.parametrize("others", [0, 3])
def test_time_in_line_is_what_nothing_else_took(changed: dict[str, int], waited: int, others: int) -> None:
    times = {"queue_us": 1000, "receive_us": 100, "connect_us": 200, "overhead_us": 50, "attempts": 1}
    rows = [row(**times | changed, first_byte_us=None)]
    rows += [row(**times | {"queue_us": 100_350}, first_byte_us=None) for _ in range(others)]
    ((_, tally),) = histograms(rows, {1: ADMITTED}, MINUTE).items()
    assert counted(tally, "queue") == {bucket(waited): 1} | ({bucket(100_000): others} if others else {})


def test_of_what_a_dead_worker_left_nobody_knows_the_time() -> None:
    left = facts(FACET | {"ended": "unknown", "status": 0}, (1,))
    rows = [row(first_byte_us=None), row(2, first_byte_us=None, total_us=70)]
    ((_, tally),) = histograms(rows, {1: left, 2: ADMITTED}, MINUTE).items()
    assert counted(tally, "total") == {bucket(70): 1}


def test_what_is_in_which_histogram() -> None:
    known = {
        1: ADMITTED,
        2: Facts((1,), True, False, False, False, (), "$"),  # no stream
        3: Facts((1,), False, False, False, True, ("-x",), "$"),  # refused
        4: Facts((), True, False, False, True, (), "$"),  # a copy
    }
    rows = [
        row(1, first_byte_us=10, total_us=20, completion_tokens=2, overhead_us=5),
        row(1, first_byte_us=10, total_us=20, completion_tokens=1),  # of one token there is no second
        row(1, first_byte_us=None, total_us=20, completion_tokens=2),  # nothing came
        row(2, first_byte_us=10, total_us=20, completion_tokens=2),
        row(3, first_byte_us=10, total_us=20, completion_tokens=2),
        row(4, first_byte_us=10, total_us=20, completion_tokens=2),
    ]
    found = histograms(rows, known, MINUTE)
    assert set(found) == {(0, 1), (0, 2)}
    sizes = {kind: sum(counted(found[0, 1], kind).values()) for kind in KINDS}
    assert sizes == {
        "queue": 3, "connect": 1, "first_byte": 2, "instance": 2, "stream": 2, "overhead": 1, "total": 3, "per_token": 1,
    }  # fmt: skip
    assert counted(found[0, 2], "per_token") == {}


def test_spans_are_apart() -> None:
    rows = [row(total_us=5, time=time, first_byte_us=None) for time in (0, MINUTE - 1, MINUTE)]
    found = histograms(rows, {1: ADMITTED}, MINUTE)
    assert {place: sum(counted(tally, "total").values()) for place, tally in found.items()} == {(0, 1): 2, (MINUTE, 1): 1}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {0: 3, 3: 7, 4: 5, "$EUR": 9}),
        ({"estimated": True}, {0: 3, 3: 7, 4: 5, 5: 12, "$EUR": 9}),
        ({"ended": "upstream_error"}, {0: 3, 2: 3, 3: 7, 4: 5, "!upstream_error": 3, "$EUR": 9}),
        ({"ended": "gate_failed"}, {0: 3, 2: 3, 3: 7, 4: 5, "!gate_failed": 3, "$EUR": 9}),
        ({"status": 502}, {0: 3, 2: 3, 3: 7, 4: 5, "!502": 3, "$EUR": 9}),
        ({"verdict": "refuse", "reason": "rate_limited"}, {0: 3, 1: 3, "-rate_limited": 3, "$EUR": 9}),
        ({"verdict": "none", "reason": "", "ended": "client_left"}, {0: 3, 1: 3, "-client_left": 3, "$EUR": 9}),
    ],
)
def test_what_facets_come_to(changed: dict[str, object], expected: Tally) -> None:
    sums = [{"requests": 3, "prompt_tokens": 7, "completion_tokens": 5, "cost": 9}.get(name, 0) for name in FIGURES]
    assert facts(FACET | changed, (1,)).of(sums) == expected
    assert facts(FACET | changed, (1,)).of([0] * len(FIGURES)).get("$EUR") is None


def test_copies_count_for_nobody() -> None:
    assert facts(FACET | {"verdict": "shadow"}, (1, 2)).subjects == ()


TALLIES = st.dictionaries(st.one_of(st.integers(0, 1500), st.text(max_size=5)), st.integers(1, 2**40))


@given(TALLIES, TALLIES)
def test_tallies_are_added_up_count_by_count(one: Tally, other: Tally) -> None:
    added = dict(one)
    plus(added, other)
    assert added == {name: one.get(name, 0) + other.get(name, 0) for name in one.keys() | other.keys()}
    assert decode(encode(added)) == added
