"""`slmgate replay`: receipts of a store against a proposal; what is printed, and what the exit code says."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from slmgate.cli import replay
from slmgate.stores.records import Batch
from slmgate.stores.sql import open_store
from tests.tools.command import run
from tests.tools.journal_writer import NOON, make_receipt

CONFIG = """\
models: {smollm2: {instances: [{url: "http://h:1"}]}}
roles: {a: {models: [smollm2], parameters: {max_tokens: {max: 64}}}}
keys: [{name: bot, roles: [a], hash: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}]
"""
SINCE = ("--since", "2026-11-01")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(replay, "_PAGE", 2)
    (tmp_path / "slmgate.yaml").write_text(CONFIG)
    (tmp_path / "new.yaml").write_text(CONFIG.replace("64", "9").replace("smollm2]", "smollm2], max_context: 20"))
    (tmp_path / "slmgate-data").mkdir()
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    store.write(
        Batch(
            receipts=[
                make_receipt(
                    f"r{number}",
                    key="declared:bot",
                    roles="a",
                    rule="roles.a",
                    parameters=f"max_tokens={8 + number}",
                    time=NOON + timedelta(hours=number),
                )
                for number in range(4)
            ]
            + [make_receipt("none", key=None)]
        )
    )
    store.close()
    return tmp_path


def test_somebody_would_newly_be_refused() -> None:
    ended = run("replay", *SINCE, "-c", "new.yaml")
    assert ended.exit_code == 1, ended.output
    assert ended.stdout.splitlines() == [
        "5 receipts, 4 judged: 2 end as before",
        "",
        "2 would newly be refused",
        "        2  bot: chat smollm2: ok -> parameter_not_allowed by roles.a.parameters.max_tokens.max",
        "           2026-11-20 14:00 to 2026-11-20 15:00 UTC, one is r2",
        "",
        "not judged",
        "        1  no credential or no endpoint of the gate",
        "",
        "not known",
        "        4  the prompt's length: the engine's count stands for the gate's estimate",
    ]


def test_nobody_would() -> None:
    ended = run("replay", *SINCE, "-c", "slmgate.yaml")
    assert (ended.exit_code, ended.stdout.splitlines()[0]) == (0, "5 receipts, 4 judged: 4 end as before")
    assert run("replay", *SINCE, "-c", "new.yaml", "--against", "new.yaml").exit_code == 0


def test_json() -> None:
    report = json.loads(run("replay", *SINCE, "-c", "new.yaml", "--json").stdout)
    assert (report["refused"], report["changes"][0]["example"]) == (2, "r2")


def test_stored_keys_keep_the_roles_that_they_have(home: Path) -> None:
    assert run("keys", "create", "--name", "late").exit_code == 0
    id = json.loads(run("keys", "list", "--json").stdout)["keys"][0]["id"]
    store = open_store(home / "slmgate-data" / "ledger.sqlite3")
    store.write(Batch(receipts=[make_receipt("late", key=id, principal="late", roles="a")]))
    store.close()
    ended = run("replay", *SINCE, "-c", "slmgate.yaml")
    assert "1  late: chat smollm2: ok -> permission_denied by roles" in ended.stdout


def test_limits_of_stored_keys_count_on(home: Path) -> None:
    assert run("keys", "create", "--name", "late", "--role", "a", "--limit", "1 requests/hour").exit_code == 0
    id = json.loads(run("keys", "list", "--json").stdout)["keys"][0]["id"]
    store = open_store(home / "slmgate-data" / "ledger.sqlite3")
    store.write(Batch(receipts=[make_receipt(f"late{n}", key=id, principal="late", roles="a") for n in range(3)]))
    store.close()
    ended = run("replay", *SINCE, "-c", "slmgate.yaml")
    assert "2  late: chat smollm2: ok -> rate_limit_exceeded by key.limits[0]" in ended.stdout


def test_where_the_receipts_are(home: Path) -> None:
    ended = run("replay", "--since", "2027-01-01", "-c", "new.yaml")
    assert (ended.exit_code, "no receipts in this time" in ended.stderr) == (0, True)
    ended = run("replay", *SINCE, "-c", "new.yaml", "--gate", "none.yaml")
    assert (ended.exit_code, "There is no file none.yaml" in ended.stderr) == (2, True)
    (home / "slmgate.yaml").unlink()
    assert run("replay", *SINCE, "-c", "new.yaml").exit_code == 1
    assert run("replay", *SINCE).exit_code == 2
