"""`slmgate usage` in its three forms, over a store with a few receipts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmgate.stores.base import Batch
from slmgate.stores.sql import open_store
from tests.tools.command import run
from tests.tools.journal_writer import make_receipt


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slmgate-data").mkdir()
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    receipts = [make_receipt("r1"), make_receipt("r2", principal="=eve", estimated=True)]
    store.write(Batch(receipts=receipts))
    store.close()


ALL = ("--since", "2026-11-01")


def test_table() -> None:
    lines = [line.split() for line in run("usage", *ALL).stdout.splitlines()]
    assert lines[1:] == [
        ["=eve", "smollm2", "1", "0", "0", "7", "5", "12", "100%"],
        ["bot", "smollm2", "1", "0", "0", "7", "5", "12", "0%"],
        ["all", "2", "0", "0", "14", "10", "24", "50%"],
    ]


def test_csv() -> None:
    assert run("usage", *ALL, "--by", "client,day", "--format", "csv").stdout.splitlines() == [
        "client,day,requests,refused,errors,prompt_tokens,completion_tokens,total_tokens,estimated_share",
        "'=eve,2026-11-20,1,0,0,7,5,12,1.0",
        "bot,2026-11-20,1,0,0,7,5,12,0.0",
    ]


def test_json() -> None:
    assert run("usage", *ALL, "--json").stdout == run("usage", *ALL, "--format", "json").stdout
    assert json.loads(run("usage", *ALL, "--json", "--by", "").stdout)["rows"][0]["total_tokens"] == 24


def test_nothing_and_nonsense() -> None:
    assert run("usage", "--since", "2090-01-01").stdout == "no requests in this time\n"
    wrong = run("usage", "--by", "cow")
    assert (wrong.exit_code, "cow" in wrong.stderr) == (2, True)
    assert run("usage", "--format", "pdf").exit_code == 2


def test_requests_without_a_key(tmp_path: Path) -> None:
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    store.write(Batch(receipts=[make_receipt("stranger", principal="", key=None, team=None, verdict="refuse", status=401)]))
    store.close()
    assert "(no key)" in run("usage", *ALL, "--by", "client").stdout
    assert run("usage", *ALL, "--by", "client,team", "--format", "csv").stdout.splitlines()[1].startswith("(no key),,1,1,")
    groups = [row["group"] for row in json.loads(run("usage", *ALL, "--by", "client", "--json").stdout)["rows"]]
    assert {"client": ""} in groups
