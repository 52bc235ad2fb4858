"""Every route of the admin listener for everybody who may knock: the table below, held against the tables of routes.

A row of those without a case here fails, so no route comes without somebody having said what it answers to whom. Nobody who is
refused changes anything, and no GET does, whoever asks.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.admin import refusals
from slmgate.control.admin.dashboard.routes import ROUTES as DASHBOARD
from slmgate.control.admin.routes import ROUTES, Route
from slmgate.control.admin.signin.routes import PAGES
from slmgate.control.admin.signin.sessions import Sessions, Signed
from slmgate.control.config import load_text
from slmgate.control.operators import ROLES, Permission
from tests.tools.admin_gate import AdminGate, asking

SELF = "http://127.0.0.1:8081"


class Case(NamedTuple):
    """What a row answers to whom may ask it: the status, for this body. `{n}` is another number each time."""

    status: int
    body: str | None = None


KEY, USER = '{"name":"bot{n}"}', '{"name":"user{n}","role":"viewer","password":"four plain words {n}"}'
CASES: dict[tuple[str, str], Case] = {
    ("GET", "/healthz"): Case(200),
    ("GET", "/readyz"): Case(200),
    ("GET", "/metrics"): Case(200),
    ("GET", "/api/v1/status"): Case(200),
    ("GET", "/api/v1/instances"): Case(200),
    ("POST", "/api/v1/instances"): Case(404, '{"model":"none","url":"http://10.0.0.1:1"}'),
    ("POST", "/api/v1/instances/drain"): Case(404, '{"id":"none"}'),
    ("POST", "/api/v1/instances/enable"): Case(404, '{"id":"none"}'),
    ("POST", "/api/v1/instances/remove"): Case(404, '{"id":"none"}'),
    ("GET", "/api/v1/certificates"): Case(200),
    ("GET", "/api/v1/bans"): Case(200),
    ("POST", "/api/v1/bans/lift"): Case(404, '{"address":"203.0.113.7"}'),
    ("GET", "/api/v1/usage"): Case(200),
    ("GET", "/api/v1/analytics/overview"): Case(200),
    ("GET", "/api/v1/analytics/clients"): Case(200),
    ("GET", "/api/v1/analytics/client"): Case(400),
    ("GET", "/api/v1/analytics/models"): Case(200),
    ("GET", "/api/v1/analytics/model"): Case(400),
    ("GET", "/api/v1/analytics/series"): Case(200),
    ("GET", "/api/v1/analytics/compare"): Case(200),
    ("GET", "/api/v1/receipts"): Case(200),
    ("GET", "/api/v1/receipts/{id:str}"): Case(404),
    ("GET", "/api/v1/receipts/{id:str}/content"): Case(404),
    ("GET", "/api/v1/limits"): Case(200),
    ("GET", "/api/v1/live"): Case(200),
    ("POST", "/api/v1/live/{id:str}/cancel"): Case(404),
    ("POST", "/api/v1/explain"): Case(404, '{"as":"nobody","model":"tiny"}'),
    ("GET", "/api/v1/explain/{id:str}"): Case(404),
    ("GET", "/api/v1/statement"): Case(400),
    ("GET", "/api/v1/statement.html"): Case(400),
    ("GET", "/api/v1/notices"): Case(200),
    ("GET", "/api/v1/keys"): Case(200),
    ("POST", "/api/v1/keys"): Case(201, KEY),
    ("GET", "/api/v1/keys/export"): Case(200),
    ("POST", "/api/v1/keys/import"): Case(200, '{"keys":[{"name":"came{n}"}]}'),
    ("GET", "/api/v1/keys/{id:str}"): Case(404),
    ("POST", "/api/v1/keys/{id:str}"): Case(404, '{"owner":"eve"}'),
    ("POST", "/api/v1/keys/{id:str}/rotate"): Case(404),
    ("POST", "/api/v1/keys/{id:str}/disable"): Case(404),
    ("POST", "/api/v1/keys/{id:str}/enable"): Case(404),
    ("POST", "/api/v1/keys/{id:str}/revoke"): Case(404),
    ("POST", "/api/v1/reload"): Case(200),
    ("GET", "/api/v1/audit"): Case(200),
    ("GET", "/api/v1/audit/verify"): Case(200),
    ("GET", "/api/v1/whoami"): Case(200),
    ("GET", "/api/v1/admin/users"): Case(200),
    ("POST", "/api/v1/admin/users"): Case(201, USER),
    ("POST", "/api/v1/admin/users/{id:str}/password"): Case(404, '{"password":"four other words"}'),
    ("POST", "/api/v1/admin/users/{id:str}/role"): Case(404, '{"role":"owner"}'),
    ("POST", "/api/v1/admin/users/{id:str}/remove"): Case(404),
    ("GET", "/api/v1/admin/keys"): Case(200),
    ("POST", "/api/v1/admin/keys"): Case(201, '{"name":"key{n}","role":"owner"}'),
    ("POST", "/api/v1/admin/keys/{id:str}/revoke"): Case(404),
    ("GET", "/api/v1/admin/sessions"): Case(200),
    ("POST", "/api/v1/admin/sessions/{id:str}/end"): Case(404),
    ("GET", "/"): Case(200),
    ("GET", "/clients"): Case(200),
    ("GET", "/clients/{name:str}"): Case(200),
    ("GET", "/models"): Case(200),
    ("GET", "/models/{name:str}"): Case(404),
    ("POST", "/instances/drain"): Case(403, "token=x&id=none"),
    ("POST", "/instances/enable"): Case(403, "token=x&id=none"),
    ("GET", "/account"): Case(200),
    ("POST", "/theme"): Case(303, "to=dark"),
    ("GET", "/assets/{name:str}"): Case(404),
    ("GET", "/live"): Case(200),
    ("GET", "/live/{id:str}/cancel"): Case(404),
    ("POST", "/live/{id:str}/cancel"): Case(403, "token=x"),
    ("GET", "/requests"): Case(200),
    ("GET", "/requests/{id:str}"): Case(404),
    ("GET", "/limits"): Case(200),
    ("GET", "/login"): Case(200),
    ("POST", "/login"): Case(400, "name=olga&token=x"),
    ("GET", "/login/oidc"): Case(404),
    ("GET", "/login/callback"): Case(404),
    ("POST", "/logout"): Case(403, "token=x"),
    ("GET", "/signin.css"): Case(200),
}
DOCS = {"/api": 200, "/api/openapi.json": 200, "/api/nothing": 404}
"""What the description of the API answers to everybody."""
ALL: dict[tuple[str, str], Route] = {(row.method, row.path): row for row in (*ROUTES, *PAGES, *DASHBOARD)}


def asked_as(row: Route) -> str:
    """Its path, about something that there is not."""
    return re.sub(r"\{\w+:\w+\}", "none", row.path)


class Caller(NamedTuple):
    """Somebody at the door: headers, and what he may do (PUBLIC: a stranger)."""

    name: str
    headers: dict[str, str]
    permission: Permission


class Scene:
    """A gate with somebody of each kind, and a client."""

    def __init__(self, home: Path, client: TestClient[Litestar], gate: AdminGate) -> None:
        self.path, self.client, self.gate = home / "ledger.sqlite3", client, gate
        self.numbers = itertools.count()
        client.headers.pop("authorization")
        self.callers = list(self._callers())

    def _callers(self) -> Iterator[Caller]:
        gate, sessions = self.gate, Sessions(self.gate.accounts)

        def bearer(secret: str) -> dict[str, str]:
            return {"authorization": f"Bearer {secret}"}

        public = Permission.PUBLIC
        yield Caller("nobody", {}, public)
        yield Caller("a wrong key", bearer("sk-slm-admin-" + "A" * 43), public)
        yield Caller("no scheme", {"authorization": gate.secret}, public)
        yield Caller("another scheme", {"authorization": f"Basic {gate.secret}"}, public)
        yield Caller("the key in x-api-key", {"x-api-key": gate.secret}, public)
        yield Caller("a gate's key", bearer(gate.keyring.create("client")[1]), public)
        yield Caller("a made-up cookie", {"cookie": "slmgate-session=" + "A" * 43}, public)
        yield Caller("an admin key for a cookie", {"cookie": f"slmgate-session={gate.secret}"}, public)
        record, revoked = gate.accounts.create_key("revoked", "owner", None, "admin")
        gate.accounts.revoke_key(record.id, "admin")
        yield Caller("a revoked key", bearer(revoked), public)
        yield Caller("the first key", bearer(gate.secret), Permission.OWNER)
        cookies = {}
        for role, permission in ROLES.items():
            _, secret = gate.accounts.create_key(role, role, None, "admin")
            yield Caller(f"a key as {role}", bearer(secret), permission)
            account = gate.accounts.add(f"{role}1", role, "four plain words", "admin")
            cookie = sessions.start(Signed(f"user:{role}1", role, account), gate.admin.auth, "", "")
            assert cookie is not None
            cookies[role] = f"slmgate-session={cookie}"
            yield Caller(f"a browser as {role}", {"cookie": cookies[role]}, permission)
        # a wrong key is not made good by a right cookie
        yield Caller("a wrong key in an owner's browser", {**bearer("wrong"), "cookie": cookies["owner"]}, public)
        ended = gate.accounts.add("gone", "owner", "four plain words", "admin")
        cookie = sessions.start(Signed("user:gone", "owner", ended), gate.admin.auth, "", "")
        gate.accounts.set_role("gone", "viewer", "admin")
        yield Caller("a browser whose role was taken", {"cookie": f"slmgate-session={cookie}"}, public)

    def ask(self, row: Route, who: Caller, **extra: str) -> httpx.Response:
        case = CASES[row.method, row.path]
        headers = {**who.headers, **extra}
        if row.method == "POST":
            kind = "application/x-www-form-urlencoded" if row.page else "application/json"
            headers |= {"origin": SELF, "content-type": kind}
        number = str(next(self.numbers))
        body = None if case.body is None else case.body.replace("{n}", number)
        url = asked_as(row)
        answer: httpx.Response = self.client.request(row.method, url, content=body, headers=headers, follow_redirects=False)
        self.client.cookies.clear()
        return answer

    def state(self) -> dict[str, list[Any]]:
        """All that operators can change, and the audit log without what was refused."""
        with sqlite3.connect(self.path) as store:
            found = {
                name: store.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()
                for name in ("keys", "key_secrets", "admin_accounts", "admin_keys", "instances")
            }
            found["admin_sessions"] = store.execute("SELECT id, operator, role FROM admin_sessions ORDER BY 1").fetchall()
            found["audit"] = store.execute("SELECT id FROM audit WHERE action <> 'refused'").fetchall()
        return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("matrix")
    gate = AdminGate(home)
    config = load_text("models: {tiny: {instances: [{url: 'http://127.0.0.1:9'}]}}").unwrap()
    gate.config = config
    gate.roster.config = lambda: config
    with pytest.MonkeyPatch.context() as patch, asking(gate) as client:
        patch.setattr(refusals, "PER_MINUTE", 10_000)  # there are more rows than one operator may try in a minute
        yield Scene(home, client, gate)
    gate.store.close()


def test_every_row_has_its_case() -> None:
    assert set(CASES) == set(ALL)


@pytest.mark.parametrize("key", CASES, ids=" ".join)
def test_the_matrix(scene: Scene, key: tuple[str, str]) -> None:
    row, case = ALL[key], CASES[key]
    for who in scene.callers:
        before = scene.state()
        refused_before = scene.gate.store.audit(1)[0].id
        answer = scene.ask(row, who)
        if who.permission >= row.permission:
            expected = case.status
        elif who.permission is Permission.PUBLIC:
            expected = 303 if row.page else 401
        else:
            expected = 403
        assert answer.status_code == expected, (who.name, answer.text)
        changes = expected in (200, 201) and row.method == "POST"
        assert (scene.state() == before) is not changes, who.name
        newest = scene.gate.store.audit(1)[0]
        if expected == 403 and who.permission is not Permission.PUBLIC and who.permission < row.permission:
            noted = row.method == "POST"
            assert (newest.action == "refused" and newest.id > refused_before) is noted, who.name
        if expected == 303 and who.permission < row.permission:
            assert answer.headers["location"].startswith("/login?next=")
        if expected == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", DOCS)
def test_the_description_is_everybodys(scene: Scene, path: str) -> None:
    for who in scene.callers:
        answer = scene.client.get(path, headers=who.headers)
        assert answer.status_code == DOCS[path], who.name
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    scene.client.cookies.clear()


@pytest.mark.parametrize("key", [key for key in CASES if key[0] == "POST"], ids=" ".join)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_a_change_is_a_post(scene: Scene, key: tuple[str, str], method: str) -> None:
    """Whatever a browser does by itself (an image, a link, a preflight), and whatever says that it means another method."""
    row, owner = ALL[key], next(who for who in scene.callers if who.name == "a browser as owner")
    before = scene.state()
    headers = {**owner.headers, "x-http-method-override": "POST", "x-method-override": "POST", "origin": SELF}
    body = (CASES[key].body or "").replace("{n}", "0")
    answer = scene.client.request(method, asked_as(row) + "?_method=POST", headers=headers, content=body)
    scene.client.cookies.clear()
    assert scene.state() == before
    assert answer.status_code != 201


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/keys", {"name": "x", field: value})
        for field, value in {
            "id": "declared:main", "secret": "s" * 40, "hash": "sha256:" + "0" * 64, "state": "active", "declared": True,
            "created": "2020-01-01", "revoked": None, "used": None, "secrets": [], "permission": 3, "role": "owner",
        }.items()
    ]
    + [("/api/v1/admin/users", {"name": "x", "role": "viewer", "password": "four plain words", "created": "2020-01-01"})]
    + [("/api/v1/admin/users", {"name": "x", "role": "root", "password": "four plain words"})]
    + [("/api/v1/admin/keys", {"name": "x", "role": "viewer", "secret": "s" * 40})]
    + [("/api/v1/instances", {"model": "tiny", "url": "http://10.0.0.1:1", "bearer": "stolen"})],
)  # fmt: skip
def test_fields_that_nobody_may_write(scene: Scene, path: str, body: dict[str, Any]) -> None:
    before = scene.state()
    answer = scene.client.post(path, json=body, headers={"authorization": f"Bearer {scene.gate.secret}"})
    assert answer.status_code == 400, answer.text
    assert scene.state() == before


def test_whoever_is_no_owner_makes_nobody_one(scene: Scene) -> None:
    for who in scene.callers:
        if who.permission in (Permission.VIEWER, Permission.OPERATOR):
            own = who.name.rpartition(" ")[2] + "1"
            headers = {**who.headers, "origin": SELF}
            for path in (f"/api/v1/admin/users/{own}/role", f"/api/v1/admin/users/{own}/password"):
                answer = scene.client.post(path, json={"role": "owner", "password": "four plain words"}, headers=headers)
                scene.client.cookies.clear()
                assert answer.status_code == 403, who.name
    assert {each.name: each.role for each in scene.gate.accounts.all()}["viewer1"] == "viewer"


@pytest.mark.parametrize(("idle", "aged"), [(True, False), (False, True)])
def test_a_session_ends_by_itself(tmp_path: Path, idle: bool, aged: bool) -> None:
    """When nothing was asked for as long as `idle`; and at the end of `lifetime`, however much is asked."""
    gate = AdminGate(tmp_path)
    now = [datetime(2026, 11, 20, 12, tzinfo=UTC)]
    gate.accounts.now = lambda: now[0]
    auth = gate.admin.auth
    account = gate.accounts.add("ann", "owner", "four plain words", "admin")
    cookie = Sessions(gate.accounts).start(Signed("user:ann", "owner", account), auth, "", "")
    with asking(gate) as client:
        client.headers.pop("authorization")

        def status() -> int:
            found: int = client.get("/api/v1/whoami", headers={"cookie": f"slmgate-session={cookie}"}).status_code
            return found

        start = now[0].timestamp()
        if idle:
            now[0] = datetime.fromtimestamp(start + auth.idle - 1, UTC)
            assert status() == 200  # which counts as asking
            now[0] = datetime.fromtimestamp(now[0].timestamp() + auth.idle, UTC)
            assert status() == 401
        if aged:
            at = start
            while at + auth.idle / 2 < start + auth.lifetime:
                at += auth.idle / 2
                if at < start + auth.lifetime:
                    now[0] = datetime.fromtimestamp(at, UTC)
                    assert status() == 200
            now[0] = datetime.fromtimestamp(start + auth.lifetime, UTC)
            assert status() == 401
    gate.store.close()
