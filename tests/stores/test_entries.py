"""Receipts as rows: what is shared is written once, remembered only when it stands, and never beyond the bound.

The database is SQLite's in memory of the test's directory; that receipts come back as they were is in tests/contracts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from slmgate.stores import entries, schema, sql
from slmgate.stores.entries import ROWS, EntryWriter, storable
from slmgate.stores.parted import FACET_FIELDS, OWN_FIELDS
from slmgate.stores.records import Batch, LedgerUnavailable, ReceiptFilter
from slmgate.stores.sql import SqlStore, open_store
from tests.tools.journal_writer import NOON, make_receipt
from tests.tools.stored import all_receipts


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger.db")
    yield store
    store.close()


def count(store: SqlStore, table: sa.Table) -> int:
    with store._reading() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def write(store: SqlStore, *ids: str, **fields: object) -> None:
    store.write(Batch(receipts=[make_receipt(id, **fields) for id in ids]))


def test_what_is_shared_is_there_once(store: SqlStore) -> None:
    write(store, "r1", "r2")
    write(store, "r3", total_us=9)
    write(store, "r4", team=None)
    write(store, "r5", "r6", team=None, key=None)
    assert (count(store, schema.entries), count(store, schema.facets)) == (6, 3)
    assert repr(store._entries) == "<EntryWriter 3 facets known>"


def test_another_writer_finds_them_too(store: SqlStore, tmp_path: Path) -> None:
    write(store, "r1", team=None)
    other = open_store(tmp_path / "ledger.db")
    write(other, "r2", team=None)
    assert count(store, schema.facets) == 1
    assert all_receipts(store) == [make_receipt(id, team=None) for id in ("r1", "r2")]


@pytest.mark.parametrize("number", [0, 1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS, 2 * ROWS + 1])
def test_any_number_of_receipts_in_order(store: SqlStore, number: int) -> None:
    written = [make_receipt(f"r{each:04}", prompt_tokens=each, model=f"m{each % 3}") for each in range(number)]
    store.write(Batch(receipts=written))
    assert all_receipts(store) == written


def test_what_is_there_is_left_alone_within_a_statement_too(store: SqlStore) -> None:
    write(store, "r5", status=201)
    write(store, *(f"r{each}" for each in range(ROWS)), status=500)
    write(store, *["r5", "new"] * ROWS, status=502)
    found = {receipt.id: receipt.status for receipt in all_receipts(store)}
    assert (len(found), found["r5"], found["r6"], found["new"]) == (ROWS + 1, 201, 500, 502)


def test_a_name_that_is_the_id_takes_no_room(store: SqlStore) -> None:
    write(store, "r1")
    write(store, "r2", request_id="mine")
    with store._reading() as connection:
        assert connection.execute(sa.select(schema.entries.c.request_id)).scalars().all() == ["", "mine"]


def test_what_was_rolled_back_is_not_remembered(store: SqlStore) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TRIGGER no BEFORE INSERT ON journal_positions BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(LedgerUnavailable):
        store.write(Batch(receipts=[make_receipt("r1")], positions={"a": 1}))
    assert repr(store._entries) == "<EntryWriter 0 facets known>"
    assert count(store, schema.facets) == 0
    write(store, "other", model="other")  # takes the number that the one rolled back had
    write(store, "r1")
    assert all_receipts(store) == [make_receipt("other", model="other"), make_receipt("r1")]


def test_after_a_failure_the_database_is_asked_again(store: SqlStore) -> None:
    write(store, "r1")
    with store._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TRIGGER no BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(LedgerUnavailable):
        write(store, "r2")
    assert repr(store._entries) == "<EntryWriter 0 facets known>"


def test_no_more_are_remembered_than_the_bound(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_FACETS", 3)
    monkeypatch.setattr(entries, "_LOOKED_UP", 2)
    known = []
    for number in range(5):
        write(store, f"r{number}", model=f"m{number}")
        known.append(repr(store._entries))
    assert [text.split()[1] for text in known] == ["1", "2", "3", "1", "2"]
    store.write(Batch(receipts=[make_receipt(f"s{number}", model=f"m{number}") for number in range(7)]))
    assert count(store, schema.facets) == 7
    assert [receipt.model for receipt in all_receipts(store)][5:] == [f"m{number}" for number in range(7)]


def test_bent_values_share_what_they_were_bent_to(store: SqlStore) -> None:
    write(store, "r1", status=2**63)
    write(store, "r2", status=2**64, path="/\0")
    write(store, "r3", status=2**64)
    assert [receipt.status for receipt in all_receipts(store)] == [2**63 - 1] * 3
    assert count(store, schema.facets) == 2


def test_the_columns_are_in_the_order_of_the_parts() -> None:
    assert tuple(entries._ENTRY) == (*OWN_FIELDS[:3], "facet", *OWN_FIELDS[3:])
    assert tuple(entries._FACET) == ("digest", *FACET_FIELDS)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (2**63 - 1, 2**63 - 1),
        (2**63, 2**63 - 1),
        (-(10**30), 1 - 2**63),
        (True, True),
        (None, None),
        ("a\0b", "a\ufffdb"),
        (NOON, NOON),
    ],
)
def test_storable(value: object, stored: object) -> None:
    assert storable([value]) == (stored,)


def test_statements_are_by_position_for_postgresql_too() -> None:
    engine = pytest.importorskip("psycopg", reason="the postgres extra is not installed") and sql._postgresql_engine(
        "postgresql://h/d"
    )
    writer = EntryWriter(engine, insert)
    columns = len(schema.entries.columns) - 1
    assert "ON CONFLICT (id) DO NOTHING" in writer._many
    assert "ON CONFLICT (digest) DO NOTHING" in writer._add_facet
    for text, values in (
        (writer._one, columns),
        (writer._many, ROWS * columns),
        (writer._add_facet, len(schema.facets.columns) - 1),
    ):
        assert "%(" not in text
        assert text.count("%s") == values


def test_reading_goes_by_the_order_of_arrival_and_by_indices(store: SqlStore) -> None:
    """However many receipts there are: the newest page, a time's and one request's are found without reading all."""
    with store._reading() as connection:

        def plan(query: sa.Select[tuple[object, ...]]) -> str:
            text = query.compile(connection, compile_kwargs={"literal_binds": True})
            return "\n".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))

        view = sa.select(schema.receipts)
        newest = plan(view.where(schema.receipts.c.model == "m").order_by(schema.receipts.c.seq.desc()).limit(9))
        assert "TEMP B-TREE" not in newest
        assert "AUTOMATIC" not in newest
        assert "entries_time" in plan(view.where(schema.receipts.c.time >= 5))
        assert "entries_id" in plan(view.where(schema.receipts.c.id == "r1"))
        named = sql._conditions(ReceiptFilter(request_id="mine"))
        found = plan(view.where(*named).order_by(schema.receipts.c.seq.desc()).limit(9))
        assert "entries_id" in found
        assert "entries_request_id" in found
