"""Question 1: who is this? From the credential fields of a head to a key, or a refusal.

It knows header fields and digests, never a secret that was stored: a credential is compared by its SHA-256 digest, so the
time of a look-up says nothing about how much of a guess was right. It does not know what the principal may do.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from math import inf

from slmgate.policy.snapshot import Snapshot
from slmgate.terms import Key, Principal, Refuse

MAX_SECRET = 512
"""Bytes of a credential that are looked at; a longer one is refused unread. Keys of other gateways are far shorter."""

_MISSING = Refuse(
    "invalid_api_key",
    "No API key was given. Send it as 'Authorization: Bearer <key>', 'x-api-key: <key>' or 'api-key: <key>'.",
)
_TWO = Refuse("invalid_api_key", "Two different credentials were given in one request. Send one.")
# One answer for unknown, revoked, disabled, expired and malformed: a stranger learns nothing from it.
_WRONG = Refuse("invalid_api_key", "The API key is not valid. Ask the operator of this gate for a key.")


def credential(fields: Mapping[bytes, bytes]) -> bytes | Refuse:
    """The one secret that a request shows, from `Authorization: Bearer` (RFC 6750), `x-api-key` or `api-key`.

    The same secret in several of them is one credential; two different ones are refused.
    """
    found: bytes | None = None
    authorization = fields.get(b"authorization")
    if authorization is not None:
        if authorization[:7].lower() != b"bearer ":
            return _WRONG
        found = authorization[7:].lstrip(b" ")  # RFC 9110 section 11.4 allows several
    if b"x-api-key" in fields or b"api-key" in fields:
        for name in (b"x-api-key", b"api-key"):
            value = fields.get(name)
            if value is not None:
                if found is not None and found != value:
                    return _TWO
                found = value
    if found is None:
        return _MISSING
    return found if 0 < len(found) <= MAX_SECRET else _WRONG


def identify(snapshot: Snapshot, fields: Mapping[bytes, bytes], now: float) -> tuple[Key, float] | Refuse:
    """The live key that a request's credential opens at `now`, with the second at which it stops doing so, or a refusal.

    Times are seconds since the epoch. Whatever is wrong with a credential that was given, the refusal is one and the same.
    """
    secret = credential(fields)
    if isinstance(secret, Refuse):
        return secret
    key = snapshot.keys.by_digest.get(sha256(secret).digest())
    if key is None:
        return _WRONG
    until = key.expires
    if until is None:
        return key, inf
    return (key, until) if now < until else _WRONG


def not_from_here(principal: Principal) -> Refuse:
    """The refusal of a principal that may call from some networks only, and calls from another."""
    rule = f"{principal.kind}s.{principal.name}.networks"
    return Refuse("permission_denied", "This credential may not be used from your address.", rule=rule)
