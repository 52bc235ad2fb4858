"""How the store goes about analytics' questions; that the answers are those of the receipts is in tests/contracts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from slmgate.stores import rankings, schema, sql_tallies
from slmgate.stores.records import Batch, LedgerUnavailable
from slmgate.stores.sql import SqlStore, open_store
from slmgate.stores.sql_tallies import SqlTallies
from slmgate.stores.subjects import Name
from slmgate.stores.tallies import decode, encode
from tests.tools.journal_writer import make_receipt

TIME = datetime(2026, 11, 20, 12, 34, tzinfo=UTC)
DAY = timedelta(days=1)
MIDNIGHT = TIME.replace(hour=0, minute=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(tmp_path / "ledger.db")
    opened.write(Batch(receipts=[make_receipt(f"r{n}", time=TIME, principal=f"c{n % 3}") for n in range(7)]))
    yield opened
    opened.close()


def vectors(store: SqlStore) -> int:
    with store._reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(schema.vectors)).scalar_one())


def test_a_vector_is_made_once_and_again_when_there_is_more(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = rankings.made

    def noted(connection: sa.Connection, level: str, *rest: int) -> object:
        made.append(level)
        return real(connection, level, *rest)

    monkeypatch.setattr(rankings, "made", noted)
    for _ in range(2):
        assert store.tallies.clients("requests", MIDNIGHT, MIDNIGHT + DAY, 0, 9) == (["c0", "c1", "c2"], 3)
    assert made == ["days"]
    assert vectors(store) > 0
    store.write(Batch(receipts=[make_receipt("late", time=TIME, principal="c2")]))
    assert store.tallies.clients("requests", MIDNIGHT, MIDNIGHT + DAY, 0, 2) == (["c0", "c2"], 3)
    assert made == ["days", "days"]


def test_the_vectors_of_deleted_days_go_with_them(store: SqlStore) -> None:
    store.tallies.clients("tokens", MIDNIGHT, MIDNIGHT + DAY, 0, 9)
    assert vectors(store) > 0
    assert store.forget("days", MIDNIGHT + DAY, 1000) > 0
    assert vectors(store) == 0


def test_an_answer_does_not_wait_for_what_could_be_kept(store: SqlStore) -> None:
    @contextmanager
    def busy() -> Iterator[sa.Connection]:
        raise LedgerUnavailable("busy")
        yield

    tallies = SqlTallies(store._reading, busy, store._insert)
    assert tallies.clients("requests", MIDNIGHT, MIDNIGHT + DAY, 0, 9)[1] == 3
    assert vectors(store) == 0


def test_many_names_and_spans_are_asked_for_in_parts(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_tallies, "_CHUNK", 2)
    names: list[Name] = [("client", f"c{n}", "") for n in range(5)]
    found = store.tallies.read(names, [TIME - timedelta(hours=3), TIME, TIME + timedelta(minutes=1), TIME + timedelta(hours=5)])
    assert [[tally.get(0, 0) for tally in each] for each in found] == [[0, 3, 0], [0, 2, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert store.tallies.models_of(["c0"], TIME - timedelta(hours=3), TIME + timedelta(hours=5))["c0"]["smollm2"][0] == 3
    assert store.tallies.clients("requests", TIME - DAY, TIME + DAY, 0, 9)[0] == ["c0", "c1", "c2"]


def test_the_first_of_very_many(store: SqlStore) -> None:
    store.write(Batch(receipts=[make_receipt(f"m{n}", time=TIME, principal=f"n{n:03}", cost=n % 37) for n in range(200)]))
    names, total = store.tallies.clients("cost", MIDNIGHT, MIDNIGHT + DAY, 0, 5)
    assert (names, total) == (["n036", "n073", "n110", "n147", "n184"], 203)


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
