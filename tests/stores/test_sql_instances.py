"""What operators said of instances, in the store: kept, replaced, and gone when it says nothing any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from slmgate.stores.instances import InstanceRecord
from slmgate.stores.records import AuditRecord
from slmgate.stores.sql import SqlStore, open_store

NOTE = AuditRecord(time=datetime(2026, 11, 20, 12, tzinfo=UTC), actor="admin", action="test", target="x")
ADDED = InstanceRecord(id="m/a:1", model="m", options='{"url":"http://a:1"}')
DRAINED = InstanceRecord(id="m/b:1", model="m", drained=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger")
    yield store
    store.close()


def test_records_come_back_as_they_were(store: SqlStore, tmp_path: Path) -> None:
    store.instances.save(DRAINED, NOTE)
    store.instances.save(ADDED, NOTE)
    assert store.instances.all() == [ADDED, DRAINED]
    again = open_store(tmp_path / "ledger")
    assert again.instances.all() == [ADDED, DRAINED]
    again.close()
    assert [line.action for line in store.audit(9)] == ["test", "test"]


def test_one_that_says_nothing_is_gone(store: SqlStore) -> None:
    store.instances.save(DRAINED, NOTE)
    store.instances.save(msgspec.structs.replace(DRAINED, drained=False), NOTE)
    assert store.instances.all() == []
    store.instances.save(msgspec.structs.replace(ADDED, drained=True), NOTE)
    store.instances.save(ADDED, NOTE)
    assert store.instances.all() == [ADDED]


def test_removed(store: SqlStore) -> None:
    store.instances.save(ADDED, NOTE)
    store.instances.remove(ADDED.id, NOTE)
    store.instances.remove("never", NOTE)
    assert store.instances.all() == []
    assert len(store.audit(9)) == 3
