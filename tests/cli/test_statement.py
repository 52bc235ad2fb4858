"""`slmgate statement` in its forms, over a store and a configuration file, without a gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmgate.stores.records import Batch
from slmgate.stores.sql import open_store
from tests.control.test_statements import CONFIG, DEAR, charged
from tests.tools.command import run
from tests.tools.journal_writer import make_receipt

ASK = ("statement", "--team", "acme", "--month", "2026-11")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slmgate.yaml").write_text(CONFIG + "teams: {acme: {plan: full}}\n")
    (tmp_path / "slmgate-data").mkdir()
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    receipts = [
        charged("r1", DEAR, plan="full", model="=cmd", prompt_tokens=1_500_000, completion_tokens=500_000),
        charged("r2", DEAR, plan="full", model="+b", prompt_tokens=0, completion_tokens=0, estimated=True),
        charged("r3", plan="fiver", currency="USD", prompt_tokens=1, completion_tokens=0),
        make_receipt("r4"),
    ]
    store.write(Batch(receipts=receipts))
    store.close()


def test_table() -> None:
    lines = [line.split() for line in run(*ASK).stdout.splitlines()]
    assert lines[0][:5] == ["acme", "plan", "full", "2026-11", "(UTC)"]
    assert lines[2] == ["base", "fee", "49.00"]
    assert lines[4] == ["=cmd", "1", "1,500,000", "500,000", "1,000,000", "2000", "/", "0", "1500.00"]
    assert lines[5:7] == [["credit", "-20.00"], ["total", "2", "1,500,000", "500,000", "1529.00"]]
    assert lines[7][0] == "1"
    assert [" ".join(line) for line in lines[8:]] == [
        "not on it: 1 requests with 12 tokens under no plan",
        "not on it: 1 requests with 1 tokens under the plan fiver, priced in USD",
    ]
    assert "included" in run(*ASK, "--plan", "fiver").stdout


def test_csv_is_no_formula() -> None:
    lines = run(*ASK, "--format", "csv").stdout.splitlines()
    assert lines[0].startswith("team,plan,month,timezone,currency,preliminary,line,model,prompt_price")
    assert [line.split(",")[6:8] for line in lines[1:]] == [
        ["usage", "'+b"],
        ["usage", "'=cmd"],
        ["base", ""],
        ["credit", ""],
        ["total", ""],
    ]
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["0.00", "1500.00", "49.00", "-20.00", "1529.00"]


def test_json_has_integers_and_decimal_text() -> None:
    answer = json.loads(run(*ASK, "--format", "json").stdout)
    again = json.loads(run(*ASK, "--json").stdout)
    assert {**answer, "made": ""} == {**again, "made": ""}
    assert (answer["total"], answer["prompt_tokens"], answer["lines"][1]["amount"]) == ("1529.00", 1_500_000, "1500.00")


def test_html() -> None:
    page = run(*ASK, "--format", "html").stdout
    assert page.startswith("<!doctype html>")
    assert "1529.00" in page


def test_included_money(tmp_path: Path) -> None:
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    store.write(Batch(receipts=[charged("r9", DEAR, plan="fiver", prompt_tokens=3000, completion_tokens=0)]))
    store.close()
    assert "5 EUR" in run(*ASK, "--plan", "fiver").stdout


def test_what_cannot_be_told(tmp_path: Path) -> None:
    wrong = run("statement", "--team", "acme", "--month", "soon")
    assert (wrong.exit_code, "is not a month" in wrong.stderr) == (2, True)
    nobody = run("statement", "--team", "nobody", "--month", "2026-11")
    assert (nobody.exit_code, "has no plan" in nobody.stderr) == (2, True)
    (tmp_path / "slmgate.yaml").write_text("models: {m: {instances: [{url: 'http://h'}]}}\nplans: {gold: {currency: XXX}}\n")
    faulty = run(*ASK)
    assert (faulty.exit_code, "is not a currency" in faulty.stderr) == (1, True)
    (tmp_path / "slmgate.yaml").unlink()
    without = run(*ASK)
    assert (without.exit_code, "No configuration" in without.stderr) == (2, True)
