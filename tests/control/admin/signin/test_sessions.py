"""A session's life: made, recognised, run out, replaced and ended, over a real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from slmgate.control.accounts import Accounts
from slmgate.control.admin.signin.sessions import MOST_EACH, Sessions, Signed, form_token, source
from slmgate.control.config.admin_options import AdminAuth, AdminOidc, AdminRoles
from slmgate.control.operators import Operator, Permission
from slmgate.control.passwords import Passwords
from slmgate.stores.records import LedgerUnavailable
from slmgate.stores.sql import open_store
from tests.tools.admin_gate import CHEAP

AUTH = AdminAuth(idle=600.0, lifetime=3600.0)
OIDC = AdminOidc(issuer="https://login.example.com", client_id="gate", roles=AdminRoles(map={"a": "owner"}))
EVE = Signed("oidc:eve", "owner")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(tmp_path: Path, clock: Clock) -> Iterator[Accounts]:
    store = open_store(tmp_path / "ledger")
    accounts = Accounts(store, clock, Passwords(CHEAP))
    accounts.add("ann", "operator", "some long words", "cli")
    yield accounts
    store.close()


@pytest.fixture
def sessions(accounts: Accounts) -> Sessions:
    return Sessions(accounts)


def ann(accounts: Accounts) -> Signed:
    account = accounts.show("ann")
    return Signed("user:ann", account.role, account)


def start(sessions: Sessions, who: Signed, auth: AdminAuth = AUTH, before: str = "") -> str:
    cookie = sessions.start(who, auth, "192.0.2.1", before)
    assert cookie is not None
    return cookie


def test_it_is_recognised(sessions: Sessions, accounts: Accounts) -> None:
    cookie = start(sessions, ann(accounts))
    assert sessions.check(cookie, AUTH) == Operator("user:ann", Permission.OPERATOR)
    for wrong in ("", cookie[:-1], cookie + "x", cookie + "\n", "A" * 43, "é" * 43):
        assert sessions.check(wrong, AUTH) is None
    (record,) = accounts.sessions()
    assert cookie not in repr(msgspec.structs.asdict(record))
    sessions.end(cookie, "user:ann")
    assert sessions.check(cookie, AUTH) is None


def test_it_runs_out_when_idle_and_when_old(sessions: Sessions, accounts: Accounts, clock: Clock) -> None:
    cookie = start(sessions, ann(accounts))
    clock.later(599)
    assert sessions.check(cookie, AUTH)
    clock.later(600)
    assert sessions.check(cookie, AUTH) is None
    cookie = start(sessions, ann(accounts))
    for _ in range(7):
        clock.later(500)
        assert sessions.check(cookie, AUTH)
    clock.later(100)
    assert sessions.check(cookie, AUTH) is None
    start(sessions, ann(accounts))
    assert len(accounts.sessions()) == 1  # those that have run out are gone


def test_a_clock_that_was_ahead_makes_none_last(sessions: Sessions, accounts: Accounts, clock: Clock) -> None:
    """Who signed in while the clock was a year ahead is not signed in for a year once it is right; a few seconds do no harm."""
    cookie = start(sessions, ann(accounts))
    clock.later(-599)
    assert sessions.check(cookie, AUTH)
    clock.later(-1)
    assert sessions.check(cookie, AUTH) is None  # idle from now on, as it seems, for longer than that
    cookie = start(sessions, ann(accounts))
    clock.later(-366 * 86_400)
    assert sessions.check(cookie, msgspec.structs.replace(AUTH, idle=1e9)) is None


def test_a_disk_that_is_full_signs_nobody_out(
    sessions: Sessions, accounts: Accounts, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = start(sessions, ann(accounts))
    clock.later(100)

    def fail(*_: object) -> None:
        raise LedgerUnavailable("full")

    monkeypatch.setattr(accounts.store, "touch_session", fail)
    assert sessions.check(cookie, AUTH)


def test_settings_that_change_sign_out(sessions: Sessions, accounts: Accounts) -> None:
    local = start(sessions, ann(accounts))
    assert sessions.check(local, msgspec.structs.replace(AUTH, local=False)) is None
    with_oidc = msgspec.structs.replace(AUTH, oidc=OIDC)
    assert sessions.check(local, with_oidc)
    cookie = start(sessions, EVE, with_oidc)
    assert sessions.check(cookie, with_oidc)
    assert sessions.check(cookie, AUTH) is None
    for change in ({"issuer": "https://x.example"}, {"roles": AdminRoles(map={"a": "viewer"})}, {"client_id": "other"}):
        other = msgspec.structs.replace(AUTH, oidc=msgspec.structs.replace(OIDC, **change))
        assert sessions.check(cookie, other) is None
    assert source(with_oidc, True) != source(with_oidc, False)


def test_an_account_that_changed_meanwhile_is_not_signed_in(sessions: Sessions, accounts: Accounts) -> None:
    changes: tuple[Callable[[], object], ...] = (
        lambda: accounts.set_role("ann", "viewer", "cli"),
        lambda: accounts.set_password("ann", "quite other words", "cli"),
        lambda: accounts.remove("ann", "cli"),
    )
    for change in changes:
        proof = ann(accounts)
        change()
        assert sessions.start(proof, AUTH, "", "") is None
    assert accounts.sessions() == []


def test_the_one_before_ends(sessions: Sessions, accounts: Accounts) -> None:
    first = start(sessions, ann(accounts))
    second = start(sessions, EVE, before=first)
    assert sessions.check(first, AUTH) is None
    start(sessions, EVE, before="no cookie of ours")
    assert second != first


def test_their_number_is_bounded(sessions: Sessions, accounts: Accounts, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    cookies = []
    for _ in range(MOST_EACH + 2):
        cookies.append(start(sessions, ann(accounts)))
        clock.later(1)
    alive = [sessions.check(cookie, AUTH) is not None for cookie in cookies]
    assert alive == [False, False] + [True] * MOST_EACH
    monkeypatch.setattr("slmgate.control.admin.signin.sessions.MOST", 3)
    start(sessions, Signed("user:bob", "viewer", None), msgspec.structs.replace(AUTH, oidc=OIDC))
    assert len(accounts.sessions()) == 3


def test_sign_in_and_out_are_in_the_audit_log(sessions: Sessions, accounts: Accounts) -> None:
    cookie = start(sessions, ann(accounts))
    sessions.end(cookie, "user:ann")
    sessions.end(cookie, "user:ann")  # ended already: no second line
    lines = accounts._audit.audit(2)
    assert [(line.action, line.actor) for line in lines] == [("sign-out", "user:ann"), ("sign-in", "user:ann")]
    assert lines[1].detail == {"how": "password", "role": "operator"}


def test_form_tokens(sessions: Sessions) -> None:
    assert form_token("a") != form_token("b")
    assert len(form_token("a")) == 43
