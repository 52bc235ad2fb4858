"""One request's page: of every way that one may have gone, and with the story of its verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any, get_args

import pytest

from slmgate.control import live as live_module
from slmgate.control.admin import handlers
from slmgate.control.admin.dashboard import request as module
from slmgate.control.admin.dashboard.asking import Go, View
from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.admin.dashboard.shell import render
from slmgate.control.config import load_text
from slmgate.link.messages import LiveRequest
from slmgate.policy.room import Counted
from slmgate.stores.records import Batch
from slmgate.terms import Ended, Receipt
from tests.control.test_live import FakePeer
from tests.tools.admin_gate import AdminGate
from tests.tools.page_ask import ask, complaints

CONFIG = """
models: {m: {instances: [{url: "http://10.0.0.5:8000"}]}}
roles:
  partner: {models: [m], endpoints: [chat], parameters: {max_tokens: {max: 512}}, limits: [60 requests/minute, 5 EUR/month]}
teams: {acme: {plan: gold}}
plans: {gold: {currency: EUR, prices: {m: {prompt: 0.10/1M, completion: 0.30/1M}}}}
keys: [{name: bot, team: acme, roles: [partner], hash: "sha256:ZERO"}]
""".replace("ZERO", "0" * 64)
EVIL = "<script>alert(1)</script>\u202e"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    made.config = load_text(CONFIG, "slmgate.yaml", tmp_path).unwrap()
    yield made
    made.store.close()


def receipt(**fields: Any) -> Receipt:
    told: dict[str, Any] = {
        "id": "r1", "request_id": "r1", "time": datetime(2026, 11, 28, 10, tzinfo=UTC), "method": "POST",
        "path": "/v1/chat/completions", "status": 200, "verdict": "admit", "reason": "", "ended": "complete", "principal": "bot",
        "key": "declared:bot", "team": "acme", "roles": "partner", "rule": "roles.partner", "dialect": "openai",
        "endpoint": "chat", "model": "m", "instance": "m/10.0.0.5:8000", "stream": True, "attempts": 1, "prompt_tokens": 1234,
        "completion_tokens": 40, "bytes_in": 100, "bytes_out": 5000, "queue_us": 1000, "first_byte_us": 150_000,
        "total_us": 800_000, "connect_us": 300, "overhead_us": 60, "address": "192.0.2.7", "worker": 1, "plan": "gold",
        "price": "EUR 100 300", "cost": 1_234_000, "parameters": "max_tokens=200",
    }  # fmt: skip
    return Receipt(**told | fields)


def page(gate: AdminGate, *receipts: Receipt, id: str = "r1") -> tuple[str, View]:
    gate.store.write(Batch(receipts=list(receipts)))
    asked = ask(f"/requests/{id}", names={"id": id}, context=gate)
    view = asyncio.run(module.request(asked))
    assert isinstance(view, View)
    html = render(view, asked, next(each for each in PAGES if each.path.startswith("/requests/")), PAGES).decode()
    assert complaints(html) == []
    return html, view


def facts(view: View) -> dict[str, str]:
    return {fact.name: fact.value for fact in view.values["facts"]}


def test_a_stream_that_went_well(gate: AdminGate) -> None:
    html, view = page(gate, receipt(trace="0af7651916cd43dd8448eb211c80319c", request_id="mine"))
    assert view.title == "Request mine"
    assert [part.name for part in view.values["parts"]] == ["The gate", "In line", "Connecting", "First byte", "Stream"]
    assert "800 ms" in html and "150 ms" in html and "1,234" in html
    assert (
        'href="/clients/bot"' in html and 'href="/models/m"' in html and 'href="/keys/declared:bot"' in html.replace("%3A", ":")
    )
    told = facts(view)
    assert (told["Its id"], told["Its client's id"]) == ("r1", "mine")
    assert told["Trace"] == "0af7651916cd43dd8448eb211c80319c"
    assert told["Plan"] == "gold, at 0.10 EUR for a million prompt tokens, 0.30 EUR for completion tokens"
    assert told["Verdict"] == "admit by roles.partner"
    assert view.values["cost"] == "0.0012 EUR"


def test_the_verdict_is_told_rule_by_rule(gate: AdminGate) -> None:
    """As `slmgate explain --request` has it."""
    html, view = page(gate, receipt())
    groups = {group.title: group for group in view.values["rules"]}
    assert list(groups) == ["Whatever the role", "Role partner, its own: admits"]
    wanted = [step.rule for step in groups["Role partner, its own: admits"].steps]
    assert wanted == ["roles.partner.models", "roles.partner.endpoints", "roles.partner.parameters.max_tokens.max"]
    assert all(rule in html for rule in wanted)
    assert [(row.limit, used, amount, takes) for row, used, amount, takes in view.values["counted"]] == [
        ("60 requests/minute", "0", "60", "1"),
        ("5 EUR/month", "0.00 EUR", "5.00 EUR", view.values["counted"][1][3]),
    ]
    assert "how much of its limits was used then" in html


def test_what_was_refused(gate: AdminGate) -> None:
    refused = receipt(
        status=400, verdict="refuse", reason="parameter_not_allowed", ended="refused", attempts=0, instance="", price="", cost=0,
        first_byte_us=None, rule="roles.partner.parameters.max_tokens.max", parameters="max_tokens=4000", plan="",
        prompt_tokens=0, completion_tokens=0, queue_us=0, connect_us=0, overhead_us=0, stream=False,
    )  # fmt: skip
    html, view = page(gate, refused)
    assert "400 parameter not allowed." in html and "A parameter&#39;s value is not allowed for this key." in html
    assert [part.name for part in view.values["parts"]] == ["The gate"]
    assert "no price was asked" in html
    told = view.values["today"]
    assert told is not None and not told.verdict.admitted
    assert "does not admit" in html and ">no</span>" in html


@pytest.mark.parametrize("ended", get_args(Ended))
def test_every_end_has_a_sentence(gate: AdminGate, ended: Any) -> None:
    html, _ = page(gate, receipt(ended=ended, reason="" if ended == "complete" else "cancelled"))
    assert module.ENDED[ended] in unescape(html)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"key": None, "principal": "", "team": None, "roles": "", "verdict": "refuse", "reason": "invalid_api_key"}, "No valid"),
        ({"path": "/nothing", "endpoint": "", "model": ""}, "Its path is none"),
        ({"verdict": "shadow"}, "It is a copy of a request"),
        ({"key": "gone", "principal": "gone"}, "Who called is not a key that is known now"),
    ],
)
def test_what_cannot_be_judged(gate: AdminGate, fields: dict[str, Any], said: str) -> None:
    html, _ = page(gate, receipt(**fields))
    assert said in html


def test_little_is_known(gate: AdminGate) -> None:
    """Of who called nothing, of the model nothing, nothing was asked for it, and no configuration is in force."""
    gate.config = None
    html, view = page(
        gate, receipt(principal="", key=None, team=None, roles="", model="", instance="", address="", plan="", price="")
    )
    told = facts(view)
    assert (told["Client"], told["Model"], told["From"]) == ("not known", "none", "not known, by worker 1")
    assert "No configuration is in force here" in html


def test_several_tries_and_a_plan_without_a_price(gate: AdminGate) -> None:
    _, view = page(gate, receipt(attempts=3, price="", cost=0))
    assert facts(view)["Instance"] == "m/10.0.0.5:8000, the last of 3 that were tried"
    assert facts(view)["Plan"] == "gold"


def test_names_are_text(gate: AdminGate) -> None:
    strange = receipt(
        request_id=EVIL, principal=EVIL, model=EVIL, instance=EVIL, team=EVIL, parameters=EVIL, address=EVIL, rule=EVIL
    )
    html, _ = page(gate, strange)
    assert "<script>alert" not in html and "&lt;script&gt;" in html


def test_there_is_none(gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ask("/requests/r9", names={"id": "r9"}, context=gate)
    with pytest.raises(handlers.Unknown, match="There is no receipt 'r9'"):
        asyncio.run(module.request(asked))
    # one that is under way has none yet
    monkeypatch.setattr(live_module, "pack", lambda message: message)
    id = f"{7:012x}00000001"
    assert gate.live is not None
    FakePeer(gate.live, 7, [LiveRequest(id=id, request_id=id, since=0.0, state="waiting")])
    assert asyncio.run(module.request(ask(f"/requests/{id}", names={"id": id}, context=gate))) == Go("/live", "running")
    gate.live = None
    with pytest.raises(handlers.Unknown):
        asyncio.run(module.request(asked))


def test_it_is_forgotten_this_very_moment(gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> None:
        raise handlers.Unknown("gone")

    monkeypatch.setattr("slmgate.control.admin.explaining.explain_request", gone)
    _, view = page(gate, receipt())
    assert view.values["past"] is None


def test_figures_of_limits() -> None:
    def row(unit: str, **more: Any) -> Counted:
        told: dict[str, Any] = {"rule": "limits[0]", "limit": "x", "amount": 5_000_000_000, "used": 0, "takes": 1, "passed": True}
        return Counted(**told | {"unit": unit} | more)

    assert module.figures(row("cost", currency="EUR", used=1_500_000_000)) == ("1.50 EUR", "5.00 EUR", "0.000000001 EUR")
    assert module.figures(row("engine_time", amount=90_000_000, takes=1_000_000)) == ("0 ms", "1.5 min", "1 s")
    assert module.figures(row("tokens", used=1234)) == ("1,234", "5,000,000,000", "1")
