"""Question 1: which credential a head shows, and whether it opens a key at that second.

Every wrong credential gets the same refusal; only none at all and two different ones are told apart.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from slmgate.policy.certificates import Certificate, CertificateSpec
from slmgate.policy.identify import MAX_SECRET, MAX_TOKEN, WRONG, Unverified, credential, identify, not_from_here
from slmgate.policy.keytable import KeyTable
from slmgate.policy.snapshot import Snapshot
from slmgate.policy.specs import AuthSpec, SnapshotSpec
from slmgate.terms import Bearer, Key, Principal, Refuse

SECRET = b"sk-slm-0123456789abcdef"
OTHER = b"sk-slm-rotated-89abcdef"
BEARER = {b"authorization": b"Bearer " + SECRET}


def digest(secret: bytes) -> bytes:
    return sha256(secret).digest()


def snapshot(*keys: Key) -> Snapshot:
    return Snapshot(SnapshotSpec(generation=1), KeyTable(keys))


def opened(answer: object) -> tuple[str, float]:
    """Whose id was found, and until when."""
    assert isinstance(answer, tuple)
    return answer[0].id, answer[1]


def message(answer: object) -> str:
    assert isinstance(answer, Refuse)
    assert answer.code == "invalid_api_key"
    return answer.message


@pytest.mark.parametrize(
    "fields",
    [
        BEARER,
        {b"authorization": b"bearer " + SECRET},
        {b"authorization": b"BEARER " + SECRET},
        {b"x-api-key": SECRET},
        {b"api-key": SECRET},
        {b"x-api-key": SECRET, b"api-key": SECRET},
        {**BEARER, b"x-api-key": SECRET},
        {**BEARER, b"x-api-key": SECRET, b"api-key": SECRET, b"cookie": b"x"},
    ],
)
def test_one_credential(fields: dict[bytes, bytes]) -> None:
    assert credential(fields) == SECRET


@pytest.mark.parametrize("fields", [{}, {b"cookie": SECRET}, {b"proxy-authorization": b"Bearer " + SECRET}])
def test_none(fields: dict[bytes, bytes]) -> None:
    assert "No API key" in message(credential(fields))


@pytest.mark.parametrize(
    "fields",
    [
        {**BEARER, b"x-api-key": OTHER},
        {**BEARER, b"api-key": OTHER},
        {b"x-api-key": SECRET, b"api-key": OTHER},
        {**BEARER, b"x-api-key": b""},
        {**BEARER, b"x-api-key": SECRET, b"api-key": OTHER},
    ],
)
def test_two(fields: dict[bytes, bytes]) -> None:
    assert "Two different" in message(credential(fields))


@pytest.mark.parametrize(
    "fields",
    [
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": SECRET},
        {b"authorization": b"Bearer\t" + SECRET},
        {b"authorization": b"Basic " + SECRET},
        {b"authorization": b"Basic " + SECRET, b"x-api-key": SECRET},
        {b"x-api-key": b""},
    ],
)
def test_malformed(fields: dict[bytes, bytes]) -> None:
    assert "not valid" in message(credential(fields))


@pytest.mark.parametrize(("size", "looked_at"), [(0, False), (1, True), (MAX_SECRET, True), (MAX_SECRET + 1, False)])
def test_the_bound_of_a_secret(size: int, looked_at: bool) -> None:
    secret = b"x" * size
    key = Key(id="k", name="n", digests=((digest(secret), None),))
    assert isinstance(identify(snapshot(key), {b"x-api-key": secret}, 0.0), tuple) is looked_at


def test_a_key_is_opened_by_each_of_its_secrets() -> None:
    key = Key(id="k1", name="bot", digests=((digest(SECRET), None), (digest(OTHER), 100.0)))
    gate = snapshot(key)
    assert opened(identify(gate, BEARER, 50.0)) == ("k1", float("inf"))
    assert opened(identify(gate, {b"x-api-key": OTHER}, 50.0)) == ("k1", 100.0)


@pytest.mark.parametrize(("now", "opens"), [(99.9, True), (100.0, False), (100.1, False)])
@pytest.mark.parametrize(
    "key",
    [
        Key(id="k", name="n", expires=100.0, digests=((digest(SECRET), None),)),
        Key(id="k", name="n", digests=((digest(SECRET), 100.0),)),
        Key(id="k", name="n", expires=100.0, digests=((digest(SECRET), 200.0),)),
        Key(id="k", name="n", expires=200.0, digests=((digest(SECRET), 100.0),)),
    ],
    ids=["key expires", "secret ends", "key first", "secret first"],
)
def test_the_second_of_its_end(key: Key, now: float, opens: bool) -> None:
    answer = identify(snapshot(key), BEARER, now)
    assert (not isinstance(answer, Refuse) and opened(answer) == ("k", 100.0)) is opens


def test_whatever_is_wrong_the_refusal_is_the_same() -> None:
    digests = ((digest(SECRET), None),)
    answers = [
        identify(snapshot(), BEARER, 0.0),
        identify(snapshot(Key(id="k", name="n", disabled=True, digests=digests)), BEARER, 0.0),
        identify(snapshot(Key(id="k", name="n", expires=0.0, digests=digests)), BEARER, 0.0),
        identify(snapshot(Key(id="k", name="n", digests=((digest(SECRET), -1.0),))), BEARER, 0.0),
        identify(snapshot(Key(id="k", name="n", digests=digests)), {b"x-api-key": SECRET + b"x"}, 0.0),
        identify(snapshot(Key(id="k", name="n", digests=digests)), {b"authorization": b"Basic x"}, 0.0),
    ]
    assert [answer is answers[0] and isinstance(answer, Refuse) for answer in answers] == [True] * 6


def test_a_digest_is_not_a_secret() -> None:
    key = Key(id="k", name="n", digests=((digest(SECRET), None),))
    assert isinstance(identify(snapshot(key), {b"x-api-key": digest(SECRET)}, 0.0), Refuse)


def test_a_principal_in_the_wrong_place() -> None:
    refused = not_from_here(Key(id="k", name="bot", networks=("10.0.0.0/8",)))
    assert (refused.code, refused.rule) == ("permission_denied", "keys.bot.networks")
    assert "10.0" not in refused.message


TOKEN = b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib3QifQ.c2ln"
HOLDER = Bearer(id="https://i#bot", name="bot", kind="token", grounds="g")
ANYBODY = Principal(id="anonymous", name="anonymous", kind="anonymous")


def taking(
    known: dict[bytes, tuple[Bearer | Refuse, float]] | None = None,
    signed: bool = True,
    opaque: bool = False,
    anonymous: Principal | None = None,
    keys: tuple[Key, ...] = (),
) -> Snapshot:
    auth = AuthSpec(signed=signed, opaque=opaque, anonymous=anonymous)
    return Snapshot(SnapshotSpec(generation=1, auth=auth), KeyTable(keys), known or {})


def bearing(token: bytes) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + token}


def test_a_token_that_nobody_has_vouched_for() -> None:
    found = identify(taking(), bearing(TOKEN), 0.0)
    assert found == Unverified(TOKEN.decode(), digest(TOKEN))
    assert repr(found) == "<Unverified>"


@pytest.mark.parametrize(("now", "known"), [(0.0, True), (9.9, True), (10.0, False)])
def test_a_token_that_was_verified(now: float, known: bool) -> None:
    gate = taking({digest(TOKEN): (HOLDER, 10.0)})
    found = identify(gate, bearing(TOKEN), now)
    assert (found == (HOLDER, 10.0)) is known
    assert isinstance(found, Unverified) is not known


def test_a_token_that_was_refused_a_moment_ago() -> None:
    no = Refuse("invalid_api_key", "No.")
    gate = taking({digest(TOKEN): (no, 10.0)})
    assert identify(gate, bearing(TOKEN), 9.0) is no
    assert isinstance(identify(gate, bearing(TOKEN), 10.0), Unverified)


@pytest.mark.parametrize(
    ("token", "signed", "opaque"),
    [
        (TOKEN, True, True),
        (b"opaque", False, True),
        (b"a.b.c", True, True),
        (b"A-._~+/9==", False, True),
        (b"x" * MAX_TOKEN, False, True),
        (b"x" * (MAX_TOKEN + 1), False, False),
        (b"a b", False, False),
        (b"a.b.c\xe9", False, False),
        (b"a=b", False, False),
        (b"a.b.c.d.e", False, True),
        (b"sk-slm-0123456789abcdef", False, False),
        (b"sk-slm-0123.456789.abcdef", False, False),
    ],
)
def test_what_may_be_asked_about(token: bytes, signed: bool, opaque: bool) -> None:
    """Signed tokens have three parts; anything that RFC 6750 lets a token be is asked about where opaque ones are taken."""
    assert isinstance(identify(taking(), bearing(token), 0.0), Unverified) is signed
    assert isinstance(identify(taking(opaque=True), bearing(token), 0.0), Unverified) is opaque
    assert identify(taking(signed=False), bearing(token), 0.0) is WRONG


def test_only_the_authorization_field_carries_tokens() -> None:
    gate = taking(opaque=True)
    assert identify(gate, {b"x-api-key": TOKEN}, 0.0) is WRONG
    assert identify(gate, {b"api-key": TOKEN}, 0.0) is WRONG
    assert isinstance(identify(gate, {**bearing(TOKEN), b"x-api-key": TOKEN}, 0.0), Unverified)


def test_a_key_comes_first() -> None:
    key = Key(id="k", name="n", expires=10.0, digests=((digest(TOKEN), None),))
    gate = taking(opaque=True, keys=(key,))
    found = identify(gate, bearing(TOKEN), 0.0)
    assert isinstance(found, tuple) and (found[0].id, found[1]) == ("k", 10.0)
    assert identify(gate, bearing(TOKEN), 10.0) is WRONG, "nobody else is asked about a key of ours"


def test_who_shows_nothing_may_be_anonymous_and_nobody_else() -> None:
    gate = taking(anonymous=ANYBODY)
    assert identify(gate, {b"cookie": b"x"}, 0.0) == (ANYBODY, float("inf"))
    assert isinstance(identify(taking(), {}, 0.0), Refuse)
    for fields in (
        {b"authorization": b""},
        {b"authorization": b"Basic x"},
        {b"authorization": b"Bearer "},
        {b"x-api-key": b""},
        {b"api-key": b"wrong"},
        {b"x-api-key": b"a", b"api-key": b"b"},
    ):
        assert isinstance(identify(gate, fields, 0.0), Refuse), fields


def test_a_certificate_counts_where_nothing_else_is_shown() -> None:
    shown = Certificate({"subject_cn": ("bot",)}, "ca", 10.0)
    spec = AuthSpec(certificates=CertificateSpec(roles=("internal",)), anonymous=ANYBODY)
    gate = Snapshot(SnapshotSpec(generation=1, auth=spec), KeyTable([Key(id="k", name="n", digests=((digest(SECRET), None),))]))
    found = identify(gate, {b"x-client-cert": b"CN=root"}, 0.0, shown)
    assert isinstance(found, tuple) and (found[0].name, found[0].kind, found[1]) == ("bot", "certificate", 10.0)
    assert opened(identify(gate, BEARER, 0.0, shown))[0] == "k", "a key decides alone"
    for fields in ({b"authorization": b"Basic x"}, {b"x-api-key": b"wrong"}, {b"x-api-key": b"a", b"api-key": b"b"}):
        assert isinstance(identify(gate, fields, 0.0, shown), Refuse), "a wrong credential is not mended by a certificate"
    assert "expired" in message(identify(gate, {}, 10.0, shown)), "nor does one that is over become anonymous"
    assert "common name" in message(identify(gate, {}, 0.0, Certificate({}, "ca", 10.0)))
    assert identify(gate, {}, 0.0) == (ANYBODY, float("inf"))
    assert identify(taking(anonymous=ANYBODY), {}, 0.0, shown) == (ANYBODY, float("inf")), "without a rule it opens nothing"
    assert "No API key" in message(identify(taking(), {}, 0.0, shown))
