"""Who is let in, what is said to those who are not, and what the audit log has of both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from argon2 import PasswordHasher

from slmgate.control.accounts import Accounts
from slmgate.control.admin.signin import service
from slmgate.control.admin.signin.fetch import ProviderFailed
from slmgate.control.admin.signin.flow import Attempt
from slmgate.control.admin.signin.id_token import BadToken
from slmgate.control.admin.signin.provider import CodeRefused, Description
from slmgate.control.admin.signin.service import Admitted, Outcome, Refused, SignIn
from slmgate.control.config.admin_options import Admin, AdminAuth, AdminOidc, AdminRoles
from slmgate.control.operators import Operator, Permission
from slmgate.control.passwords import Busy, Passwords
from slmgate.stores.records import LedgerUnavailable
from slmgate.stores.sql import open_store
from tests.tools.admin_gate import CHEAP

WORDS = "some long words"
ISSUER = "https://login.example.com"
OIDC = AdminOidc(issuer=ISSUER, client_id="gate", roles=AdminRoles(map={"admins": "owner"}))
BACK = "https://gate.example.com/login/callback"


class StandIn:
    """A provider that gives these claims, or fails so."""

    def __init__(self, options: AdminOidc, answer: Any = None, names_itself: bool = False) -> None:
        self.options = options
        self.answer = answer or {"sub": "eve", "groups": ["admins"]}
        self.names_itself = names_itself

    async def describe(self) -> Description:
        if isinstance(self.answer, ProviderFailed):
            raise self.answer
        return Description(ISSUER, "", "", "", authorization_response_iss_parameter_supported=self.names_itself)

    async def address(self, attempt: Attempt, redirect_uri: str) -> str:
        await self.describe()
        return f"{ISSUER}/auth?state={attempt.state}"

    async def redeem(self, code: str, attempt: Attempt, redirect_uri: str) -> dict[str, Any]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return dict(self.answer)


class Scene:
    """A sign-in over a real store, with a clock and a provider of the test's."""

    def __init__(self, home: Path) -> None:
        self.store = open_store(home / "ledger")
        self.accounts = Accounts(self.store, passwords=Passwords(CHEAP))
        self.accounts.add("ann", "operator", WORDS, "cli")
        self.options = Admin(auth=AdminAuth(oidc=OIDC))
        self.now = 1000.0
        self.provider = StandIn(OIDC)
        self.made = 0
        self.signin = SignIn(self.accounts, lambda: self.options, lambda: self.now, self.make)

    def make(self, options: AdminOidc) -> Any:
        self.made += 1
        self.provider.options = options
        return self.provider

    def run(self, what: Callable[[SignIn], Awaitable[Any]]) -> Any:
        async def inner() -> Any:
            return await what(self.signin)

        return asyncio.run(inner())

    def password(self, name: str = "ann", password: str = WORDS, address: str = "192.0.2.1") -> Outcome:
        outcome: Outcome = self.run(lambda signin: signin.with_password(name, password, address, ""))
        return outcome

    def back(self, state: str | None = None, **query: str) -> Outcome:
        _, attempt = self.signin.flows.begin("/", 0.0)
        asked = {"code": "c", "state": attempt.state if state is None else state} | query
        asked = {name: value for name, value in asked.items() if value != "absent"}
        outcome: Outcome = self.run(lambda signin: signin.back_from_provider(asked, attempt, BACK, ("192.0.2.1", "")))
        return outcome

    def log(self) -> list[tuple[str, str, str]]:
        lines = self.store.audit(100)
        return [(line.action, line.actor, line.detail.get("reason", "")) for line in lines if line.action.startswith("sign")]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()


def test_a_right_password(scene: Scene) -> None:
    outcome = scene.password()
    assert isinstance(outcome, Admitted)
    assert scene.signin.who(outcome.cookie) == Operator("user:ann", Permission.OPERATOR)
    assert scene.log() == [("sign-in", "user:ann", "")]


@pytest.mark.parametrize(
    ("name", "password", "actor"),
    [
        ("ann", "wrong", "user:ann"),
        ("bob", WORDS, "unknown"),
        ("", "", "unknown"),
        (WORDS, "", "unknown"),
        ("ann", "", "user:ann"),
    ],
)
def test_a_wrong_one_and_a_wrong_name_get_the_same(name: str, password: str, actor: str, scene: Scene) -> None:
    assert scene.password(name, password) is service.WRONG
    assert scene.log() == [("sign-in.failed", actor, "wrong password or name")]
    assert WORDS not in repr(scene.store.audit(9))


def test_guessing_gets_slower_for_everybody_alike(scene: Scene) -> None:
    for name in ("ann", "bob"):
        outcomes = [scene.password(name, "wrong", f"192.0.2.{number}") for number in range(6)]
        assert outcomes[:5] == [service.WRONG] * 5
        assert isinstance(outcomes[5], Refused)
        assert (outcomes[5].status, outcomes[5].wait) == (429, 1.0)
    assert isinstance(scene.password(), Refused)
    scene.now += 1
    assert isinstance(scene.password(), Admitted)
    assert scene.password("ann", "wrong") is service.WRONG  # all is forgotten
    assert len(scene.log()) == 12  # what was not looked at is not noted


def test_an_address_that_tries_many_names_waits(scene: Scene) -> None:
    outcomes = [scene.password(f"name{number}", "wrong") for number in range(21)]
    assert outcomes[:20] == [service.WRONG] * 20
    assert isinstance(outcomes[20], Refused) and outcomes[20].status == 429
    assert isinstance(scene.password(address="192.0.2.2"), Admitted)


def test_when_too_many_sign_in_nobody_is_blamed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: object) -> bool:
        raise Busy

    with monkeypatch.context() as patched:
        patched.setattr(scene.accounts.passwords, "check", busy)
        assert [scene.password() for _ in range(30)] == [service.BUSY] * 30
    assert isinstance(scene.password(), Admitted)


def test_an_old_hash_is_made_anew(scene: Scene) -> None:
    old = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash(WORDS)
    scene.store.operators.rehash("ann", scene.accounts.show("ann").password, old)
    outcome = scene.password()
    assert isinstance(outcome, Admitted)
    assert scene.signin.who(outcome.cookie)
    assert scene.accounts.show("ann").password.startswith("$argon2id$v=19$m=8,t=1,")


def test_a_store_that_is_away(scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise LedgerUnavailable("no disk at /secret")

    monkeypatch.setattr(scene.accounts.store, "account", fail)
    monkeypatch.setattr("slmgate.control.admin.signin.sessions.Sessions.start", fail)
    assert scene.password() is service.NO_STORE
    assert scene.back() is service.NO_STORE
    assert "/secret" in caplog.text


def test_ways_that_are_not_offered(scene: Scene) -> None:
    scene.options = Admin(auth=AdminAuth(local=False))
    assert scene.password() is service.NOT_OFFERED
    assert scene.back() is service.NOT_OFFERED
    _, attempt = scene.signin.flows.begin("/", 0.0)
    assert scene.run(lambda signin: signin.leave_for_provider(attempt, BACK)) is service.NOT_OFFERED


def test_to_the_provider_and_back(scene: Scene) -> None:
    _, attempt = scene.signin.flows.begin("/", 0.0)
    assert scene.run(lambda signin: signin.leave_for_provider(attempt, BACK)) == f"{ISSUER}/auth?state={attempt.state}"
    outcome = scene.back()
    assert isinstance(outcome, Admitted)
    assert scene.signin.who(outcome.cookie) == Operator("oidc:eve", Permission.OWNER)
    assert scene.log() == [("sign-in", "oidc:eve", "")]
    assert scene.made == 1
    scene.options = Admin(auth=AdminAuth(oidc=msgspec.structs.replace(OIDC, client_id="other")))
    assert scene.signin.who(outcome.cookie) is None
    scene.signin.provider()
    assert scene.made == 2


@pytest.mark.parametrize("state", ["", "wrong", "absent", "é"])
def test_an_answer_that_was_not_asked_for(state: str, scene: Scene) -> None:
    assert scene.back(state) is service.STRAY
    outcome = scene.run(lambda signin: signin.back_from_provider({"code": "c", "state": ""}, None, BACK, ("", "")))
    assert outcome is service.STRAY
    assert scene.log() == []


@pytest.mark.parametrize(
    ("query", "names_itself", "answer"),
    [
        ({"iss": "https://evil.example"}, False, service.NOT_PROVEN),
        ({}, True, service.NOT_PROVEN),
        ({"error": "access_denied"}, False, service.STOPPED),
        ({"error": "<script>"}, False, service.STOPPED),
        ({"code": "absent"}, False, service.NOT_PROVEN),
        ({"code": ""}, False, service.NOT_PROVEN),
        ({"code": "x" * 4097}, False, service.NOT_PROVEN),
    ],
)
def test_answers_that_prove_nothing(query: dict[str, str], names_itself: bool, answer: Refused, scene: Scene) -> None:
    scene.provider.names_itself = names_itself
    assert scene.back(**query) is answer
    ((action, actor, reason),) = scene.log()
    assert (action, actor) == ("sign-in.failed", "unknown")
    assert "<" not in reason


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (CodeRefused("used"), service.NOT_PROVEN),
        (BadToken("its nonce"), service.NOT_PROVEN),
        (ProviderFailed("10.0.0.9 is away"), service.PROVIDER_AWAY),
        ({"sub": "eve"}, service.NO_ROLE),
        ({"sub": "eve", "groups": ["users"]}, service.NO_ROLE),
        ({"sub": "e\nve", "groups": ["admins"]}, service.NOT_PROVEN),
    ],
)
def test_what_the_provider_says(result: Any, answer: Refused, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.provider.answer = result
    assert scene.back() is answer
    assert "10.0.0.9" not in answer.text
    if isinstance(result, Exception):
        assert str(result) in caplog.text


def test_made_up_answers_fill_no_log_and_bother_no_provider(scene: Scene) -> None:
    scene.provider.answer = CodeRefused("made up")
    outcomes = [scene.back() for _ in range(30)]
    assert outcomes[:20] == [service.NOT_PROVEN] * 20
    assert {each.status for each in outcomes[20:] if isinstance(each, Refused)} == {429}
    assert len(scene.log()) == 20


def test_neither_right_answers_nor_a_provider_that_is_away_count_as_guesses(scene: Scene) -> None:
    assert all(isinstance(scene.back(), Admitted) for _ in range(25))
    scene.provider.answer = ProviderFailed("away")
    assert [scene.back() for _ in range(25)] == [service.PROVIDER_AWAY] * 25
