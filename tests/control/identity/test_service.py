"""All providers together: which one is asked about a token, in one bounded line, and what verdicts rest on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.config.auth_options import Auth, Introspection, Oidc, RoleMap
from slmgate.control.config.kinds import Secret
from slmgate.control.identity import service
from slmgate.control.identity.fetching import Fetcher
from slmgate.control.identity.outcomes import CannotTell
from slmgate.control.identity.service import Identity
from slmgate.link.messages import Verified
from tests.control.identity.test_introspection import GOOD as ACTIVE
from tests.control.identity.test_introspection import FakeFetcher as FakeEndpoint
from tests.control.identity.test_issuer import FakeFetcher
from tests.tools.signer import AUDIENCE, ISSUER, Signer

NOW = 1_800_000_000.0
ASK_AT = "https://login.example.com/introspect"


class Both(FakeEndpoint):
    """The endpoints of one provider. `hold`: introspection answers wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = FakeFetcher()
        self.hold: asyncio.Event | None = None

    async def get(self, url: str) -> bytes:
        return await self.keys.get(url)

    async def post(self, url: str, form: Mapping[str, str], user: tuple[str, str] | None = None) -> bytes:
        answer = await super().post(url, form, user)
        if self.hold is not None:
            await self.hold.wait()
        return answer


OIDC = Oidc(issuer=ISSUER, audience=(AUDIENCE,), roles=RoleMap(default=("internal",)))
OPAQUE = Introspection(url=ASK_AT, client_id="gate", client_secret=Secret("s"), issuer=ISSUER)
BOTH = Auth(oidc=(OIDC,), introspection=(OPAQUE,))


class Scene:
    """An identity service that runs; `made` are the fetchers that it asked for, `changes` how often its grounds changed."""

    def __init__(self, directory: Path) -> None:
        self.made: list[Both] = []
        self.changes = 0
        self.signer = Signer(clock=lambda: NOW)
        self.identity = Identity(directory, self._changed, lambda _: None, lambda: NOW, self._fetcher)
        self.running = asyncio.ensure_future(self.identity.run())

    def _changed(self) -> None:
        self.changes += 1

    def _fetcher(self, config: Oidc | Introspection) -> Fetcher:
        self.made.append(Both())
        self.made[-1].answer = ACTIVE
        return self.made[-1]

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def ask(self, *tokens: str) -> list[Verified]:
        verdicts: list[Verified] = []
        for number, token in enumerate(tokens):
            self.identity.ask(number, token, verdicts.append)
        for _ in range(200):
            if len(verdicts) == len(tokens):
                break
            await asyncio.sleep(0)
        return sorted(verdicts, key=lambda verdict: verdict.number)


def told(verdict: Verified) -> str:
    return verdict.bearer.name if verdict.bearer is not None else verdict.refuse.code if verdict.refuse is not None else "nothing"


def play(tmp_path: Path, scene: Callable[[Scene], Awaitable[None]], config: Auth = BOTH) -> None:
    async def whole() -> None:
        made = Scene(tmp_path)
        made.identity.configure(config)
        await made.settle()
        try:
            await scene(made)
        finally:
            made.running.cancel()
            await made.identity.close()

    asyncio.run(whole())


def test_which_provider_is_asked(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        oidc, endpoint = s.made
        good = s.signer.token()
        foreign = Signer("https://other.example.com", lambda: NOW).token()
        verdicts = await s.ask(good, good[:-4] + "AAAA", foreign, "opaque", "a.b.c", "..")
        assert [told(each) for each in verdicts] == ["bot", "invalid_api_key", "invalid_api_key", "bot", *["invalid_api_key"] * 2]
        assert [form["token"] for form, _ in endpoint.asked] == ["opaque"], "signed tokens are shown to nobody"
        assert oidc.asked == []
        assert verdicts[0].bearer is not None and verdicts[0].bearer.grounds in s.identity.grounds()
        assert repr(s.identity) == "<Identity: 1 issuers, 1 introspectors, 0 in line>"

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("config", "codes"),
    [
        (Auth(), ["invalid_api_key", "invalid_api_key"]),
        (Auth(oidc=(OIDC,)), ["bot", "invalid_api_key"]),
        (Auth(introspection=(OPAQUE,)), ["bot", "bot"]),
    ],
)
def test_with_less_configured(tmp_path: Path, config: Auth, codes: list[str]) -> None:
    async def scene(s: Scene) -> None:
        assert [told(each) for each in await s.ask(s.signer.token(), "opaque")] == codes

    play(tmp_path, scene, config)


def test_a_key_that_is_not_known_yet(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        s.made[0].keys.publish("rsa-new")
        new = s.signer.token("rsa-new")
        assert [told(each) for each in await s.ask(new, new, s.signer.token(header={"kid": "x"}))] == [
            "bot",
            "bot",
            "invalid_api_key",
        ]
        assert s.made[0].keys.asked.count("https://login.example.com/keys") == 2

    play(tmp_path, scene)


def test_before_the_first_keys_are_there(tmp_path: Path) -> None:
    async def whole() -> None:
        s = Scene(tmp_path)
        s.identity.configure(BOTH)
        assert [told(each) for each in await s.ask(s.signer.token())] == ["bot"]
        s.running.cancel()
        await s.identity.close()

    asyncio.run(whole())


def test_a_provider_that_is_away(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        s.made[1].answer = CannotTell("down")
        (verdict,) = await s.ask("opaque")
        assert told(verdict) == "identity_unavailable"
        assert verdict.refuse is not None and "down" in verdict.refuse.rule

    play(tmp_path, scene)


def test_two_endpoints(tmp_path: Path) -> None:
    """The first that knows the token has it; one that is away makes a no uncertain, a yes not."""
    second = Introspection(url=ASK_AT, client_id="other", client_secret=Secret("s"))

    async def scene(s: Scene) -> None:
        for answers, code in (
            ([{"active": False}, ACTIVE], "bot"),
            ([CannotTell("down"), ACTIVE], "bot"),
            ([CannotTell("down"), {"active": False}], "identity_unavailable"),
            ([{"active": False}, CannotTell("down")], "identity_unavailable"),
            ([{"active": False}, {"active": False}], "invalid_api_key"),
        ):
            s.made[0].answer, s.made[1].answer = answers
            assert [told(each) for each in await s.ask(f"opaque-{answers}")] == [code]

    play(tmp_path, scene, Auth(introspection=(OPAQUE, second)))


def test_one_question_for_one_token(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        s.made[1].hold = asyncio.Event()
        verdicts: list[Verified] = []
        for number in range(5):
            s.identity.ask(number, "opaque", verdicts.append)
        await s.settle()
        s.made[1].hold.set()
        await s.settle()
        assert [told(each) for each in verdicts] == ["bot"] * 5
        assert len(s.made[1].asked) == 1

    play(tmp_path, scene)


def test_the_bounds_of_the_line_and_of_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_LINE", 3)
    monkeypatch.setattr(service, "MAX_ASKING", 2)

    async def scene(s: Scene) -> None:
        s.made[1].hold = asyncio.Event()
        verdicts: list[Verified] = []
        for number in range(5):
            s.identity.ask(number, f"opaque-{number}", verdicts.append)
        assert [(each.number, told(each)) for each in verdicts] == [(3, "identity_unavailable"), (4, "identity_unavailable")]
        await s.settle()
        assert [(each.number, told(each)) for each in verdicts[2:]] == [(2, "identity_unavailable")]
        s.made[1].hold.set()
        await s.settle()
        assert [(each.number, told(each)) for each in verdicts[3:]] == [(0, "bot"), (1, "bot")]

    play(tmp_path, scene)


def test_a_storm_gives_others_their_turn(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        verdicts: list[Verified] = []
        for number in range(service.A_TURN * 3):
            s.identity.ask(number, "a.b.c", verdicts.append)
        seen: list[int] = []
        while len(verdicts) < service.A_TURN * 3:
            await asyncio.sleep(0)
            seen.append(len(verdicts))
        assert service.A_TURN in seen
        assert service.A_TURN * 2 in seen

    play(tmp_path, scene)


def test_a_fault_of_our_own_costs_one_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        scene = Scene(tmp_path)
        scene.identity.configure(BOTH)
        await scene.settle()
        with monkeypatch.context() as patch:
            patch.setattr(service, "parse", lambda _: 1 // 0)
            assert [told(verdict) for verdict in await scene.ask(scene.signer.token())] == ["identity_unavailable"]
        after = [told(verdict) for verdict in await scene.ask(scene.signer.token())]
        assert after != ["identity_unavailable"], "the line goes on"

    asyncio.run(play())


def test_another_configuration(tmp_path: Path) -> None:
    """What stays keeps its keys and answers, what goes is closed, and what rested on it is void."""

    async def scene(s: Scene) -> None:
        before = s.changes
        s.identity.configure(BOTH)
        assert s.changes == before
        signed, opaque = (each.bearer for each in await s.ask(s.signer.token(), "opaque"))
        assert signed is not None and opaque is not None
        s.identity.configure(
            Auth(oidc=(OIDC,), introspection=(Introspection(url=ASK_AT, client_id="g", client_secret=Secret("s")),))
        )
        await s.settle()
        assert s.changes == before + 1
        assert signed.grounds in s.identity.grounds()
        assert opaque.grounds not in s.identity.grounds()
        assert len(s.made) == 3
        assert s.made[1].closed and not s.made[0].closed
        s.identity.configure(Auth())
        await s.settle()
        assert s.identity.grounds() == ()
        assert s.made[0].closed and s.made[2].closed

    play(tmp_path, scene)


def test_a_verdict_by_a_configuration_that_is_gone(tmp_path: Path) -> None:
    async def scene(s: Scene) -> None:
        s.made[1].hold = hold = asyncio.Event()
        verdicts: list[Any] = []
        s.identity.ask(1, "opaque", verdicts.append)
        await s.settle()
        s.identity.configure(Auth(oidc=(OIDC,)))
        hold.set()
        await s.settle()
        assert [told(each) for each in verdicts] == ["identity_unavailable"]

    play(tmp_path, scene)
