"""What is around every page: links, forms and their token, CSV, the theme, errors as pages; and nothing foreign in one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from litestar import Litestar, Request
from litestar.testing import TestClient

from slmgate.control.admin.dashboard import shell
from slmgate.control.admin.dashboard.asking import Ask, Go, View, Wrong
from slmgate.control.admin.dashboard.page import Page
from slmgate.control.admin.dashboard.tables import Column, whole
from slmgate.control.admin.signin.sessions import Sessions, Signed, form_token
from slmgate.control.operators import Permission
from slmgate.stores.records import LedgerUnavailable
from tests.tools.admin_gate import AdminGate, asking
from tests.tools.page_ask import Found, ask, complaints

SELF = "http://127.0.0.1:8081"
EVIL = '"><script>alert(1)</script>'
HTML = {"accept": "text/html,*/*"}


@pytest.fixture
def gate(tmp_path: Path) -> AdminGate:
    return AdminGate(tmp_path)


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as client:
        client.follow_redirects = False
        yield client
    gate.store.close()


def show(asked: Ask) -> View:
    table = whole(
        asked, (Column("name", "Name"), Column("n", "N", "count")), [{"name": EVIL, "n": 1}, {"name": "b", "n": 2}], "name"
    )
    return View(template="clients.html", values={"table": table, "search": ""}, tables=[table])


def fail(asked: Ask) -> View:
    raise Wrong("There is no such client.", 404)


def lost(asked: Ask) -> View:
    raise LedgerUnavailable("no disk at /secret")


def broken(asked: Ask) -> View:
    raise RuntimeError("secret")


async def change(asked: Ask) -> Go:
    return Go(asked.at("done", name=asked.value("name")), "done")


def page(path: str, handler: Any, **more: Any) -> Page:
    return Page(path=path, permission=Permission.VIEWER, handler=handler, title="Try", **more)


ROWS = (
    page("/show", show, place=("", 1), said={"done": "It is done."}),
    page("/show/{name:str}", show, under="/show"),
    page("/fail", fail),
    page("/lost", lost),
    page("/broken", broken),
    page("/change", change, method="POST"),
)


@pytest.fixture
def site(gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient[Litestar]]:
    """The application with these pages instead."""
    monkeypatch.setattr("slmgate.control.admin.app.DASHBOARD_ROUTES", tuple(shell.route_of(row, lambda: ROWS) for row in ROWS))
    monkeypatch.setattr("slmgate.control.admin.app.DASHBOARD", ROWS)
    with asking(gate) as client:
        client.follow_redirects = False
        yield client
    gate.store.close()


def signed_in(gate: AdminGate, role: str = "owner") -> dict[str, str]:
    """Headers of a browser, with its session."""
    account = gate.accounts.add(role, role, "four plain words", "admin")
    cookie = Sessions(gate.accounts).start(Signed(f"user:{role}", role, account), gate.admin.auth, "", "")
    assert cookie is not None
    return {"cookie": f"slmgate-session={cookie}", "origin": SELF, "content-type": "application/x-www-form-urlencoded"}


def test_a_page_in_its_frame(site: TestClient[Litestar]) -> None:
    answer = site.get("/show", headers=HTML)
    assert answer.status_code == 200
    assert complaints(answer.text) == []
    found = Found(answer.text)
    assert next(each for each in found.all("a") if "aria-current" in each)["href"] == "/show"
    assert found.all("a")[0] == {"class": "skip", "href": "#main"}
    assert answer.headers["content-security-policy"] == shell.POLICY
    assert "'unsafe" not in shell.POLICY and "data:" not in shell.POLICY and "*" not in shell.POLICY
    assert answer.headers["cache-control"] == "no-store"


def test_names_hold_whatever_is_in_them(site: TestClient[Litestar], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def render(_: View, asked: Ask, *__: object, **___: object) -> bytes:
        seen.append(asked.names["name"])
        return b""

    monkeypatch.setattr(shell, "render", render)
    names = ["plain", "a/b", "<script>", "a ?b", "~1", "..", "a//b", "é"]
    for name in names:
        assert site.get(ask().at("show", name)).status_code == 200
    assert seen == names


def test_csv_of_a_table(site: TestClient[Litestar]) -> None:
    answer = site.get("/show?csv=table")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="slmgate-show.csv"'
    assert answer.text.splitlines()[0] == "name,n"
    assert len(answer.text.splitlines()) == 3
    assert site.get("/show?csv=other").status_code == 404


def test_what_was_done_is_said_in_our_words_alone(site: TestClient[Litestar]) -> None:
    assert "It is done." in site.get("/show?said=done").text
    answer = site.get("/show", params={"said": "You won, go to evil.example"})
    assert "You won" not in answer.text.replace("said=You", "")


def test_a_form_brings_its_token(site: TestClient[Litestar], gate: AdminGate) -> None:
    site.headers.pop("authorization")
    headers = signed_in(gate)
    token = form_token(headers["cookie"].partition("=")[2])
    for body, status in (("", 403), ("token=x", 403), (f"token={token}x", 403), (f"token={token}&name=a%26b", 303)):
        answer = site.post("/change", content=body, headers=headers)
        assert answer.status_code == status, body
    assert answer.headers["location"] == "/done?name=a%26b&said=done"
    assert site.post("/change", content="token=" + "%FF" * 9, headers=headers).status_code == 403
    assert site.post("/change", content="&".join("a=b" for _ in range(999)), headers=headers).status_code == 403


def test_who_comes_with_a_key_has_no_form(site: TestClient[Litestar]) -> None:
    headers = {"origin": SELF, "content-type": "application/x-www-form-urlencoded"}
    assert site.post("/change", content="token=" + form_token(""), headers=headers).status_code == 403
    assert "Sign out" not in site.get("/show").text


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/fail", 404, "There is no such client."),
        ("/lost", 503, "Nothing was changed."),
        ("/broken", 500, "could not be made"),
        ("/nothing", 404, ""),
    ],
)
def test_what_goes_wrong_is_a_page(site: TestClient[Litestar], path: str, status: int, said: str) -> None:
    answer = site.get(path, headers=HTML)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert complaints(answer.text) == []
    assert said in answer.text and "secret" not in answer.text
    assert answer.headers["content-security-policy"] == shell.POLICY
    if status == 503:
        assert answer.headers["retry-after"] == "5"


def test_what_one_may_not_is_a_page_with_the_way_back(site: TestClient[Litestar], gate: AdminGate) -> None:
    site.headers.pop("authorization")
    headers = {**signed_in(gate, "viewer"), **HTML}
    answer = site.post("/api/v1/keys", json={"name": "x"}, headers={**headers, "content-type": "application/json"})
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert (
        site.get("/nothing", headers={"accept": "application/json"})
        .headers["content-type"]
        .startswith("application/problem+json")
    )


def test_strangers_are_sent_to_sign_in(client: TestClient[Litestar]) -> None:
    client.headers.pop("authorization")
    answer = client.get("/", headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/")


def test_assets_may_be_kept_for_ever(client: TestClient[Litestar]) -> None:
    page = client.get("/").text
    addresses = re.findall(r'"(/assets/[^"]+)"', page)
    assert len(set(addresses)) == 3
    client.headers.pop("authorization")
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/assets/app-0.css").status_code == 404


@pytest.mark.parametrize(
    ("form", "theme", "back"),
    [
        ("to=dark&back=/x%3Frange%3D1h", "dark", "/x?range=1h"),
        ("to=light", "light", "/"),
        ("to=pink&back=//evil.example", "system", "/"),
        ("to=dark&back=https://evil.example", "dark", "/"),
        ("to=dark&back=/%5Cevil.example", "dark", "/"),
        ("back=/%0d%0ax:y", "system", "/"),
    ],
)
def test_the_theme_is_kept(client: TestClient[Litestar], form: str, theme: str, back: str) -> None:
    headers = {"origin": SELF, "content-type": "application/x-www-form-urlencoded"}
    answer = client.post("/theme", content=form, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, back)
    assert f"slmgate-theme={theme};" in answer.headers["set-cookie"]
    page = client.get("/", headers={"cookie": f"slmgate-theme={theme}"}).text
    assert (f'data-theme="{theme}"' in page) == (theme != "system")
    assert "data-theme" not in client.get("/", headers={"cookie": f"slmgate-theme={EVIL[2:]}"}).text


def test_the_time_zone_is_kept(client: TestClient[Litestar]) -> None:
    answer = client.get("/?tz=Europe/Berlin")
    assert "slmgate-zone=Europe/Berlin" in answer.headers["set-cookie"].replace('"', "")
    assert "Europe/Berlin." in answer.text
    client.cookies.clear()
    again = client.get("/", headers={"cookie": "slmgate-zone=Europe/Berlin"})
    assert "Europe/Berlin." in again.text and "set-cookie" not in again.headers
    wrong = client.get("/?tz=Nowhere")
    assert "UTC." in wrong.text and "set-cookie" not in wrong.headers


def test_wants_page() -> None:
    def request(accept: str, path: str) -> Request[Any, Any, Any]:
        return cast("Request[Any, Any, Any]", SimpleNamespace(headers={"accept": accept}, url=SimpleNamespace(path=path)))

    assert shell.wants_page(request("text/html", "/x"))
    assert not shell.wants_page(request("*/*", "/x"))
    assert not shell.wants_page(request("text/html", "/api/v1/keys"))


def macro(text: str, **values: Any) -> str:
    """What a template that uses the macros makes."""
    source = '{% import "macros.html" as ui with context %}' + text
    return shell.environment().from_string(source).render(ask=ask("/x"), span=ask().span, **values)


def rows(count: int) -> Sequence[dict[str, Any]]:
    return [{"name": f"{EVIL}{number}", "n": number} for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 51])
def test_a_table(count: int) -> None:
    table = whole(ask("/x"), (Column("name", "Name"), Column("n", "Requests", "count")), rows(count), "name")
    made = macro('{{ ui.table(t, "Clients", "Nobody yet") }}', t=table)
    assert complaints(made) == []
    assert len(Found(made).all("tr")) == (0 if count == 0 else min(count, 50) + 1)
    assert ("Nobody yet" in made) == (count == 0)
    assert ("Next" in made) == (count == 51)
    assert ("csv=table" in made) == (count > 0)


def test_an_action_is_a_form_with_the_token() -> None:
    made = macro('{{ ui.action("/x", "Drain", {"id": evil}) }}', evil=EVIL)
    assert complaints(made) == []
    assert {"type": "hidden", "name": "token", "value": "T" * 43} in Found(made).all("input")
