"""The operators' tables: what the life of accounts and sessions in tests/control does not show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slmgate.stores.operators import AccountRecord, AdminKeyRecord, SessionRecord
from slmgate.stores.records import AuditRecord, NameTaken
from slmgate.stores.sql import SqlStore, open_store

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOTE = AuditRecord(time=NOON, actor="admin", action="test", target="x")
ANN = AccountRecord(name="ann", role="owner", password="$argon2id$1", created=NOON, changed=NOON)
KEY = AdminKeyRecord(id="k1", name="ci", role="viewer", digest=b"1" * 32, created=NOON)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger")
    yield store
    store.close()


def a_session(number: int, operator: str = "user:ann", seconds: int = 0) -> SessionRecord:
    time = NOON + timedelta(seconds=seconds)
    return SessionRecord(
        digest=bytes([number]) * 32, id=str(number), operator=operator, account=operator.removeprefix("user:"), role="owner",
        source="local", address="::1", created=time, seen=time,
    )  # fmt: skip


def test_records_come_back_as_they_were(store: SqlStore) -> None:
    operators = store.operators
    operators.add_account(ANN, NOTE)
    operators.save_admin_key(KEY, NOTE)
    assert operators.add_session(a_session(1), NOTE, (9, 9), ANN)
    assert (operators.account("ann"), operators.account("bob")) == (ANN, None)
    assert operators.accounts() == [ANN]
    assert (operators.admin_key(KEY.digest), operators.admin_key(b"x")) == (KEY, None)
    assert operators.admin_keys() == [KEY]
    assert (operators.session(bytes([1]) * 32), operators.session(b"x")) == (a_session(1), None)
    assert operators.sessions() == [a_session(1)]


def test_a_name_is_taken_and_nothing_is_written(store: SqlStore) -> None:
    operators = store.operators
    operators.add_account(ANN, NOTE)
    operators.save_admin_key(KEY, NOTE)
    with pytest.raises(NameTaken):
        operators.add_account(ANN, NOTE)
    other = AdminKeyRecord(id="k2", name="ci", role="owner", digest=b"2" * 32, created=NOON)
    with pytest.raises(NameTaken):
        operators.save_admin_key(other, NOTE)
    assert operators.admin_keys() == [KEY]
    assert len(store.audit(9)) == 2


def test_a_change_of_nothing_is_not_noted(store: SqlStore) -> None:
    assert not store.operators.change_account(ANN, ANN, NOTE)
    assert not store.operators.remove_account("ann", NOTE)
    assert store.operators.end_sessions([b"x"], NOTE) == 0
    assert store.audit(9) == []


def test_a_newer_hash_ends_no_session_and_overwrites_no_change(store: SqlStore) -> None:
    operators = store.operators
    operators.add_account(ANN, NOTE)
    operators.add_session(a_session(1), NOTE, (9, 9), ANN)
    operators.rehash("ann", "$argon2id$1", "$argon2id$2")
    operators.rehash("ann", "$argon2id$1", "$argon2id$3")
    found = operators.account("ann")
    assert found is not None and found.password == "$argon2id$2"
    assert len(operators.sessions()) == 1
    assert operators.add_session(a_session(2), NOTE, (9, 9), ANN)


def test_bounds(store: SqlStore) -> None:
    operators = store.operators
    for number in range(5):
        operators.add_session(a_session(number, seconds=number), NOTE, (9, 3), None)
    assert [each.id for each in operators.sessions()] == ["4", "3", "2"]
    operators.touch_session(bytes([2]) * 32, NOON + timedelta(hours=1))
    operators.add_session(a_session(9, "user:bob", 9), NOTE, (2, 3), None)
    assert sorted(each.id for each in operators.sessions()) == ["2", "9"]


def test_those_that_have_run_out_go(store: SqlStore) -> None:
    operators = store.operators
    for number in (1, 2, 3):
        operators.add_session(a_session(number, seconds=number), NOTE, (9, 9), None)
    operators.drop_sessions(NOON + timedelta(seconds=1), NOON)
    assert [each.id for each in operators.sessions()] == ["3", "2"]
    operators.drop_sessions(NOON, NOON + timedelta(seconds=2))
    assert [each.id for each in operators.sessions()] == ["3"]
