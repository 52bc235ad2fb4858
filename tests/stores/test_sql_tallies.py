"""How the store goes about analytics' questions; that the answers are those of the receipts is in tests/contracts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from slmgate.stores import rankings, schema, sql_tallies
from slmgate.stores.records import Batch, LedgerUnavailable
from slmgate.stores.sql import SqlStore, open_store
from slmgate.stores.sql_tallies import SqlTallies
from tests.stores.conftest import DAY, MIDNIGHT, TIME
from tests.tools.journal_writer import make_receipt


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The levels of the vectors that are made from now on."""
    made: list[str] = []
    real = rankings.made

    def noted(connection: sa.Connection, level: str, *rest: int) -> object:
        made.append(level)
        return real(connection, level, *rest)

    monkeypatch.setattr(rankings, "made", noted)
    return made


def vectors(store: SqlStore) -> int:
    with store._reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(schema.vectors)).scalar_one())


def test_a_vector_is_made_once_and_again_when_there_is_more(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = watched(monkeypatch)
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


def test_the_first_of_very_many(store: SqlStore) -> None:
    store.write(Batch(receipts=[make_receipt(f"m{n}", time=TIME, principal=f"n{n:03}", cost=n % 37) for n in range(200)]))
    names, total = store.tallies.clients("cost", MIDNIGHT, MIDNIGHT + DAY, 0, 5)
    assert (names, total) == (["n036", "n073", "n110", "n147", "n184"], 203)


def test_names_are_read_until_the_page_is_full(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_tallies, "_SOME", 2)
    store.write(Batch(receipts=[make_receipt(f"n{n}", time=TIME + DAY, principal=f"b{n}") for n in range(5)]))
    assert store.tallies.clients(None, MIDNIGHT, MIDNIGHT + DAY, 1, 1) == (["c1"], 3)
    assert store.tallies.clients(None, MIDNIGHT, MIDNIGHT + 2 * DAY, 4, 3) == (["b4", "c0", "c1"], 8)
    assert store.tallies.clients(None, MIDNIGHT, MIDNIGHT + 2 * DAY, 99, 3) == (["c1", "c2"], 8)


@pytest.mark.parametrize("most", [1, 7, 100, 150, 203])
def test_the_last_of_very_many_are_those_of_the_whole_order(store: SqlStore, most: int) -> None:
    store.write(Batch(receipts=[make_receipt(f"m{n}", time=TIME, principal=f"n{n:03}", cost=n % 37) for n in range(200)]))
    whole, _ = store.tallies.clients("cost", MIDNIGHT, MIDNIGHT + DAY, 0, 203)
    parts = [store.tallies.clients("cost", MIDNIGHT, MIDNIGHT + DAY, first, most)[0] for first in range(0, 203, most)]
    assert [name for part in parts for name in part] == whole


LONG_AGO, LATER = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 12, 5, tzinfo=UTC)


def prepared(store: SqlStore, until: datetime = LATER) -> int:
    """How many steps it took until all was ready."""
    steps = 0
    while store.tallies.prepare(LONG_AGO, until):
        steps += 1
    return steps


def test_days_and_months_that_are_over_are_prepared(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared(store, TIME) == 0  # the day is not over
    assert prepared(store, MIDNIGHT + DAY) == 1
    assert (prepared(store), prepared(store)) == (1, 0)
    monkeypatch.setattr(rankings, "made", None)
    assert store.tallies.clients("requests", LONG_AGO, LATER, 0, 1) == (["c0"], 3)
    assert store.tallies.clients("cost", MIDNIGHT - DAY, LATER, 0, 9)[1] == 3
    assert store.tallies.clients("requests", LONG_AGO, LATER, 0, 9, model="smollm2") == (["c0", "c1", "c2"], 3)


def test_what_came_later_is_prepared_again_and_pages_do_not_wait(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(Batch(receipts=[make_receipt("other", time=TIME - DAY, principal="c1")]))
    assert prepared(store) == 3
    store.write(Batch(receipts=[make_receipt(f"late{n}", time=TIME, principal="c2") for n in range(3)]))
    made = watched(monkeypatch)
    assert store.tallies.clients("requests", LONG_AGO, LATER, 0, 9) == (["c2", "c0", "c1"], 3)
    assert made == ["days"]
    assert (prepared(store), made) == (1, ["days", "months"])
    assert store.tallies.clients("requests", LONG_AGO, LATER, 0, 9) == (["c2", "c0", "c1"], 3)
    assert made == ["days", "months"]


def test_a_month_whose_days_are_gone_is_made_from_its_own_sums(store: SqlStore) -> None:
    while store.forget("days", LATER, 1000):
        pass
    assert prepared(store) == 1
    assert store.tallies.clients("requests", LONG_AGO, LATER, 0, 9) == (["c0", "c1", "c2"], 3)
    store.write(Batch(receipts=[make_receipt(f"late{n}", time=TIME, principal="c2") for n in range(3)]))
    assert store.tallies.clients("requests", LONG_AGO, LATER, 0, 9) == (["c2", "c0", "c1"], 3)


def test_nothing_is_prepared_where_there_is_nothing_or_nobody_can_write(store: SqlStore, tmp_path: Path) -> None:
    @contextmanager
    def busy() -> Iterator[sa.Connection]:
        raise LedgerUnavailable("busy")
        yield

    assert not SqlTallies(store._reading, busy, store._insert).prepare(LONG_AGO, LATER)
    empty = open_store(tmp_path / "empty.db")
    assert not empty.tallies.prepare(LONG_AGO, LATER)
    empty.close()
