"""The check of the tallies finds every kind of difference, and names whom and what it is of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from slmgate.stores import schema
from slmgate.stores.records import Batch
from slmgate.stores.sql import SqlStore, open_store
from slmgate.stores.tallies import FIRST, KINDS, WIDTH, Tally, bucket, decode, encode
from tests.tools.journal_writer import make_receipt

TIME = datetime(2026, 11, 20, 12, 34, tzinfo=UTC)
CONNECT = FIRST + KINDS.index("connect") * WIDTH


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(tmp_path / "ledger.db")
    opened.write(Batch(receipts=[make_receipt(f"r{n}", time=TIME, total_us=1200, overhead_us=1) for n in range(3)]))
    yield opened
    opened.close()


def told(store: SqlStore) -> list[str]:
    return [difference.told() for found in store.verify() for difference in found.differences]


def change(store: SqlStore, level: str, changes: Tally | None, name: str = "bot") -> None:
    """Change counts of a client's tallies of a level, or delete them."""
    table, subjects = schema.tallies[level], schema.subjects.c
    with store._writing() as connection:
        number = connection.execute(sa.select(subjects.id).where(subjects.name == name, subjects.kind == "client")).scalar_one()
        if changes is None:
            connection.execute(sa.delete(table).where(table.c.subject == number))
            return
        tally = connection.execute(sa.select(table.c.tally).where(table.c.subject == number)).scalar_one()
        put = sa.update(table).where(table.c.subject == number).values(tally=encode(decode(tally) | changes))
        connection.execute(put)


def test_all_is_right(store: SqlStore) -> None:
    assert told(store) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({0: 4}, "requests is 4, should be 3"),
        ({CONNECT: 2}, "connect in bucket 0 is 2, should be 3"),
        ({"-rate_limited": 1}, "-rate_limited is 1, should be 0"),
        ({9: 1}, "9 is 1, should be 0"),
        ({FIRST + len(KINDS) * WIDTH: 1}, f"{FIRST + len(KINDS) * WIDTH} is 1, should be 0"),
    ],
)
def test_a_wrong_count_of_an_hour(store: SqlStore, changes: Tally, says: str) -> None:
    change(store, "hours", changes)
    assert told(store) == [f"hours 2026-11-20T12:00Z client bot: {says}"]


def test_a_wrong_day_is_against_its_receipts_and_its_month(store: SqlStore) -> None:
    change(store, "days", {0: 5})
    assert told(store) == [
        "days 2026-11-20T00:00Z client bot: requests is 5, should be 3",
        "months 2026-11-01T00:00Z client bot: requests is 3, should be 5",
    ]


def test_a_missing_row(store: SqlStore) -> None:
    change(store, "minutes", None)
    (missing,) = told(store)
    assert missing.startswith("minutes 2026-11-20T12:34Z client bot: ")
    assert f"total in bucket {bucket(1200)} is 0, should be 3" in missing


def test_a_row_of_nobody(store: SqlStore) -> None:
    with store._writing() as connection:
        table = schema.tallies["minutes"]
        start = connection.execute(sa.select(table.c.start)).scalars().first()
        connection.execute(sa.insert(table).values(start=start, subject=999, tally=encode({0: 1})))
    assert told(store) == ["minutes 2026-11-20T12:34Z subject 999: requests is 1, should be 0"]


def test_when_receipts_are_gone_the_finer_level_is_the_measure(store: SqlStore) -> None:
    assert store.forget("receipts", datetime(2026, 11, 21, tzinfo=UTC), 100) == 3
    assert told(store) == []
    change(store, "hours", {0: 9})
    assert told(store) == [
        "hours 2026-11-20T12:00Z client bot: requests is 9, should be 3",
    ]
    assert store.forget("minutes", datetime(2026, 11, 21, tzinfo=UTC), 100) == 5
    assert told(store) == ["days 2026-11-20T00:00Z client bot: requests is 3, should be 9"]
