"""A request tried without being sent: what is wrong stands at its field, the verdict with every rule; and nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.admin.dashboard import trying
from slmgate.control.admin.dashboard.asking import View
from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.admin.dashboard.shell import render
from slmgate.control.config import load_text
from tests.tools.admin_gate import AdminGate
from tests.tools.page_ask import ask, complaints

(ROW,) = trying.PAGES
CONFIG = """\
models: {tiny: {instances: [{url: "http://h:1"}]}}
roles:
  user: {models: [tiny], endpoints: [chat], parameters: {max_tokens: {max: 512}}, limits: [60 requests/minute, 5 EUR/month]}
teams: {acme: {roles: [user], plan: gold}}
plans: {gold: {currency: EUR, prices: {tiny: {prompt: 1/1M, completion: 2/1M}}}}
"""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    made.config = load_text(CONFIG).unwrap()
    made.keyring.create("ann", "acme")
    yield made
    made.store.close()


def tried(gate: AdminGate, **query: str) -> tuple[View, str]:
    asked = ask("/try", {name.rstrip("_"): text for name, text in query.items()}, context=gate)
    view = trying.try_out(asked)
    page = render(view, asked, ROW, PAGES)
    assert complaints(page) == []
    return view, page.decode()


def test_nothing_tried(gate: AdminGate) -> None:
    view, page = tried(gate)
    assert view.status == 200 and "Nothing tried yet" in page and 'value="tiny"' in page
    gate.config = None
    assert "Nothing tried yet" in tried(gate)[1]


def test_admitted(gate: AdminGate) -> None:
    view, page = tried(gate, as_="ann", model="tiny", parameters="max_tokens=100\ntemperature=1", used="60 requests/minute=59")
    assert view.status == 200 and view.values["told"].verdict.admitted
    assert "Admitted" in page and "roles.user.parameters.max_tokens.max" in page and "tiny/h:1" in page
    assert [one["limit"] for one in view.values["counted"]] == ["60 requests/minute", "5 EUR/month"]
    assert view.values["counted"][0]["used"] == "59" and view.values["counted"][1]["amount"] == "5 EUR"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"as_": "ann", "model": "tiny", "parameters": "max_tokens=900"}, "parameter_not_allowed"),
        ({"as_": "ann", "model": "tiny", "endpoint": "embeddings"}, "permission_denied"),
        ({"as_": "ann", "model": "none"}, "model_not_found"),
        ({"roles": "user", "model": "tiny", "used": "60 requests/minute=60"}, "rate_limit_exceeded"),
    ],
)
def test_refused(gate: AdminGate, query: dict[str, str], said: str) -> None:
    view, page = tried(gate, **query)
    assert view.status == 200 and f"Refused with {said}" in page and "It is told" in page


def test_would_be_principals_and_the_list_of_models(gate: AdminGate) -> None:
    assert "Admitted" in tried(gate, team="acme", model="tiny", stream="1")[1]
    assert "permission_denied" in tried(gate, as_="ann", endpoint="models")[1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"as_": "nobody", "model": "tiny"}, "as"),
        ({"as_": "ann", "roles": "user", "model": "tiny"}, "as"),
        ({"model": "tiny"}, "as"),
        ({"as_": "ann"}, "model"),
        ({"as_": "ann", "model": "tiny", "parameters": "x"}, "parameters"),
        ({"as_": "ann", "model": "tiny", "address": "here"}, "address"),
        ({"as_": "ann", "model": "tiny", "at": "later"}, "at"),
        ({"as_": "ann", "model": "tiny", "prompt_tokens": "-1"}, "prompt_tokens"),
        ({"as_": "ann", "model": "tiny", "body_size": "1e9"}, "body_size"),
        ({"as_": "ann", "model": "tiny", "used": "much"}, "used"),
        ({"as_": "ann", "model": "tiny", "endpoint": "cooking"}, ""),
    ],
)
def test_what_is_wrong_stands_at_its_field(gate: AdminGate, query: dict[str, str], field: str) -> None:
    view, page = tried(gate, **query)
    assert view.status == 400 and list(view.values["wrong"]) == [field] and view.values["told"] is None
    assert not field or (f'id="y-{field}-wrong"' in page and 'aria-invalid="true"' in page)
    for name, text in query.items():
        assert view.values["typed"][name.rstrip("_")] == text


def test_when_and_where_from(gate: AdminGate) -> None:
    view, _ = tried(gate, as_="ann", model="tiny", at="2026-11-24 08:00 Europe/Berlin", address="192.0.2.7", prompt_tokens="12")
    told: Any = view.values["told"]
    assert (told.request.address, told.request.prompt_tokens) == ("192.0.2.7", 12) and told.request.at == 1_795_503_600.0
