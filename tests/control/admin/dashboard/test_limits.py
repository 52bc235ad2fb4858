"""The page of limits in use: none, some, a thousand; of one principal; and everybody's in parts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.admin.dashboard import limits as module
from slmgate.control.admin.dashboard.asking import View
from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.admin.dashboard.shell import render
from slmgate.control.config import load_text
from slmgate.stores.records import Batch
from slmgate.terms import Receipt
from tests.tools.admin_gate import AdminGate
from tests.tools.page_ask import ask, complaints

CONFIG = """
models: {m: {instances: [{url: "http://10.0.0.5:8000"}]}}
roles: {partner: {models: [m], endpoints: [chat], limits: [60 requests/minute, 5 EUR/month, 90 gpu-seconds/hour]}}
plans: {gold: {currency: EUR, prices: {m: {prompt: 0.10/1M, completion: 0.30/1M}}}}
teams: {acme: {plan: gold}}
"""


def declared(*names: str) -> str:
    rows = [f'  - {{name: "{name}", team: acme, roles: [partner], hash: "sha256:{at:064}"}}\n' for at, name in enumerate(names)]
    return "keys:\n" + "".join(rows)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    made.config = load_text(CONFIG + declared("bot", "other"), "slmgate.yaml", tmp_path).unwrap()
    yield made
    made.store.close()


def asked_for(gate: AdminGate, key: str) -> None:
    told: dict[str, Any] = {"method": "POST", "path": "/v1/chat/completions", "status": 200, "verdict": "admit", "reason": ""}
    time = datetime(2026, 11, 28, 11, 30, tzinfo=UTC)
    gate.store.write(
        Batch(
            receipts=[
                Receipt(
                    id=key, request_id=key, time=time, ended="complete", principal=key.removeprefix("declared:"), key=key, **told
                )
            ]
        )
    )


def page(gate: AdminGate, query: dict[str, str] | None = None) -> tuple[str, View]:
    asked = ask("/limits", query, context=gate)
    view = asyncio.run(module.limits(asked))
    html = render(view, asked, next(each for each in PAGES if each.path == "/limits"), PAGES).decode()
    assert complaints(html) == []
    return html, view


def test_no_limits_are_set(gate: AdminGate, tmp_path: Path) -> None:
    gate.config = load_text('models: {m: {instances: [{url: "http://10.0.0.5:8000"}]}}', "slmgate.yaml", tmp_path).unwrap()
    html, view = page(gate)
    assert "No limits are set" in html
    assert (view.refresh, view.ranged) == (module.REFRESH, True)


def test_who_is_near(gate: AdminGate) -> None:
    for key in ("declared:bot", "declared:other"):
        asked_for(gate, key)
    gate.used = {("60 requests/minute", "declared:bot"): 54, ("5 EUR/month", "declared:bot"): 5_000_000_000}
    html, view = page(gate)
    assert (view.values["full"], view.values["close"], view.values["counted"], view.values["principals"]) == (1, 1, 6, 2)
    first, second, *_ = view.tables[0].rows
    assert (first["share"].tone, second["share"].tone) == ("bad", "warn")
    assert "5.00 EUR" in html and "100 %" in html and "90 %" in html
    assert 'href="/limits?key=declared%3Abot"' in html
    html, view = page(gate, {"near": "1"})
    assert view.values["counted"] == 1
    gate.used = {}
    html, _ = page(gate, {"near": "0.8"})
    assert "Nobody is that near to a limit" in html


def test_one_principal(gate: AdminGate) -> None:
    gate.used = {("90 gpu-seconds/hour", "declared:bot"): 45_000_000}
    html, view = page(gate, {"key": "bot"})
    assert next(row["limit"].value for row in view.tables[0].rows).startswith("90 gpu")
    assert "45 s" in html and "50 %" in html
    assert not view.ranged
    html, view = page(gate, {"key": "nobody"})
    assert "nobody" in html and view.values["counted"] == 0 and 'role="alert"' in html


def test_a_limit_that_is_raised(gate: AdminGate, tmp_path: Path) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    raised = f"limits: [{{limit: 60 requests/minute, raised: {{to: 600 requests/minute, until: {until:%Y-%m-%d}}}}}]"
    text = f'models: {{m: {{instances: [{{url: "http://10.0.0.5:8000"}}]}}}}\n{raised}\n'
    gate.config = load_text(text, "slmgate.yaml", tmp_path).unwrap()
    html, _ = page(gate)
    assert "(raised to 600 requests/minute)" in html


def test_everybody_in_parts(gate: AdminGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"bot-{number}" for number in range(30)]
    gate.config = load_text(CONFIG + declared(*names), "slmgate.yaml", tmp_path).unwrap()
    monkeypatch.setattr(module, "KEYS", 10)
    seen: list[str] = []
    html, view = page(gate, {"all": "1"})
    while True:
        seen += [row["principal"] for row in view.tables[0].rows]
        if view.values["following"] is None:
            break
        assert "The next keys" in html
        html, view = page(gate, {"all": "1", "after": view.values["following"]})
    assert sorted(set(seen)) == sorted(f"declared:{name}" for name in names)
    html, _ = page(gate, {"all": "1", "after": "shared:x"})
    assert "is no place in the list" in html


def test_a_thousand(gate: AdminGate, tmp_path: Path) -> None:
    """As many as are looked at; CSV has all of these, with what they are made of."""
    names = [f"bot-{number}" for number in range(1000)]
    gate.config = load_text(CONFIG + declared(*names), "slmgate.yaml", tmp_path).unwrap()
    html, view = page(gate, {"all": "1"})
    assert view.values["counted"] == 3 * module.KEYS
    assert len(view.tables[0].rows) == 50 and "of 600" in html
    asked = ask("/limits", {"all": "1", "csv": "table"}, context=gate)
    lines = asyncio.run(module.limits(asked)).tables[0].csv().decode().splitlines()
    assert len(lines) == 601
    assert lines[0] == "whose,share,limit,used,left,whole,name,principal,team,role,model,unit,currency,amount"


def test_names_are_text(gate: AdminGate, tmp_path: Path) -> None:
    html, _ = page(gate, {"key": "<script>alert(1)</script>", "near": "<b>"})
    assert "<script>alert" not in html
