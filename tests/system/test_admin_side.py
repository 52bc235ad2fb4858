"""The admin side against those who write from outside or alter what is stored: forged log lines, stored scripts, false history.

Real processes, and a real browser for what only a browser can tell. Who is let in is tested in test_signin.py.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import msgspec
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page

from slmgate.control import statements
from slmgate.control.admin.routes import ROUTES
from slmgate.control.admin.signin.routes import PAGES
from tests.system.conftest import Launch
from tests.system.test_commands import slmgate
from tests.tools import signin
from tests.tools.gate import SECRET, Gate, digest, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ClosedEarlyError, Wire, ask, chat, request

SCRIPT = "<script>alert('stored')</script>"
EVIL = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</title></textarea></style><script>alert(1)</script>",
    "{{7*7}}${7*7}{%x%}",
    "javascript:alert(1)",
    "\u202egnp.exe\u2066\u200f",
    "=cmd|'/c calc'!A1",
    "+1+1",
    "@SUM(1)",
    "-2+3",
]
"""What is put in every field that takes a text."""
MONTH = f"{datetime.now(UTC):%Y-%m}"
WORDS = "four plain words here"
TEAM_SECRET = "sk-test-team-0123456789abcdef"


@pytest.fixture(scope="module")
def upstream() -> Iterator[MockUpstream]:
    made = MockUpstream()
    yield made
    made.close()


@pytest.fixture(scope="module")
def gate(upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    plans = {"gold": {"currency": "EUR", "prices": {"tiny": {"prompt": "0.10/1M", "completion": "0.30/1M"}}}}
    keys = [
        {"name": "main", "hash": digest(SECRET)},
        {"name": "of-acme", "team": "acme", "hash": digest(TEAM_SECRET)},
    ]
    teams = {"acme": {"plan": "gold", "limits": [{"limit": "1000000 requests/minute", "per": "team"}]}}
    made = Gate(tmp_path_factory.mktemp("admin"), {"tiny": model(upstream.url)}, plans=plans, teams=teams, keys=keys, workers=1)
    fill(made)
    yield made
    made.stop()


def admin(gate: Gate) -> httpx.Client:
    secret = (gate.state / "admin.key").read_text().strip()
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.Client(base_url=origin(gate), headers=headers, trust_env=False, timeout=30)


def origin(gate: Gate) -> str:
    return f"http://127.0.0.1:{gate.admin}"


def fill(gate: Gate) -> None:
    """Put such texts in every field that a caller or an operator may write."""
    with admin(gate) as client:
        made = client.post("/api/v1/admin/users", json={"name": "olga", "role": "owner", "password": WORDS})
        assert made.status_code == 201, made.text
        for number, text in enumerate(EVIL):
            for fields in ({"name": text}, {"name": f"o{number}", "owner": text}, {"name": f"t{number}", "team": text}):
                client.post("/api/v1/keys", json=fields)
            client.post("/api/v1/keys", json={"name": f"g{number}", "tags": [text]})
            client.post("/api/v1/admin/keys", json={"name": text, "role": "viewer"})
            client.post("/api/v1/instances", json={"model": text, "url": text})
            client.post("/login", data={"name": text, "password": text})
        stored = client.get("/api/v1/keys", params={"limit": 1000}).json()["keys"]
        assert {SCRIPT, "=cmd|'/c calc'!A1"} <= {key["name"] for key in stored}
    for text in EVIL:
        for secret in (SECRET, TEAM_SECRET, None):
            body = json.dumps({"model": text, "messages": [], "user": text}).encode()
            headers = (f"user-agent: {text.encode().decode('latin-1')}", f"x-request-id: {text.encode().decode('latin-1')}")
            with contextlib.suppress(ClosedEarlyError):
                ask(gate.port, request(body, secret=secret, headers=headers))
    page = f"<html>{''.join(EVIL)}</html>"
    raw = f"HTTP/1.1 500 {EVIL[1]}\r\nContent-Length: {len(page.encode())}\r\n\r\n".encode() + page.encode()
    for body in (chat(), chat(do="raw", bytes=raw.decode("latin-1"), then="close")):
        ask(gate.port, request(body, secret=TEAM_SECRET))
    # names in the file are letters and digits; what is not is told as a fault, which the first page shows
    gate.write(models={**gate.config["models"], **{text: {} for text in EVIL}})
    with admin(gate) as client:
        assert client.post("/api/v1/reload").status_code == 409


# --- what a browser shows ------------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A page: where, who looks (a cookie, or nobody), and a text from outside that must be seen on it as it is."""

    path: str
    signed_in: bool
    sees: str


def statement(team: str) -> str:
    return f"/api/v1/statement.html?{urlencode({'team': team, 'month': MONTH})}"


SHOWN = [
    Shown("/account", True, SCRIPT),
    Shown("/", True, SCRIPT),
    Shown(f"/login?{urlencode({'next': EVIL[1]})}", False, "Name"),
    Shown(f"/login/callback?{urlencode({'error': SCRIPT, 'state': EVIL[1], 'code': EVIL[2]})}", False, ""),
    Shown("/login/oidc?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", False, ""),
    Shown(statement("acme"), True, "acme"),
    Shown(statement(EVIL[1]), True, "onerror"),  # nobody's: the problem repeats it
    Shown("/api/v1/keys?limit=1000", True, EVIL[1].replace('"', '\\"')),
    Shown("/api/v1/audit?limit=1000", True, SCRIPT),
    Shown("/api/v1/receipts?limit=1000", True, SCRIPT),
    Shown("/api/v1/usage?by=client,model,team", True, SCRIPT),
    Shown(f"/api/v1/keys/{'%3Cscript%3Ealert(1)%3C%2Fscript%3E'}", True, ""),
    Shown("/%3Cscript%3Ealert(1)%3C/script%3E", True, ""),
]
"""A new page joins with a row."""
STRANGE = (
    "script:not([src^='/assets/app-']), svg:not([class], [aria-hidden]), svg script, img, iframe, object, [onerror], [onload]"
)
"""What no page of ours has in it: a script that is not the dashboard's, a picture that is not one of its charts."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with signin.chromium() as made:
        yield made


@pytest.fixture(scope="module")
def context(browser: Browser, gate: Gate) -> Iterator[BrowserContext]:
    """Somebody who is signed in."""
    made = browser.new_context()
    page = made.new_page()
    page.goto(f"{origin(gate)}/login")
    page.get_by_label("Name").fill("olga")
    page.get_by_label("Password").fill(WORDS)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{origin(gate)}/")
    page.close()
    yield made
    made.close()


def look(page: Page, url: str) -> tuple[list[str], Any]:
    """Go there; what should not have happened, and the answer."""
    trouble: list[str] = []

    def dialog(shown: Dialog) -> None:
        trouble.append(f"dialog: {shown.message}")
        shown.dismiss()

    def said(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Refused" in message.text:
            trouble.append(message.text)

    page.on("dialog", dialog)
    page.on("console", said)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    answer = page.goto(url)
    page.wait_for_load_state("load")
    return trouble, answer


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.path[:40])
def test_what_was_stored_is_shown_as_text(gate: Gate, browser: Browser, context: BrowserContext, shown: Shown) -> None:
    own = context if shown.signed_in else browser.new_context()
    page = own.new_page()
    trouble, answer = look(page, origin(gate) + shown.path)
    assert trouble == []
    made = page.evaluate("document.querySelectorAll(STRANGE).length".replace("STRANGE", repr(STRANGE)))
    assert made == 0
    assert page.evaluate("document.title").find("49") < 0  # no template was made of {{7*7}}
    assert shown.sees in page.evaluate("document.documentElement.innerText")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "script-src" not in policy.replace("script-src 'self';", "") and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    page.close()
    if not shown.signed_in:
        own.close()


def test_the_browser_would_have_told(browser: Browser) -> None:
    """The positive control: a page that does show such texts as they are is found out."""
    context = browser.new_context()
    page = context.new_page()
    page.route("**/*", lambda route: route.fulfill(body=f"<p>{''.join(EVIL[:4])}</p>", content_type="text/html"))
    trouble, _ = look(page, "http://127.0.0.1:9/")
    assert any(each.startswith("dialog") for each in trouble)
    assert page.evaluate("document.querySelectorAll('script, svg, img').length") >= 3
    context.close()


def test_a_statement_of_such_names(gate: Gate, context: BrowserContext) -> None:
    """The configuration takes no such names; should one ever come there, the page shows it as text."""
    with admin(gate) as client:
        told = client.get("/api/v1/statement", params={"team": "acme", "month": MONTH}).json()
    line = {**told["lines"][0], "model": EVIL[1]}
    other = {"plan": EVIL[3], "currency": EVIL[2], "requests": 1, "tokens": 1}
    evil = {**told, "team": SCRIPT, "plan": EVIL[2], "included": EVIL[4], "lines": [line], "elsewhere": [other]}
    body = statements.html(msgspec.convert(evil, statements.Statement))
    page = context.new_page()
    headers = {"content-type": "text/html; charset=utf-8", **statements.page_headers()}
    page.route("**/*", lambda route: route.fulfill(body=body, headers=headers))
    trouble, _ = look(page, origin(gate) + "/statement")
    assert trouble == []
    assert page.evaluate("document.querySelectorAll('script, svg, img, [onerror], [onload]').length") == 0
    text = page.evaluate("document.body.innerText")
    assert all(each in text for each in (SCRIPT, EVIL[1], EVIL[2]))
    page.close()


def test_every_page_is_looked_at() -> None:
    """Whatever answers a browser with HTML stands above, but what only answers a form that was sent."""
    there = {row.path for row in PAGES if row.method == "GET" and not row.path.endswith(".css")}
    there |= {row.path for row in ROUTES if row.path.endswith(".html")}
    assert there <= {shown.path.partition("?")[0] for shown in SHOWN}


def test_no_page_is_framed(gate: Gate, context: BrowserContext) -> None:
    """Clickjacking: another site's page around ours shows nothing of it. A page that lets itself be framed is the control."""
    page = context.new_page()
    frames = f"<iframe src='{origin(gate)}/'></iframe><iframe src='http://localhost/inner'></iframe>"
    page.route("http://localhost/", lambda route: route.fulfill(body=frames, content_type="text/html"))
    page.route("http://localhost/inner", lambda route: route.fulfill(body="<p>inner</p>", content_type="text/html"))
    page.goto("http://localhost/")
    page.wait_for_load_state("load")
    assert sorted(frame.url for frame in page.frames[1:]) == ["chrome-error://chromewebdata/", "http://localhost/inner"]
    assert all("slmgate" not in frame.content() for frame in page.frames[1:])
    page.close()


def test_forms_that_are_answered_with_a_page(gate: Gate, context: BrowserContext) -> None:
    page = context.new_page()
    trouble, _ = look(page, f"{origin(gate)}/login")  # goes on listening
    page.get_by_label("Name").fill(EVIL[1])
    page.get_by_label("Password").fill(SCRIPT)
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert page.get_by_label("Name").input_value() == EVIL[1]
    assert trouble == []
    page.close()


def test_export_cells_are_guarded(gate: Gate) -> None:
    """No cell of any CSV begins with what a spreadsheet would compute, and numbers are numbers."""
    for words in (
        ["keys", "export", "--csv"],
        ["usage", "--by", "client,model,team", "--format", "csv"],
        ["db", "export", "--format", "csv"],
        ["statement", "--team", "acme", "--month", MONTH, "--format", "csv"],
    ):
        done = slmgate(gate.home, *words)
        assert done.returncode == 0, done.stderr
        rows = list(csv.reader(io.StringIO(done.stdout)))
        assert len(rows) > 1
        for cell in (cell for row in rows for cell in row):
            begins = cell.lstrip(" ")[:1]
            number = cell.removeprefix("-").replace(".", "", 1).isdecimal()
            assert begins not in ("=", "+", "@", "\t", "\r") and (begins != "-" or number), (words, cell)
    listed = slmgate(gate.home, "keys", "export", "--csv").stdout
    assert "'=cmd|" in listed and "'-2+3" in listed


# --- log lines -----------------------------------------------------------------------------------------------------------

BREAKERS = [
    "\r\nslmgate: forged", "\nslmgate: forged", "\x1b[2J\x1b]0;x\x07", "\x00", "\x7f", "\x9b31m", "\x85slmgate: forged",
    "\u2028slmgate: forged", "\u2029{}", "\u202eevil", "%s%n%d{0}", '","status":200,"x":"', "\\", "\\u000a", "a" * 4000, "\ufeff",
]  # fmt: skip
"""What is put wherever a client may put a text."""


def encoded(text: str) -> str:
    """A header's or target's bytes as they go, as latin-1."""
    return text.encode().decode("latin-1")


def test_log_lines_cannot_be_forged(gate: Gate) -> None:
    mark = gate.log.stat().st_size
    sent = 0
    for text in BREAKERS:
        body = json.dumps({"model": text, "messages": [], "user": text}).encode()
        requests = [
            request(body, secret=SECRET),
            request(json.dumps({"model": text}, ensure_ascii=False).encode(), secret=SECRET),
            request(b"{}", secret=encoded(text)),
            request(b"{}", secret=SECRET, path=encoded(f"/v1/{text}")),
            request(b"{}", secret=SECRET, headers=(f"user-agent: {encoded(text)}",)),
            request(b"{}", secret=SECRET, headers=(f"x-request-id: {encoded(text)}", f"idempotency-key: {encoded(text)}")),
            request(b"{}", method=encoded(text), secret=SECRET),
            request(
                chat(do="raw", bytes=encoded(f"HTTP/1.1 200 {text}\r\nX: {text}\r\n\r\n{text}"), then="close"), secret=SECRET
            ),
        ]
        for data in requests:
            sent += 1
            with contextlib.suppress(ClosedEarlyError, OSError, AssertionError), Wire(gate.port) as wire:
                wire.ask(data)
        with admin(gate) as client:
            for path, fields in (("keys", {"name": text}), ("admin/keys", {"name": text, "role": "viewer"}), ("explain", {})):
                client.post(f"/api/v1/{path}", json=fields)
            for name in ("name", "password"):
                client.post("/login", data={name: text}, headers={"origin": origin(gate)})
            client.get(f"/api/v1/receipts/{'x' if '/' in text else httpx.QueryParams({'q': text})}")
    # a big one, which is refused before it is read whole
    with contextlib.suppress(ClosedEarlyError, OSError), Wire(gate.port) as wire:
        wire.ask(request(json.dumps({"model": "m" * 1024 * 1024}).encode(), secret=SECRET))
    with contextlib.suppress(ClosedEarlyError, OSError), Wire(gate.port) as wire:
        wire.ask(request(b"{}", secret="k" * 1024 * 1024))
    last = ask(gate.port, request(chat(), secret=SECRET)).header("x-request-id")
    eventually(lambda: (last or "-").encode() in gate.log.read_bytes(), 20, "the last request is in the log")
    text = gate.log.read_bytes()[mark:].decode()
    lines = text.split("\n")[:-1]
    assert len(text.splitlines()) == len(lines)  # nothing else ends a line
    ids = []
    for line in lines:
        assert line.isprintable(), line
        assert len(line) <= 8192
        if line.startswith("{"):
            ids.append(json.loads(line)["id"])
        else:
            assert line.startswith(("slmgate: ", "slmgate| ")) and not line.startswith("slmgate: forged"), line
    assert len(set(ids)) == len(ids)
    assert sent // 2 <= len(ids) <= sent + 3
    assert {row["id"] for row in gate.rows()} >= set(ids)


@pytest.mark.parametrize(
    "words", ["logs --limit 1000", "keys list --limit 1000", "usage --by client,model", "audit list", "admin keys list", "limits"]
)
def test_no_escape_sequence_reaches_a_terminal(gate: Gate, words: str) -> None:
    """Also of what was put in behind the admin API's back."""
    done = slmgate(gate.home, *words.split())
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 50
    assert all(line.isprintable() for line in done.stdout.split("\n")), done.stdout[:500]
    assert "\r" not in done.stdout


# --- the audit log -------------------------------------------------------------------------------------------------------


def test_the_audit_log_through_deaths_and_a_takeover(launch: Launch, upstream: MockUpstream) -> None:
    """Writers in several processes, control killed, a gate taken over: one chain, and a row for each change that was answered."""
    gate: Gate = launch({"tiny": model(upstream.url)}, workers=1)
    done: list[str] = []
    ending = threading.Event()

    def change(who: int) -> None:
        number = 0
        while not ending.is_set():
            number += 1
            with contextlib.suppress(httpx.HTTPError), admin(gate) as client:
                answer = client.post("/api/v1/keys", json={"name": f"k{who}-{number}"})
                if answer.status_code == 201:
                    done.append(answer.json()["key"]["id"])

    threads = [threading.Thread(target=change, args=[who]) for who in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(done) > 3, 20, "changes are made")
    psutil.Process(gate.control()).kill()
    before = len(done)
    eventually(lambda: len(done) > before + 3, 30, "changes are made by another control process")
    gate.take_over()
    before = len(done)
    eventually(lambda: len(done) > before + 3, 30, "changes are made by another gate")
    ending.set()
    for thread in threads:
        thread.join()
    with admin(gate) as client:
        verdict = client.get("/api/v1/audit/verify").json()
    assert verdict["right"], verdict
    store = sqlite3.connect(f"file:{gate.state / 'ledger.sqlite3'}?mode=ro", uri=True)
    rows = store.execute("SELECT target, address FROM audit WHERE action = 'key.create' ORDER BY id").fetchall()
    keys = {key for (key,) in store.execute("SELECT id FROM keys")}
    store.close()
    assert sorted(target for target, _ in rows) == sorted(keys)  # each change once, each row for a change
    assert set(done) <= keys
    assert {address for _, address in rows} == {"127.0.0.1"}
    told = [line for line in gate.log.read_text().splitlines() if line.startswith("slmgate: audit ")]
    assert verdict["head"] in told[-1]
    assert gate.terminate() == 0
    assert slmgate(gate.home, "audit", "verify", "--head", verdict["head"]).returncode == 0
    forged = sqlite3.connect(gate.state / "ledger.sqlite3")
    for trigger in ("audit_not_changed", "audit_not_deleted"):
        forged.execute(f"DROP TRIGGER {trigger}")
    forged.execute("DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)")
    forged.execute("UPDATE audit SET actor = 'nobody' WHERE id = 2")
    forged.commit()
    forged.close()
    told_again = slmgate(gate.home, "audit", "verify", "--json")
    assert (told_again.returncode, json.loads(told_again.stdout)["first_bad"]) == (1, 2)


def test_a_configuration_that_was_taken_is_in_the_audit_log_once(launch: Launch, upstream: MockUpstream) -> None:
    gate: Gate = launch({"tiny": model(upstream.url)}, workers=1)

    def reloads() -> list[tuple[str, str]]:
        with admin(gate) as client:
            rows = client.get("/api/v1/audit").json()["changes"]
        return [(row["actor"], row["detail"]["applied"]) for row in reversed(rows) if row["action"] == "reload"]

    gate.write(models={"tiny": model(upstream.url), "more": model(upstream.url)})
    eventually(lambda: reloads() == [("file", "yes")], 10, "the file's change is in the audit log")
    gate.file.write_text(gate.file.read_text() + "bogus: 1\n")
    eventually(lambda: reloads() == [("file", "yes"), ("file", "no")], 10, "one that is refused is, too")
    with admin(gate) as client:
        client.post("/api/v1/reload")
    time.sleep(1.5)  # the file is looked at twice a second: nothing comes after what the operator did
    assert reloads() == [("file", "yes"), ("file", "no"), ("admin", "no")]
