"""Keys in files: what is read from them, what is wrong with it and on which line, all or none, and out again as it came in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from slmgate.cli.show import csv_text
from slmgate.control import keyfiles
from slmgate.control.config.options import DeclaredKey
from slmgate.control.keyfiles import COLUMNS, BadKeyFile, KeyRow, cells, exported, import_keys, read_rows, with_secrets
from slmgate.control.keyring import Keyring
from slmgate.stores.records import KeyFilter, KeyRecord
from slmgate.stores.sql import SqlStore, open_store

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HASH = "sha256:" + "0a" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger.db")
    yield store
    store.close()


@pytest.fixture
def keyring(store: SqlStore) -> Keyring:
    return Keyring(store, lambda: NOON)


def stored(keyring: Keyring) -> list[KeyRecord]:
    return keyring.page(KeyFilter(), 1000)


def faults(text: str) -> list[str]:
    with pytest.raises(BadKeyFile) as caught:
        read_rows(text)
    return str(caught.value).split("\n")[1:]


def refused(keyring: Keyring, *rows: KeyRow) -> list[str]:
    before = stored(keyring)
    with pytest.raises(BadKeyFile) as caught:
        import_keys(keyring, rows, "ann")
    assert stored(keyring) == before
    return str(caught.value).split("\n")[1:]


FULL = KeyRow(
    name="bot", id="k1", owner="jane", team="acme", roles=("a", "b"), tags=("t",), networks=("10.0.0.0/8",),
    limits=("60 requests/minute", "{limit: 5 concurrent, raised: {to: 9 concurrent, until: 2030-01-01T00:00:00Z}}"),
    created="2026-01-01", expires="2027-01-01", disabled=True, hash=HASH, line=2,
)  # fmt: skip


def test_lines_of_json() -> None:
    text = """{"name": "a"}

  {"name": "b", "roles": ["x"], "hash": "sha256:00"}
"""
    assert read_rows("\ufeff" + text) == [KeyRow(name="a", line=1), KeyRow(name="b", roles=("x",), hash="sha256:00", line=3)]
    text = msgspec.json.encode(FULL).decode()
    assert read_rows(text) == [msgspec.structs.replace(FULL, line=1)]


def test_csv() -> None:
    text = (
        "name, id,owner,team,roles,tags,networks,limits,created,expires,disabled,hash\r\n"
        f'bot,k1,jane,acme,a b,t,10.0.0.0/8,"{"; ".join(FULL.limits)} ;",2026-01-01,2027-01-01,TRUE,{HASH}\r\n'
        "\r\n"
        '"two\nlines",,,,,,,,,,,\r\n'
        "'=x,,,,,,,,,,false,\r\n"
    )
    rows = read_rows(text)
    assert rows == [FULL, KeyRow(name="two\nlines", line=5), KeyRow(name="=x", line=6)]
    assert read_rows("name\n") == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["line 1: the first line names the columns"]),
        ("id\na\n", ["line 1: the first line names the columns"]),
        ("name,nmae\n", ["line 1: the first line names the columns"]),
        ("name,name\n", ["line 1: the first line names the columns"]),
        ("name,id\na\nb,c,d\nok,\n", ["line 2: there are 1 cells for 2", "line 3: there are 3 cells for 2"]),
        ("name,disabled\na,perhaps\n", ["line 2: Expected `bool`"]),
        ('name\n"a', ["line 2: unexpected end of data"]),
        ('{"name": "a"}\n{"nme": 1}\n{"name": 1}\n{', ["line 2: ", "line 3: ", "line 4: "]),
        ('{"name": "a", "secret": "x"}', ["line 1: "]),
        ('{"name": "\ud800"}', ["line 1: "]),
        ("{" * 5000, ["line 1: "]),
    ],
)
def test_files_that_cannot_be_read(text: str, lines: list[str]) -> None:
    found = faults(text)
    assert [told.startswith(line) for told, line in zip(found, lines, strict=True)] == [True] * len(lines), found


def test_a_secret_for_who_has_none(keyring: Keyring) -> None:
    made = import_keys(keyring, [KeyRow(name="old", hash=HASH), KeyRow(name="new"), KeyRow(name="kept", id="my-id")], "ann")
    assert [(one.name, one.secret.startswith(f"sk-slm-{one.id}-")) for one in made] == [("new", True), ("kept", True)]
    old, new, kept = stored(keyring)
    assert (kept.id, new.id) == (made[1].id, made[0].id) == ("my-id", made[0].id)
    assert [one.secrets[0].digest for one in (old, new, kept)] == [
        b"\n" * 32, *(hashlib.sha256(one.secret.encode()).digest() for one in made)
    ]  # fmt: skip


def test_who_makes_secrets_keeps_them() -> None:
    rows = [KeyRow(name="a", hash=HASH), KeyRow(name="b")]
    (made,) = with_secrets(rows)
    assert rows[0].hash == HASH
    assert rows[1].hash == "sha256:" + hashlib.sha256(made.secret.encode()).hexdigest()
    assert with_secrets(rows) == []


def test_every_field_arrives(keyring: Keyring) -> None:
    import_keys(keyring, [FULL], "ann")
    (record,) = stored(keyring)
    assert (record.id, record.name, record.owner, record.team) == ("k1", "bot", "jane", "acme")
    assert (record.roles, record.tags, record.networks) == (("a", "b"), ("t",), ("10.0.0.0/8",))
    assert [limit.text for limit in record.limits] == ["60 requests/minute", "5 concurrent"]
    assert (record.created, record.expires, record.disabled) == (
        datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), True,
    )  # fmt: skip


def test_a_dry_run_changes_nothing(keyring: Keyring, store: SqlStore) -> None:
    assert import_keys(keyring, [FULL, KeyRow(name="new")], "ann", dry_run=True) == []
    assert (stored(keyring), store.audit(9)) == ([], [])
    with pytest.raises(BadKeyFile):
        import_keys(keyring, [FULL, FULL], "ann", dry_run=True)
    assert import_keys(keyring, [], "ann") == []


def test_what_is_wrong_is_told_by_line(keyring: Keyring) -> None:
    rows = [
        KeyRow(name="a", hash=HASH),
        KeyRow(name="a", id="x y", hash=HASH),
        KeyRow(name="", owner="b\n", hash="sk-secret"),
        KeyRow(name="c", roles=("no role",), tags=("a b",), networks=("10.0.0.1/8",), limits=("5/foo", "x")),
        KeyRow(name="d", expires="soon", created="once"),
        KeyRow(name="e", hash=f"{HASH[:-2]}ff {HASH[:-2]}ff@then", line=99),
    ]
    told = refused(keyring, *rows)
    assert [line.partition(":")[0] for line in told] == [
        *["line 2"] * 3, *["line 3"] * 3, *["line 4"] * 4, *["line 5"] * 2, *["line 99"] * 2
    ]  # fmt: skip
    assert "line 2: the name stands on line 1 already" in told
    assert "line 2: the hash stands on line 1 already" in told
    assert "sk-secret" not in str(told)


def test_what_is_there_already(keyring: Keyring) -> None:
    import_keys(keyring, [FULL], "ann")
    told = refused(keyring, KeyRow(name="x", id="k1", line=7), KeyRow(name="bot"), KeyRow(name="y", hash=HASH), KeyRow(name="z"))
    assert told == [
        "line 7: the id is the key k1 already",
        "line 2: the name is the key k1 already",
        "line 3: the hash is the secret of the key k1 already",
    ]
    keyring.declared = lambda: [DeclaredKey(name="z", hash=b"z" * 32)]
    assert refused(keyring, KeyRow(name="z")) == ["line 1: the name is the key declared:z already"]


def test_only_so_many_faults_are_told(keyring: Keyring) -> None:
    told = refused(keyring, *[KeyRow(name="") for _ in range(30)])
    assert len(told) == 21
    assert told[-1].startswith("and ")


def test_the_bound_of_a_file(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfiles, "MOST_KEYS", 1)
    assert "split it" in refused(keyring, KeyRow(name="a"), KeyRow(name="b"))[0]
    assert len(import_keys(keyring, [KeyRow(name="a")], "ann")) == 1


@pytest.mark.parametrize("form", ["json", "csv"])
def test_out_and_in_again(form: str, keyring: Keyring, tmp_path: Path) -> None:
    """What is exported comes back as it was, a rotation that overlaps and a key that expired long ago included."""
    import_keys(keyring, [FULL, KeyRow(name="=1+1"), KeyRow(name="late", expires="2026-12-01", created="2020-01-01")], "ann")
    keyring.rotate("late", timedelta(hours=1))
    before = stored(keyring)
    rows = [msgspec.to_builtins(exported(record)) for record in before]
    if form == "json":
        text = "".join(msgspec.json.encode(row).decode() + "\n" for row in rows)
    else:
        text = csv_text(COLUMNS, [cells(row) for row in rows])
    other = open_store(tmp_path / "other.db")
    fresh = Keyring(other, lambda: NOON + timedelta(days=400))
    assert import_keys(fresh, read_rows(text), "ann") == []

    def told(records: list[KeyRecord]) -> list[object]:
        rotated = [[(one.digest, one.until) for one in record.secrets] for record in records]
        return [[msgspec.structs.replace(record, secrets=()) for record in records], rotated]

    assert told(stored(fresh)) == told(before)
    other.close()
