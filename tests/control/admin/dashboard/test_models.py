"""The pages of models: what is configured and what was asked for, instances with their split of time, drained and enabled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.admin.signin.sessions import Sessions, Signed, form_token
from slmgate.control.config import load_text
from slmgate.control.config.compile import instance_id
from tests.tools import page_traffic
from tests.tools.admin_gate import AdminGate, asking
from tests.tools.page_ask import complaints

DAY = "from=2026-11-27T12:00&to=2026-11-28T12:00"
HTML = {"accept": "text/html"}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as client:
        client.follow_redirects = False
        yield client


def test_without_traffic(client: TestClient[Litestar]) -> None:
    page = client.get("/models", headers=HTML).text
    assert complaints(page) == []
    assert "1 of 1 up" in page and 'href="/models/smollm2"' in page
    page = client.get("/models/smollm2", headers=HTML).text
    assert complaints(page) == []
    assert "Nobody asked for this model" in page and "http://10.0.0.5:8000" in page
    assert client.get("/models/none", headers=HTML).status_code == 404


def test_with_traffic(gate: AdminGate, client: TestClient[Litestar]) -> None:
    page_traffic.fill(gate.store, days=2, an_hour=6)
    gate.now = page_traffic.status()
    page = client.get(f"/models?{DAY}", headers=HTML).text
    assert complaints(page) == []
    assert "2 of 3 up" in page and "1 of 2 up" in page
    page = client.get(f"/models/smollm2?{DAY}&compare=1", headers=HTML).text
    assert complaints(page) == []
    assert page.count('<svg class="chart"') == 8
    assert "ejected for 12 s: it answered 502" in page
    csv = client.get(f"/models/smollm2?{DAY}&csv=instances").text
    assert csv.startswith("name,state,in_flight,requests,errors,queue,connect,instance,stream,speed\n")
    assert len(csv.splitlines()) == 4


def signed_in(gate: AdminGate, role: str) -> dict[str, str]:
    account = gate.accounts.add(role, role, "four plain words", "admin")
    cookie = Sessions(gate.accounts).start(Signed(f"user:{role}", role, account), gate.admin.auth, "", "")
    assert cookie is not None
    return {"cookie": f"slmgate-session={cookie}", "origin": "http://127.0.0.1:8081"}


def test_operators_drain_and_enable(gate: AdminGate, client: TestClient[Litestar]) -> None:
    config = load_text("models: {smollm2: {instances: [{url: 'http://10.0.0.5:8000'}]}}").unwrap()
    gate.config = config
    gate.roster.config = lambda: config
    id = instance_id("smollm2", config.models["smollm2"].instances[0])
    client.headers.pop("authorization")
    headers = signed_in(gate, "operator")
    page = client.get("/models/smollm2", headers=headers).text
    assert "/instances/drain" in page
    token = form_token(headers["cookie"].partition("=")[2])
    for what, said in (("drain", "It is draining"), ("enable", "It is enabled")):
        answer = client.post(f"/instances/{what}", data={"token": token, "id": id, "model": "smollm2"}, headers=headers)
        assert answer.status_code == 303, answer.text
        assert (id in {each.id for each in gate.store.instances.all()}) or what == "enable"
        assert said in client.get(answer.headers["location"], headers=headers).text
    lost = client.post("/instances/drain", data={"token": token, "id": "none", "model": "smollm2"}, headers=headers)
    assert lost.status_code == 404 and re.search(r'role="alert"', lost.text)


def test_viewers_have_no_buttons(gate: AdminGate, client: TestClient[Litestar]) -> None:
    client.headers.pop("authorization")
    assert "/instances/drain" not in client.get("/models/smollm2", headers=signed_in(gate, "viewer")).text


def test_an_instance_that_drains_is_enabled_and_one_that_is_gone_is_left(gate: AdminGate, client: TestClient[Litestar]) -> None:
    gate.now = page_traffic.status()
    client.headers.pop("authorization")
    page = client.get("/models/qwen2.5-0.5b", headers=signed_in(gate, "operator")).text
    assert page.count('action="/instances/drain"') == page.count('action="/instances/enable"') == 1
