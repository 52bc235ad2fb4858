"""A signed token (JWT, RFC 7519, in JWS compact form) read strictly, and the rules of RFC 8725 on its header and its claims.

Which key signed it is looked up by `issuer.py`, and the signature is checked there before any claim but `iss` is believed. What
a header says about keys (`jku`, `x5u`, `jwk`, `x5c`) is never looked at. This module knows no clock and no network.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from slmgate.control.identity.outcomes import TokenRefused
from slmgate.control.identity.strict import base64url, json_object, moment, texts

MAX_TOKEN = 16 * 1024
MAX_KID = 256
# Claims that only ID tokens have (OpenID Connect Core sections 3.1.3.6 and 3.3.2.11), and what some providers say in the payload.
_ID_TOKEN_CLAIMS = ("at_hash", "c_hash", "s_hash")
_OTHER_KINDS = ("id", "refresh", "offline", "logout")


class Jwt(msgspec.Struct, frozen=True):
    """The parts of a token. Nothing in it is to be believed before `signature` over `signed` is verified."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    def __repr__(self) -> str:
        return "<Jwt>"


def looks_like_jwt(token: str) -> bool:
    """Whether a token has the three parts of a signed JWT."""
    return token.count(".") == 2


def parse(token: str) -> Jwt:
    """The parts of a compact token; raises TokenRefused."""
    if len(token) > MAX_TOKEN:
        raise TokenRefused("the token is too long")
    parts = token.encode("ascii", "replace").split(b".")
    if len(parts) != 3:
        raise TokenRefused("the token does not have three parts")
    try:
        header, claims = json_object(base64url(parts[0])), json_object(base64url(parts[1]))
        return Jwt(header, claims, parts[0] + b"." + parts[1], base64url(parts[2]))
    except ValueError as error:
        raise TokenRefused(f"the token cannot be read: {error}") from None


def check_header(header: Mapping[str, Any], algorithms: Collection[str], types: Collection[str]) -> tuple[str, str | None]:
    """The algorithm and the key's id that the header names, if the header is acceptable (RFC 8725 sections 3.1 and 3.11)."""
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenRefused("the algorithm is not one of the issuer's")
    for name in ("crit", "b64", "enc", "zip"):
        if name in header:
            raise TokenRefused(f"the header has {name}, which is not understood here")
    kid = header.get("kid")
    if kid is not None and (not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID):
        raise TokenRefused("the key's id is not a text of sane length")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or _type(typ) not in {_type(each) for each in types}:
        raise TokenRefused("the token is of another type")
    return algorithm, kid


def _type(text: str) -> str:
    return text.lower().removeprefix("application/")


def check_claims(token: Jwt, issuer: str, audience: Collection[str], leeway: float, now: float) -> float:
    """Until when a verified token is good, in seconds since the epoch; raises TokenRefused. `now` is wall-clock time."""
    claims = token.claims
    if claims.get("iss") != issuer:
        raise TokenRefused("the issuer is another one")
    _not_another_kind(token)
    try:
        named = texts(claims.get("aud"), "aud")
        if "exp" not in claims:
            raise ValueError("exp is missing")
    except ValueError as error:
        raise TokenRefused(str(error)) from None
    if not set(named) & set(audience):
        raise TokenRefused("the token is for another audience")
    return check_times(claims, leeway, now)


def check_times(claims: Mapping[str, Any], leeway: float, now: float) -> float:
    """Until when claims hold: `exp` and `leeway`, or for ever where there is no `exp`; raises TokenRefused."""
    try:
        for name in ("nbf", "iat"):
            if name in claims and moment(claims[name], name) > now + leeway:
                raise TokenRefused(f"the token is not good yet: {name} is in the future")
        until = moment(claims["exp"], "exp") + leeway if "exp" in claims else float("inf")
    except ValueError as error:
        raise TokenRefused(str(error)) from None
    if until <= now:
        raise TokenRefused("the token has expired")
    return until


def _not_another_kind(token: Jwt) -> None:
    """Refuse ID tokens, refresh tokens and logout tokens where they can be told (RFC 8725 section 3.12)."""
    claims = token.claims
    said = claims.get("typ")
    access = str(token.header.get("typ", "")).lower().endswith("at+jwt") or (isinstance(said, str) and said.lower() == "bearer")
    if (isinstance(said, str) and said.lower() in _OTHER_KINDS) or claims.get("token_use", "access") != "access":
        raise TokenRefused("the token says that it is no access token")
    if any(name in claims for name in _ID_TOKEN_CLAIMS) or ("nonce" in claims and not access):
        raise TokenRefused("the token is an ID token")
    if "events" in claims:
        raise TokenRefused("the token is about an event, such as a logout")
    if "cnf" in claims:
        raise TokenRefused("the token is bound to a key whose possession is not checked here")
