"""Admin sign-in as people do it: a real browser, a real OpenID provider, a gate of several processes.

The whole of the code flow with PKCE, local accounts, what attackers send instead, and every admin route for everybody. What
one part decides by itself is tested beside it; here the parts meet.

Length: one gate, one browser and one provider serve all of it, since they are dear to start.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from slmgate.control.admin.dashboard.routes import ROUTES as DASHBOARD
from slmgate.control.admin.routes import ROUTES, Route
from slmgate.control.admin.signin.routes import PAGES
from slmgate.control.operators import ROLES
from tests.tools import signin
from tests.tools.gate import Gate, eventually, model

PASSWORDS = {name: f"{name} has four plain words" for name in ("vera", "otto", "olga")}
ROLE = {"vera": "viewer", "otto": "operator", "olga": "owner"}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    made = Gate(tmp_path_factory.mktemp("signin"), {"tiny": model("http://127.0.0.1:9")}, workers=1)
    with owner(made) as admin:
        for name, role in ROLE.items():
            answer = admin.post("/api/v1/admin/users", json={"name": name, "role": role, "password": PASSWORDS[name]})
            assert answer.status_code == 201, answer.text
    yield made
    made.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with signin.chromium() as made:
        yield made


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 360, "height": 640})
    yield made
    made.close()


@pytest.fixture
def page(gate: Gate, context: BrowserContext) -> Iterator[Page]:
    """A fresh browser; what its console complains of on our pages (a blocked script or style, say) fails the test."""
    made, complaints = context.new_page(), list[str]()

    def listen(said: ConsoleMessage) -> None:
        if said.type == "error" and made.url.startswith(origin(gate)):
            complaints.append(said.text)

    made.on("console", listen)
    yield made
    refused = ("401 (Unauthorized)", "403 (Forbidden)", "400 (Bad Request)", "429 (", "404 (")  # answers that tests ask for
    assert [each for each in complaints if not any(word in each for word in refused)] == []


@pytest.fixture(scope="module")
def issuer(gate: Gate) -> Iterator[str]:
    with signin.provider(origin(gate)) as made:
        take(gate, {"oidc": oidc(made)})
        yield made
        take(gate, {})


def origin(gate: Gate) -> str:
    return f"http://127.0.0.1:{gate.admin}"


def owner(gate: Gate) -> httpx.Client:
    """A client with the first admin key."""
    secret = (gate.state / "admin.key").read_text().strip()
    return httpx.Client(base_url=origin(gate), headers={"authorization": f"Bearer {secret}"}, trust_env=False)


def oidc(issuer: str, **options: Any) -> dict[str, Any]:
    roles = {"claim": "groups", "map": {"viewers": "viewer", "owners": "owner", "operators": "operator"}}
    return {"issuer": issuer, "client_id": signin.CLIENT, "client_secret": signin.SECRET, "roles": roles, **options}


def take(gate: Gate, auth: dict[str, Any]) -> None:
    """Have the gate take these options of `admin.auth`."""
    gate.write(admin={"address": f"127.0.0.1:{gate.admin}", "auth": auth})
    with owner(gate) as client:
        answer = client.post("/api/v1/reload")
    assert answer.json() == {"applied": True, "faults": []}


def sign_in(page: Page, gate: Gate, name: str, password: str | None = None) -> None:
    page.goto(f"{origin(gate)}/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORDS[name] if password is None else password)
    page.keyboard.press("Enter")


def cookie_named(context: BrowserContext, name: str) -> dict[str, Any]:
    return next(dict(each) for each in context.cookies() if each["name"] == name)


def audit(gate: Gate, limit: int = 10) -> list[dict[str, Any]]:
    with owner(gate) as client:
        changes: list[dict[str, Any]] = client.get("/api/v1/audit", params={"limit": limit}).json()["changes"]
    return changes


# --- local accounts ------------------------------------------------------------------------------------------------------


def test_local_sign_in_and_out(gate: Gate, page: Page, context: BrowserContext) -> None:
    page.goto(f"{origin(gate)}/")
    expect(page).to_have_url(re.compile(r"/login\?next=/$"))
    sign_in(page, gate, "otto")
    expect(page).to_have_url(f"{origin(gate)}/")
    expect(page.locator("header")).to_contain_text("user:otto")
    expect(page.locator("main")).to_contain_text("tiny")
    session = cookie_named(context, "slmgate-session")
    assert (session["httpOnly"], session["sameSite"], session["path"], session["secure"]) == (True, "Lax", "/", False)
    assert len(session["value"]) == 43
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert session["value"] not in (gate.state / "ledger.sqlite3").read_bytes().decode("latin-1")
    page.goto(f"{origin(gate)}/account")
    page.get_by_role("link", name="Keys").click()
    assert json.loads(page.locator("body").inner_text())["keys"] is not None
    page.goto(f"{origin(gate)}/")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{origin(gate)}/login")
    lines = audit(gate, 2)
    assert [(line["action"], line["actor"]) for line in lines] == [("sign-out", "user:otto"), ("sign-in", "user:otto")]
    assert (lines[1]["detail"], lines[1]["address"]) == ({"how": "password", "role": "operator"}, "127.0.0.1")
    # the cookie is dead, not only forgotten
    again = httpx.get(f"{origin(gate)}/api/v1/whoami", cookies={"slmgate-session": session["value"]}, trust_env=False)
    assert again.status_code == 401


def test_the_page_by_keyboard_alone(gate: Gate, page: Page) -> None:
    page.goto(f"{origin(gate)}/login")
    for word in ("vera", PASSWORDS["vera"]):
        page.keyboard.press("Tab")
        while page.evaluate("document.activeElement.tagName") != "INPUT":
            page.keyboard.press("Tab")
        page.keyboard.type(word)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    page.keyboard.press("Space")
    expect(page.locator("header")).to_contain_text("viewer")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(gate: Gate, browser: Browser, scheme: Any) -> None:
    """Text on its ground has a contrast of 4.5 at least (WCAG 2.2, 1.4.3), whatever the system prefers."""
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{origin(gate)}/login")
    pairs = page.evaluate(
        """() => ['body', 'button', 'p.hint'].map(name => {
            let at = document.querySelector(name); const text = getComputedStyle(at).color;
            while (getComputedStyle(at).backgroundColor === 'rgba(0, 0, 0, 0)') at = at.parentElement;
            return [text, getComputedStyle(at).backgroundColor];
        })"""
    )
    for text, ground in pairs:
        a, b = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (a + 0.05) / (b + 0.05) >= 4.5, (text, ground)
    assert (luminance(pairs[0][1]) < 0.5) == (scheme == "dark")
    context.close()


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_wrong_password_and_an_unknown_name_look_alike(gate: Gate, page: Page) -> None:
    said = []
    for name in ("olga", "nobody", "<script>alert(1)</script>"):
        sign_in(page, gate, name, "not the password")
        said.append(page.get_by_role("alert").inner_text())
        assert page.get_by_label("Name").input_value() == name
        expect(page.get_by_label("Password")).to_have_value("")
    assert len(set(said)) == 1
    lines = audit(gate, 3)
    assert {line["action"] for line in lines} == {"sign-in.failed"}
    assert [line["actor"] for line in lines] == ["unknown", "unknown", "user:olga"]  # a password typed as a name is in no log
    assert "not the password" not in json.dumps(lines)
    sign_in(page, gate, "olga")
    expect(page.locator("header")).to_contain_text("user:olga")


def test_a_new_id_at_every_sign_in(gate: Gate, page: Page, context: BrowserContext) -> None:
    planted = "A" * 43
    context.add_cookies([{"name": "slmgate-session", "value": planted, "url": origin(gate)}])
    sign_in(page, gate, "vera")
    expect(page.locator("header")).to_contain_text("user:vera")
    first = cookie_named(context, "slmgate-session")["value"]
    sign_in(page, gate, "vera")
    expect(page.locator("header")).to_contain_text("user:vera")
    second = cookie_named(context, "slmgate-session")["value"]
    assert len({planted, first, second}) == 3
    for dead in (planted, first):
        answer = httpx.get(f"{origin(gate)}/api/v1/whoami", cookies={"slmgate-session": dead}, trust_env=False)
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "next",
    [
        "https://evil.example/", "//evil.example", "/\\evil.example", "/%5cevil.example/..//x", "javascript:alert(1)",
        "/x\r\ny", "http:/x",
        "\t//evil.example", "/%0d%0a", "/./", "///x", "@evil.example", ".evil.example",
    ],
)  # fmt: skip
def test_no_open_redirect(gate: Gate, page: Page, next: str) -> None:
    page.goto(f"{origin(gate)}/login?{urlencode({'next': next})}")
    page.get_by_label("Name").fill("vera")
    page.get_by_label("Password").fill(PASSWORDS["vera"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/login" not in url)
    assert urlsplit(page.url)[:2] == urlsplit(origin(gate))[:2]


def test_what_ends_an_account_ends_its_sessions(gate: Gate, browser: Browser) -> None:
    def signed_in(password: str) -> httpx.Client:
        context = browser.new_context()
        page = context.new_page()
        sign_in(page, gate, "tom", password)
        expect(page.locator("header")).to_contain_text("user:tom")
        cookie = cookie_named(context, "slmgate-session")["value"]
        context.close()
        return httpx.Client(base_url=origin(gate), cookies={"slmgate-session": cookie}, trust_env=False)

    with owner(gate) as admin:
        secret = "first words of tom"
        assert admin.post("/api/v1/admin/users", json={"name": "tom", "role": "owner", "password": secret}).status_code == 201
        for change, body in (("role", {"role": "viewer"}), ("password", {"password": "other words of tom"}), ("remove", {})):
            with signed_in(secret) as client:
                assert client.get("/api/v1/whoami").json()["name"] == "user:tom"
                assert admin.post(f"/api/v1/admin/users/tom/{change}", json=body).status_code == 200
                assert client.get("/api/v1/whoami").status_code == 401
            secret = body.get("password", secret)


def test_sessions_outlive_the_control_process(gate: Gate, page: Page) -> None:
    import psutil

    sign_in(page, gate, "olga")
    expect(page.locator("header")).to_contain_text("user:olga")
    before = gate.control()
    psutil.Process(before).kill()
    eventually(lambda: gate.pids("slmgate.control.process") not in ([], [before]), 10, "another control process runs")
    eventually(lambda: _alive(gate), 10, "the admin listener answers")
    page.reload()
    expect(page.locator("header")).to_contain_text("user:olga")


def _alive(gate: Gate) -> bool:
    try:
        return httpx.get(f"{origin(gate)}/healthz", trust_env=False, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_an_idle_session_ends(gate: Gate, page: Page, context: BrowserContext) -> None:
    take(gate, {"idle": "1m", "lifetime": "1m"})
    try:
        sign_in(page, gate, "vera")
        expect(page.locator("header")).to_contain_text("user:vera")
        assert cookie_named(context, "slmgate-session")["expires"] <= time.time() + 61
    finally:
        take(gate, {})


# --- forgery -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def signed(gate: Gate, page: Page, context: BrowserContext) -> dict[str, str]:
    """The cookies of an owner's browser."""
    sign_in(page, gate, "olga")
    expect(page.locator("header")).to_contain_text("user:olga")
    return {each["name"]: each["value"] for each in context.cookies()}


FORGED: list[tuple[str, dict[str, str], str, int]] = [
    ("/api/v1/keys", {"content-type": "text/plain", "origin": "SELF"}, '{"name":"forged"}', 415),
    ("/api/v1/keys", {"content-type": "application/x-www-form-urlencoded", "origin": "SELF"}, '{"name":"forged"}', 415),
    ("/api/v1/keys", {"content-type": "application/json"}, '{"name":"forged"}', 403),
    ("/api/v1/keys", {"content-type": "application/json", "origin": "http://evil.example"}, '{"name":"forged"}', 403),
    ("/api/v1/keys", {"content-type": "application/json", "origin": "null"}, '{"name":"forged"}', 403),
    ("/api/v1/keys", {"content-type": "application/json", "origin": "SELF", "sec-fetch-site": "cross-site"}, "{}", 403),
    ("/api/v1/keys", {"content-type": "application/json", "sec-fetch-site": "same-site"}, '{"name":"forged"}', 403),
    ("/api/v1/keys", {"content-type": "application/json", "sec-fetch-site": "none"}, '{"name":"forged"}', 403),
    ("/logout", {"content-type": "application/x-www-form-urlencoded", "origin": "SELF"}, "", 403),
    ("/logout", {"content-type": "application/x-www-form-urlencoded", "origin": "SELF"}, "token=" + "A" * 43, 403),
    ("/logout", {"content-type": "application/x-www-form-urlencoded"}, "", 403),
    ("/logout", {"content-type": "text/plain", "origin": "SELF"}, "", 415),
    ("/login", {"content-type": "application/x-www-form-urlencoded", "origin": "http://evil.example"}, "name=vera", 403),
    ("/login", {"content-type": "application/x-www-form-urlencoded", "origin": "SELF"}, "name=vera&token=x", 400),
    ("/login", {"content-type": "application/json", "origin": "SELF"}, "{}", 415),
]  # fmt: skip


@pytest.mark.parametrize(("path", "headers", "body", "status"), FORGED)
def test_forged_requests(gate: Gate, signed: dict[str, str], path: str, headers: dict[str, str], body: str, status: int) -> None:
    with owner(gate) as admin:
        before = admin.get("/api/v1/keys").json()
        given = {name: value.replace("SELF", origin(gate)) for name, value in headers.items()}
        answer = httpx.post(f"{origin(gate)}{path}", headers=given, cookies=signed, content=body, trust_env=False)
        assert answer.status_code == status, answer.text
        assert admin.get("/api/v1/keys").json() == before
    assert httpx.get(f"{origin(gate)}/api/v1/whoami", cookies=signed, trust_env=False).status_code == 200


def test_a_foreign_page_cannot_act(gate: Gate, page: Page, signed: dict[str, str]) -> None:
    """A page of another site, in the browser that is signed in: forms, frames and fetches of every kind."""
    with owner(gate) as admin:
        before = admin.get("/api/v1/keys").json()
        foreign = f"http://localhost:{gate.port}"  # the gate itself, on another host name: another site
        page.goto(f"{foreign}/healthz")
        outcome = page.evaluate(
            """async target => {
                const tries = [
                    {method: 'POST', mode: 'no-cors', body: '{"name":"forged"}'},
                    {method: 'POST', mode: 'no-cors', body: '{"name":"forged"}', headers: {'content-type': 'text/plain'}},
                    {method: 'POST', mode: 'cors', body: '{"name":"forged"}', headers: {'content-type': 'application/json'}},
                    {method: 'GET', mode: 'cors'},
                ];
                const seen = [];
                for (const each of tries) {
                    try { seen.push((await fetch(target + '/api/v1/keys', {...each, credentials: 'include'})).type); }
                    catch { seen.push('failed'); }
                }
                return seen;
            }""",
            origin(gate),
        )
        assert outcome == ["opaque", "opaque", "failed", "failed"]
        assert admin.get("/api/v1/keys").json() == before
    page.close()


# --- OIDC ----------------------------------------------------------------------------------------------------------------


def to_provider(page: Page, gate: Gate, next: str = "/") -> None:
    page.goto(f"{origin(gate)}/login?{urlencode({'next': next})}")
    page.get_by_role("link", name="Sign in with").click()


def at_provider(page: Page, name: str) -> None:
    """What somebody does at the provider: a name, any password, yes."""
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("anything")
    page.locator("button[type=submit]").click()
    page.locator("button[type=submit]").click()


@pytest.mark.parametrize(("group", "role"), [("viewers", "viewer"), ("operators", "operator"), ("owners", "owner")])
def test_oidc_sign_in(gate: Gate, issuer: str, page: Page, context: BrowserContext, group: str, role: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    to_provider(page, gate, "/api/v1/whoami")
    at_provider(page, f"{group}-ann")
    expect(page).to_have_url(f"{origin(gate)}/api/v1/whoami")
    assert json.loads(page.locator("body").inner_text()) == {"name": f"oidc:{group}-ann", "role": role}
    begun = parse_qs(urlsplit(next(url for url in asked if url.startswith(f"{issuer}/auth?"))).query)
    assert begun["response_type"] == ["code"]
    assert begun["code_challenge_method"] == ["S256"]
    assert len(begun["code_challenge"][0]) == len(begun["state"][0]) == len(begun["nonce"][0]) == 43
    assert begun["redirect_uri"] == [f"{origin(gate)}/login/callback"]
    assert not [each for each in context.cookies(origin(gate)) if each["name"] == "slmgate-flow"]
    line = audit(gate, 1)[0]
    assert (line["action"], line["actor"], line["detail"]["how"]) == ("sign-in", f"oidc:{group}-ann", "oidc")
    page.goto(f"{origin(gate)}/")
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{origin(gate)}/")
    expect(page).to_have_url(re.compile("/login"))


def test_oidc_without_a_role(gate: Gate, issuer: str, page: Page, context: BrowserContext) -> None:
    to_provider(page, gate)
    at_provider(page, "strangers-eve")
    expect(page.get_by_role("alert")).to_contain_text("role")
    assert not [each for each in context.cookies(origin(gate)) if each["name"] == "slmgate-session"]
    assert audit(gate, 1)[0]["detail"]["reason"] == "no role"


def test_oidc_as_a_public_client(gate: Gate, issuer: str, page: Page) -> None:
    public = oidc(issuer, client_id=signin.PUBLIC_CLIENT)
    del public["client_secret"]
    take(gate, {"oidc": public, "local": False})
    try:
        page.goto(f"{origin(gate)}/login")
        assert page.locator("input[type=password]").count() == 0
        page.get_by_role("link", name="Sign in with").click()
        at_provider(page, "viewers-pat")
        expect(page.locator("header")).to_contain_text("oidc:viewers-pat")
    finally:
        take(gate, {"oidc": oidc(issuer)})
    page.reload()  # who came by other settings is signed out
    expect(page).to_have_url(re.compile("/login"))


def stolen_answer(context: BrowserContext, gate: Gate, name: str) -> tuple[str, dict[str, Any]]:
    """Where the provider sends a browser back to, and the flow's cookie; the browser arrives without it and gets nothing."""
    page = context.new_page()
    to_provider(page, gate)
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("anything")
    page.locator("button[type=submit]").click()
    flow = cookie_named(context, "slmgate-flow")
    context.clear_cookies(name="slmgate-flow")
    with page.expect_response("**/login/callback*") as answered:
        page.locator("button[type=submit]").click()
    assert answered.value.status == 400
    return answered.value.url, flow


def back(gate: Gate, url: str, flow: str | None) -> httpx.Response:
    cookies = {} if flow is None else {"slmgate-flow": flow}
    return httpx.get(url, cookies=cookies, trust_env=False)


def changed(url: str, **query: str | None) -> str:
    parts = urlsplit(url)
    kept = {name: values[0] for name, values in parse_qs(parts.query).items()} | query
    return parts._replace(query=urlencode({name: value for name, value in kept.items() if value is not None})).geturl()


def test_answers_that_are_not_ours(gate: Gate, issuer: str, browser: Browser) -> None:
    """State, cookie, issuer and code of others; then the right answer once, and never again."""
    context, other = browser.new_context(), browser.new_context()
    url, flow = stolen_answer(context, gate, "owners-ann")
    assert (flow["httpOnly"], flow["sameSite"]) == (True, "Lax")
    other_url, other_flow = stolen_answer(other, gate, "owners-eve")
    code, eves = parse_qs(urlsplit(url).query)["code"][0], parse_qs(urlsplit(other_url).query)["code"][0]
    mine = flow["value"]
    for wrong, cookie, status in [
        (url, None, 400),
        (url, other_flow["value"], 400),
        (url, mine[:-1] + ("A" if mine[-1] != "A" else "B"), 400),
        (changed(url, state="A" * 43), mine, 400),
        (changed(url, state=None), mine, 400),
        (url + "&state=x", mine, 400),
        (changed(url, iss="https://evil.example"), mine, 401),
        (changed(url, iss=None), mine, 401),
        (changed(url, code=None), mine, 401),
        (changed(url, code="made-up"), mine, 401),
        (changed(url, code=eves), mine, 401),  # PKCE: a code that was asked for with another verifier
        (changed(url, code=None, error="access_denied"), mine, 403),
    ]:
        answer = back(gate, wrong, cookie)
        assert answer.status_code == status, (wrong, answer.text)
        assert "slmgate-session" not in answer.headers.get("set-cookie", "")
        assert code not in answer.text
    assert back(gate, changed(url, code="again"), mine).status_code == 401
    good = back(gate, url, mine)
    assert (good.status_code, good.headers["location"]) == (303, "/")
    replayed = back(gate, url, mine)
    assert replayed.status_code == 401
    assert "slmgate-session" not in replayed.headers.get("set-cookie", "")
    assert code not in json.dumps(audit(gate, 30))
    assert code not in gate.text()
    context.close()
    other.close()


def test_a_provider_that_is_away(gate: Gate, issuer: str, page: Page) -> None:
    take(gate, {"oidc": oidc("http://127.0.0.1:9")})
    try:
        answer = httpx.get(f"{origin(gate)}/login/oidc", trust_env=False)
        assert answer.status_code == 502
        assert "127.0.0.1:9" not in answer.text
        sign_in(page, gate, "vera")  # the other way still works
        expect(page.locator("header")).to_contain_text("user:vera")
    finally:
        take(gate, {"oidc": oidc(issuer)})


# --- every route for everybody ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sessions(gate: Gate, browser: Browser) -> dict[str, str]:
    """A session's cookie for each role."""
    found = {}
    for name, role in ROLE.items():
        context = browser.new_context()
        page = context.new_page()
        sign_in(page, gate, name)
        expect(page.locator("header")).to_contain_text(f"user:{name}")
        found[role] = cookie_named(context, "slmgate-session")["value"]
        context.close()
    return found


@pytest.fixture(scope="module")
def keys(gate: Gate) -> dict[str, str]:
    """An admin key for each role."""
    with owner(gate) as admin:
        return {
            role: admin.post("/api/v1/admin/keys", json={"name": f"matrix-{role}", "role": role}).json()["secret"]
            for role in ROLES
        }


@pytest.mark.parametrize("row", [*ROUTES, *PAGES, *DASHBOARD], ids=lambda row: f"{row.method} {row.path}")
def test_the_matrix(gate: Gate, sessions: dict[str, str], keys: dict[str, str], row: Route) -> None:
    if row.path == "/logout":
        return  # ends the session that it is given: test_local_sign_in_and_out, FORGED
    kind = "application/x-www-form-urlencoded" if row.page else "application/json"
    headers = {"origin": origin(gate), "content-type": kind} if row.method == "POST" else {}
    url = origin(gate) + re.sub(r"\{\w+:\w+\}", "none", row.path)

    def ask(extra: dict[str, str], session: str | None = None) -> int:
        cookies = {"slmgate-session": session} if session else {}
        form = {}
        if session and row.page and row.method == "POST":  # a form is taken from a page of ours, by whoever may send it
            page = httpx.get(origin(gate) + "/", cookies=cookies, trust_env=False).text
            form = {"token": re.findall(r'name="token" value="([^"]+)"', page)[0]}
        answer = httpx.request(row.method, url, data=form, headers={**headers, **extra}, cookies=cookies, trust_env=False)
        return answer.status_code

    stranger = ask({})
    if row.permission.name == "PUBLIC":
        assert stranger not in (401, 403)
        return
    assert stranger == (303 if row.page else 401)
    assert ask({"authorization": "Bearer sk-test-main-0123456789abcdef"}) == (303 if row.page else 401)  # a client's key
    for role, permission in ROLES.items():
        by_key = () if row.page and row.method == "POST" else (ask({"authorization": f"Bearer {keys[role]}"}),)  # has no forms
        for status in (ask({}, sessions[role]), *by_key):
            assert (status == 403) == (permission < row.permission), (role, status)
            assert status != 401
    assert ask({"authorization": "Bearer wrong"}, sessions["owner"]) == (303 if row.page else 401)


def test_admin_keys_end(gate: Gate) -> None:
    with owner(gate) as admin:
        made = admin.post("/api/v1/admin/keys", json={"name": "ci", "role": "operator"}).json()
        headers = {"authorization": f"Bearer {made['secret']}"}
        assert httpx.get(f"{origin(gate)}/api/v1/whoami", headers=headers, trust_env=False).json()["name"] == "key:ci"
        assert admin.post(f"/api/v1/admin/keys/{made['key']['id']}/revoke").status_code == 200
        assert httpx.get(f"{origin(gate)}/api/v1/whoami", headers=headers, trust_env=False).status_code == 401
        assert httpx.get(f"http://127.0.0.1:{gate.port}/v1/models", headers=headers, trust_env=False).status_code == 401


# Last: it makes this address wait.
def test_guessing_is_slowed_down(gate: Gate) -> None:
    with httpx.Client(base_url=origin(gate), headers={"origin": origin(gate)}, trust_env=False) as client:
        token = re.findall(r'name="token" value="([^"]+)"', client.get("/login").text)[0]

        def guess(name: str) -> httpx.Response:
            return client.post("/login", data={"token": token, "name": name, "password": "a wrong password"})

        statuses: list[int] = []
        for _ in range(12):
            answer = guess("otto")
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                break
        assert statuses[-1] == 429 and len(statuses) <= 7, statuses
        assert int(answer.headers["retry-after"]) >= 1
        right = client.post("/login", data={"token": token, "name": "otto", "password": PASSWORDS["otto"]})
        assert right.status_code == 429  # not even the right one, for now
        eventually(lambda: guess("nobody-else").status_code == 429, 20, "an unknown account is slowed down alike")
