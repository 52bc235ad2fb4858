"""Question 1: which credential a head shows, and whether it opens a key at that second.

Every wrong credential gets the same refusal; only none at all and two different ones are told apart.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from slmgate.policy.identify import MAX_SECRET, credential, identify, not_from_here
from slmgate.policy.keytable import KeyTable
from slmgate.policy.snapshot import Snapshot, SnapshotSpec
from slmgate.terms import Key, Refuse

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
    assert (credential({b"x-api-key": secret}) == secret) is looked_at


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
