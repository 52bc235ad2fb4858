"""Question 1: who is this? From the credential fields of a head to a key, or a refusal.

It knows header fields and digests, never a secret that was stored: a credential is compared by its SHA-256 digest, so the
time of a look-up says nothing about how much of a guess was right. It does not know what the principal may do, nor how an
access token is verified: one that is not known yet comes back as `Unverified`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from math import inf

import msgspec

from slmgate.policy.certificates import Certificate
from slmgate.policy.snapshot import Snapshot
from slmgate.terms import Principal, Refuse

MAX_SECRET = 512
"""Bytes of a credential that are looked at; a longer one is refused unread. Keys of other gateways are far shorter."""

MAX_TOKEN = 16 * 1024
"""Bytes of an access token that is asked about."""
OWN_PREFIX = b"sk-slm-"
"""Secrets that slmgate makes begin so: nobody else is ever asked about one."""
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # b64token, RFC 6750 section 2.1

MISSING = Refuse(
    "invalid_api_key",
    "No API key was given. Send it as 'Authorization: Bearer <key>', 'x-api-key: <key>' or 'api-key: <key>'.",
)
_TWO = Refuse("invalid_api_key", "Two different credentials were given in one request. Send one.")
# One answer for unknown, revoked, disabled, expired and malformed: a stranger learns nothing from it.
WRONG = Refuse("invalid_api_key", "The API key is not valid. Ask the operator of this gate for a key.")


def credential(fields: Mapping[bytes, bytes]) -> bytes | Refuse:
    """The one secret that a request shows, from `Authorization: Bearer` (RFC 6750), `x-api-key` or `api-key`.

    The same secret in several of them is one credential; two different ones are refused.
    """
    found: bytes | None = None
    authorization = fields.get(b"authorization")
    if authorization is not None:
        if authorization[:7].lower() != b"bearer ":
            return WRONG
        found = authorization[7:].lstrip(b" ")  # RFC 9110 section 11.4 allows several
    if b"x-api-key" in fields or b"api-key" in fields:
        for name in (b"x-api-key", b"api-key"):
            value = fields.get(name)
            if value is not None:
                if found is not None and found != value:
                    return _TWO
                found = value
    if found is None:
        return MISSING
    return found or WRONG


class Unverified(msgspec.Struct, frozen=True):
    """An access token that nobody has vouched for yet. `digest` is the SHA-256 of the whole of it."""

    token: str
    digest: bytes

    def __repr__(self) -> str:
        return "<Unverified>"


def identify(
    snapshot: Snapshot, fields: Mapping[bytes, bytes], now: float, certificate: Certificate | None = None
) -> tuple[Principal, float] | Refuse | Unverified:
    """Who a request's credential stands for at `now`, with the second at which that ends; or a refusal, or a token to ask about.

    Times are seconds since the epoch. Whatever is wrong with a credential that was given, the refusal is one and the same.
    `certificate` is the connection's, verified; it counts only for a request that shows no other credential, which decides alone.
    Only a request that shows no credential at all can be anonymous.
    """
    secret = credential(fields)
    if isinstance(secret, Refuse):
        if secret is not MISSING:
            return secret
        if certificate is not None and snapshot.auth.certificates is not None:
            return certificate.opens(snapshot.auth.certificates, now)
        return secret if snapshot.anonymous is None else (snapshot.anonymous, inf)
    digest = b""
    if len(secret) <= MAX_SECRET:
        digest = sha256(secret).digest()
        key = snapshot.keys.by_digest.get(digest)
        if key is not None:
            until = key.expires
            if until is None:
                return key, inf
            return (key, until) if now < until else WRONG
    if snapshot.auth.signed or snapshot.auth.opaque:
        return _token(snapshot, fields, secret, digest, now)
    return WRONG


def _token(
    snapshot: Snapshot, fields: Mapping[bytes, bytes], secret: bytes, digest: bytes, now: float
) -> tuple[Principal, float] | Refuse | Unverified:
    """What is known of a secret that is no key's, if it can be an access token: only `Authorization: Bearer` can carry one."""
    if b"authorization" not in fields or len(secret) > MAX_TOKEN or secret.startswith(OWN_PREFIX):
        return WRONG
    digest = digest or sha256(secret).digest()
    row = snapshot.tokens.get(digest)
    if row is not None and now < row[1]:
        who = row[0]
        return who if isinstance(who, Refuse) else (who, row[1])
    if not (snapshot.auth.opaque or secret.count(b".") == 2) or not _TOKEN.fullmatch(secret):
        return WRONG
    return Unverified(secret.decode("ascii"), digest)


def not_from_here(principal: Principal) -> Refuse:
    """The refusal of a principal that may call from some networks only, and calls from another."""
    rule = f"{principal.kind}s.{principal.name}.networks"
    return Refuse("permission_denied", "This credential may not be used from your address.", rule=rule)
