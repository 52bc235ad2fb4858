"""Credentials and access tokens: nobody gets in but by what was issued, to the byte.

The first byte of an input chooses: header fields for question 1; a whole token as it stands; a header or claims that get a good
signature. What is taken is judged again by a slow reading of the rules. It asks no network: the issuer's keys are given.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from fuzz.target import Target
from slmgate.control.config.auth_options import Oidc, RoleMap
from slmgate.control.identity.fetching import Fetcher
from slmgate.control.identity.issuer import Issuer
from slmgate.control.identity.jwt import Jwt, parse
from slmgate.control.identity.kept import KeptKeys
from slmgate.control.identity.keyset import read_keys
from slmgate.control.identity.outcomes import CannotTell, TokenRefused, UnknownKey
from slmgate.policy.identify import Unverified, identify
from slmgate.policy.keytable import KeyTable
from slmgate.policy.snapshot import Snapshot
from slmgate.policy.specs import AuthSpec, SnapshotSpec
from slmgate.terms import Bearer, Key, Refuse
from tests.tools.signer import ATTACKS, AUDIENCE, ISSUER, PUBLISHED, Signer, b64, jwk

SECRET = b"sk-slm-fuzz-0123456789abcdef"
NOW = 1_800_000_000.0
KEYS = KeyTable([Key(id="k", name="k", digests=((sha256(SECRET).digest(), None),))])
SNAPSHOTS = tuple(
    Snapshot(SnapshotSpec(generation=1, auth=AuthSpec(signed=signed, opaque=opaque)), KEYS)
    for signed in (False, True)
    for opaque in (False, True)
)
GOOD = {"alg": "EdDSA", "typ": "at+jwt", "kid": "ed"}


@cache
def issuer() -> Issuer:
    rules = RoleMap(claim="groups", map={"ml-team": "internal"})
    config = Oidc(issuer=ISSUER, audience=(AUDIENCE,), roles=rules)
    kept = KeptKeys(Path(tempfile.gettempdir()) / "slmgate-fuzz-none", ISSUER)
    made = Issuer(config, Fetcher(1.0), kept, lambda: NOW, lambda: None, lambda _: None)
    made.keys, made.fetched = read_keys(json.dumps({"keys": [jwk(name) for name in PUBLISHED]}).encode()), NOW
    return made


@cache
def issued() -> frozenset[str]:
    """Every token that was ever signed with a key of the issuer as it should be, and no other."""
    signer = Signer(clock=lambda: NOW)
    return frozenset((signer.token("ed", "EdDSA"), signer.token("rsa", "RS256"), signer.token("ec", "ES256")))


def verified(token: str) -> tuple[Bearer, float, Jwt] | None:
    try:
        read = parse(token)
        return *issuer().verify(read), read
    except (TokenRefused, UnknownKey, CannotTell) as refused:
        said = str(refused)
    assert said.isprintable(), "what is said of a token repeats what is in it"
    return None


def check(data: bytes) -> None:
    if not data:
        return
    kind, text = data[0] % 4, data[1:]
    if kind == 0:
        check_fields(text)
    elif kind == 1:
        token = text.decode("latin-1")
        assert verified(token) is None or token in issued(), "a token that nobody issued"
    elif kind == 2 and text:
        head = base64.urlsafe_b64encode(text).rstrip(b"=").decode()
        found = verified(Signer(clock=lambda: NOW).signed(head, b64(Signer(clock=lambda: NOW).claims()), "EdDSA", "ed"))
        if found is not None:
            header = json.loads(text, object_pairs_hook=once)
            assert header["alg"] == "EdDSA"
            assert header.get("kid") in (None, "ed")
            assert not header.keys() & {"crit", "b64", "enc", "zip"}
            assert header.get("typ", "JWT").lower().removeprefix("application/") in ("jwt", "at+jwt")
    elif kind == 3 and text:
        claims = base64.urlsafe_b64encode(text).rstrip(b"=").decode()
        found = verified(Signer(clock=lambda: NOW).signed(b64(GOOD), claims, "EdDSA", "ed"))
        if found is not None:
            check_claims(found, json.loads(text.decode(), object_pairs_hook=once))


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a name that stands twice"
    return dict(pairs)


def check_claims(found: tuple[Bearer, float, Jwt], claims: dict[str, Any]) -> None:
    bearer, until, _ = found
    assert claims["iss"] == ISSUER
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    assert AUDIENCE in audience
    assert not isinstance(claims["exp"], bool)
    assert NOW < until == claims["exp"] + 30
    assert all(claims.get(name, 0) <= NOW + 30 for name in ("nbf", "iat"))
    assert bearer.name == claims["sub"]
    assert bearer.id == f"{ISSUER}#{claims['sub']}"
    assert bearer.name.isprintable()
    groups = claims.get("groups")
    may = groups == "ml-team" or (isinstance(groups, list) and "ml-team" in groups)
    assert bearer.roles == (("internal",) if may else ())


def check_fields(text: bytes) -> None:
    """Lines `name: value`; a key opens only where its very secret stands, and no other credential beside it."""
    fields = {name.lower(): value.strip(b" \t") for name, _, value in (line.partition(b":") for line in text.split(b"\n"))}
    shown = {fields[name] for name in (b"x-api-key", b"api-key") if name in fields}
    authorization = fields.get(b"authorization")
    if authorization is not None:
        scheme, _, rest = authorization.partition(b" ")
        shown.add(rest.strip(b" ") if scheme.lower() == b"bearer" else b"no bearer")
    for snapshot in SNAPSHOTS:
        answer = identify(snapshot, fields, NOW)
        if isinstance(answer, Refuse):
            assert answer.code == "invalid_api_key"
            assert shown != {SECRET}, "the key was refused"
        elif isinstance(answer, Unverified):
            assert authorization is not None
            assert snapshot.auth.signed or snapshot.auth.opaque
            assert shown == {answer.token.encode()}
        else:
            assert shown == {SECRET}, "it opened to something else"


def seeds() -> Iterable[bytes]:
    yield b"\0authorization: Bearer " + SECRET
    yield b"\0x-api-key: " + SECRET + b"\napi-key: " + SECRET
    yield b"\0authorization: bearer  a.b.c\ncookie: x"
    yield b"\0authorization: Basic x\nx-api-key:" + SECRET
    signer = Signer(clock=lambda: NOW)
    for token in sorted(issued()):
        yield b"\1" + token.encode()
    for attack in ATTACKS.values():
        token = attack(signer)
        if len(token) < 3000:
            yield b"\1" + token.encode("utf-8")
            head, _, rest = token.partition(".")
            for kind, part in ((b"\2", head), (b"\3", rest.partition(".")[0])):
                yield kind + base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    yield b"\2" + json.dumps(GOOD).encode()
    yield b"\3" + json.dumps(signer.claims(groups="ml-team")).encode()


TARGET = Target(check, seeds, 3000)
