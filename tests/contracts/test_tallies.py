"""Analytics' questions against receipts: every tally, order and page is what plain Python finds in the receipts themselves."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
import pytest

from slmgate.stores.base import Store
from slmgate.stores.rankings import FIGURES, Figure
from slmgate.stores.records import Batch
from slmgate.stores.subjects import ALL, Name
from slmgate.stores.tallies import FAILED, KINDS, RELATIVE_ERROR, Tally, percentiles
from slmgate.terms import Receipt
from tests.contracts.test_sums import MIDNIGHT, by_chance, forget, problems, write

FIRST, LAST = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)


def some(random: Random, number: int) -> list[Receipt]:
    """Receipts of 40 days in which everything differs that tallies tell apart."""
    return [
        msgspec.structs.replace(
            receipt,
            verdict=random.choice(("admit", "admit", "admit", "refuse", "none", "shadow")),
            reason=random.choice(("ok", "rate_limited")),
            instance=random.choice(("i1", "i2")),
            stream=random.random() < 0.5,
            first_byte_us=random.choice((None, 1000 + random.randrange(5000))),
            total_us=6000 + random.randrange(10**6),
            receive_us=random.randrange(100),
            connect_us=random.choice((0, 200)),
            overhead_us=random.choice((0, 35)),
            queue_us=400 + random.randrange(1000),
        )
        for receipt in by_chance(random, number)
    ]


def of(receipts: list[Receipt], name: Name) -> list[Receipt]:
    kind, what, instance = name
    return [
        receipt
        for receipt in receipts
        if receipt.verdict != "shadow"
        and (kind != "client" or receipt.principal == what)
        and (kind not in ("model", "instance") or receipt.model == what)
        and (kind != "instance" or receipt.instance == instance)
    ]


def within(receipts: list[Receipt], since: datetime, until: datetime) -> list[Receipt]:
    return [receipt for receipt in receipts if since <= receipt.time < until]


def sums(receipts: list[Receipt]) -> Tally:
    """What a tally says but for its histograms."""
    found: Counter[int | str] = Counter()
    for receipt in receipts:
        tokens = receipt.prompt_tokens + receipt.completion_tokens
        found.update({0: 1, "$" + receipt.price.partition(" ")[0]: receipt.cost})
        if receipt.verdict != "admit":
            found.update({1: 1, "-" + receipt.reason: 1})
            continue
        if receipt.ended in FAILED or receipt.status >= 500:
            found.update({2: 1, "!" + (receipt.ended if receipt.ended in FAILED else str(receipt.status)): 1})
        found.update({3: receipt.prompt_tokens, 4: receipt.completion_tokens, 5: tokens * receipt.estimated})
    return {name: count for name, count in found.items() if count}


def times(receipts: list[Receipt]) -> dict[str, list[int]]:
    """The times of each histogram, sorted."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for one in receipts:
        if one.verdict != "admit" or one.ended == "unknown":
            continue
        # of one that was tried again, the connection is a later one's; where no instance was asked, it stood in line all the time
        opened = one.connect_us if one.attempts == 1 else 0
        asked = one.overhead_us > 0
        found["queue"].append(max(0, one.queue_us - one.receive_us - opened - one.overhead_us) if asked else one.queue_us)
        found["total"].append(one.total_us)
        if one.overhead_us:
            found["overhead"].append(one.overhead_us)
            found["connect"].append(one.connect_us)
        if one.first_byte_us is not None:
            stream = one.total_us - one.first_byte_us
            found["first_byte"].append(one.first_byte_us)
            found["instance"].append(max(0, one.first_byte_us - one.queue_us))
            found["stream"].append(stream)
            if one.stream and one.completion_tokens > 1:
                found["per_token"].append(stream // (one.completion_tokens - 1))
    return {kind: sorted(each) for kind, each in found.items()}


def check(tally: Tally, receipts: list[Receipt]) -> None:
    assert {name: count for name, count in tally.items() if isinstance(name, str) or name < 16} == sums(receipts)
    found, exactly = percentiles(tally, (50, 95, 99)), times(receipts)
    assert {kind: count for kind, (count, _) in found.items()} == {kind: len(each) for kind, each in exactly.items() if each}
    for kind, (_, parts) in found.items():
        right = exactly[kind]
        for part, time in zip((50, 95, 99), parts, strict=True):
            exact = right[-(-len(right) * part // 100) - 1]
            assert abs(time - exact) <= exact * RELATIVE_ERROR


NAMES: list[Name] = [
    ALL, ("model", "m1", ""), ("model", "m2", ""), ("instance", "m1", "i2"), ("client", "ann", ""), ("client", "nobody", ""),
]  # fmt: skip


def test_tallies_are_what_the_receipts_come_to(store: Store) -> None:
    random = Random(7)
    receipts = some(random, 700)
    write(store, receipts)
    assert problems(store) == []
    for _ in range(12):
        cuts = sorted(FIRST + timedelta(minutes=random.randrange(92 * 24 * 60)) for _ in range(random.randrange(2, 6)))
        for name, tallies in zip(NAMES, store.tallies.read(NAMES, cuts), strict=True):
            for tally, since, until in zip(tallies, cuts, cuts[1:], strict=False):
                check(tally, within(of(receipts, name), since, until))
        counted = [[tally.get(0, 0) for tally in tallies] for tallies in store.tallies.read(NAMES, cuts)]
        assert store.tallies.counts(NAMES, cuts) == counted


def test_a_time_within_a_minute_is_asked_of_the_receipts(store: Store) -> None:
    receipts = some(Random(8), 300)
    write(store, receipts)
    middle = sorted(receipt.time for receipt in receipts)[150]
    ((before, after),) = store.tallies.read([ALL], [FIRST, middle, LAST])
    check(before, within(of(receipts, ALL), FIRST, middle))
    check(after, within(of(receipts, ALL), middle, LAST))


def test_subjects(store: Store) -> None:
    write(store, some(Random(9), 100))
    assert store.tallies.subjects("model") == [("model", "m1", ""), ("model", "m2", "")]
    assert store.tallies.subjects("instance", "m1") == [("instance", "m1", "i1"), ("instance", "m1", "i2")]
    assert store.tallies.subjects("client") == [("client", "ann", ""), ("client", "bob", "")]


def test_models_of_a_client(store: Store) -> None:
    receipts = some(Random(10), 300)
    write(store, receipts)
    since, until = FIRST + timedelta(days=33, minutes=7), FIRST + timedelta(days=60)
    found = store.tallies.models_of(["bob", "nobody"], since, until)
    mine = within(of(receipts, ("client", "bob", "")), since, until)
    assert found == {"bob": {model: sums([receipt for receipt in mine if receipt.model == model]) for model in ("m1", "m2")}}


def many(random: Random, number: int) -> list[Receipt]:
    return [
        msgspec.structs.replace(receipt, principal=f"c{int(random.random() ** 3 * 60):02}", id=f"{receipt.id}-{number}")
        for receipt in some(random, number)
    ]


def size(receipts: list[Receipt], figure: Figure) -> int:
    tally = sums(receipts)
    if figure == "cost":
        return sum(receipt.cost for receipt in receipts)
    places = {"requests": (0,), "refused": (1,), "errors": (2,), "tokens": (3, 4)}[figure]
    return sum(tally.get(place, 0) for place in places)


def ordered(
    store: Store, receipts: list[Receipt], figure: Figure, since: datetime, until: datetime, model: str | None = None
) -> None:
    mine = [each for each in within(of(receipts, ALL), since, until) if model in (None, each.model)]
    clients: dict[str, list[Receipt]] = {}
    for receipt in mine:
        clients.setdefault(receipt.principal, []).append(receipt)
    found: list[str] = []
    names: list[str] = []
    for first in range(0, len(clients), 7):
        names, total = store.tallies.clients(figure, since, until, first, 7, model=model)
        assert total == len(clients)
        found += names
    assert store.tallies.clients(figure, since, until, len(clients) + 70, 7, model=model) == (names, len(clients))
    assert sorted(found) == sorted(clients)
    sizes = [size(clients[name], figure) for name in found]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("figure", FIGURES)
def test_clients_are_in_order_on_every_page(store: Store, figure: Figure) -> None:
    random = Random(11)
    receipts = many(random, 500)
    write(store, receipts)
    ordered(store, receipts, figure, FIRST, LAST)
    ordered(store, receipts, figure, FIRST + timedelta(days=31, hours=5, minutes=7), FIRST + timedelta(days=64, minutes=59))
    late = many(random, 120)  # of days that are in order already
    write(store, late)
    ordered(store, receipts + late, figure, FIRST, LAST)


def test_clients_of_a_model(store: Store) -> None:
    receipts = many(Random(12), 400)
    write(store, receipts)
    ordered(store, receipts, "requests", FIRST, LAST, "m2")
    ordered(store, receipts, "requests", FIRST, LAST, "m1")
    assert store.tallies.clients("requests", FIRST, LAST, 0, 5, model="none") == ([], 0)


def test_clients_by_name_and_those_searched_for(store: Store) -> None:
    receipts = many(Random(13), 300)
    write(store, receipts)
    everyone = sorted({receipt.principal for receipt in of(receipts, ALL)})
    assert store.tallies.clients(None, FIRST, LAST, 0, 100) == (everyone, len(everyone))
    assert store.tallies.clients(None, FIRST, LAST, 3, 2) == (everyone[3:5], len(everyone))
    assert store.tallies.clients(None, FIRST, LAST, 0, 100, search="C0")[0] == [name for name in everyone if "c0" in name]
    assert store.tallies.clients("tokens", FIRST, LAST, 0, 100, search="%")[1] == 0
    assert store.tallies.clients(None, FIRST, LAST, 100, 7) == (everyone[-((len(everyone) - 1) % 7 + 1) :], len(everyone))


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("ann", ["Ann", "JoAnn"]), ("STRASSE", ["strasse"]), ("straß", ["Straße"]), ("k", ["K\u212a"]), ("\u212a", ["K\u212a"]),
        ("i", ["B\u0130G"]), ("_", ["a_b"]), ("%", ["5%"]), ("/", ["x/y"]), ("ö", ["jörg", "JÖRN"]), ("q", []),
    ],
)  # fmt: skip
def test_a_search_knows_no_case_in_any_writing(store: Store, part: str, found: list[str]) -> None:
    names = ["Ann", "JoAnn", "strasse", "Straße", "K\u212a", "B\u0130G", "a_b", "5%", "x/y", "jörg", "JÖRN"]
    receipts = some(Random(16), len(names))
    write(
        store, [msgspec.structs.replace(one, principal=name, verdict="admit") for one, name in zip(receipts, names, strict=True)]
    )
    told, total = store.tallies.clients(None, FIRST, LAST, 0, 100, search=part)
    assert (sorted(told), total) == (sorted(found), len(found))


def test_an_empty_store(store: Store) -> None:
    assert store.tallies.read(NAMES, [FIRST, LAST]) == [[{}]] * len(NAMES)
    assert store.tallies.subjects("model") == []
    assert store.tallies.clients("requests", FIRST, LAST, 0, 10) == ([], 0)
    assert store.tallies.counts(NAMES, [FIRST, LAST]) == [[0]] * len(NAMES)
    assert store.tallies.models_of(["ann"], FIRST, LAST) == {}
    assert store.tallies.since(FIRST, LAST) == FIRST


def test_what_is_deleted_is_asked_of_what_is_left(store: Store) -> None:
    receipts = many(Random(14), 400)
    write(store, receipts)
    ordered(store, receipts, "requests", FIRST, LAST)
    for what in ("minutes", "hours"):
        assert forget(store, what) > 0
    odd = FIRST + timedelta(days=35, minutes=30)
    ((tally,),) = store.tallies.read([ALL], [odd, LAST])
    check(tally, within(of(receipts, ALL), odd, LAST))  # its first half hour is that of the receipts
    assert forget(store, "receipts") > 0
    next_day = odd.replace(hour=0, minute=0) + timedelta(days=1)
    assert store.tallies.since(odd, LAST) == next_day
    ((tally,),) = store.tallies.read([ALL], [odd, LAST])
    check(tally, within(of(receipts, ALL), next_day, LAST))
    ordered(store, receipts, "requests", next_day, LAST)
    assert forget(store, "days") > 0
    assert store.tallies.since(odd, LAST) == MIDNIGHT
    assert store.tallies.since(odd, odd + timedelta(days=1)) == odd + timedelta(days=1)
    assert problems(store) == []


def test_two_batches_at_once_are_both_counted(store: Store) -> None:
    receipts = some(Random(15), 60)
    for receipt in receipts:
        store.write(Batch(receipts=[receipt, receipt]))  # twice: it counts once
    ((tally,),) = store.tallies.read([ALL], [FIRST, LAST])
    check(tally, of(receipts, ALL))
