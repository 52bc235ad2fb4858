"""The self-service page of key holders, on a whole gate: figures of real requests in a real browser, and a new secret.

What each part refuses and bounds is tested beside it; here they meet, with control away for a while too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.tools.gate import SECRET, Gate, eventually, model
from tests.tools.signin import chromium
from tests.tools.upstream import MockUpstream

expect.set_options(timeout=30_000)  # the machine may be busy
ROLES = {"user": {"models": ["tiny"], "endpoints": ["*"], "limits": ["100 requests/hour"]}}
TEAMS = {"acme": {"roles": ["user"], "plan": "gold", "limits": [{"limit": "500 requests/hour", "per": "team"}]}}
PLANS = {"gold": {"currency": "EUR", "prices": {"tiny": {"prompt": "100/1M", "completion": "300/1M"}}}}
ASKED = 3


class Keys:
    """A gate with the page, and keys that were used."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.origin = gate, f"http://127.0.0.1:{gate.port}"
        secret = (gate.state / "admin.key").read_text().strip()
        self.admin = httpx.Client(
            base_url=f"http://127.0.0.1:{gate.admin}", headers={"authorization": f"Bearer {secret}"}, trust_env=False, timeout=30
        )
        self.ann, self.bob = self.made("ann"), self.made("bob")
        ids = [self.chat(self.ann) for _ in range(ASKED)] + [self.chat(self.bob)]
        gate.receipts(ids)

    def made(self, name: str) -> str:
        answer = self.admin.post("/api/v1/keys", json={"name": name, "team": "acme"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["secret"])

    def asks(self, method: str, path: str, secret: str, **more: Any) -> httpx.Response:
        return httpx.request(
            method, self.origin + path, headers={"authorization": f"Bearer {secret}"}, trust_env=False, timeout=20, **more
        )

    def chat(self, secret: str) -> str:
        answer = self.asks("POST", "/v1/chat/completions", secret, json={"model": "tiny", "messages": []})
        assert answer.status_code == 200, answer.text
        return answer.headers["x-request-id"]

    def usage(self, secret: str) -> dict[str, Any]:
        answer = self.asks("GET", "/me/api/usage", secret)
        return dict(answer.json()) if answer.status_code == 200 else {}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    upstream = MockUpstream()
    gate = Gate(
        tmp_path_factory.mktemp("me"),
        {"tiny": model(upstream.url)},
        me={"enabled": True},
        roles=ROLES,
        teams=TEAMS,
        plans=PLANS,
        keys=[],
    )
    try:
        made = Keys(gate)
        yield made
        made.admin.close()
    finally:
        gate.stop()
        upstream.close()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 360, "height": 800})
        made = context.new_page()
        complaints: list[str] = []
        made.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        yield made
        context.close()
        assert [each for each in complaints if "401 (Unauthorized)" not in each] == []


def test_each_sees_its_own(keys: Keys) -> None:
    one, other = keys.usage(keys.ann), keys.usage(keys.bob)
    assert (one["today"]["requests"], other["today"]["requests"]) == (ASKED, 1)
    assert one["month"]["prompt_tokens"] == ASKED * other["month"]["prompt_tokens"] > 0
    limits = {each["limit"]: each for each in keys.asks("GET", "/me/api/limits", keys.ann).json()["limits"]}
    assert (limits["100 requests/hour"]["used"], limits["100 requests/hour"]["left"]) == (ASKED, 100 - ASKED)
    assert (limits["500 requests/hour"]["whose"], limits["500 requests/hour"]["used"]) == ("team", None)
    month = keys.asks("GET", "/me/api/statement", keys.ann).json()
    whole = keys.admin.get("/api/v1/statement", params={"team": "acme", "month": month["month"]}).json()
    assert float(month["own"]["cost"]["EUR"]) * (ASKED + 1) == pytest.approx(float(whole["receipts_cost"]) * ASKED)
    paths = {row["path"] for row in keys.gate.rows()}
    assert paths == {"/v1/chat/completions"}  # none of these questions has a receipt
    eventually(lambda: sum(one["self_service"] for one in keys.admin.get("/api/v1/status").json()["workers"]) >= 4, 10, "counted")


def test_the_page(keys: Keys, page: Page) -> None:
    """From the key to its figures, to a new secret, with which one asks; and the old one, which goes on for a while."""
    page.goto(f"{keys.origin}/me")
    page.get_by_label("Your API key").fill("sk-slm-of-nobody-in-particular")
    page.get_by_role("button", name="Show my figures").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.get_by_label("Your API key").fill(keys.ann)
    page.keyboard.press("Enter")
    expect(page.locator("#facts")).to_contain_text("ann")
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#sums")).to_contain_text(f"{ASKED} requests")
    expect(page.locator("#limits")).to_contain_text(f"{100 - ASKED}")
    expect(page.locator("#month")).to_contain_text("gold")
    assert "bob" not in page.locator("body").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_label("The old one goes on working for").select_option("1h")
    page.get_by_role("button", name="Get a new secret").click()
    shown = page.locator("#new-secret")
    expect(shown).to_contain_text("sk-slm-")
    new = shown.inner_text()
    assert new != keys.ann
    keys.chat(new)
    keys.chat(keys.ann)
    newest = keys.admin.get("/api/v1/audit", params={"limit": 1}).json()["changes"][0]
    assert (newest["actor"], newest["action"], newest["address"]) == ("key:ann", "key.rotate", "127.0.0.1")
    stored = page.evaluate("[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), location.href]")
    assert stored == ["", "{}", "{}", f"{keys.origin}/me"]
    page.reload()
    expect(page.get_by_label("Your API key")).to_be_visible()
    assert "sk-slm-" not in page.content()
    assert keys.admin.post("/api/v1/keys/ann/revoke").status_code == 200
    assert [keys.asks("GET", "/me/api/key", secret).status_code for secret in (new, keys.ann)] == [401, 401]


def test_control_is_away(keys: Keys) -> None:
    """Nobody is told anything then, and models are served; once it is back, all is as before."""
    control = keys.gate.control()
    os.kill(control, signal.SIGSTOP)
    try:
        answer = keys.asks("GET", "/me/api/usage", keys.bob)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        keys.chat(keys.bob)
    finally:
        os.kill(control, signal.SIGCONT)
    eventually(lambda: keys.usage(keys.bob), 20, "it is answered again", 0.2)


def test_off_unless_it_is_said(gate: Gate) -> None:
    for path in ("/me", "/me/api/key"):
        answer = httpx.get(f"http://127.0.0.1:{gate.port}{path}", headers={"x-api-key": SECRET}, trust_env=False)
        assert answer.status_code == 404
