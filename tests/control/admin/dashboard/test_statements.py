"""The page of statements: nothing to choose, a month, what cannot be had; and the same as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slmgate.control.admin.dashboard import statements
from slmgate.control.admin.dashboard.asking import View
from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.admin.dashboard.shell import render
from slmgate.control.config import load_text
from slmgate.stores.records import Batch
from tests.control.test_statements import charged
from tests.tools.admin_gate import AdminGate
from tests.tools.page_ask import ask, complaints

(ROW,) = statements.PAGES
CONFIG = """\
models: {m: {instances: [{url: "http://h:1"}]}}
teams: {acme: {plan: gold}, plain: {}}
plans: {gold: {currency: EUR, prices: {m: {prompt: 0.10/1M, completion: 0.30/1M}}, base: 9 EUR, credit: 2 EUR}}
"""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    made.config = load_text(CONFIG).unwrap()
    made.store.write(Batch(receipts=[charged("r1", prompt_tokens=10_000_000, model="m"), charged("r2", plan="old", model="m")]))
    yield made
    made.store.close()


def shown(gate: AdminGate, **query: str) -> tuple[View, str]:
    asked = ask("/statements", query, context=gate)
    view = statements.statement_page(asked)
    page = render(view, asked, ROW, PAGES)
    assert complaints(page) == []
    return view, page.decode()


def test_no_team_has_a_plan(gate: AdminGate) -> None:
    gate.config = load_text("models: {m: {instances: [{url: 'http://h:1'}]}}").unwrap()
    assert "No team has a plan" in shown(gate)[1]
    gate.config = None
    assert "No team has a plan" in shown(gate)[1]


def test_the_choice(gate: AdminGate) -> None:
    view, page = shown(gate)
    assert view.values["teams"] == ["acme"] and view.values["months"][0] == "2026-11" == view.values["month"]
    assert view.values["months"][11:13] == ["2025-12", "2025-11"] and view.values["statement"] is None
    assert 'value="acme"' in page


def test_a_month(gate: AdminGate) -> None:
    view, page = shown(gate, team="acme", month="2026-11")
    assert view.values["statement"].total == "8.00" and "8.00 EUR" in page and "10,000,000" in page
    assert "Not on it: 1 requests under the plan old" in page
    assert 'href="/api/v1/statement.html?team=acme&amp;month=2026-11"' in page
    rows = view.tables[0].csv().decode().splitlines()
    assert rows[0].startswith("team,plan,month,") and len(rows) == 5 and rows[-1].endswith("8.00")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"team": "plain"}, "has no plan"),
        ({"team": "<b>nobody</b>"}, "has no plan"),
        ({"team": "acme", "month": "soon"}, "is not a month"),
        ({"team": "acme", "month": "2999-01"}, "has not begun"),
    ],
)
def test_what_cannot_be_had(gate: AdminGate, query: dict[str, str], said: str) -> None:
    view, page = shown(gate, **query)
    assert view.status == 400 and said in page and "<b>" not in page and view.tables[0].rows == []
