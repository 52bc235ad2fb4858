"""Receipts counted: which series each belongs to, what a bucket holds, and how much anybody can make of it."""

from __future__ import annotations

import os
import random
from bisect import bisect_left
from typing import Any

import pytest

from slmgate.control.metrics.counting import MAX_CALLERS, Counts, Histogram
from slmgate.control.metrics.families import BOUNDS, OTHER, SERIES, UNKNOWN
from slmgate.stores.parted import FACET_FIELDS, Parted, part, parted
from tests.tools.journal_writer import make_receipt

TRACE = "0af7651916cd43dd8448eb211c80319c"


def counted(*receipts: dict[str, Any], counts: Counts | None = None) -> Counts:
    counts = counts or Counts()
    counts.count(parted([make_receipt(f"r{number}", **fields) for number, fields in enumerate(receipts)]))
    return counts


def series(counts: Counts, name: str) -> dict[tuple[str, ...], int]:
    return counts.copied()[0][name]


def buckets(counts: Counts, name: str) -> dict[tuple[str, ...], tuple[int, int]]:
    """How many, and their sum."""
    return {labels: (sum(one.counts), one.sum) for labels, one in counts.copied()[1][name].items() if sum(one.counts)}


def test_what_an_admitted_request_counts_as() -> None:
    counts = counted(
        {"price": "EUR 100 300", "cost": 2200}, {"price": "EUR 100 300", "cost": 2200}, {"principal": "else", "key": "k2"}
    )
    assert series(counts, "slmgate_requests_total") == {("smollm2", "chat", "200", "complete"): 3}
    assert series(counts, "slmgate_client_requests_total") == {("bot", "smollm2"): 2, ("else", "smollm2"): 1}
    tokens = {("smollm2", "i1", "prompt"): 21, ("smollm2", "i1", "completion"): 15}
    assert series(counts, "slmgate_tokens_total") == tokens
    assert series(counts, "slmgate_client_tokens_total")["bot", "smollm2", "completion"] == 10
    assert series(counts, "slmgate_cost_total") == {("smollm2", "EUR"): 4400}
    assert series(counts, "slmgate_client_cost_total") == {("bot", "EUR"): 4400}
    assert not series(counts, "slmgate_refusals_total") and not series(counts, "slmgate_estimated_tokens_total")
    assert [caller[:2] for caller in counts.callers()] == [("k2", "else"), ("k1", "bot")]


REFUSED = {"verdict": "refuse", "ended": "refused", "status": 429, "reason": "rate_limit_exceeded", "instance": "", "attempts": 0}
REFUSED |= {"prompt_tokens": 0, "completion_tokens": 0}


def test_refusals() -> None:
    invented = REFUSED | {"reason": "model_not_found", "status": 404, "model": "none such"}
    stranger = REFUSED | {"reason": "invalid_api_key", "status": 401, "principal": "", "key": None, "model": ""}
    counts = counted(REFUSED, invented, stranger)
    assert series(counts, "slmgate_refusals_total") == {
        ("rate_limit_exceeded", "smollm2"): 1, ("model_not_found", UNKNOWN): 1, ("invalid_api_key", ""): 1,
    }  # fmt: skip
    assert series(counts, "slmgate_client_requests_total") == {("bot", "smollm2"): 1, ("bot", UNKNOWN): 1}
    assert sum(series(counts, "slmgate_requests_total").values()) == 3
    assert not buckets(counts, "slmgate_request_duration_seconds") and not buckets(counts, "slmgate_queue_duration_seconds")
    waited = counted(REFUSED | {"reason": "overloaded", "status": 503, "queue_us": 5_000_000})
    assert buckets(waited, "slmgate_queue_duration_seconds") == {("smollm2",): (1, 5_000_000)}
    # its body took longer to come than it then stood in line
    slow = counted(REFUSED | {"reason": "overloaded", "status": 503, "queue_us": 100_000, "receive_us": 3_000_000})
    assert buckets(slow, "slmgate_queue_duration_seconds") == {("smollm2",): (1, 100_000)}


def test_who_left_before_the_verdict_is_among_those_that_were_not_admitted() -> None:
    """As in the ledger, so that both say the same number."""
    left = REFUSED | {"verdict": "none", "ended": "client_left", "status": 499, "reason": ""}
    counts = counted(left, left | {"reason": "client_left"}, {"ended": "client_left", "status": 499})
    assert series(counts, "slmgate_refusals_total") == {("client_left", "smollm2"): 2}


def test_copies_are_in_no_other_figure() -> None:
    counts = counted({"verdict": "shadow", "parameters": "shadow=r1"}, {"verdict": "shadow"})
    assert series(counts, "slmgate_shadow_requests_total") == {(): 2}
    assert [name for name, known in counts.copied()[0].items() if known] == ["slmgate_shadow_requests_total"]


def test_what_a_dead_worker_left() -> None:
    """Its prompt counts, as in the ledger, and no time does, for nobody knows it."""
    fields = {"ended": "unknown", "status": 0, "estimated": True, "completion_tokens": 0, "reason": "worker_died", "total_us": 0}
    counts = counted(fields)
    assert series(counts, "slmgate_requests_total") == {("smollm2", "chat", "0", "unknown"): 1}
    assert series(counts, "slmgate_estimated_tokens_total") == {("smollm2", "prompt"): 7, ("smollm2", "completion"): 0}
    assert not any(buckets(counts, name) for name in counts.histograms)


TIMED: dict[str, Any] = {
    "receive_us": 10, "queue_us": 1000, "connect_us": 300, "overhead_us": 90, "first_byte_us": 21_000, "total_us": 61_000,
    "completion_tokens": 5, "attempts": 1,
}  # fmt: skip


def test_where_the_time_goes() -> None:
    counts = counted(TIMED)
    assert buckets(counts, "slmgate_request_duration_seconds") == {("smollm2", "chat"): (1, 61_000)}
    assert buckets(counts, "slmgate_queue_duration_seconds") == {("smollm2",): (1, 600)}
    assert buckets(counts, "slmgate_connect_duration_seconds") == {("smollm2", "i1"): (1, 300)}
    assert buckets(counts, "slmgate_overhead_duration_seconds") == {(): (1, 90)}
    for name in ("time_to_first_token", "stream_duration", "time_per_output_token"):
        assert not buckets(counts, f"slmgate_{name}_seconds"), "it is no stream"


@pytest.mark.parametrize(
    ("fields", "first", "stream", "token"),
    [
        ({}, (1, 20_000), (1, 40_000), (1, 10_000)),
        ({"ended": "client_left"}, (1, 20_000), (1, 40_000), None),  # what is left of it says nothing of the pace
        ({"completion_tokens": 1}, (1, 20_000), (1, 40_000), None),
        ({"completion_tokens": 0}, (1, 20_000), (1, 40_000), None),
        ({"first_byte_us": None}, None, None, None),
        ({"status": 502, "ended": "upstream_error"}, None, None, None),
    ],
)
def test_streams(fields: dict[str, Any], first: Any, stream: Any, token: Any) -> None:
    counts = counted(TIMED | {"stream": True} | fields)
    names = ("time_to_first_token", "stream_duration", "time_per_output_token")
    found = [buckets(counts, f"slmgate_{name}_seconds").get(("smollm2", "i1")) for name in names]
    assert found == [first, stream, token]


@pytest.mark.parametrize(
    ("fields", "waited"),
    [
        ({"overhead_us": 0, "attempts": 0}, 1000),
        ({"attempts": 2}, 900),
        ({"queue_us": 50}, 0),
        ({"connect_us": 0}, 900),
        ({"receive_us": 910, "connect_us": 0}, 0),
    ],
)
def test_time_in_line_is_what_nothing_else_took(fields: dict[str, Any], waited: int) -> None:
    assert buckets(counted(TIMED | fields), "slmgate_queue_duration_seconds") == {("smollm2",): (1, waited)}


@pytest.mark.parametrize("many", [0, 1, 11, 12, 13, 500])
def test_buckets(many: int) -> None:
    """Few values and many go two ways, and come to the same."""
    bounds, chance = (10, 20, 50), random.Random(many)
    values = [chance.choice([0, 9, 10, 11, 20, 49, 50, 51, 10**9]) for _ in range(many)]
    wanted = [0, 0, 0, 0]
    for value in values:
        wanted[bisect_left(bounds, value)] += 1
    one = Histogram(bounds)
    one.add(list(values))
    assert (one.counts, one.sum) == (wanted, sum(values))
    one.add([10])
    other = one.copy()
    one.add([1])
    assert sum(one.counts) == sum(other.counts) + 1


def test_the_newest_trace_of_each_bucket() -> None:
    first, second = "1" * 32, "2" * 32
    rows = [
        TIMED | {"trace": first},
        TIMED | {"trace": second, "stream": True},
        TIMED | {"trace": f"{first}-{'3' * 16}-01", "total_us": 9_000_000},  # its client's, and recorded
        TIMED | {"trace": f"{'4' * 32}-{'3' * 16}-00", "total_us": 9_000_000},  # no collector has it
        TIMED,
    ]
    histograms = counted(*rows).copied()[1]
    (one,) = histograms["slmgate_request_duration_seconds"].values()
    assert [(trace, value) for trace, value, _ in one.exemplars.values()] == [(second, 61_000), (first, 9_000_000)]
    (one,) = histograms["slmgate_time_to_first_token_seconds"].values()
    assert [trace for trace, _, _ in one.exemplars.values()] == [second]
    assert histograms["slmgate_overhead_duration_seconds"][()].exemplars


def test_in_one_batch_or_in_many() -> None:
    chance = random.Random(7)
    rows = [
        TIMED
        | {"model": chance.choice("ab"), "stream": chance.random() < 0.5, "total_us": chance.randrange(10**7), "verdict": verdict}
        for verdict in ("admit", "admit", "refuse", "none", "shadow")
        for _ in range(60)
    ]
    whole, pieces = counted(*rows), Counts()
    for row in rows:
        counted(row, counts=pieces)
    assert pieces.copied()[0] == whole.copied()[0]
    for name in whole.histograms:
        assert buckets(pieces, name) == buckets(whole, name)
    assert repr(whole).startswith("<Counts ")


# --- bounds


MANY = 100_000 if os.environ.get("SLMGATE_LONG") else 10_000


def hostile(counts: Counts, **fields: Any) -> int:
    """A great many receipts, each with another value; returns how many series there are then."""
    own, facet = part(make_receipt("r", **TIMED))
    places = {FACET_FIELDS.index(name): value for name, value in fields.items()}
    for start in range(0, MANY, 5000):
        facets = []
        for number in range(start, start + 5000):
            made = list(facet)
            for place, value in places.items():
                made[place] = value(number) if callable(value) else value
            facets.append(tuple(made))
        counts.count(Parted([own] * 5000, facets))
    counters, histograms = counts.copied()
    assert sum(counters["slmgate_requests_total"].values()) == MANY, "all of them are counted"
    return sum(map(len, counters.values())) + sum(
        len(known) * (len(one.bounds) + 3) for known in histograms.values() for one in known.values()
    )


def test_however_many_models_are_invented() -> None:
    counts = Counts()
    made = hostile(counts, model=lambda n: f"m{n}", reason="model_not_found", verdict="refuse", ended="refused", instance="")
    assert made < 50 and set(series(counts, "slmgate_refusals_total")) == {("model_not_found", UNKNOWN)}


def test_however_many_clients_there_are() -> None:
    counts = Counts()
    assert hostile(counts, principal=lambda n: f"c{n}", key=lambda n: f"k{n}") < 2000
    clients = series(counts, "slmgate_client_requests_total")
    assert len(clients) == BOUNDS["client"] + 1
    assert clients[OTHER, "smollm2"] == MANY - BOUNDS["client"]
    assert len(counts.callers()) == MAX_CALLERS and counts.callers()[0][1] == f"c{MANY - 1}"


def test_what_no_bound_of_a_label_holds_the_family_does() -> None:
    """Few values of each label, and a great many of their combinations."""
    counts = Counts()
    hostile(
        counts,
        principal=lambda n: f"c{n % 150}", model=lambda n: f"m{n // 150 % 150}", status=lambda n: 100 + n % 50,
        endpoint=lambda n: f"e{n // 50 % 40}", instance=lambda n: f"i{n % 400}",
    )  # fmt: skip
    assert max(map(len, counts.counters.values())) <= SERIES + 1
    assert max(map(len, counts.histograms.values())) <= SERIES + 1


@pytest.mark.parametrize("clients", [0, 1])
def test_the_bound_of_clients_is_an_option(clients: int) -> None:
    counts = counted({"principal": "a"}, {"principal": "b"}, {"principal": OTHER}, counts=Counts(clients))
    assert len(series(counts, "slmgate_client_requests_total")) == clients + 1


def test_long_and_odd_names() -> None:
    counts = counted({"principal": "é" * 500}, {"principal": "é" * 500}, {"principal": 'a"b\\c\nd'})
    assert set(series(counts, "slmgate_client_requests_total")) == {("é" * 200, "smollm2"), ('a"b\\c\nd', "smollm2")}
