"""What dead workers have left: settled once, whatever was written of it, and never what has a receipt.

Whatever dies in between is in `test_ledger.py`, with the ingest that this is a part of.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slmgate.control import settling
from slmgate.control.ledger import Ingest
from slmgate.link import journal
from slmgate.stores.sql import SqlStore, open_store
from tests.tools.journal_writer import Segment, Table, encoded, make_intent, make_receipt
from tests.tools.stored import all_receipts

A = "0123456789ab"
B = "ba9876543210"


def name(number: int, incarnation: str = A) -> str:
    return f"{incarnation}{number:08x}"


def ids(store: SqlStore) -> list[str]:
    return [receipt.id for receipt in all_receipts(store)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger.db")
    yield store
    store.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "journal"
    directory.mkdir()
    return directory


@pytest.fixture
def ingest(store: SqlStore, directory: Path) -> Ingest:
    return Ingest(store, directory)


def test_a_dead_workers_intents_become_unknown(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    with Table(directory, A) as table, Segment(directory, A) as first, Segment(directory, A, 2) as second:
        table.take(make_intent(name(1)), make_intent(name(2)))
        first.seal()
        second.write(make_receipt(name(1)))
        table.give_back(name(1))
        assert ingest.run_once() == 1
    assert ingest.run_once() == 1
    assert os.listdir(directory) == []
    settled = store.receipt(name(2))
    assert settled is not None
    assert (settled.ended, settled.verdict, settled.status, settled.reason) == ("unknown", "admit", 0, "worker_died")
    assert (settled.estimated, settled.prompt_tokens, settled.completion_tokens) == (True, 7, 0)
    assert ids(store) == [name(1), name(2)]


def test_a_receipt_counts_where_its_slot_was_not_given_back(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    """The worker died between the two."""
    with Table(directory, A) as table, Segment(directory, A) as segment:
        table.take(make_intent(name(1)), make_intent(name(2)))
        segment.write(make_receipt(name(1)))
    assert ingest.run_once() == 2
    assert [(one.id, one.ended) for one in all_receipts(store)] == [(name(1), "complete"), (name(2), "unknown")]
    assert os.listdir(directory) == []


def test_intents_of_a_worker_that_lives_wait(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    with Table(directory, A) as dead, Table(directory, B) as alive:
        dead.take(make_intent(name(1)))
        alive.take(make_intent(name(1, B)))
        dead.die()
        assert ingest.run_once() == 1
        assert ids(store) == [name(1)]
        with Segment(directory, B) as segment:
            segment.write(make_receipt(name(1, B)))
        alive.give_back(name(1, B))
        assert ingest.run_once() == 1
    assert ingest.run_once() == 0
    assert ids(store) == [name(1), name(1, B)]
    assert os.listdir(directory) == []


def test_intents_wait_for_the_last_segment(
    store: SqlStore, directory: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker without any segment, on a full disk, gets one, writes a receipt and dies while control looks at its table."""
    table = Table(directory, A)
    table.take(make_intent(name(1)))
    real = settling.is_free

    def dies_now(file: int) -> bool:
        if table.slots.pop(name(1), None) is not None:
            with Segment(directory, A) as segment:
                segment.write(make_receipt(name(1)))
            table.die()
        return real(file)

    monkeypatch.setattr(settling, "is_free", dies_now)
    assert ingest.run_once() == 0
    assert ingest.run_once() == 1
    assert [(one.id, one.ended) for one in all_receipts(store)] == [(name(1), "complete")]
    assert os.listdir(directory) == []


@pytest.mark.parametrize("payload", [b"{", b"[]", b"\xff", b'{"id":"%s"}' % name(9).encode()])
def test_an_intent_that_does_not_decode_is_kept_aside(
    payload: bytes, store: SqlStore, directory: Path, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    with Table(directory, A) as table, caplog.at_level(logging.ERROR, "slmgate.ledger"):
        table.take(make_intent(name(1)))
        table.take_raw(journal.HEADER_SIZE, payload)
        table.die()
        assert ingest.run_once() == 1
    assert ids(store) == [name(1)]
    assert "cannot be understood" in caplog.text
    assert os.listdir(directory) == [f"{table.path.name}.bad"]


@pytest.mark.parametrize("damage", ["checksum", "length", "magic", "cut off"])
def test_a_damaged_table_is_kept_and_the_rest_settled(
    damage: str, store: SqlStore, directory: Path, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    with Table(directory, A) as table, caplog.at_level(logging.ERROR, "slmgate.ledger"):
        table.take(make_intent(name(1)))
        table.take(make_intent(name(2)))
        at = table.slots[name(1)]
        with table.path.open("r+b") as file:
            file.seek({"checksum": at + 50, "length": at, "magic": 0, "cut off": 0}[damage])
            if damage == "cut off":
                file.truncate(at + 50)
            else:
                file.write(b"\xff\xff")
        table.die()
        assert ingest.run_once() == (2 if damage == "magic" else 1)
    assert name(2) in ids(store)
    assert "damaged at byte" in caplog.text
    assert os.listdir(directory) == [f"{table.path.name}.damaged.bad"]
    assert ingest.run_once() == 0


def test_a_torn_intent_at_every_byte(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    """Of a worker that dies while it takes a slot nothing was forwarded, unless the slot is whole."""
    length = len(encoded(make_intent(name(1))))
    expected = []
    for stage in range(length + 2):
        run = f"{stage:012x}"
        with Table(directory, run, 1) as table:
            table.take(make_intent(name(1, run)))
            table.give_back(name(1, run))
            if table.take_torn(make_intent(name(2, run)), stage):
                expected.append((name(2, run), "unknown"))
    ingest.run_once()
    assert [(receipt.id, receipt.ended) for receipt in all_receipts(store)] == expected
    assert len(expected) == 1
    assert os.listdir(directory) == []
