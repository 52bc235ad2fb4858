"""Sums against receipts: whatever is asked, the answer from rollups is what adding up the receipts themselves gives.

Receipts are made by chance with a fixed seed; the other side of each comparison is plain Python over `Receipt`s.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
import sqlalchemy as sa

from slmgate.stores import migrations, schema
from slmgate.stores.base import Store
from slmgate.stores.records import USAGE_GROUPS, Batch, ReceiptFilter, UsageRow
from slmgate.stores.rollups import MOST
from slmgate.stores.sql import SqlStore
from slmgate.stores.tallies import FAILED
from slmgate.terms import Receipt
from tests.tools.journal_writer import make_receipt

START = datetime(2026, 10, 30, 22, 58, 59, 123456, tzinfo=UTC)
DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
_FORMS = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}


def by_chance(random: Random, number: int, days: float = 40.0) -> list[Receipt]:
    return [
        make_receipt(
            f"r{each:05}",
            time=START + timedelta(microseconds=int(random.random() * days * 86_400_000_000)),
            verdict=random.choice(("admit", "admit", "refuse")),
            status=random.choice((200, 429, 502)),
            ended=random.choice(("complete", "upstream_error", "client_left")),
            principal=random.choice(("ann", "bob")),
            team=random.choice((None, "acme")),
            model=random.choice(("m1", "m2")),
            estimated=random.random() < 0.3,
            prompt_tokens=random.randrange(100),
            completion_tokens=random.randrange(100),
            first_byte_us=random.choice((None, 0, 1000)),
            queue_us=random.randrange(1000),
            plan=random.choice(("", "gold")),
            price=random.choice(("", "EUR 100 300", "EUR 5 5", "USD 100 300")),
            cost=random.randrange(10**12),
        )
        for each in range(number)
    ]


def write(store: Store, receipts: list[Receipt], size: int = 97) -> None:
    for start in range(0, len(receipts), size):
        store.write(Batch(receipts=receipts[start : start + size]))


def added_up(receipts: list[Receipt], by: list[str]) -> list[UsageRow]:
    """What `usage` must say of these receipts."""
    groups: dict[tuple[str, ...], list[Receipt]] = {}
    for receipt in receipts:
        values = [receipt.time.strftime(_FORMS[name]) if name in _FORMS else getattr(receipt, USAGE_GROUPS[name]) for name in by]
        groups.setdefault(tuple("" if value is None else str(value) for value in values), []).append(receipt)
    return [_row(group, members) for group, members in sorted(groups.items())]


def _row(group: tuple[str, ...], members: list[Receipt]) -> UsageRow:
    admitted = [receipt for receipt in members if receipt.verdict == "admit"]
    costs: dict[str, int] = {}
    for receipt in members:
        costs[receipt.price.partition(" ")[0]] = costs.get(receipt.price.partition(" ")[0], 0) + receipt.cost
    return UsageRow(
        group=group,
        requests=len(members),
        refused=len(members) - len(admitted),
        errors=sum(receipt.ended in FAILED or receipt.status >= 500 for receipt in admitted),
        prompt_tokens=sum(receipt.prompt_tokens for receipt in admitted),
        completion_tokens=sum(receipt.completion_tokens for receipt in admitted),
        estimated_tokens=sum(receipt.prompt_tokens + receipt.completion_tokens for receipt in admitted if receipt.estimated),
        costs=dict(sorted((currency, cost) for currency, cost in costs.items() if cost)),
    )


def meant(receipts: list[Receipt], which: ReceiptFilter) -> list[Receipt]:
    return [
        receipt
        for receipt in receipts
        if which.client in (None, receipt.principal)
        and which.model in (None, receipt.model)
        and (which.since is None or receipt.time >= which.since)
        and (which.until is None or receipt.time < which.until)
    ]


def problems(store: Store) -> list[str]:
    return [difference.told() for found in store.verify() for difference in found.differences]


def compared(store: Store) -> int:
    return sum(found.rows for found in store.verify())


def test_usage_is_what_the_receipts_add_up_to(store: Store) -> None:
    random = Random(1)
    receipts = by_chance(random, 600)
    write(store, receipts)
    assert problems(store) == []
    for _ in range(60):
        since, until = sorted(START + random.random() * 45 * DAY for _ in range(2))
        which = ReceiptFilter(
            client=random.choice((None, None, "ann")),
            model=random.choice((None, "m2")),
            since=random.choice((None, since, since.replace(minute=0, second=0, microsecond=0))),
            until=random.choice((None, until)),
        )
        by = random.sample([*USAGE_GROUPS], random.randrange(4))
        assert store.usage(by, which) == added_up(meant(receipts, which), by), (by, which)
        assert store.answered(by, which) == (which.since, which.until)


def test_one_request_is_asked_of_the_receipts(store: Store) -> None:
    receipts = by_chance(Random(2), 20)
    write(store, receipts)
    assert store.usage(["client"], ReceiptFilter(request_id="r00007")) == added_up(receipts[7:8], ["client"])


def test_what_comes_twice_or_late_is_summed_once_and_in_its_own_time(store: Store) -> None:
    receipts = by_chance(Random(3), 50)
    write(store, receipts)
    late = make_receipt("late", time=START - 400 * DAY)
    store.write(Batch(receipts=[receipts[3], late, late, *receipts[:9]]))
    store.write(Batch(receipts=[late]))
    assert problems(store) == []
    assert store.usage([], ReceiptFilter()) == added_up([*receipts, late], [])
    assert [row.group for row in store.usage(["day"], ReceiptFilter(until=START))] == [("2025-09-25",)]


def test_figures_beyond_belief_are_bounded_everywhere(store: Store) -> None:
    write(store, [make_receipt(f"r{each}", cost=2**63 - 1, price="EUR 1 1", prompt_tokens=2**62) for each in range(5)])
    write(store, [make_receipt("more", cost=2**90, price="EUR 1 1")])
    assert problems(store) == []
    assert store.usage([], ReceiptFilter())[0].costs == {"EUR": 6 * MOST}
    moment = make_receipt("r1").time
    assert store.usage([], ReceiptFilter(since=moment, until=moment + DAY / 10**6))[0].costs == {"EUR": 6 * MOST}


@pytest.mark.parametrize("level", ["minutes", "hours", "days", "months"])
def test_verify_finds_every_difference(store: Store, level: str) -> None:
    assert isinstance(store, SqlStore)
    write(store, by_chance(Random(4), 30))
    before = compared(store)
    assert before >= 30
    table = schema.rollups[level]
    with store._writing() as connection:
        row = connection.execute(sa.select(table.c.start, table.c.facet).order_by(table.c.start).limit(1)).one()
        place = (table.c.start == row.start) & (table.c.facet == row.facet)
        connection.execute(sa.update(table).where(place).values(requests=table.c.requests + 1))
    (found,) = (problem for problem in problems(store) if problem.startswith(level))
    assert f"facet {row.facet}: requests is" in found
    with store._writing() as connection:
        connection.execute(sa.delete(table).where(place))
    assert any(problem.startswith(level) and "requests is 0" in problem for problem in problems(store))


def test_an_empty_store_is_right(store: Store) -> None:
    assert (compared(store), problems(store)) == (0, [])


def forget(store: Store, what: str, before: datetime = MIDNIGHT) -> int:
    steps: list[int] = []
    while not steps or steps[-1]:
        steps.append(store.forget(what, before, 7))
    assert all(step == 7 for step in steps[:-2])
    return sum(steps)


def test_old_receipts_go_and_their_sums_stay(store: Store) -> None:
    receipts = by_chance(Random(5), 200)
    write(store, receipts)
    old = [receipt for receipt in receipts if receipt.time < MIDNIGHT]
    assert forget(store, "receipts") == len(old)
    assert problems(store) == []
    assert forget(store, "minutes") > 0
    assert problems(store) == []
    assert store.usage(["hour"], ReceiptFilter()) == added_up(receipts, ["hour"])
    since = (MIDNIGHT - 3 * DAY).replace(hour=5, minute=30)
    which = ReceiptFilter(since=since)
    whole = since.replace(hour=6, minute=0)
    assert store.answered(["client"], which) == (whole, None)
    assert store.usage(["client"], which) == added_up([each for each in receipts if each.time >= whole], ["client"])
    forget(store, "hours")
    assert store.answered([], which) == (MIDNIGHT - 2 * DAY, None)
    assert store.answered(["hour"], which) == (MIDNIGHT, None)
    assert store.usage(["hour"], ReceiptFilter()) == added_up([each for each in receipts if each.time >= MIDNIGHT], ["hour"])
    assert problems(store) == []
    forget(store, "days")
    assert store.usage(["month"], ReceiptFilter()) == added_up(receipts, ["month"])
    assert store.answered([], ReceiptFilter(since=START, until=START + DAY)) == (START + DAY, START + DAY)
    assert problems(store) == []
    write(store, [make_receipt("late", time=MIDNIGHT - DAY)])
    assert forget(store, "receipts") == 1
    assert store.usage([], ReceiptFilter())[0].requests == len(receipts) + 1
    assert problems(store) == []


@pytest.mark.parametrize(("what", "before"), [("months", MIDNIGHT), ("keys", MIDNIGHT), ("days", MIDNIGHT + DAY / 2)])
def test_only_whole_days_of_what_may_go(store: Store, what: str, before: datetime) -> None:
    with pytest.raises(ValueError, match="whole days"):
        store.forget(what, before, 1)


def test_receipts_from_before_there_were_sums_are_added_up(store: Store) -> None:
    assert isinstance(store, SqlStore)
    edges = [
        datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
        datetime(2023, 12, 31, tzinfo=UTC),
    ]
    receipts = by_chance(Random(6), 100) + [make_receipt(f"e{place}", time=time) for place, time in enumerate(edges)]
    write(store, receipts)
    with store._writing() as connection:
        for table in (*schema.rollups.values(), schema.kept_since):
            connection.execute(sa.text(f"DROP TABLE {table.name}"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0005'"))
    migrations.upgrade(store._engine, "0006")
    assert problems(store) == []
    assert store.usage(["month", "client"], ReceiptFilter()) == added_up(receipts, ["month", "client"])
