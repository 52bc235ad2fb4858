"""A key's life from issue to revocation, on a clock that the test holds; the store is SQLite in the test's directory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slmgate.control.keyring import (
    BadKeyInput,
    KeyRevoked,
    Keyring,
    UnknownKey,
    check_name,
    parse_duration,
    parse_expiry,
    parse_moment,
    utc_now,
)
from slmgate.stores.base import NameTaken
from slmgate.stores.sql import SqlStore, open_store

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
    (key,) = keyring.as_terms()
    assert (key.id, key.name, key.team, key.disabled, key.expires) == (record.id, "bot", "acme", False, NOON.timestamp() + 3600)
    assert key.digests == ((digest(secret), None),)
    assert [each.id for each in keyring.all()] == [record.id, revoked.id]


def test_rotation_with_overlap(keyring: Keyring, clock: Clock) -> None:
    _, first = keyring.create("bot")
    _, second = keyring.rotate("bot", 24 * HOUR)
    assert keyring.as_terms()[0].digests == ((digest(first), (NOON + 24 * HOUR).timestamp()), (digest(second), None))
    clock.now += HOUR
    _, third = keyring.rotate("bot", 48 * HOUR)  # the first one's end is not moved out
    assert [until for _, until in keyring.as_terms()[0].digests] == [
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
    assert keyring.as_terms()[0].disabled
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
    keyring.on_change.append(lambda: told.append(len(store.audit(99))))
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
    assert told == [1, 2, 3, 4, 5]  # after the store has it


def test_refusals(keyring: Keyring) -> None:
    told: list[None] = []
    keyring.create("bot")
    keyring.on_change.append(lambda: told.append(None))
    with pytest.raises(NameTaken):
        keyring.create("bot")
    with pytest.raises(BadKeyInput, match="past"):
        keyring.create("late", expires=NOON)
    with pytest.raises(BadKeyInput, match="team"):
        keyring.create("new", team="")
    with pytest.raises(UnknownKey, match="keys list"):
        keyring.show("none")
    assert told == []


@pytest.mark.parametrize("name", ["a", "a" * 64, "Ann's bot", "büro", "日本", "a/b", "👍", "=1+1"])
def test_good_names(name: str) -> None:
    check_name(name, "name")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 65,
        " a",
        "a ",
        "a\n",
        "a\tb",
        "\x00",
        "a\x1b[31m",
        "a\u202eb",
        "a\u200bb",
        "\ud800",
        "a\u2028b",
        "\u00a0a",
        "\x85",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(BadKeyInput):
        check_name(name, "name")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("500ms", 0.5), ("90s", 90), ("5m", 300), ("24h", 86400), ("30d", 2592000), (" 1h ", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


BAD_DURATIONS = ["", "1", "h", "-1h", "1.5h", "1 h", "1w", "1h\n1", "٣h", "9" * 10 + "s", "1h30m"]


@pytest.mark.parametrize("text", [*BAD_DURATIONS, "999999999d1", "999999999999d"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(BadKeyInput, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expiry"),
    [
        ("never", None),
        ("30d", NOON + timedelta(days=30)),
        ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T12:00:00", datetime(2027, 1, 1, 12, tzinfo=UTC)),
        ("2027-01-01T12:00:00Z", datetime(2027, 1, 1, 12, tzinfo=UTC)),
        ("2027-01-01T12:00:00+02:00", datetime(2027, 1, 1, 10, tzinfo=UTC)),
    ],
)
def test_expiries(text: str, expiry: datetime | None) -> None:
    assert parse_expiry(text, NOON) == expiry


@pytest.mark.parametrize(
    "text", [*BAD_DURATIONS, "2027-13-01", "tomorrow", "999999999d", "9999999d", "0001-01-01T00:00:00+23:00"]
)
def test_bad_expiries(text: str) -> None:
    with pytest.raises(BadKeyInput):
        parse_expiry(text, NOON)


def test_moments() -> None:
    assert parse_moment("2h", NOON) == NOON - 2 * HOUR
    assert parse_moment("2026-11-01", NOON) == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_moment("9999999d", NOON).year == 1970
    assert utc_now().tzinfo is UTC
