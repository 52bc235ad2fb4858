"""Introspection on a fake network and a fake clock: which answers let in, for how long, and under which name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from slmgate.control.config.auth_options import Introspection, RoleMap
from slmgate.control.config.kinds import Secret
from slmgate.control.identity import introspection
from slmgate.control.identity.fetching import Fetcher
from slmgate.control.identity.introspection import REFUSED_SECONDS, Introspector
from slmgate.control.identity.outcomes import CannotTell, TokenRefused
from slmgate.terms import Bearer

URL, ISSUER = "https://login.example.com/introspect", "https://login.example.com"
NOW = 1_800_000_000.0
GOOD: dict[str, Any] = {"active": True, "sub": "bot", "token_type": "Bearer", "groups": ["ml"], "exp": NOW + 600, "iss": ISSUER}


class FakeFetcher(Fetcher):
    def __init__(self) -> None:
        super().__init__(1.0)
        self.answer: Any = GOOD
        self.asked: list[tuple[dict[str, str], tuple[str, str] | None]] = []
        self.closed = False

    async def post(self, url: str, form: Mapping[str, str], user: tuple[str, str] | None = None) -> bytes:
        assert url == URL
        self.asked.append((dict(form), user))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()

    async def close(self) -> None:
        self.closed = True


class Scene:
    def __init__(self, **options: Any) -> None:
        self.now = NOW
        self.fetcher = FakeFetcher()
        roles = RoleMap(claim="groups", map={"ml": "internal"})
        settings = {"issuer": ISSUER, "roles": roles, **options}
        config = Introspection(url=URL, client_id="gate", client_secret=Secret("s3cret"), **settings)
        self.introspector = Introspector(config, self.fetcher, lambda: self.now)

    def verify(self, token: str = "opaque") -> tuple[Bearer, float]:
        return asyncio.run(self.introspector.verify(token))


def test_an_active_token() -> None:
    scene = Scene()
    bearer, until = scene.verify()
    assert (bearer.id, bearer.roles, until) == (f"{ISSUER}#bot", ("internal",), NOW + 30)
    assert bearer.grounds == scene.introspector.ground
    assert scene.fetcher.asked == [({"token": "opaque", "token_type_hint": "access_token"}, ("gate", "s3cret"))]
    assert repr(scene.introspector) == f"<Introspector {URL}: 1 answers>"


def test_the_secret_in_the_form() -> None:
    scene = Scene(client_auth="post")
    scene.verify()
    assert scene.fetcher.asked[0][1] is None
    assert scene.fetcher.asked[0][0]["client_secret"] == "s3cret"


def test_an_answer_serves_for_a_while() -> None:
    scene = Scene()
    for seconds, asked in ((0, 1), (29.9, 1), (30.0, 2)):
        scene.now = NOW + seconds
        scene.verify()
        assert len(scene.fetcher.asked) == asked
    scene.verify("opaque2")
    assert len(scene.fetcher.asked) == 3


def test_it_serves_no_longer_than_the_token() -> None:
    scene = Scene(leeway=0.0)
    scene.fetcher.answer = {**GOOD, "exp": NOW + 5}
    assert scene.verify()[1] == NOW + 5
    scene.now = NOW + 5
    with pytest.raises(TokenRefused, match="expired"):
        scene.verify()


def test_a_no_serves_for_a_moment() -> None:
    scene = Scene()
    scene.fetcher.answer = {"active": False}
    for seconds, asked in ((0, 1), (REFUSED_SECONDS - 0.1, 1), (REFUSED_SECONDS, 2)):
        scene.now = NOW + seconds
        with pytest.raises(TokenRefused, match="not active"):
            scene.verify()
        assert len(scene.fetcher.asked) == asked


@pytest.mark.parametrize(
    "change",
    [
        {"active": False},
        {"active": "true"},
        {"active": 1},
        {"active": [True]},
        {"active": None},
        {"token_type": "refresh_token"},
        {"token_type": None},
        {"token_type": "DPoP"},
        {"token_type": 5},
        {"token_use": "refresh_token"},
        {"cnf": {"jkt": "x"}},
        {"iss": "https://other.example.com"},
        {"aud": "other"},
        {"aud": None},
        {"aud": [1]},
        {"exp": NOW - 31},
        {"exp": "never"},
        {"nbf": NOW + 60},
        {"sub": None},
        {"sub": "a\nb"},
        {"groups": {"ml": True}},
    ],
)
def test_answers_that_let_nobody_in(change: dict[str, Any]) -> None:
    scene = Scene(audience=("gate",))
    scene.fetcher.answer = {**GOOD, "aud": "gate"}
    assert scene.verify("good")
    scene.fetcher.answer = {k: v for k, v in {**GOOD, "aud": "gate", **change}.items() if v is not None}
    with pytest.raises(TokenRefused):
        scene.verify()


@pytest.mark.parametrize("answer", [{**GOOD, "iss": None}, {"typ": "Bearer", "active": True, "sub": "bot"}])
def test_answers_that_say_less(answer: dict[str, Any]) -> None:
    scene = Scene()
    scene.fetcher.answer = {k: v for k, v in answer.items() if v is not None}
    assert scene.verify()[1] == NOW + 30


def test_without_an_issuer_the_address_names_the_principals() -> None:
    scene = Scene(issuer=None)
    scene.fetcher.answer = {**GOOD, "iss": "https://somebody.else"}
    assert scene.verify()[0].id == f"{URL}#bot"


@pytest.mark.parametrize("answer", [CannotTell("down"), b"<html>", b"[]", b'{"active": true, "active": false}'])
def test_nobody_can_tell(answer: Any) -> None:
    scene = Scene()
    scene.fetcher.answer = answer
    for asked in (1, 2):
        with pytest.raises(CannotTell):
            scene.verify()
        assert len(scene.fetcher.asked) == asked, "a failure is not kept"


def test_the_bound_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspection, "MAX_ANSWERS", 2)
    scene = Scene()
    for token in ("a", "b", "c", "b", "c"):
        scene.verify(token)
    assert len(scene.fetcher.asked) == 3
    scene.verify("a")
    assert len(scene.fetcher.asked) == 4


def test_another_secret_is_another_ground() -> None:
    other = Introspection(url=URL, client_id="gate", client_secret=Secret("other"), issuer=ISSUER)
    assert Introspector(other, FakeFetcher(), lambda: NOW).ground != Scene().introspector.ground


def test_it_closes() -> None:
    scene = Scene()
    asyncio.run(scene.introspector.close())
    assert scene.fetcher.closed
