"""A provider's documents, the code's way, and the roles and names that claims come to; the provider is a function here."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
from joserfc import jwk, jws

from slmgate.control.admin.signin.fetch import Fetch, ProviderFailed
from slmgate.control.admin.signin.flow import Attempt, Flows
from slmgate.control.admin.signin.id_token import BadToken
from slmgate.control.admin.signin.provider import (
    CodeRefused,
    Provider,
    error_code,
    name_of,
    role_of,
)
from slmgate.control.config.admin_options import AdminOidc, AdminRoles
from slmgate.control.config.kinds import Secret
from slmgate.control.identity.claims import find

ISSUER = "https://login.example.com/realm"
OPTIONS = AdminOidc(
    issuer=ISSUER, client_id="ga te", client_secret=Secret("s3/+"), roles=AdminRoles(map={"admins": "owner", "all": "viewer"})
)
DESCRIPTION: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth?tenant=1",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/keys",
}
BACK = "https://gate.example.com/login/callback"


@cache
def key(name: str) -> jwk.RSAKey:
    return jwk.RSAKey.generate_key(2048, {"kid": name})


class Peer:
    """The other end: what was asked of it, and what it says."""

    def __init__(self) -> None:
        self.description: Any = DESCRIPTION
        self.keys = ["one"]
        self.signs = "one"
        self.token: tuple[int, Any] | None = None
        self.asked: list[httpx.Request] = []
        self.nonce = ""
        self.now = 1000.0

    def paths(self) -> list[str]:
        return [request.url.path.removeprefix("/realm") for request in self.asked]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path.endswith("openid-configuration"):
            return httpx.Response(200 if self.description else 404, json=self.description)
        if request.url.path.endswith("keys"):
            return httpx.Response(200, json={"keys": [key(name).as_dict(private=False) for name in self.keys]})
        if self.token:
            return httpx.Response(self.token[0], json=self.token[1])
        claims = {"iss": ISSUER, "aud": "ga te", "nonce": self.nonce, "sub": "ann", "iat": time.time(), "exp": time.time() + 60}
        header = {"alg": "RS256", "kid": self.signs}
        token = jws.serialize_compact(header, json.dumps(claims).encode(), key(self.signs), algorithms=["RS256"])
        return httpx.Response(200, json={"id_token": token, "access_token": "x"})


@pytest.fixture
def peer() -> Peer:
    return Peer()


def with_provider(peer: Peer, what: Callable[[Provider, Attempt], Any], options: AdminOidc = OPTIONS) -> Any:
    _, attempt = Flows(b"k", "oidc", 600).begin("/", 0.0)
    peer.nonce = attempt.nonce

    async def run() -> Any:
        return await what(Provider(options, Fetch(ISSUER, httpx.MockTransport(peer)), lambda: peer.now), attempt)

    return asyncio.run(run())


def redeem(peer: Peer, options: AdminOidc = OPTIONS) -> Any:
    return with_provider(peer, lambda provider, attempt: provider.redeem("the code", attempt, BACK), options)


def test_where_the_browser_is_sent(peer: Peer) -> None:
    url = with_provider(peer, lambda provider, attempt: provider.address(attempt, BACK))
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{ISSUER}/auth"
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert query.pop("state") and query.pop("nonce") and query.pop("code_challenge")
    assert query == {
        "tenant": "1", "response_type": "code", "client_id": "ga te", "redirect_uri": BACK, "scope": "openid profile",
        "code_challenge_method": "S256",
    }  # fmt: skip


def test_a_code_is_redeemed(peer: Peer) -> None:
    assert redeem(peer)["sub"] == "ann"
    assert peer.paths() == ["/.well-known/openid-configuration", "/token", "/keys"]
    asked = peer.asked[1]
    form = parse_qs(asked.content.decode())
    assert form["grant_type"] == ["authorization_code"]
    assert form["code"] == ["the code"]
    assert form["redirect_uri"] == [BACK]
    assert len(form["code_verifier"][0]) == 43
    assert base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")) == b"ga+te:s3%2F%2B"


def test_a_secret_in_the_form_where_the_provider_wants_it_there(peer: Peer) -> None:
    peer.description = {**DESCRIPTION, "token_endpoint_auth_methods_supported": ["client_secret_post"]}
    redeem(peer)
    assert parse_qs(peer.asked[1].content.decode())["client_secret"] == ["s3/+"]
    assert "authorization" not in peer.asked[1].headers


def test_a_public_client_has_no_secret(peer: Peer) -> None:
    redeem(peer, msgspec.structs.replace(OPTIONS, client_secret=None))
    form = parse_qs(peer.asked[1].content.decode())
    assert form["client_id"] == ["ga te"]
    assert "client_secret" not in form
    assert "authorization" not in peer.asked[1].headers


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, {"error": "invalid_grant"}), CodeRefused),
        ((400, {"error": "<b>"}), CodeRefused),
        ((400, []), CodeRefused),
        ((401, {"error": "invalid_client"}), ProviderFailed),
        ((500, {}), ProviderFailed),
        ((200, []), CodeRefused),
        ((200, {}), BadToken),
        ((200, {"id_token": "x.y.z"}), BadToken),
    ],
)
def test_answers_of_the_token_endpoint(answer: tuple[int, Any], error: type[Exception], peer: Peer) -> None:
    peer.token = answer
    with pytest.raises(error) as raised:
        redeem(peer)
    assert "<b>" not in str(raised.value)


def test_another_nonce_is_refused(peer: Peer) -> None:
    async def swap(provider: Provider, attempt: Attempt) -> Any:
        peer.nonce = "another"
        return await provider.redeem("code", attempt, BACK)

    with pytest.raises(BadToken, match="nonce"):
        with_provider(peer, swap)


@pytest.mark.parametrize(
    "description",
    [
        None,
        [],
        {},
        {**DESCRIPTION, "issuer": ISSUER + "/"},
        {**DESCRIPTION, "issuer": "https://evil.example"},
        {**DESCRIPTION, "token_endpoint": "http://login.example.com/token"},
        {**DESCRIPTION, "jwks_uri": "file:///etc/passwd"},
        {**DESCRIPTION, "authorization_endpoint": "javascript:alert(1)"},
        {**DESCRIPTION, "token_endpoint": 1},
    ],
)
def test_descriptions_that_cannot_be_used(description: Any, peer: Peer) -> None:
    peer.description = description
    with pytest.raises(ProviderFailed):
        redeem(peer)
    assert len(peer.asked) == 1


def test_a_provider_that_is_away_is_not_asked_by_everybody(peer: Peer) -> None:
    async def often(provider: Provider, _: Attempt) -> None:
        peer.description = None
        for _time in range(5):
            with pytest.raises(ProviderFailed):
                await provider.describe()
        assert len(peer.asked) == 1
        peer.now += 5
        peer.description = DESCRIPTION
        await provider.describe()

    with_provider(peer, often)


def test_what_is_kept_and_for_how_long(peer: Peer) -> None:
    async def often(provider: Provider, attempt: Attempt) -> None:
        for _ in range(3):
            await provider.redeem("code", attempt, BACK)
        assert peer.paths().count("/keys") == 1
        peer.now += 3600
        await provider.redeem("code", attempt, BACK)
        assert peer.paths().count("/keys") == 2
        assert peer.paths().count("/.well-known/openid-configuration") == 2

    with_provider(peer, often)


def test_a_rotated_key_is_asked_for_but_not_too_often(peer: Peer) -> None:
    async def rotate(provider: Provider, attempt: Attempt) -> None:
        await provider.redeem("code", attempt, BACK)
        peer.signs = "two"
        for _ in range(5):
            with pytest.raises(BadToken):
                await provider.redeem("code", attempt, BACK)
        assert peer.paths().count("/keys") == 1  # asked for less than 30 s ago
        peer.keys = ["two"]
        peer.now += 30
        await provider.redeem("code", attempt, BACK)
        assert peer.paths().count("/keys") == 2

    with_provider(peer, rotate)


@pytest.mark.parametrize(
    ("value", "role"),
    [
        ("admins", "owner"),
        (["all"], "viewer"),
        (["all", "admins"], "owner"),
        (["x", 1, None, ["admins"], {"admins": 1}], None),
        ("ADMINS", None),
        ("admins ", None),
        ({"admins": True}, None),
        (None, None),
        ([], None),
    ],
)
def test_roles(value: Any, role: str | None) -> None:
    assert role_of({"groups": value}, OPTIONS.roles) == role
    assert role_of({"realm": {"roles": value}}, AdminRoles(claim="realm.roles", map=OPTIONS.roles.map)) == role


def test_a_claims_path() -> None:
    claims = {"https://x.example/roles": 1, "a": {"b": {"c": 2}}, "a.b": 3}
    assert [find(claims, path) for path in ("https://x.example/roles", "a.b.c", "a.b", "a.x", "a.b.c.d")] == [
        1,
        2,
        3,
        None,
        None,
    ]


@pytest.mark.parametrize("name", ["ann", "ann@example.com", "Änne Müller", "x" * 255])
def test_names(name: str) -> None:
    assert name_of({"sub": name}, "sub") == name


@pytest.mark.parametrize("name", [None, "", 1, ["ann"], "a\nb", "a\x00", "a\u202eb", " a", "a\u2028", "x" * 256, "a\u00a0b"])
def test_names_that_cannot_stand_in_a_log(name: Any) -> None:
    assert name_of({"sub": name}, "sub") is None


@pytest.mark.parametrize(
    ("text", "code"), [("access_denied", "access_denied"), ("<b>", "unknown"), ("a" * 41, "unknown"), ("a\n", "unknown")]
)
def test_error_codes(text: str, code: str) -> None:
    assert error_code(text) == code
