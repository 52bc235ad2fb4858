"""The pages over HTTP, without a browser: cookies, forms, redirects and headers; the whole is in tests/system/test_signin.py."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec import structs

from slmgate.control.admin import create_app
from slmgate.control.admin.signin.handlers import site_of
from slmgate.control.admin.signin.routes import PAGES
from slmgate.control.config.admin_options import Admin, AdminAuth, AdminOidc, AdminRoles
from slmgate.stores.records import LedgerUnavailable
from tests.tools.admin_gate import READY, AdminGate

WORDS = "some long words"
PLAIN, PUBLIC = "http://127.0.0.1:8081", "https://gate.example.com"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    gate = AdminGate(tmp_path)
    gate.accounts.add("ann", "operator", WORDS, "cli")
    yield gate
    gate.store.close()


def browser(gate: AdminGate, base: str = PLAIN) -> TestClient[Litestar]:
    client = TestClient(create_app(gate), base_url=base, raise_server_exceptions=False)
    client.follow_redirects = False
    return client


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with browser(gate) as client:
        yield client


def sign_in(client: TestClient[Litestar], base: str = PLAIN, **fields: str) -> httpx.Response:
    token = re.findall(r'name="token" value="([^"]+)"', client.get("/login").text)[0]
    form = {"token": token, "name": "ann", "password": WORDS, **fields}
    return client.post("/login", data=form, headers={"origin": base})


def cookies(answer: httpx.Response) -> dict[str, str]:
    return {line.partition("=")[0]: line for line in answer.headers.get_list("set-cookie")}


def test_in_and_out(client: TestClient[Litestar]) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/")
    answer = sign_in(client, next="/api/v1/whoami")
    assert (answer.status_code, answer.headers["location"]) == (303, "/api/v1/whoami")
    set_cookie = SimpleCookie(cookies(answer)["slmgate-session"])["slmgate-session"]
    assert (set_cookie["httponly"], set_cookie["samesite"].lower(), set_cookie["path"]) == (True, "lax", "/")
    assert set_cookie["max-age"] == "43200"
    assert not set_cookie["secure"] and not set_cookie["domain"]
    assert client.get("/api/v1/whoami").json() == {"name": "user:ann", "role": "operator"}
    page = client.get("/")
    assert "user:ann" in page.text
    token = re.findall(r'name="token" value="([^"]+)"', page.text)[0]
    assert client.post("/logout", data={"token": "x"}, headers={"origin": PLAIN}).status_code == 403
    answer = client.post("/logout", data={"token": token}, headers={"origin": PLAIN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in cookies(answer)["slmgate-session"]
    assert client.get("/api/v1/whoami").status_code == 401


LINK = "/clients/a%20b?from=2026-11-21T12%3A00&to=2026-11-28T12%3A00&compare=1&q=%C3%A9"


@pytest.mark.parametrize(
    ("method", "asked", "referer", "next"),
    [
        ("GET", LINK, "", LINK),
        ("GET", LINK.replace("%3A", ":"), "", LINK),
        ("GET", "/?range=7d", f"{PLAIN}/models", "/?range=7d"),
        ("GET", "/clients?q=" + "x" * 600, "", "/"),
        ("GET", "/clients?q=//evil.example", "", "/clients?q=%2F%2Fevil.example"),
        # a form, which is no page to come back to
        ("POST", "/instances/drain", PLAIN + LINK, LINK),
        ("POST", "/instances/drain", f"{PLAIN}/models/a~1b", "/models/a~1b"),
        ("POST", "/instances/drain", "", "/"),
        ("POST", "/instances/drain", PLAIN, "/"),
        ("POST", "/instances/drain", "http://[", "/"),
        ("POST", "/instances/drain", "https://evil.example//x", "/"),
    ],
)
def test_whoever_signs_in_comes_to_what_was_wanted(
    method: str, asked: str, referer: str, next: str, client: TestClient[Litestar]
) -> None:
    """A link that somebody sent keeps its time range; after a form whose session had ended, it is the page with that form."""
    headers = {"referer": referer} if referer else {}
    answer = client.request(method, asked, headers={**headers, "origin": PLAIN} if method == "POST" else headers)
    assert answer.status_code == 303
    where = httpx.URL(answer.headers["location"])
    assert where.path == "/login"
    assert where.params["next"] == next
    (kept,) = re.findall(r'name="next" value="([^"]*)"', client.get(str(where)).text)
    assert sign_in(client, next=html.unescape(kept)).headers["location"] == next


def test_what_is_seen_of_instances(gate: AdminGate, client: TestClient[Litestar]) -> None:
    out = structs.replace(READY.instances[0], healthy=False, state="half_open", why="it answered 503")
    gate.now = structs.replace(
        READY, instances=[out, structs.replace(out, draining=True), structs.replace(out, source="removed")]
    )
    sign_in(client)
    said = re.findall(r"</code> (.*?)</li>", client.get("/account").text)
    assert said == [
        "half-open: it answered 503, 3 in flight, 1 waiting",
        "draining, 3 in flight, 1 waiting",
        "removed, 3 in flight, 1 waiting",
    ]


def test_cookies_over_tls_are_bound_to_the_host(gate: AdminGate) -> None:
    gate.admin = Admin(url=PUBLIC)
    with browser(gate, PUBLIC) as client:
        answer = sign_in(client, PUBLIC)
        assert answer.status_code == 303
        line = cookies(answer)["__Host-slmgate-session"]
        assert "Secure" in line and "Path=/" in line and "Domain" not in line
        assert client.get("/api/v1/whoami").status_code == 200
        assert client.get("/login", headers={"host": "evil.example.com"}).status_code == 421


@pytest.mark.parametrize(
    ("url", "host", "origin", "secure"),
    [
        (None, "127.0.0.1:8081", "http://127.0.0.1:8081", False),
        (PUBLIC, "gate.example.com", PUBLIC, True),
        (PUBLIC, "Gate.Example.com", PUBLIC, True),
        ("https://gate.example.com:443", "gate.example.com", "https://gate.example.com:443", True),
        (PUBLIC, "127.0.0.1:8081", "http://127.0.0.1:8081", False),
        (PUBLIC, "gate.example.com:8081", "http://gate.example.com:8081", False),
        ("http://10.0.0.5:80", "10.0.0.5", "http://10.0.0.5:80", False),
    ],
)
def test_what_the_browser_calls_us(url: str | None, host: str, origin: str, secure: bool) -> None:
    site = site_of(host, Admin(url=url))
    assert (site.origin, site.secure) == (origin, secure)


def test_every_page_keeps_its_browser_short(client: TestClient[Litestar]) -> None:
    for row in PAGES:
        answer = client.request(row.method, row.path, headers={"origin": PLAIN})
        assert answer.headers["cache-control"] == "no-store", row
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        if answer.headers["content-type"].startswith("text/html"):
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "same-origin"


def test_a_wrong_password_is_not_repeated(client: TestClient[Litestar]) -> None:
    answer = sign_in(client, password="my secret words", name="<b>ann")
    assert answer.status_code == 401
    assert "my secret words" not in answer.text
    assert "&lt;b&gt;ann" in answer.text
    assert "slmgate-session" not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    "fields",
    ["token=x&name=ann", "", "token=a&token=b", "&".join(f"f{number}=1" for number in range(99)), "name=%ff", "token=%C3%A9"],
)
def test_forms_that_are_not_ours(fields: str, client: TestClient[Litestar]) -> None:
    client.get("/login")
    headers = {"origin": PLAIN, "content-type": "application/x-www-form-urlencoded"}
    assert client.post("/login", content=fields, headers=headers).status_code == 400
    client.cookies.clear()
    assert client.post("/login", content=fields, headers=headers).status_code == 400


def test_a_form_too_large(client: TestClient[Litestar]) -> None:
    headers = {"origin": PLAIN, "content-type": "application/x-www-form-urlencoded"}
    assert client.post("/login", content="a=" + "x" * 20_000, headers=headers).status_code == 413


def test_two_tabs_have_one_form(client: TestClient[Litestar]) -> None:
    found = [re.findall(r'name="token" value="([^"]+)"', client.get("/login").text)[0] for _ in range(2)]
    assert found[0] == found[1]


def test_waiting_is_said(client: TestClient[Litestar]) -> None:
    answers = [sign_in(client, password="wrong words") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert answers[5].headers["retry-after"] == "1"
    assert "Next try in 1 s" in answers[5].text


def test_a_provider_is_offered_and_asked_on_its_own_host(gate: AdminGate) -> None:
    oidc = AdminOidc(issuer="https://login.example.com", client_id="gate", roles=AdminRoles(map={"a": "owner"}))
    gate.admin = Admin(url=PUBLIC, auth=AdminAuth(oidc=oidc, local=False))
    with browser(gate) as client:
        page = client.get("/login?next=/api/v1/keys").text
        assert "https://login.example.com" in page
        assert "password" not in page
        answer = client.get("/login/oidc?next=/api/v1/keys")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{PUBLIC}/login/oidc?next=/api/v1/keys")
        answer = client.get("/login/callback?code=x&state=y")
        assert answer.status_code == 400
        assert "Max-Age=0" in cookies(answer)["slmgate-flow"]


def test_no_provider(client: TestClient[Litestar]) -> None:
    assert client.get("/login/oidc").status_code == 404
    assert client.get("/login/callback?code=x&state=y&state=y").status_code == 404


def test_a_key_shows_the_page_without_a_way_out(gate: AdminGate, client: TestClient[Litestar]) -> None:
    page = client.get("/account", headers={"authorization": f"Bearer {gate.secret}"})
    assert "admin" in page.text
    assert "Sign out" not in page.text
    answer = client.post("/logout", headers={"authorization": f"Bearer {gate.secret}", "origin": PLAIN})
    assert answer.status_code == 403


@pytest.mark.parametrize(("cookie", "mark"), [("dark", ' data-theme="dark"'), ("light", ' data-theme="light"'), ('"x', "")])
def test_the_colours_that_were_chosen(cookie: str, mark: str, client: TestClient[Litestar]) -> None:
    client.cookies.set("slmgate-theme", cookie)
    stray = client.get("/login/callback?state=x")
    login = client.get("/login")
    sign_in(client)
    for page in (stray, login, client.get("/account")):
        assert f'<html lang="en"{mark}>' in page.text
        assert f'name="color-scheme" content="{cookie if mark else "light dark"}"' in page.text


def test_the_stylesheet(client: TestClient[Litestar]) -> None:
    answer = client.get("/signin.css")
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_store_that_is_away(gate: AdminGate, client: TestClient[Litestar], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LedgerUnavailable("no disk at /secret")

    sign_in(client)
    token = re.findall(r'name="token" value="([^"]+)"', client.get("/").text)[0]
    monkeypatch.setattr("slmgate.stores.sql_operators.SqlOperators.end_sessions", fail)
    answer = client.post("/logout", data={"token": token}, headers={"origin": PLAIN})
    assert answer.status_code == 503
    monkeypatch.setattr("slmgate.stores.sql_operators.SqlOperators.session", fail)
    answer = client.get("/")
    assert answer.status_code == 503
    assert "secret" not in answer.text
