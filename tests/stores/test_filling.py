"""Tallies of a ledger from before there were any: what an upgrade makes is what the writer would have made."""

from __future__ import annotations

from pathlib import Path
from random import Random

import sqlalchemy as sa

from slmgate.stores import filling, migrations, schema
from slmgate.stores.records import Batch
from slmgate.stores.sql import SqlStore, open_store
from slmgate.stores.tallies import FIRST, KINDS, WIDTH, Tally, decode
from tests.contracts.test_sums import MIDNIGHT, by_chance


def content(store: SqlStore) -> dict[str, dict[tuple[int, str], Tally]]:
    with store._reading() as connection:
        names = {row.id: f"{row.kind} {row.name} {row.instance}" for row in connection.execute(sa.select(schema.subjects))}
        return {
            level: {(row.start, names[row.subject]): decode(row.tally) for row in connection.execute(sa.select(table))}
            for level, table in schema.tallies.items()
        }


def without(store: SqlStore) -> None:
    """As it was before the revision."""
    with store._writing() as connection:
        for table in (*schema.tallies.values(), schema.vectors, schema.facet_subjects, schema.subjects):
            connection.execute(sa.text(f"DROP TABLE {table.name}"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0012'"))


def test_an_upgrade_makes_what_the_writer_makes(tmp_path: Path) -> None:
    store = open_store(tmp_path / "ledger.db")
    for receipt in by_chance(Random(3), 300):
        store.write(Batch(receipts=[receipt]))
    before = content(store)
    without(store)
    migrations.upgrade(store._engine, "0013")
    assert content(store) == before
    assert [difference.told() for day in store.verify() for difference in day.differences] == []
    store.close()


def test_of_deleted_receipts_the_sums_are_left(tmp_path: Path) -> None:
    store = open_store(tmp_path / "ledger.db")
    store.write(Batch(receipts=by_chance(Random(4), 300)))
    while store.forget("receipts", MIDNIGHT, 1000):
        pass
    without(store)
    migrations.upgrade(store._engine, "0013")
    with store._reading() as connection:
        known = sa.select(sa.func.count()).select_from(schema.entries)
        left = connection.execute(known).scalar_one()
    first, last = MIDNIGHT.replace(month=10, day=1), MIDNIGHT.replace(month=12, day=31)
    ((tally,),) = store.tallies.read([("all", "", "")], [first, last])
    first_total = FIRST + KINDS.index("total") * WIDTH
    timed = sum(tally.get(number, 0) for number in range(first_total, first_total + WIDTH))
    assert tally[0] == 300
    assert 0 < timed <= left < 300
    store.close()


def test_nothing_is_filled_with_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "ledger.db")
    with store._writing() as connection:
        filling.fill(connection)
    assert store.tallies.subjects("all") == []
    store.close()
