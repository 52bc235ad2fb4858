"""Receipts counted, in batches: the state of all families that come from receipts.

What a receipt shares with others decides which series it belongs to, so that is looked up once for each kind of receipt and not
for each; durations are put into their buckets many at a time. Values of labels are bounded here: nobody makes series without
end, whatever he asks for. It knows receipts as the ledger has them in two parts; no store, no text format and no scraper.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from slmgate.control.metrics.families import (
    BOUNDS,
    BY_NAME,
    FROM_RECEIPTS,
    FROM_WORKERS,
    MAX_VALUE,
    OTHER,
    SERIES,
    UNKNOWN,
)
from slmgate.control.tracing.words import recorded_id
from slmgate.stores.parted import FACET_FIELDS, OWN_FIELDS, Facet, Own, Parted

Labels = tuple[str, ...]

Caller = tuple[str, str, str | None, str]
"""A principal: its id, name and team, and its roles with commas between."""

MAX_CELLS = 16_384
"""Kinds of receipts remembered. More of them cost the time to look up their series again, and nothing else."""
MAX_CALLERS = 100
"""Clients remembered as those that called last."""
_FEW = 12
"""With fewer values than this, each is looked for in the bounds; else each bound among the sorted values."""

_place = OWN_FIELDS.index
_PROMPT, _COMPLETION, _COST = _place("prompt_tokens"), _place("completion_tokens"), _place("cost")
_QUEUE, _FIRST, _TOTAL, _ATTEMPTS = _place("queue_us"), _place("first_byte_us"), _place("total_us"), _place("attempts")
_RECEIVE, _CONNECT, _OVERHEAD = _place("receive_us"), _place("connect_us"), _place("overhead_us")
_TRACE, _TIME = _place("trace"), _place("time")
_prompt, _completion, _cost = itemgetter(_PROMPT), itemgetter(_COMPLETION), itemgetter(_COST)
_total, _connect, _overhead = itemgetter(_TOTAL), itemgetter(_CONNECT), itemgetter(_OVERHEAD)
_trace = itemgetter(_TRACE)

Exemplar = tuple[str, int, float]
"""A trace, what was measured in it, and when that was (seconds since the epoch)."""


class Histogram:
    """The buckets of one series, not cumulative; the last one is for what is above all bounds."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0
        self.exemplars: dict[int, Exemplar] = {}

    def add(self, values: list[int]) -> None:
        """Count these values. They may come back in another order."""
        counts, bounds = self.counts, self.bounds
        self.sum += sum(values)
        if len(values) < _FEW:
            for value in values:
                counts[bisect_left(bounds, value)] += 1
            return
        values.sort()
        before = 0
        for number, bound in enumerate(bounds):
            upto = bisect_right(values, bound, before)
            counts[number] += upto - before
            before = upto
        counts[-1] += len(values) - before

    def note(self, trace: str, value: int, second: float) -> None:
        """An example of a value in its bucket."""
        self.exemplars[bisect_left(self.bounds, value)] = trace, value, second

    def copy(self) -> Histogram:
        made = Histogram(self.bounds)
        made.counts, made.sum, made.exemplars = self.counts.copy(), self.sum, self.exemplars.copy()
        return made


class _Timings:
    """The histograms of one model, endpoint, instance and way of answering; and the receipts to be put into them."""

    __slots__ = ("connect", "first", "overhead", "queue", "request", "rows", "stream", "token")

    def __init__(self) -> None:
        self.rows: list[Own] = []
        self.request: Histogram | None = None
        self.queue: Histogram | None = None
        self.connect: Histogram | None = None
        self.overhead: Histogram | None = None
        self.first: Histogram | None = None
        self.stream: Histogram | None = None
        self.token: Histogram | None = None


class _Cell:
    """The series of one kind of receipts: a list of one number each."""

    __slots__ = ("caller", "completion", "cost", "once", "prompt", "timings")

    def __init__(self) -> None:
        self.caller: Caller | None = None
        self.once: list[list[int]] = []
        self.prompt: list[list[int]] = []
        self.completion: list[list[int]] = []
        self.cost: list[list[int]] = []
        self.timings: _Timings | None = None


class Counts:
    """All counters and histograms. Not for use from two threads at once: `service.py` sees to that."""

    def __init__(self, clients: int = BOUNDS["client"]) -> None:
        self.counters: dict[str, dict[Labels, list[int]]] = {
            family.name: {} for family in (*FROM_RECEIPTS, *FROM_WORKERS) if family.kind == "counter"
        }
        self.histograms: dict[str, dict[Labels, Histogram]] = {
            family.name: {} for family in FROM_RECEIPTS if family.kind == "histogram"
        }
        self._bounds: dict[str, int] = {**BOUNDS, "client": clients}
        self._values: dict[str, set[str]] = {name: set() for name in BOUNDS}
        self._cells: dict[Facet, _Cell] = {}
        self._timings: dict[tuple[object, ...], _Timings] = {}
        self._callers: dict[str, Caller] = {}  # by id, whoever called last behind the others

    def __repr__(self) -> str:
        return f"<Counts {sum(map(len, self.counters.values()))} counters, {sum(map(len, self.histograms.values()))} histograms>"

    # -- receipts

    def count(self, receipts: Parted) -> None:
        """Count these receipts, each of which is new."""
        groups: dict[int, list[Own]] = {}
        kinds: dict[int, Facet] = {}
        for own, facet in zip(receipts.own, receipts.facets, strict=True):
            number = id(facet)
            try:
                groups[number].append(own)
            except KeyError:
                groups[number] = [own]
                kinds[number] = facet
        timed: list[_Timings] = []
        for number, rows in groups.items():
            cell = self._cell(kinds[number])
            many = len(rows)
            for series in cell.once:
                series[0] += many
            if cell.prompt:
                _grow(cell.prompt, sum(map(_prompt, rows)))
                _grow(cell.completion, sum(map(_completion, rows)))
            if cell.cost:
                _grow(cell.cost, sum(map(_cost, rows)))
            if cell.caller is not None:
                self._callers.pop(cell.caller[0], None)
                self._callers[cell.caller[0]] = cell.caller
            timings = cell.timings
            if timings is not None:
                if not timings.rows:
                    timed.append(timings)
                timings.rows += rows
        for timings in timed:
            rows, timings.rows = timings.rows, []
            _measure(timings, rows)
        for gone in list(self._callers)[:-MAX_CALLERS]:
            del self._callers[gone]

    def callers(self) -> list[Caller]:
        """Whoever called last, the last one first."""
        return list(reversed(self._callers.values()))

    def _cell(self, facet: Facet) -> _Cell:
        cell = self._cells.get(facet)
        if cell is None:
            if len(self._cells) >= MAX_CELLS:
                self._cells = {}
            cell = self._cells[facet] = self._made(dict(zip(FACET_FIELDS, facet, strict=True)))
        return cell

    def _made(self, what: Mapping[str, Any]) -> _Cell:
        """Find the series that receipts of this kind belong to."""
        cell = _Cell()
        if what["verdict"] == "shadow":
            cell.once = [self.series("slmgate_shadow_requests_total")]
            return cell
        # as `control/reading.py` has it: only then is the model a caller's own word
        model = UNKNOWN if what["reason"] == "model_not_found" else what["model"]
        client, instance = what["principal"], what["instance"]
        currency = what["price"].partition(" ")[0]
        cell.once = [self.series("slmgate_requests_total", model, what["endpoint"], str(what["status"]), what["ended"])]
        if what["verdict"] != "admit":  # one that ended before there was a verdict was not admitted either, as in the ledger
            cell.once.append(self.series("slmgate_refusals_total", what["reason"] or what["ended"], model))
        if client:
            cell.once.append(self.series("slmgate_client_requests_total", client, model))
            if what["key"] is not None:
                cell.caller = what["key"], client, what["team"], what["roles"]
        for name, into in (("prompt", cell.prompt), ("completion", cell.completion)):
            if instance:
                into.append(self.series("slmgate_tokens_total", model, instance, name))
                if client:
                    into.append(self.series("slmgate_client_tokens_total", client, model, name))
                if what["estimated"]:
                    into.append(self.series("slmgate_estimated_tokens_total", model, name))
        if currency:
            cell.cost.append(self.series("slmgate_cost_total", model, currency))
            if client:
                cell.cost.append(self.series("slmgate_client_cost_total", client, currency))
        if what["ended"] != "unknown" and what["verdict"] in ("admit", "refuse"):
            cell.timings = self._timings_of(what, model)
        return cell

    def _timings_of(self, what: Mapping[str, Any], model: str) -> _Timings:
        admitted, streamed = what["verdict"] == "admit", what["stream"] and what["status"] == 200
        which = admitted, streamed, what["ended"] == "complete", model, what["endpoint"], what["instance"]
        timings = self._timings.get(which)
        if timings is not None:
            return timings
        if len(self._timings) >= MAX_CELLS:
            self._timings = {}
        timings = self._timings[which] = _Timings()
        where = model, what["instance"]
        timings.queue = self.histogram("slmgate_queue_duration_seconds", model)
        if admitted:
            timings.request = self.histogram("slmgate_request_duration_seconds", model, what["endpoint"])
        if what["instance"]:
            timings.overhead = self.histogram("slmgate_overhead_duration_seconds")
            timings.connect = self.histogram("slmgate_connect_duration_seconds", *where)
            if streamed:
                timings.first = self.histogram("slmgate_time_to_first_token_seconds", *where)
                timings.stream = self.histogram("slmgate_stream_duration_seconds", *where)
                if what["ended"] == "complete":
                    timings.token = self.histogram("slmgate_time_per_output_token_seconds", *where)
        return timings

    # -- series

    def series(self, name: str, *values: str) -> list[int]:
        """The series of a counter with these values of its labels: its number, in a list."""
        known = self.counters[name]
        labels = self._bounded(name, values, known)
        found = known.get(labels)
        if found is None:
            found = known[labels] = [0]
        return found

    def histogram(self, name: str, *values: str) -> Histogram:
        """The series of a histogram."""
        known = self.histograms[name]
        labels = self._bounded(name, values, known)
        found = known.get(labels)
        if found is None:
            found = known[labels] = Histogram(BY_NAME[name].bounds)
        return found

    def _bounded(self, name: str, values: Labels, known: Mapping[Labels, object]) -> Labels:
        labels = tuple(self._value(label, value) for label, value in zip(BY_NAME[name].labels, values, strict=True))
        if labels in known or len(known) < SERIES:
            return labels
        return (OTHER,) * len(labels)

    def _value(self, label: str, value: str) -> str:
        known, value = self._values.get(label), value[:MAX_VALUE]
        if known is None or value in known:
            return value
        if value == OTHER or len(known) >= self._bounds[label]:
            return OTHER
        known.add(value)
        return value

    def copied(self) -> tuple[dict[str, dict[Labels, int]], dict[str, dict[Labels, Histogram]]]:
        """Everything, as it is now."""
        counters = {name: {labels: series[0] for labels, series in known.items()} for name, known in self.counters.items()}
        histograms = {name: {labels: one.copy() for labels, one in known.items()} for name, known in self.histograms.items()}
        return counters, histograms


def _grow(them: list[list[int]], by: int) -> None:
    for series in them:
        series[0] += by


def _not_below_zero(times: list[int]) -> list[int]:
    """Times that follow from others, which may have been rounded against each other."""
    return times if not times or min(times) >= 0 else [max(0, one) for one in times]


def _measure(timings: _Timings, rows: list[Own]) -> None:
    """Put the durations of these receipts, which share their series, into buckets."""
    admitted = timings.request is not None
    if timings.queue is not None:
        waited = rows if admitted else [row for row in rows if row[_QUEUE]]
        # until an instance was asked, less all that was something else; where none was asked, all of it
        waits = [
            row[_QUEUE] - row[_RECEIVE] - row[_OVERHEAD] - (row[_CONNECT] if row[_ATTEMPTS] == 1 else 0)
            if row[_OVERHEAD]
            else row[_QUEUE]
            for row in waited
        ]
        timings.queue.add(_not_below_zero(waits))
    if timings.request is not None:
        timings.request.add(list(map(_total, rows)))
    if timings.connect is not None and (opened := [row for row in map(_connect, rows) if row]):
        timings.connect.add(opened)
    if timings.overhead is not None and (shares := [row for row in map(_overhead, rows) if row]):
        timings.overhead.add(shares)
    if timings.first is not None and timings.stream is not None:
        begun = [row for row in rows if row[_FIRST] is not None]
        timings.first.add(_not_below_zero([row[_FIRST] - row[_QUEUE] for row in begun]))
        timings.stream.add(_not_below_zero([row[_TOTAL] - row[_FIRST] for row in begun]))
        if timings.token is not None:
            timings.token.add(
                [max(0, row[_TOTAL] - row[_FIRST]) // (row[_COMPLETION] - 1) for row in begun if row[_COMPLETION] > 1]
            )
    if any(map(_trace, rows)):
        _note(timings, rows)


def _note(timings: _Timings, rows: list[Own]) -> None:
    """Examples for the buckets: the newest trace of each, of those that a collector has."""
    for row in rows:
        if row[_TRACE] and (trace := recorded_id(row[_TRACE])):
            second = row[_TIME].timestamp()
            if timings.request is not None:
                timings.request.note(trace, row[_TOTAL], second)
            if timings.first is not None and row[_FIRST] is not None:
                timings.first.note(trace, max(0, row[_FIRST] - row[_QUEUE]), second)
            if timings.overhead is not None and row[_OVERHEAD]:
                timings.overhead.note(trace, row[_OVERHEAD], second)
