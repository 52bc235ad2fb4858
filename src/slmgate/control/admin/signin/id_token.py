"""Verifies an ID token: OpenID Connect Core 1.0, section 3.1.3.7, with the algorithms and key choice of RFC 8725.

One function, `verify`; the signature itself is joserfc's work. It fetches nothing, follows nothing that a token names, and
knows no clock.
"""

from __future__ import annotations

import hmac
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from slmgate.control.identity.strict import base64url, json_object, moment

MAX_TOKEN = 32 * 1024
MAX_KEYS = 100
LEEWAY = 60.0
OLDEST = 600.0
"""Seconds that a token may be old when it comes: it was made for this sign-in."""
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}
_MIN_RSA_BITS = 2048


class BadToken(Exception):
    """The token proves nothing; the text says why, for the log, and repeats nothing of it."""


class UnknownSigner(BadToken):
    """No key that the provider publishes is the one that the token names; a newer list may have it."""


class Expected(msgspec.Struct, frozen=True):
    """What the token must be: from whom, for whom, answering what, signed how."""

    issuer: str
    client_id: str
    nonce: str
    algorithms: Collection[str]


def verify(token: object, keys: object, expected: Expected, now: float) -> dict[str, Any]:
    """The claims of `token`, a compact JWS signed by one of `keys` (a JWK Set, RFC 7517). `now`: seconds since the epoch.

    Raises BadToken.
    """
    if not isinstance(token, str) or len(token) > MAX_TOKEN or not token.isascii():
        raise BadToken("it is no text, or too long")
    header = _part(token, 0)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in expected.algorithms or algorithm[:2] not in _KINDS:
        raise BadToken("its algorithm is not one that is taken")
    if "crit" in header or "b64" in header or str(header.get("typ", "JWT")).upper() not in ("JWT", "APPLICATION/JWT"):
        raise BadToken("its header asks for what is not taken")
    _check_signature(token, algorithm, _candidates(keys, algorithm, header.get("kid")))
    claims = _part(token, 1)
    _check_claims(claims, expected, now)
    return claims


def _check_signature(token: str, algorithm: str, candidates: Sequence[Mapping[str, Any]]) -> None:
    # Here, since cryptography takes a tenth of a second of each start, and most admin listeners have no provider.
    from joserfc import jwk, jws
    from joserfc.errors import JoseError, SecurityWarning

    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_payload_length = MAX_TOKEN
    for candidate in candidates:
        # a key under the same name that is none, or not the one, does not spoil the others
        with suppress(JoseError, ValueError, TypeError, KeyError), warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # of names and sizes, which have been judged by then
            key = jwk.import_key({name: value for name, value in candidate.items() if name not in ("alg", "key_ops")})
            if not (isinstance(key, jwk.RSAKey) and key.raw_value.key_size < _MIN_RSA_BITS):
                jws.deserialize_compact(token, key, algorithms=[algorithm], registry=registry)
                return
    raise BadToken("its signature is not the provider's")


def _candidates(keys: object, algorithm: str, kid: object) -> list[Mapping[str, Any]]:
    """The published keys that may have signed: of the algorithm's kind and curve, for signing, and with the token's `kid`."""
    published = keys.get("keys") if isinstance(keys, dict) else None
    if not isinstance(published, list) or len(published) > MAX_KEYS:
        raise BadToken("the provider publishes no keys, or too many")
    if kid is not None and (not isinstance(kid, str) or len(kid) > 512):
        raise BadToken("its kid is no name of a key")
    fitting: list[Mapping[str, Any]] = [
        key
        for key in published
        if isinstance(key, dict)
        and key.get("kty") == _KINDS[algorithm[:2]]
        and key.get("crv") == _CURVES.get(algorithm)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and "verify" in _texts(key.get("key_ops", ["verify"]))
    ]
    named = fitting if kid is None else [key for key in fitting if key.get("kid") == kid]
    if not named:
        raise UnknownSigner("it is signed by no key that the provider publishes")
    if len(named) > (1 if kid is None else 4):
        raise BadToken("which key signed it cannot be told")
    return named


def _check_claims(claims: Mapping[str, Any], expected: Expected, now: float) -> None:
    if claims.get("iss") != expected.issuer:
        raise BadToken("its issuer is another")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else _texts(audience)
    if expected.client_id not in audiences:
        raise BadToken("it is for another audience")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != expected.client_id:
        raise BadToken("it was given to another client")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise BadToken("its nonce is not that of this sign-in")
    if _moment(claims, "exp") <= now - LEEWAY:
        raise BadToken("it has expired")
    issued = _moment(claims, "iat")
    if not now - OLDEST - LEEWAY <= issued <= now + LEEWAY:
        raise BadToken("it was not made just now; do the clocks agree?")
    if "nbf" in claims and _moment(claims, "nbf") > now + LEEWAY:
        raise BadToken("it is not valid yet")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255:
        raise BadToken("it names nobody")


def _moment(claims: Mapping[str, Any], name: str) -> float:
    try:
        return moment(claims.get(name), name)
    except ValueError:
        raise BadToken(f"its {name} is no time") from None


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _part(token: str, place: int) -> dict[str, Any]:
    """The JSON object in one part of the token."""
    parts = token.encode().split(b".")
    try:
        if len(parts) != 3:
            raise ValueError
        return json_object(base64url(parts[place]))
    except ValueError:
        raise BadToken("it is no signed token, or does not hold a JSON object") from None
