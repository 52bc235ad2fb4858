"""One issuer on a fake network and a fake clock: its keys' life, and every attack on its tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.config.auth_options import Oidc, RoleMap
from slmgate.control.identity.fetching import Fetcher
from slmgate.control.identity.issuer import AGAIN_SECONDS, DISCOVERY_SECONDS, Issuer
from slmgate.control.identity.jwt import parse
from slmgate.control.identity.kept import KeptKeys
from slmgate.control.identity.outcomes import CannotTell, TokenRefused, UnknownKey
from slmgate.terms import Bearer
from tests.tools.signer import ATTACKS, AUDIENCE, ISSUER, PUBLISHED, Signer, jwk

DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"
JWKS = "https://login.example.com/keys"


class FakeFetcher(Fetcher):
    """Answers from `answers`; what is not there, or is an exception, fails."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.answers: dict[str, Any] = {DISCOVERY: {"issuer": ISSUER, "jwks_uri": JWKS}}
        self.publish(*PUBLISHED)
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None  # answers wait for it

    def publish(self, *names: str) -> None:
        self.answers[JWKS] = {"keys": [jwk(name) for name in names]}

    async def get(self, url: str) -> bytes:
        self.asked.append(url)
        if self.gate is not None:
            await self.gate.wait()
        if url not in self.answers:
            raise CannotTell("nobody is there")
        answer = self.answers[url]
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


class Scene:
    """An issuer with everything around it; `said` and `changes` are what it told."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.now = 1_800_000_000.0
        self.fetcher = FakeFetcher()
        self.said: list[str] = []
        self.changes = 0
        self.directory = directory
        rules = RoleMap(claim="groups", map={"ml-team": "internal"})
        self.config = Oidc(issuer=ISSUER, audience=(AUDIENCE,), roles=rules, **options)
        self.signer = Signer(clock=lambda: self.now)
        self.issuer = self.made()

    def made(self) -> Issuer:
        def changed() -> None:
            self.changes += 1

        kept = KeptKeys(self.directory, ISSUER)
        return Issuer(self.config, self.fetcher, kept, lambda: self.now, changed, self.said.append)

    def verify(self, token: str) -> tuple[Bearer, float]:
        return self.issuer.verify(parse(token))

    def later(self, token: str) -> Awaitable[tuple[Bearer, float]]:
        return self.issuer.verify_with_news(parse(token))


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await work()

    asyncio.run(whole())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    asyncio.run(made.issuer.fetch())
    return made


@pytest.mark.parametrize(("name", "algorithm"), [("rsa", "RS256"), ("rsa", "PS256"), ("ec", "ES256"), ("ed", "EdDSA")])
@pytest.mark.parametrize("kid", [True, False])
def test_good_tokens(scene: Scene, name: str, algorithm: str, kid: bool) -> None:
    token = scene.signer.token(name, algorithm, {} if kid else {"kid": None})
    bearer, until = scene.verify(token)
    assert (bearer.id, bearer.name, bearer.roles) == (f"{ISSUER}#bot", "bot", ("internal",))
    assert until == scene.now + 300 + 30
    assert bearer.grounds in scene.issuer.grounds()
    assert len(set(scene.issuer.grounds())) == 3


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(scene: Scene, attack: str) -> None:
    """Each is refused, and nothing but the provider's own addresses is ever asked."""
    scene.now += AGAIN_SECONDS
    token = ATTACKS[attack](scene.signer)

    async def work() -> None:
        try:
            scene.verify(token)
        except UnknownKey:
            await scene.later(token)

    with pytest.raises(TokenRefused) as refused:
        run(work)
    assert token not in str(refused.value)
    assert set(scene.fetcher.asked) <= {DISCOVERY, JWKS}


def test_every_part_of_the_table_of_attacks_is_there() -> None:
    assert len(ATTACKS) >= 120


def test_keys_are_found(scene: Scene) -> None:
    assert scene.fetcher.asked == [DISCOVERY, JWKS]
    assert scene.changes == 1
    assert repr(scene.issuer) == f"<Issuer {ISSUER}: 3 keys>"
    asyncio.run(scene.issuer.fetch())
    assert scene.fetcher.asked[2:] == [JWKS]
    scene.now += DISCOVERY_SECONDS
    asyncio.run(scene.issuer.fetch())
    assert scene.fetcher.asked[3:] == [DISCOVERY, JWKS]
    assert scene.changes == 1


def test_keys_at_a_given_address(tmp_path: Path) -> None:
    scene = Scene(tmp_path, jwks_url=JWKS)
    asyncio.run(scene.issuer.fetch())
    assert scene.fetcher.asked == [JWKS]


def test_before_the_first_keys(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with pytest.raises(CannotTell, match="not fetched yet"):
        scene.verify(scene.signer.token())

    async def work() -> None:
        await scene.later(scene.signer.token())

    run(work)


def test_a_new_key(scene: Scene) -> None:
    """A name that is not known costs one fetch, shared by all who wait, and no other for a while."""
    scene.fetcher.publish("rsa-new", "rsa")
    scene.now += 1
    token = scene.signer.token("rsa-new")
    with pytest.raises(UnknownKey):
        scene.verify(token)

    async def work() -> None:
        scene.fetcher.gate = asyncio.Event()
        waiting = [asyncio.ensure_future(scene.later(token)) for _ in range(5)]
        await asyncio.sleep(0)
        scene.fetcher.gate.set()
        assert [(await each)[0].name for each in waiting] == ["bot"] * 5
        assert scene.fetcher.asked.count(JWKS) == 2
        for _ in range(5):
            with pytest.raises(TokenRefused):
                await scene.later(scene.signer.token(header={"kid": "unknown"}))
        assert scene.fetcher.asked.count(JWKS) == 2
        scene.now += AGAIN_SECONDS
        with pytest.raises(TokenRefused):
            await scene.later(scene.signer.token(header={"kid": "unknown"}))
        assert scene.fetcher.asked.count(JWKS) == 3

    run(work)
    assert scene.changes == 2


def test_a_key_that_was_taken_back(scene: Scene) -> None:
    token = scene.signer.token()
    before = scene.verify(token)[0].grounds
    scene.fetcher.publish("ec")
    asyncio.run(scene.issuer.fetch())
    assert before not in scene.issuer.grounds()
    assert scene.changes == 2
    with pytest.raises(UnknownKey):
        scene.verify(token)
    scene.fetcher.publish()
    asyncio.run(scene.issuer.fetch())
    assert scene.issuer.grounds() == ()
    assert scene.issuer.known()


@pytest.mark.parametrize("past", [0, 1])
def test_known_keys_serve_while_the_provider_is_away(tmp_path: Path, past: int) -> None:
    scene = Scene(tmp_path, keep_keys=100.0, refresh=10.0)
    asyncio.run(scene.issuer.fetch())
    scene.fetcher.answers.clear()
    scene.now += 110 + past
    asyncio.run(scene.issuer.fetch())
    if not past:
        assert scene.verify(scene.signer.token())
        with pytest.raises(CannotTell, match="nobody is there"):
            asyncio.run(scene.issuer.verify_with_news(parse(scene.signer.token(header={"kid": "new"}))))
    else:
        with pytest.raises(CannotTell, match="not known"):
            scene.verify(scene.signer.token())
        assert scene.issuer.grounds() == ()
    asyncio.run(scene.issuer.fetch())
    assert len(scene.said) == 1, "one line, however often it fails"
    assert repr(scene.issuer).endswith("failing>")
    scene.fetcher.answers[DISCOVERY] = {"issuer": ISSUER, "jwks_uri": JWKS}
    scene.fetcher.publish("rsa")
    asyncio.run(scene.issuer.fetch())
    assert "again" in scene.said[1]
    assert scene.verify(scene.signer.token())


def test_known_keys_outlive_a_restart(scene: Scene) -> None:
    grounds = scene.issuer.grounds()
    scene.fetcher.answers.clear()
    again = scene.made()
    assert again.grounds() == grounds
    assert again.verify(parse(scene.signer.token()))
    scene.now -= 10_000  # keys from the future: the clock was wrong, now or then
    assert not scene.made().known()


def test_a_spoilt_file_of_keys(scene: Scene) -> None:
    KeptKeys(scene.directory, ISSUER).save(b"{}", scene.now)
    assert not scene.made().known()


def test_another_option_is_another_ground(scene: Scene, tmp_path: Path) -> None:
    other = Scene(tmp_path, leeway=1.0)
    assert other.issuer.known()
    assert not set(other.issuer.grounds()) & set(scene.issuer.grounds())


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        (DISCOVERY, {"issuer": ISSUER + "/", "jwks_uri": JWKS}),
        (DISCOVERY, {"issuer": ISSUER}),
        (DISCOVERY, {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}),
        (DISCOVERY, b"<html>"),
        (JWKS, {"keys": [{}] * 1001}),
        (JWKS, b"{"),
    ],
)
def test_answers_that_are_no_good(tmp_path: Path, url: str, answer: Any) -> None:
    scene = Scene(tmp_path)
    scene.fetcher.answers[url] = answer
    asyncio.run(scene.issuer.fetch())
    assert not scene.issuer.known()
    assert len(scene.said) == 1
    with pytest.raises(CannotTell):
        scene.verify(scene.signer.token())


def test_a_fault_of_our_own_is_a_failed_fetch(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(url: str) -> bytes:
        raise ZeroDivisionError(url)

    monkeypatch.setattr(scene.fetcher, "get", broken)
    asyncio.run(scene.issuer.fetch())
    assert scene.verify(scene.signer.token())
    assert "ZeroDivisionError" in scene.said[0]


def test_the_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fetches again and again, sooner after a failure, and notices when the known keys have become too old."""
    scene = Scene(tmp_path, refresh=20.0, keep_keys=0.0)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        scene.now += 21
        if len(slept) == 2:
            scene.fetcher.answers.clear()
        if len(slept) == 4:
            raise asyncio.CancelledError

    async def work() -> None:
        monkeypatch.setattr("slmgate.control.identity.issuer.asyncio.sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await scene.issuer.run()
        await scene.issuer.close()

    run(work)
    assert slept == [20.0, 20.0, 5.0, 5.0]
    assert not scene.issuer.known()
