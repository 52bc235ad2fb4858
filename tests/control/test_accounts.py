"""Accounts, admin keys and sessions: their lives, and the line that each change leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slmgate.control.accounts import Accounts, UnknownOperator
from slmgate.control.keyfields import BadKeyInput
from slmgate.control.operators import AdminKeys, Operator, Permission, create_first_admin_key
from slmgate.control.passwords import Passwords
from slmgate.stores.operators import AccountRecord, SessionRecord
from slmgate.stores.records import NameTaken
from slmgate.stores.sql import open_store
from tests.tools.admin_gate import CHEAP

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
WORDS = "some long words"


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(tmp_path: Path, clock: Clock) -> Iterator[Accounts]:
    store = open_store(tmp_path / "ledger")
    yield Accounts(store, clock, Passwords(CHEAP))
    store.close()


def log(accounts: Accounts) -> list[tuple[str, str, str]]:
    return [(line.actor, line.action, line.target) for line in reversed(accounts._audit.audit(100))]


def session(accounts: Accounts, account: str) -> None:
    record = SessionRecord(
        digest=account.encode(), id="abcdefghijkl", operator=f"user:{account}", account=account, role="viewer", source="local",
        address="", created=NOW, seen=NOW,
    )  # fmt: skip
    assert accounts.store.add_session(record, accounts.line("x", "sign-in", "admin"), (9, 9), None)


def test_changes_of_one_account_at_once_are_all_made(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password takes long to be hashed: who has lost a role meanwhile must not get it back by that; nor an old password."""
    accounts.add("ann", "owner", WORDS, "admin")
    hashed = accounts.passwords.hash("some other words")

    def slow(password: str) -> str:
        if accounts.show("ann").role == "owner":
            accounts.set_role("ann", "viewer", "admin")
        return hashed

    monkeypatch.setattr(accounts.passwords, "hash", slow)
    changed = accounts.set_password("ann", "some other words", "user:ann")
    assert changed == accounts.show("ann")
    assert (changed.role, changed.password) == ("viewer", hashed)

    seen = accounts.show("ann")
    looks = iter([seen])  # as the role was looked at just before the password was changed
    accounts.set_password("ann", WORDS, "user:ann")
    monkeypatch.setattr(accounts, "show", lambda name: next(looks, None) or Accounts.show(accounts, name))
    new = accounts.set_role("ann", "operator", "admin")
    assert (new.role, new.password, new.changed) == ("operator", accounts.show("ann").password, accounts.show("ann").changed)
    assert new.changed != seen.changed
    assert log(accounts)[1:] == [
        ("admin", "account.role", "user:ann"),
        ("user:ann", "account.password", "user:ann"),
        ("user:ann", "account.password", "user:ann"),
        ("admin", "account.role", "user:ann"),
    ]


def test_an_accounts_life(accounts: Accounts) -> None:
    made = accounts.add("ann", "viewer", WORDS, "admin")
    assert accounts.all() == [made]
    assert accounts.passwords.is_right(WORDS, made.password)
    session(accounts, "ann")
    changed = accounts.set_role("ann", "owner", "admin")
    assert (changed.role, changed.password) == ("owner", made.password)
    assert accounts.sessions() == []
    session(accounts, "ann")
    assert accounts.set_role("ann", "owner", "admin") == changed  # no change, nobody signed out
    assert len(accounts.sessions()) == 1
    changed = accounts.set_password("ann", "quite other words", "admin")
    assert changed.changed > made.changed  # though the clock stood still
    assert accounts.sessions() == []
    session(accounts, "ann")
    accounts.remove("ann", "admin")
    assert accounts.sessions() == []
    assert accounts.all() == []
    actions = [action for _, action, target in log(accounts) if target == "user:ann"]
    assert actions == ["account.create", "account.role", "account.password", "account.remove"]
    assert WORDS not in repr(accounts._audit.audit(100))


def test_two_changes_at_once_are_both_made(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password takes its time to be hashed, and nobody's change of meanwhile may be undone by what was read before it."""
    accounts.add("ann", "owner", WORDS, "admin")
    hash = accounts.passwords.hash

    def meanwhile(password: str) -> str:
        accounts.set_role("ann", "viewer", "admin")
        return hash(password)

    monkeypatch.setattr(accounts.passwords, "hash", meanwhile)
    changed = accounts.set_password("ann", "quite other words", "ann")
    assert changed == accounts.show("ann")
    assert changed.role == "viewer"

    monkeypatch.setattr(accounts.passwords, "hash", hash)
    show = accounts.show

    def late(name: str) -> AccountRecord:
        found = show(name)
        monkeypatch.setattr(accounts, "show", show)
        accounts.set_password("ann", "yet other words", "ann")
        return found

    monkeypatch.setattr(accounts, "show", late)
    changed = accounts.set_role("ann", "operator", "admin")
    assert changed == accounts.show("ann")
    assert accounts.passwords.is_right("yet other words", changed.password)


def test_an_account_that_goes_meanwhile(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    made = accounts.add("ann", "owner", WORDS, "admin")
    accounts.remove("ann", "admin")
    show = accounts.show

    def late(name: str) -> AccountRecord:
        monkeypatch.setattr(accounts, "show", show)
        return made

    changes: list[Callable[[], AccountRecord]] = [
        lambda: accounts.set_role("ann", "viewer", "x"),
        lambda: accounts.set_password("ann", WORDS, "x"),
    ]
    for change in changes:
        monkeypatch.setattr(accounts, "show", late)
        with pytest.raises(UnknownOperator):
            change()


@pytest.mark.parametrize("name", ["", "Ann", "a b", "ä", "-a", "a" * 65, "admin", "cli", "user:ann", "a/b", "a\n", "<b>"])
def test_names_that_no_account_has(name: str, accounts: Accounts) -> None:
    with pytest.raises(BadKeyInput, match="name"):
        accounts.add(name, "viewer", WORDS, "admin")
    assert accounts.all() == []


def test_what_an_account_cannot_be(accounts: Accounts) -> None:
    with pytest.raises(BadKeyInput, match="viewer, operator, owner"):
        accounts.add("ann", "root", WORDS, "admin")
    with pytest.raises(BadKeyInput, match="12"):
        accounts.add("ann", "viewer", "short", "admin")
    accounts.add("ann", "viewer", WORDS, "admin")
    with pytest.raises(NameTaken):
        accounts.add("ann", "owner", WORDS, "admin")
    with pytest.raises(BadKeyInput):
        accounts.set_role("ann", "root", "admin")
    with pytest.raises(BadKeyInput):
        accounts.set_password("ann", "short", "admin")
    assert [record.role for record in accounts.all()] == ["viewer"]
    assert len(log(accounts)) == 1


def test_an_account_that_is_not_there(accounts: Accounts) -> None:
    for change in (
        lambda: accounts.show("bob"),
        lambda: accounts.set_role("bob", "owner", "x"),
        lambda: accounts.set_password("bob", WORDS, "x"),
        lambda: accounts.remove("bob", "x"),
        lambda: accounts.revoke_key("bob", "x"),
        lambda: accounts.end_session("bob", "x"),
    ):
        with pytest.raises(UnknownOperator):
            change()
    assert log(accounts) == []


def test_an_admin_keys_life(accounts: Accounts, clock: Clock, tmp_path: Path) -> None:
    first = create_first_admin_key(tmp_path)
    keys = AdminKeys(tmp_path, accounts.store, clock)
    record, secret = accounts.create_key("ci", "operator", NOW + timedelta(days=1), "admin")
    assert keys.check(secret) == Operator("key:ci", Permission.OPERATOR)
    assert keys.check(first or "") == Operator("admin", Permission.OWNER)
    assert keys.check(secret + "x") is None
    assert AdminKeys(tmp_path).check(secret) is None
    assert secret.encode() not in (tmp_path / "ledger").read_bytes()
    with pytest.raises(NameTaken):
        accounts.create_key("ci", "viewer", None, "admin")
    clock.now = NOW + timedelta(days=1)
    assert keys.check(secret) is None
    clock.now = NOW
    assert accounts.revoke_key(record.id, "admin").revoked == NOW
    assert keys.check(secret) is None
    assert accounts.revoke_key("ci", "admin").revoked == NOW
    _, other = accounts.create_key("ci", "viewer", None, "admin")
    assert keys.check(other) == Operator("key:ci", Permission.VIEWER)
    assert accounts.revoke_key("ci", "admin").id != record.id  # the live one of that name
    assert [action for _, action, _ in log(accounts)] == ["admin-key.create", "admin-key.revoke"] * 2


@pytest.mark.parametrize(
    ("name", "role", "days"), [("", "viewer", 1), ("x", "root", 1), ("x", "viewer", 0), ("x\n", "viewer", 1)]
)
def test_admin_keys_that_cannot_be(name: str, role: str, days: int, accounts: Accounts) -> None:
    with pytest.raises(BadKeyInput):
        accounts.create_key(name, role, NOW + timedelta(days=days), "admin")
    assert accounts.admin_keys() == []


def test_a_session_is_ended(accounts: Accounts) -> None:
    session(accounts, "ann")
    assert accounts.end_session("abcdefghijkl", "user:olga").operator == "user:ann"
    assert accounts.sessions() == []
    assert log(accounts)[-1] == ("user:olga", "session.end", "user:ann")


def test_a_note(accounts: Accounts) -> None:
    accounts.note(accounts.line("unknown", "sign-in.failed", "admin", reason="x"))
    assert log(accounts) == [("unknown", "sign-in.failed", "admin")]
