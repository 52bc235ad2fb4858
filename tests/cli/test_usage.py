"""`slmgate usage` in its three forms, over a store with a few receipts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmgate.stores.records import Batch
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


def test_costs_have_a_column_for_each_currency(tmp_path: Path) -> None:
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    euros = make_receipt("e", plan="gold", price="EUR 100 300", cost=2_200)
    more = make_receipt("f", plan="gold", price="EUR 1 1", cost=1_230_000_000, model="m2")
    store.write(Batch(receipts=[euros, more, make_receipt("d", price="USD 100 300", cost=5_000_000_000)]))
    store.close()
    lines = [line.split() for line in run("usage", *ALL, "--by", "model").stdout.splitlines()]
    assert lines[0][-3:] == ["estimated", "EUR", "USD"]
    assert [line[-2:] for line in lines[1:]] == [["0%", "1.23"], ["0.0000022", "5.00"], ["1.2300022", "5.00"]]
    table = run("usage", *ALL, "--by", "model", "--format", "csv").stdout.splitlines()
    assert table[0].endswith("estimated_share,cost_EUR,cost_USD")
    assert table[1].endswith(",0.0,1.23,")
    assert json.loads(run("usage", *ALL, "--by", "", "--json").stdout)["rows"][0]["cost"] == {"EUR": "1.2300022", "USD": "5.00"}


def test_copies_are_apart(tmp_path: Path) -> None:
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    store.write(Batch(receipts=[make_receipt("copy", model="next", verdict="shadow")]))
    store.close()
    assert "next" not in run("usage", *ALL).stdout
    assert [line.split() for line in run("usage", *ALL, "--shadow").stdout.splitlines()][1:] == [
        ["bot", "next", "1", "0", "0", "7", "5", "12", "0%"]
    ]
