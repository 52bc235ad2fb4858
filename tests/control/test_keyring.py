"""A key's life from issue to revocation, on a clock that the test holds; the store is SQLite in the test's directory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.options import DeclaredKey
from slmgate.control.keyfields import BadKeyInput
from slmgate.control.keyring import (
    KeyDeclared,
    KeyRevoked,
    Keyring,
    UnknownKey,
    as_term,
    new_id,
    new_secret,
    utc_now,
)
from slmgate.stores.records import KeyFilter, KeyRecord, KeySecret, NameTaken, SecretTaken
from slmgate.stores.sql import SqlStore, open_store
from slmgate.terms import Key

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger.db")
    yield store
    store.close()


@pytest.fixture
def keyring(store: SqlStore, clock: Clock) -> Keyring:
    return Keyring(store, clock)


def everything(keyring: Keyring) -> list[KeyRecord]:
    return keyring.page(KeyFilter(), 1000)


def on_the_road(keyring: Keyring) -> list[Key]:
    """The live keys; what each is told as when it changes is the same as what a start reads."""
    live = list(keyring.live())
    assert live == [as_term(record) for record in everything(keyring) if record.revoked is None]
    return live


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def test_a_secret_has_its_form_and_only_its_digest_stays(keyring: Keyring, tmp_path: Path, store: SqlStore) -> None:
    record, secret = keyring.create("bot", team="acme")
    assert re.fullmatch(rf"sk-slm-{record.id}-[A-Za-z0-9_-]{{43}}", secret)
    assert re.fullmatch("[a-z2-7]{12}", record.id)
    assert [each.digest for each in record.secrets] == [digest(secret)]
    store.close()
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes()
        assert secret[-43:].encode() not in file.read_bytes()


def test_what_the_road_gets(keyring: Keyring, clock: Clock) -> None:
    record, secret = keyring.create("bot", team="acme", expires=NOON + HOUR)
    clock.now += timedelta(seconds=1)
    revoked, _ = keyring.create("old")
    keyring.revoke("old")
    (key,) = on_the_road(keyring)
    assert (key.id, key.name, key.team, key.disabled, key.expires) == (record.id, "bot", "acme", False, NOON.timestamp() + 3600)
    assert key.digests == ((digest(secret), None),)
    assert [each.id for each in everything(keyring)] == [record.id, revoked.id]


def test_rotation_with_overlap(keyring: Keyring, clock: Clock) -> None:
    _, first = keyring.create("bot")
    _, second = keyring.rotate("bot", 24 * HOUR)
    assert on_the_road(keyring)[0].digests == ((digest(first), (NOON + 24 * HOUR).timestamp()), (digest(second), None))
    clock.now += HOUR
    _, third = keyring.rotate("bot", 48 * HOUR)  # the first one's end is not moved out
    assert [until for _, until in on_the_road(keyring)[0].digests] == [
        (NOON + 24 * HOUR).timestamp(),
        (NOON + 49 * HOUR).timestamp(),
        None,
    ]
    clock.now += 30 * HOUR
    record, fourth = keyring.rotate("bot", HOUR)  # those past their end are dropped
    assert [each.digest for each in record.secrets] == [digest(second), digest(third), digest(fourth)]


def test_rotation_without_overlap(keyring: Keyring) -> None:
    keyring.create("bot")
    record, secret = keyring.rotate("bot")
    assert [each.digest for each in record.secrets] == [digest(secret)]


@pytest.mark.parametrize("overlap", [timedelta(microseconds=-1), timedelta(days=366, microseconds=1)])
def test_an_overlap_out_of_bounds(keyring: Keyring, overlap: timedelta) -> None:
    keyring.create("bot")
    with pytest.raises(BadKeyInput, match="overlap"):
        keyring.rotate("bot", overlap)


def test_disable_and_enable(keyring: Keyring) -> None:
    keyring.create("bot")
    assert keyring.disable("bot").disabled
    assert keyring.disable("bot").disabled
    assert on_the_road(keyring)[0].disabled
    assert not keyring.enable("bot").disabled


def test_revocation_is_for_good(keyring: Keyring, clock: Clock) -> None:
    first, _ = keyring.create("bot")
    revoked = keyring.revoke("bot")
    assert (revoked.revoked, revoked.secrets) == (NOON, ())
    clock.now += HOUR
    assert keyring.revoke(first.id) == revoked
    for change in (keyring.rotate, keyring.disable, keyring.enable):
        with pytest.raises(KeyRevoked, match="cannot be undone"):
            change(first.id)
    second, _ = keyring.create("bot")
    assert keyring.show("bot") == second
    assert keyring.show(first.id) == revoked


def test_states(keyring: Keyring, clock: Clock) -> None:
    record, _ = keyring.create("bot", expires=NOON + HOUR)
    assert keyring.state_of(record) == "active"
    assert keyring.state_of(keyring.disable("bot")) == "disabled"
    record = keyring.enable("bot")
    clock.now += HOUR
    assert keyring.state_of(record) == "expired"
    assert keyring.state_of(keyring.revoke("bot")) == "revoked"


def test_every_change_is_audited_and_told(keyring: Keyring, store: SqlStore) -> None:
    told = []
    keyring.on_change.append(lambda records: told.append((len(store.audit(99)), [one.name for one in records])))
    record, secret = keyring.create("bot", team="acme", expires=NOON + HOUR, actor="ann")
    keyring.rotate("bot", HOUR)
    keyring.disable("bot")
    keyring.disable("bot")
    keyring.enable("bot")
    keyring.revoke("bot")
    lines = store.audit(99)[::-1]
    assert [line.action for line in lines] == ["key.create", "key.rotate", "key.disable", "key.enable", "key.revoke"]
    assert {line.target for line in lines} == {record.id}
    assert lines[0].detail == {"name": "bot", "team": "acme", "expires": (NOON + HOUR).isoformat()}
    assert lines[0].actor == "ann"
    assert secret not in str(lines)
    assert told == [(count, ["bot"]) for count in range(1, 6)]  # after the store has it


def test_refusals(keyring: Keyring) -> None:
    told: list[object] = []
    keyring.create("bot")
    keyring.on_change.append(told.append)
    with pytest.raises(NameTaken):
        keyring.create("bot")
    with pytest.raises(BadKeyInput, match="past"):
        keyring.create("late", expires=NOON)
    with pytest.raises(BadKeyInput, match="team"):
        keyring.create("new", team="")
    with pytest.raises(UnknownKey, match="keys list"):
        keyring.show("none")
    assert told == []


def test_everything_that_a_key_can_have(keyring: Keyring, store: SqlStore) -> None:
    record, _ = keyring.create(
        "bot", "acme", ("a", "b", "a"), NOON + HOUR, owner="jane", tags=("env:prod",), networks=("10.0.0.0/8", "::1"),
        limits=("60/minute", "{limit: 4 concurrent, raised: {to: 8 concurrent, until: 2030-01-01}}"),
    )  # fmt: skip
    assert keyring.show("bot") == record
    assert (record.owner, record.team, record.roles, record.tags) == ("jane", "acme", ("a", "b"), ("env:prod",))
    assert record.networks == ("10.0.0.0/8", "::1/128")
    (key,) = on_the_road(keyring)
    assert (key.roles, key.networks, key.team, key.limits) == (record.roles, record.networks, "acme", record.limits)
    assert [limit.text for limit in key.limits] == ["60 requests/minute", "4 concurrent"]
    assert store.audit(1)[0].detail == {
        "name": "bot", "owner": "jane", "team": "acme", "roles": "a, b", "tags": "env:prod", "networks": "10.0.0.0/8, ::1/128",
        "limits": "60 requests/minute, {limit: 4 concurrent, raised: {to: 8 concurrent, until: 2030-01-01T00:00:00Z}}",
        "expires": (NOON + HOUR).isoformat(),
    }  # fmt: skip


def test_edit(keyring: Keyring, store: SqlStore) -> None:
    keyring.create("bot", "acme", ("a",), owner="jane", tags=("t",))
    told: list[object] = []
    keyring.on_change.append(told.append)
    edited = keyring.edit("bot", {"owner": "joe", "team": None, "roles": ["b"], "expires": NOON + HOUR}, "ann")
    assert (edited.owner, edited.team, edited.roles, edited.tags, edited.expires) == ("joe", None, ("b",), ("t",), NOON + HOUR)
    assert keyring.show("bot") == edited
    assert told == [[edited]]
    line = store.audit(1)[0]
    expected = {"owner": "joe", "team": "none", "roles": "b", "expires": (NOON + HOUR).isoformat()}
    expected |= {"owner.before": "jane", "team.before": "acme", "roles.before": "a", "expires.before": "none"}
    assert (line.action, line.actor, line.detail) == ("key.edit", "ann", expected)
    assert keyring.edit("bot", {"owner": "joe"}) == edited  # nothing changes: nothing is told
    assert len(told) == 1
    assert keyring.edit("bot", {"expires": None, "tags": (), "networks": ["192.0.2.1"]}).networks == ("192.0.2.1/32",)


def test_limits_stay_with_a_key_that_is_rotated(keyring: Keyring) -> None:
    record, _ = keyring.create("bot", limits=["2/minute"])
    assert keyring.rotate("bot")[0].limits == keyring.show("bot").limits == record.limits
    edited = keyring.edit("bot", {"limits": ["5/minute", "4 concurrent"]})
    assert [limit.text for limit in edited.limits] == ["5 requests/minute", "4 concurrent"]
    assert edited.limits[0].identity == record.limits[0].identity  # what was used stays used
    assert on_the_road(keyring)[0].limits == edited.limits
    assert keyring.edit("bot", {"limits": []}).limits == ()


def test_limits_of_money_are_those_of_the_team(keyring: Keyring) -> None:
    config = load_text(
        "models: {tiny: {instances: [{url: 'http://10.0.0.1:8000'}]}}\nteams: {a: {plan: e}, b: {plan: d}}\n"
        "plans: {e: {currency: EUR, prices: {tiny: {prompt: 1/1M}}}, d: {currency: USD, prices: {tiny: {prompt: 1/1M}}}}"
    ).unwrap()
    keyring.create("before", limits=["1 GBP/day"])
    keyring.config = lambda: config
    keyring.create("bot", "a", limits=["1 EUR/day"])
    with pytest.raises(BadKeyInput, match="counts in USD"):
        keyring.create("other", "b", limits=["1 EUR/day"])
    with pytest.raises(BadKeyInput, match="counts in USD"):
        keyring.edit("bot", {"team": "b"})
    assert keyring.edit("bot", {"team": "b", "limits": ["1 USD/day"]}).team == "b"
    assert keyring.edit("before", {"owner": "jane"}).owner == "jane"  # another field: what is there already is not in the way


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"owner": ""}, "owner"),
        ({"team": "a\n"}, "team"),
        ({"roles": ["no role"]}, "role"),
        ({"tags": ["a b"]}, "tag"),
        ({"networks": ["10.0.0.1/8"]}, "prefix"),
        ({"limits": ["60 foo/minute"]}, "unknown unit"),
        ({"expires": NOON}, "past"),
    ],
)
def test_a_bad_edit_changes_nothing(keyring: Keyring, changes: dict[str, object], message: str) -> None:
    record, _ = keyring.create("bot")
    with pytest.raises(BadKeyInput, match=message):
        keyring.edit("bot", {"owner": "jane", **changes})
    assert keyring.show("bot") == record


def test_roles_are_those_of_the_configuration(keyring: Keyring) -> None:
    keyring.roles = lambda: {"a", "b"}
    keyring.create("bot", roles=("a",))
    with pytest.raises(BadKeyInput, match="no role 'c'; there are a, b"):
        keyring.create("other", roles=("c",))


def test_declared_keys_are_changed_where_they_stand(keyring: Keyring) -> None:
    keyring.create("both")
    declared = [DeclaredKey(name=name, hash=name.encode() * 8) for name in ("here", "both")]
    keyring.declared = lambda: declared
    assert keyring.find_declared("here") is keyring.find_declared("declared:here") is declared[0]
    for key in ("here", "declared:here"):
        for change in (keyring.rotate, keyring.disable, keyring.enable, keyring.revoke, lambda key: keyring.edit(key, {})):
            with pytest.raises(KeyDeclared, match="declared in the configuration"):
                change(key)
    with pytest.raises(KeyDeclared):
        keyring.create("here")
    assert keyring.disable("both").disabled  # a stored key of this name was there before
    with pytest.raises(UnknownKey):
        keyring.revoke("none")


def test_keys_made_elsewhere(keyring: Keyring, store: SqlStore) -> None:
    told: list[list[KeyRecord]] = []
    keyring.on_change.append(lambda records: told.append(list(records)))
    made = [KeyRecord(id=f"k{n}", name=f"n{n}", created=NOON, secrets=(KeySecret(b"%032d" % n, NOON),)) for n in range(3)]
    keyring.add(made, "ann")
    assert everything(keyring) == made
    assert told == [made]
    line = store.audit(1)[0]
    assert (line.action, line.actor, line.target, line.detail) == ("key.import", "ann", "3 keys", {"count": "3"})
    assert keyring.taken(made[1:]) == [(0, "id", "k1"), (0, "name", "k1"), (0, "secret", "k1"), (1, "id", "k2"),
                                       (1, "name", "k2"), (1, "secret", "k2")]  # fmt: skip
    other = KeyRecord(id="x", name="x", created=NOON, secrets=(KeySecret(b"h" * 32, NOON),))
    assert keyring.taken([other]) == []
    keyring.declared = lambda: [DeclaredKey(name="x", hash=b"h" * 32)]
    assert keyring.taken([other]) == [(0, "name", "declared:x"), (0, "secret", "declared:x")]
    with pytest.raises(SecretTaken):
        keyring.add([KeyRecord(id="y", name="y", created=NOON, secrets=made[0].secrets)])
    assert len(told) == 1
    assert [record.id for record in everything(keyring)] == ["k0", "k1", "k2"]


def test_new_ones() -> None:
    assert new_id() != new_id()
    assert new_secret("a")[0].startswith("sk-slm-a-")
    assert utc_now().tzinfo is UTC
