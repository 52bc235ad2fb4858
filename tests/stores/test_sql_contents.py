"""Contents in the store: kept once, found by id, and deleted so that the file holds nothing of them any more."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from slmgate.stores.contents import ContentRecord
from slmgate.stores.sql import SqlStore, open_store

NOW = datetime(2026, 11, 28, 12, 0, 0, 5, UTC)
ONE = ContentRecord(id="r1", role="kept", time=NOW, expires=NOW + timedelta(days=7), prompt="asked", answer="told", masked=2)
OTHER = ContentRecord(id="r2", role="kept", time=NOW, expires=NOW + timedelta(days=8), answer="", answer_cut=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger")
    yield store
    store.close()


def test_records_come_back_as_they_were(store: SqlStore) -> None:
    store.contents.put([])
    store.contents.put([ONE, OTHER])
    assert store.contents.get("r1") == ONE
    assert store.contents.get("r2") == OTHER
    assert store.contents.get("r3") is None


def test_one_that_comes_again_changes_nothing(store: SqlStore) -> None:
    store.contents.put([ONE])
    store.contents.put([msgspec.structs.replace(ONE, prompt="another"), OTHER])
    assert store.contents.get("r1") == ONE
    assert store.contents.get("r2") == OTHER


def test_what_is_over_goes_the_oldest_first(store: SqlStore) -> None:
    store.contents.put([OTHER, ONE])
    assert store.contents.forget(ONE.expires - timedelta(microseconds=1), 9) == 0
    assert store.contents.forget(OTHER.expires, 1) == 1
    assert store.contents.get("r1") is None
    assert store.contents.get("r2") == OTHER
    assert store.contents.forget(OTHER.expires, 9) == 1


def test_nothing_of_it_is_left_in_the_file(store: SqlStore, tmp_path: Path) -> None:
    store.contents.put([msgspec.structs.replace(ONE, prompt="a word that nobody else says " * 500)])
    store.contents.forget(OTHER.expires, 9)
    with sqlite3.connect(tmp_path / "ledger") as link:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    link.close()
    assert b"nobody else says" not in (tmp_path / "ledger").read_bytes()
