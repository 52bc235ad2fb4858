"""A token's parts, its header's rules and its claims' rules, each at its bounds; whole attacks are in `test_issuer.py`."""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.control.identity.jwt import (
    MAX_KID,
    MAX_TOKEN,
    Jwt,
    check_claims,
    check_header,
    check_times,
    looks_like_jwt,
    parse,
)
from slmgate.control.identity.outcomes import TokenRefused
from tests.tools.signer import b64

NOW = 1_000_000.0
GOOD: dict[str, Any] = {"iss": "https://i", "aud": "gate", "exp": NOW + 60}


def jwt(header: dict[str, Any] | None = None, **claims: Any) -> Jwt:
    return Jwt(header or {"typ": "at+jwt"}, {k: v for k, v in {**GOOD, **claims}.items() if v is not None}, b"", b"")


def test_the_parts() -> None:
    token = f"{b64({'alg': 'x'})}.{b64({'a': 1})}.{b64(b'sig')}"
    read = parse(token)
    assert (read.header, read.claims, read.signature) == ({"alg": "x"}, {"a": 1}, b"sig")
    assert read.signed == token.rpartition(".")[0].encode()
    assert repr(read) == "<Jwt>"
    assert looks_like_jwt(token)
    assert not looks_like_jwt("opaque")


@pytest.mark.parametrize("size", [MAX_TOKEN, MAX_TOKEN + 1])
def test_the_bound_of_a_token(size: int) -> None:
    with pytest.raises(TokenRefused, match="too long" if size > MAX_TOKEN else "cannot be read"):
        parse("a.b." + "x" * (size - 4))


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c.d", "..", "ä.b.c"])
def test_another_shape(token: str) -> None:
    with pytest.raises(TokenRefused):
        parse(token)


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", None])
def test_types(typ: str | None) -> None:
    header = {"alg": "RS256", "kid": "k" * MAX_KID} | ({"typ": typ} if typ is not None else {})
    assert check_header(header, ["RS256"], ["JWT", "at+jwt"]) == ("RS256", "k" * MAX_KID)


def test_a_token_without_a_type_where_one_is_asked_for() -> None:
    with pytest.raises(TokenRefused, match="type"):
        check_header({"alg": "RS256"}, ["RS256"], ["at+jwt"])


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "none"},
        {"alg": None},
        {"alg": ["RS256"]},
        {"crit": []},
        {"b64": True},
        {"enc": "x"},
        {"zip": "DEF"},
        {"kid": ""},
        {"kid": "k" * (MAX_KID + 1)},
        {"kid": 1},
        {"typ": "id_token"},
        {"typ": None},
    ],
)
def test_headers_that_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        check_header({"alg": "RS256", **change}, ["RS256"], ["JWT", "at+jwt"])


@pytest.mark.parametrize("audience", ["gate", ["gate"], ["other", "gate"]])
def test_good_claims(audience: Any) -> None:
    assert check_claims(jwt(aud=audience), "https://i", ["gate", "gate2"], 30.0, NOW) == NOW + 90


@pytest.mark.parametrize(("exp", "good"), [(-31.0, False), (-30.0, False), (-29.9, True), (0.5, True)])
def test_the_leeway_of_the_end(exp: float, good: bool) -> None:
    if good:
        assert check_times({"exp": NOW + exp}, 30.0, NOW) == NOW + exp + 30
        return
    with pytest.raises(TokenRefused, match="expired"):
        check_times({"exp": NOW + exp}, 30.0, NOW)


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize(("ahead", "good"), [(30.0, True), (30.1, False)])
def test_the_leeway_of_the_beginning(name: str, ahead: float, good: bool) -> None:
    if good:
        assert check_times({name: NOW + ahead}, 30.0, NOW) == float("inf")
        return
    with pytest.raises(TokenRefused, match="not good yet"):
        check_times({name: NOW + ahead}, 30.0, NOW)


def test_a_time_that_is_none() -> None:
    with pytest.raises(TokenRefused, match="nbf"):
        check_times({"nbf": "0"}, 30.0, NOW)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://i/"},
        {"iss": None},
        {"aud": None},
        {"aud": "gat"},
        {"aud": ["gate", 1]},
        {"exp": None},
        {"typ": "ID"},
        {"typ": "Refresh"},
        {"token_use": "id"},
        {"at_hash": "x"},
        {"c_hash": "x"},
        {"events": {}},
        {"cnf": {}},
    ],
)
def test_claims_that_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        check_claims(jwt(**claims), "https://i", ["gate"], 30.0, NOW)


@pytest.mark.parametrize(
    ("header", "typ", "good"),
    [
        ({"typ": "JWT"}, None, False),
        ({"typ": "at+jwt"}, None, True),
        ({"typ": "JWT"}, "Bearer", True),
        ({"typ": "JWT"}, 1, False),
    ],
)
def test_a_nonce_is_for_id_tokens(header: dict[str, Any], typ: Any, good: bool) -> None:
    token = jwt(header, nonce="n", typ=typ)
    if good:
        assert check_claims(token, "https://i", ["gate"], 30.0, NOW) > NOW
        return
    with pytest.raises(TokenRefused, match="ID token"):
        check_claims(token, "https://i", ["gate"], 30.0, NOW)
