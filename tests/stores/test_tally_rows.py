"""Which rows of tallies are read, and that they are read in parts; that the answers are right is in tests/contracts."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from slmgate.stores import schema, sql_tallies, tally_rows
from slmgate.stores.records import Batch
from slmgate.stores.rollups import DAY as LONG
from slmgate.stores.rollups import HOUR, LEVELS
from slmgate.stores.schema import to_us
from slmgate.stores.sql import SqlStore
from slmgate.stores.subjects import Name
from slmgate.stores.tallies import decode, encode
from slmgate.stores.tally_rows import starts_of
from slmgate.stores.usage import Piece
from tests.stores.conftest import DAY, MIDNIGHT, TIME
from tests.tools.journal_writer import make_receipt


def test_where_the_spans_of_a_piece_begin() -> None:
    start = to_us(MIDNIGHT)
    assert starts_of(Piece(LEVELS[1], start, start + 2 * HOUR)) == [start, start + HOUR]
    assert starts_of(Piece(LEVELS[2], start, start + LONG)) == [start]
    assert starts_of(Piece(None, start, start + 1)) == []


def test_many_names_and_spans_are_asked_for_in_parts(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sql_tallies, tally_rows):
        monkeypatch.setattr(module, "CHUNK", 2)
    names: list[Name] = [("client", f"c{n}", "") for n in range(5)]
    cuts = [TIME - timedelta(hours=3), TIME, TIME + timedelta(minutes=1), TIME + timedelta(hours=5)]
    right = [[0, 3, 0], [0, 2, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert [[tally.get(0, 0) for tally in each] for each in store.tallies.read(names, cuts)] == right
    assert store.tallies.counts(names, cuts) == right
    assert store.tallies.models_of(["c0"], cuts[0], cuts[-1])["c0"]["smollm2"][0] == 3
    assert store.tallies.clients("requests", TIME - DAY, TIME + DAY, 0, 9)[0] == ["c0", "c1", "c2"]


def test_a_time_within_a_minute_is_counted_from_the_receipts(store: SqlStore) -> None:
    second = timedelta(seconds=1)
    store.write(Batch(receipts=[make_receipt(f"s{n}", time=TIME + n * second, principal="c1") for n in range(1, 9)]))
    cuts = [TIME - second, TIME + 2 * second, TIME + 5 * second, TIME + 6 * second]
    assert store.tallies.counts([("client", "c1", ""), ("client", "c2", "")], cuts) == [[3, 3, 1], [2, 0, 0]]


def test_a_tally_that_begins_with_something_else_is_counted_as_well(store: SqlStore) -> None:
    """As those of months that were made when a ledger was brought up to date."""
    name, cuts = ("client", "c1", ""), [TIME.replace(day=1, hour=0, minute=0), TIME.replace(month=12, day=1, hour=0, minute=0)]
    months = schema.tallies["months"]
    with store._writing() as connection:
        for start, subject, tally in list(connection.execute(sa.select(months))):
            turned = dict(reversed(decode(tally).items()))
            where = months.c.start == start, months.c.subject == subject
            connection.execute(sa.update(months).where(*where).values(tally=encode(turned)))
    assert store.tallies.counts([name, ("client", "c0", "")], cuts) == [[2], [3]]
    assert store.tallies.clients("requests", cuts[0], cuts[1], 0, 1) == (["c0"], 3)


def test_a_time_less_something_is_what_is_left(store: SqlStore) -> None:
    store.write(Batch(receipts=[make_receipt("late", time=MIDNIGHT + timedelta(hours=23, minutes=5), principal="c1")]))
    names: list[Name] = [("client", "c0", ""), ("client", "c1", "")]
    cuts = [MIDNIGHT, MIDNIGHT + timedelta(hours=23), MIDNIGHT + DAY]
    assert store.tallies.counts(names, cuts) == [[3, 0], [2, 1]]
    (early, nothing), (_, late) = store.tallies.read(names, cuts)
    assert (early[0], nothing, late[0]) == (3, {}, 1)
