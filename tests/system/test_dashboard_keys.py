"""Keys in the dashboard as people work with them: a real browser, a gate of several processes, and the key at the gate itself.

What each page shows and refuses is tested beside it; here the forms, the sessions and the workers meet.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect

from tests.tools.gate import Gate, eventually, model
from tests.tools.signin import chromium
from tests.tools.upstream import MockUpstream

expect.set_options(timeout=30_000)  # the machine may be busy
PASSWORD = "four plain words for {name}"
OVERLAP = 3
"""Seconds that a replaced secret goes on here: the shortest that the form offers is put in the place of an hour."""
CONFIG: dict[str, Any] = {
    "roles": {"user": {"models": ["tiny"], "endpoints": ["*"], "limits": ["100 requests/hour"]}},
    "teams": {"acme": {"roles": ["user"], "plan": "gold"}},
    "plans": {"gold": {"currency": "EUR", "prices": {"tiny": {"prompt": "100/1M"}}, "included": "1M tokens/month"}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    upstream = MockUpstream()
    gate = Gate(tmp_path_factory.mktemp("keys"), {"tiny": model(upstream.url)}, keys=[], **CONFIG)
    try:
        with owner(gate) as admin:
            for name, role in (("olga", "owner"), ("vera", "viewer")):
                account = {"name": name, "role": role, "password": PASSWORD.format(name=name)}
                assert admin.post("/api/v1/admin/users", json=account).status_code == 201
        yield gate
    finally:
        gate.stop()
        upstream.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 800})
    yield made
    made.close()


def owner(gate: Gate) -> httpx.Client:
    secret = (gate.state / "admin.key").read_text().strip()
    return httpx.Client(
        base_url=f"http://127.0.0.1:{gate.admin}", headers={"authorization": f"Bearer {secret}"}, trust_env=False, timeout=30
    )


def signed_in(context: BrowserContext, gate: Gate, name: str) -> Page:
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{gate.admin}/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD.format(name=name))
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Keys")).to_be_visible()
    return page


def asked(gate: Gate, secret: str) -> int:
    """The status of a request with this secret."""
    url, headers = f"http://127.0.0.1:{gate.port}/v1/chat/completions", {"authorization": f"Bearer {secret}"}
    return httpx.post(url, json={"model": "tiny", "messages": []}, headers=headers, trust_env=False, timeout=20).status_code


def secrets_of(gate: Gate, name: str) -> int:
    with owner(gate) as admin:
        return len(admin.get(f"/api/v1/keys/{name}").json()["secrets"])


def test_the_life_of_a_key(place: Gate, context: BrowserContext) -> None:
    page = signed_in(context, place, "olga")
    page.get_by_role("link", name="Keys").click()
    expect(page.locator("main")).to_contain_text("No keys yet")
    page.get_by_role("link", name="New key").click()
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Team").fill("acme")
    page.get_by_label("Ends").fill("soon")
    page.get_by_role("button", name="Create the key").click()
    expect(page.locator("#f-expires-wrong")).to_contain_text("is not a time")
    expect(page.get_by_label("Name")).to_have_value("ann")
    page.get_by_label("Ends").fill("30d")
    page.get_by_role("button", name="Create the key").click()
    first = page.locator("#secret").inner_text()
    assert asked(place, first) == 200

    page.reload()  # the form is sent once more
    assert first not in page.content()
    expect(page.locator("#f-name-wrong")).to_contain_text("There is a key named")
    page.goto(f"http://127.0.0.1:{place.admin}/keys")
    page.get_by_role("link", name="ann").click()
    expect(page.locator("h1")).to_contain_text("active")
    assert first not in page.content()

    page.locator("#k-overlap option[value='1h']").evaluate(f"each => {{ each.value = '{OVERLAP}s'; }}")
    page.get_by_label("The secrets there are go on working for").select_option(f"{OVERLAP}s")
    since = time.monotonic()
    page.get_by_role("button", name="Make a new secret").click()
    second = page.locator("#secret").inner_text()
    assert second != first and asked(place, second) == 200
    old = asked(place, first)
    assert old == 200 or time.monotonic() - since > OVERLAP  # on a machine that stood still meanwhile, it is over
    page.reload()
    assert second not in page.content() and secrets_of(place, "ann") == 2
    expect(page.get_by_role("status")).to_contain_text("Nothing was changed")
    with contextlib.suppress(Error):  # a browser may refuse to show it again at all
        page.go_back()
    assert second not in page.content() and secrets_of(place, "ann") == 2
    eventually(lambda: asked(place, first) == 401, OVERLAP + 20, "the old secret has ended", 0.2)
    assert asked(place, second) == 200

    page.goto(f"http://127.0.0.1:{place.admin}/keys/ann")
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("status")).to_contain_text("refused from now on")
    assert asked(place, second) == 401
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("status")).to_contain_text("works again")
    assert asked(place, second) == 200
    page.get_by_role("link", name="Revoke").click()
    page.get_by_label("The key's name").fill("bob")
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.get_by_role("alert")).to_contain_text("so that no other one is revoked")
    assert asked(place, second) == 200
    page.get_by_label("The key's name").fill("ann")
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.locator("h1")).to_contain_text("revoked")
    assert [asked(place, secret) for secret in (first, second)] == [401, 401]

    page.get_by_role("link", name="Audit log").click()
    page.get_by_label("What", exact=True).fill("key.")
    page.get_by_role("button", name="Find").click()
    actions = page.locator("tbody tr td:nth-child(4)").all_inner_texts()
    assert actions == ["key.revoke", "key.enable", "key.disable", "key.rotate", "key.create"]
    page.get_by_role("button", name="Verify the chain").click()
    expect(page.get_by_role("status")).to_contain_text("follow one from another")


def test_a_viewer_sees_and_changes_nothing(place: Gate, context: BrowserContext) -> None:
    with owner(place) as admin:
        made = admin.post("/api/v1/keys", json={"name": "bob", "team": "acme"}).json()
    page = signed_in(context, place, "vera")
    page.goto(f"http://127.0.0.1:{place.admin}/keys/{made['key']['id']}")
    expect(page.locator("h1")).to_contain_text("bob")
    assert page.get_by_role("button", name="Make a new secret").count() == 0
    token = page.locator("form[action='/logout'] input[name='token']").get_attribute("value")
    at, origin = f"http://127.0.0.1:{place.admin}/keys/{made['key']['id']}", {"origin": f"http://127.0.0.1:{place.admin}"}
    changes: tuple[tuple[str, dict[str, str | float | bool]], ...] = (
        ("rotate", {"overlap": "0s"}),
        ("disable", {}),
        ("revoke", {"name": "bob"}),
        ("edit", {"team": ""}),
    )
    for change, fields in changes:
        answer = context.request.post(f"{at}/{change}", form={"token": token or "", **fields}, headers=origin)
        assert answer.status == 403, change
    answer = context.request.post(
        f"http://127.0.0.1:{place.admin}/keys/new", form={"token": token or "", "name": "eve"}, headers=origin
    )
    assert answer.status == 403
    assert asked(place, made["secret"]) == 200 and secrets_of(place, "bob") == 1
    with owner(place) as admin:
        refused = admin.get("/api/v1/audit", params={"action": "refused"}).json()["changes"]
        assert [key["name"] for key in admin.get("/api/v1/keys", params={"in_state": "active"}).json()["keys"]] == ["bob"]
    assert {each["actor"] for each in refused} == {"user:vera"}


def test_a_form_of_another_session_changes_nothing(place: Gate, browser: Browser) -> None:
    """Nor does one from a page of another site, whoever's browser sends it."""
    context = browser.new_context()
    signed_in(context, place, "olga")
    site = f"http://127.0.0.1:{place.admin}"
    for origin, token in ((site, "x" * 43), (site, ""), ("https://evil.example", "x" * 43)):
        form: dict[str, str | float | bool] = {"name": "eve", "token": token}
        assert context.request.post(f"{site}/keys/new", form=form, headers={"origin": origin}).status == 403
    context.close()
    with owner(place) as admin:
        assert admin.get("/api/v1/keys/eve").status_code == 404


def test_teams_try_and_statements(place: Gate, context: BrowserContext) -> None:
    with owner(place) as admin:
        secret = admin.post("/api/v1/keys", json={"name": "cid", "team": "acme"}).json()["secret"]
    assert asked(place, secret) == 200
    page = signed_in(context, place, "vera")
    page.get_by_role("link", name="Try a request").click()
    page.get_by_label("A key, by name or id").fill("cid")
    page.get_by_label("Model").fill("none")
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_role("status")).to_contain_text("Refused with model_not_found")
    page.get_by_label("Model").fill("tiny")
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_role("status")).to_contain_text("Admitted by roles.user")
    page.get_by_role("link", name="Teams").click()
    row = page.locator("tbody tr", has_text="acme")
    expect(row).to_contain_text("gold")
    row.get_by_role("link", name="gold").click()
    expect(page.locator("#statement")).to_contain_text("acme")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "slmgate-statements-statement.csv"
    page.get_by_role("link", name="To print").click()
    expect(page.locator("body")).to_contain_text("acme")
