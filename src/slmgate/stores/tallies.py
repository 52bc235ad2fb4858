"""Tallies: what the receipts of one subject in one span of time come to, its latencies as histograms among it.

A tally is counts by number and by name; two of them are added up count by count, in whatever order. A histogram has buckets of
which each is 19 % wider than the one before, so a percentile read from one is within 10 % of the one that the sorted receipts
have (`RELATIVE_ERROR`). This module knows how receipts become counts and counts become figures; it knows no table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import compress, repeat
from math import isqrt, sqrt
from operator import add, floordiv, is_not, sub
from typing import Any

import msgspec

from slmgate.stores import schema

Tally = dict[int | str, int]
"""Count by number (of `SUMS`, or of a bucket) or by name (`-` and a reason, `!` and a failure, `$` and a currency)."""

SUMS = ("requests", "refused", "errors", "prompt_tokens", "completion_tokens", "estimated_tokens")
"""What the first numbers count."""
KINDS = ("queue", "connect", "first_byte", "instance", "stream", "overhead", "total", "per_token")
"""The histograms, all of admitted requests whose times are known, in microseconds.

`queue`: standing in line, also in vain. `connect`: opening a connection. `first_byte`: until the answer's first byte, since the
request came; `instance`: since an instance was asked. `stream`: from there to the end. `overhead`: the gate's own share.
`per_token`: of each completion token of a stream but its first.
"""
RELATIVE_ERROR = 0.1
"""Of a percentile, at the most."""

FAILED = ("upstream_error", "upstream_timeout", "gate_failed", "gate_stopped", "unknown")

BOUNDS = (*range(1, 16), *(isqrt(isqrt(2 ** (4 * octave + part))) for octave in range(4, 36) for part in range(4)))
"""Where buckets begin, from the second on: the first holds what took no microsecond. The last holds all from 16 hours on.

Each of the first microseconds has its own; from 16 on there are four to a doubling."""
WIDTH = len(BOUNDS) + 1
FIRST = 16
"""The number of the first bucket of the first kind; those of the next kind are `WIDTH` further."""

bucket: Callable[[int], int] = partial(bisect_right, BOUNDS)
"""The bucket of a time: a number below `WIDTH`."""

_NAMES = [column.name for column in list(schema.entries.columns)[1:]]
_TIME, _FACET, _FIRST, _TOTAL, _QUEUE, _COMPLETION, _RECEIVE, _CONNECT, _OVERHEAD, _ATTEMPTS = map(
    _NAMES.index,
    (
        "time", "facet", "first_byte_us", "total_us", "queue_us", "completion_tokens", "receive_us", "connect_us", "overhead_us",
        "attempts",
    ),
)  # fmt: skip

decode = msgspec.msgpack.Decoder(dict[int | str, int]).decode
encode = msgspec.msgpack.Encoder().encode

HEAD = 15
"""Bytes of an encoded tally that hold its first count, at the most: the size of the map, a number and a count."""


class Facts(msgspec.Struct, frozen=True):
    """What a receipt's facets say about how it counts. `subjects`: the numbers of those that it counts for; none: for nobody."""

    subjects: tuple[int, ...]
    admitted: bool
    failed: bool
    estimated: bool
    stream: bool
    names: tuple[str, ...]
    """What is counted by name, once for each request."""
    currency: str
    timed: bool = True
    """Whether anybody knows how long it took: what a dead worker left says 0 of everything."""

    def of(self, sums: Sequence[int]) -> Tally:
        """What sums of receipts (in the order of `rollups.FIGURES`) come to."""
        requests, prompt, completion, cost = sums[0], sums[1], sums[2], sums[9]
        found: Tally = {0: requests}
        if not self.admitted:
            found[1] = requests
        else:
            if self.failed:
                found[2] = requests
            if prompt:
                found[3] = prompt
            if completion:
                found[4] = completion
            if self.estimated and prompt + completion:
                found[5] = prompt + completion
        for name in self.names:
            found[name] = requests
        if cost:
            found[self.currency] = cost
        return found


def facts(values: Mapping[str, Any], subjects: tuple[int, ...]) -> Facts:
    """What these facets (their fields by name) say."""
    admitted = values["verdict"] == "admit"
    failed = admitted and (values["ended"] in FAILED or values["status"] >= 500)
    names: tuple[str, ...] = ()
    if failed:
        names = ("!" + (values["ended"] if values["ended"] in FAILED else str(values["status"])),)
    elif not admitted:
        names = ("-" + (values["reason"] or values["ended"]),)
    currency = "$" + values["price"].partition(" ")[0]
    return Facts(
        subjects if values["verdict"] != "shadow" else (),
        admitted,
        failed,
        bool(values["estimated"]),
        bool(values["stream"]),
        names,
        currency,
        values["ended"] != "unknown",
    )


def plus(into: Tally, more: Tally) -> None:
    """Add a tally to another."""
    if not into:
        into.update(more)
        return
    get = into.get
    for name, count in more.items():
        into[name] = get(name, 0) + count


def histograms(rows: Sequence[tuple[Any, ...]], facets: Mapping[int, Facts], width: int) -> dict[tuple[int, int], Tally]:
    """Buckets of these rows of `entries`, by the start of their span of so many microseconds and their facets.

    Done in columns, because it runs for every receipt.
    """
    timed = {number for number, each in facets.items() if each.admitted and each.timed and each.subjects}
    if len(timed) < len(facets):
        rows = [row for row in rows if row[_FACET] in timed]
    if not rows:
        return {}
    columns = list(zip(*rows, strict=True))
    spans = list(zip(map(floordiv, columns[_TIME], repeat(width)), columns[_FACET], strict=True))
    places = {span: place * WIDTH for place, span in enumerate(dict.fromkeys(spans))}
    bases: Sequence[int] = list(map(places.__getitem__, spans))
    found: list[tuple[int, Counter[int]]] = []

    def note(kind: int, bases: Iterable[int], values: Iterable[int]) -> None:
        found.append((FIRST + kind * WIDTH, Counter(map(add, bases, map(bucket, values)))))

    connects, overheads, totals = columns[_CONNECT], columns[_OVERHEAD], columns[_TOTAL]
    asked = list(map(bool, overheads))  # receipts from before this was measured say 0
    note(0, bases, _in_line(columns, asked))
    note(6, bases, totals)
    if any(asked):
        note(1, compress(bases, asked), compress(connects, asked))
        note(5, compress(bases, asked), compress(overheads, asked))
    if None in columns[_FIRST]:
        answered = list(map(is_not, columns[_FIRST], repeat(None)))
        bases, columns = list(compress(bases, answered)), [tuple(compress(column, answered)) for column in columns]
    firsts = columns[_FIRST]
    streams = list(map(sub, columns[_TOTAL], firsts))
    note(2, bases, firsts)
    note(3, bases, map(sub, firsts, columns[_QUEUE]))
    note(4, bases, streams)
    streaming = {number for number in timed if facets[number].stream}
    if streaming:
        numbers, tokens = columns[_FACET], columns[_COMPLETION]
        spoken = [count > 1 and number in streaming for number, count in zip(numbers, tokens, strict=True)]
        more = map(sub, compress(tokens, spoken), repeat(1))
        note(7, compress(bases, spoken), map(floordiv, compress(streams, spoken), more))

    tallies: list[Tally] = [{} for _ in places]
    for number, counts in found:
        for place, count in counts.items():
            span, at = divmod(place, WIDTH)
            tallies[span][number + at] = count
    return {(span * width, facet): tally for (span, facet), tally in zip(places, tallies, strict=True)}


def _in_line(columns: Sequence[Sequence[int]], asked: Sequence[bool]) -> Iterable[int]:
    """How long each stood in line: until an instance was asked, less all that was something else; all of it, if none was.

    Of one that was tried again, the connection is a later one's than that which it waited for.
    """
    queues, connects, overheads, attempts = columns[_QUEUE], columns[_CONNECT], columns[_OVERHEAD], columns[_ATTEMPTS]
    known = map(sub, queues, columns[_RECEIVE])
    if all(asked) and max(attempts) == 1:
        return map(sub, map(sub, known, connects), overheads)
    rows = zip(queues, known, connects, overheads, attempts, strict=True)
    return [wait - own - (opened if many == 1 else 0) if own else queue for queue, wait, opened, own, many in rows]


def requests_of(head: bytes) -> int | None:
    """How many requests a tally has, told by the first `HEAD` bytes of what was encoded; None where these do not tell.

    Requests are what a tally begins with, nearly always; to read the whole of it for that one count takes ten times as long.
    """
    if head == b"\x80":
        return 0
    at = 1 if head[0] < 0x90 else 3 if head[0] == 0xDE else 5
    if head[at] != 0:
        return None
    size = head[at + 1]
    if size < 0x80:
        return size
    return int.from_bytes(head[at + 2 : at + 2 + (1 << (size - 0xCC))], "big") if 0xCC <= size <= 0xCF else None


def minus(into: Tally, less: Tally) -> None:
    """Take a tally away from another, which may be added to afterwards: see `settled`."""
    get = into.get
    for name, count in less.items():
        into[name] = get(name, 0) - count


def settled(tally: Tally) -> Tally:
    """What is left when all was added and taken away: counts of nothing are not in a tally."""
    return {name: count for name, count in tally.items() if count > 0}


def percentiles(tally: Tally, parts: Sequence[int]) -> dict[str, tuple[int, list[int]]]:
    """Of each histogram of a tally (of `KINDS`) that is not empty: how many requests are in it, and the time that each of these
    parts (in hundredths, rising) of them did not exceed.

    By rank, as in a sorted list: the least time that so large a part did not exceed.
    """
    kinds: dict[int, list[tuple[int, int]]] = {}
    for number in sorted([name for name in tally if isinstance(name, int) and name >= FIRST]):
        kind, at = divmod(number - FIRST, WIDTH)
        kinds.setdefault(kind, []).append((at, tally[number]))
    return {KINDS[kind]: _ranked(counts, parts) for kind, counts in kinds.items() if kind < len(KINDS)}


def _ranked(counts: Sequence[tuple[int, int]], parts: Sequence[int]) -> tuple[int, list[int]]:
    """The same of the buckets of one histogram, in their order."""
    total = sum([count for _, count in counts])
    found: list[int] = []
    at, seen, place = 0, 0, -1
    for part in parts:
        rank = max(1, -(-total * part // 100))
        while seen < rank:
            place += 1
            at, count = counts[place]
            seen += count
        found.append(middle(at))
    return total, found


def middle(at: int) -> int:
    """What stands for every time of a bucket: as far from the least as from the greatest, by their ratio."""
    if at == 0:
        return 0
    low = BOUNDS[at - 1]
    high = BOUNDS[at] - 1 if at < len(BOUNDS) else low
    return round(sqrt(low * high))
