"""Requests under way in real processes: seen on every worker as they are, and ended where the instance and the client notice.

What each state is and how a list is put together is tested beside the code; here two workers, a mock instance whose journal says
when its connections ended, and clients of three dialects meet.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.system.conftest import Launch
from tests.tools import signin
from tests.tools.gate import OTHER, SECRET, Gate, digest, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, chat, request

LIMITED = "sk-test-limited-0123456789abcdef"
STREAM: dict[str, Any] = {"events": 1000, "rate": 20}
SOON = 1.0
"""Seconds in which an instance sees that its work is not wanted."""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, shared_upstream: MockUpstream) -> Iterator[Gate]:
    models = {"tiny": model(shared_upstream.url, queue={"waiting": 100, "timeout": "60s"})}
    models["one"] = model(shared_upstream.url, queue={"waiting": 100, "timeout": "60s"})
    models["one"]["instances"][0] |= {"max_in_flight": 1, "url": shared_upstream.url + "/"}
    made = Gate(
        tmp_path_factory.mktemp("live"),
        models,
        keys=[
            {"name": "main", "hash": digest(SECRET), "team": "acme"},
            {"name": "other", "hash": digest(OTHER)},
            {"name": "limited", "hash": digest(LIMITED), "limits": ["1 concurrent", "1000 tokens/minute"]},
        ],
    )
    yield made
    made.stop()


@pytest.fixture
def admin(gate: Gate) -> Iterator[httpx.Client]:
    secret = (gate.state / "admin.key").read_text().strip()
    with httpx.Client(
        base_url=f"http://127.0.0.1:{gate.admin}", headers={"authorization": f"Bearer {secret}"}, trust_env=False, timeout=30
    ) as made:
        yield made
    eventually(lambda: not live_of(gate, secret)["total"], 10, "nothing of this test is under way any more")


def live_of(gate: Gate, secret: str) -> dict[str, Any]:
    answer = httpx.get(
        f"http://127.0.0.1:{gate.admin}/api/v1/live", headers={"authorization": f"Bearer {secret}"}, trust_env=False, timeout=30
    )
    found: dict[str, Any] = answer.json()
    return found


def live(admin: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = admin.get("/api/v1/live", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def when(admin: httpx.Client, count: int, **query: Any) -> list[dict[str, Any]]:
    """Those under way, once there are so many."""

    rows: list[dict[str, Any]] = []

    def there() -> bool:
        rows[:] = live(admin, limit=1000, **query)["requests"]
        return len(rows) == count

    eventually(there, 10, f"{count} requests are under way: {live(admin, **query)}")
    return rows


def stream(gate: Gate, tag: str, secret: str = SECRET, path: str = "/v1/chat/completions", **more: Any) -> Wire:
    """A client whose stream has begun; its instance would go on for most of a minute."""
    body = json.loads(chat(True, "tiny", tag=tag, **STREAM)) | {"max_tokens": 100} | more
    wire = Wire(gate.port)
    wire.send(request(json.dumps(body).encode(), path=path, secret=secret))
    status, _ = wire.head()
    assert status == 200
    return wire


def cancel(admin: httpx.Client, id: str) -> httpx.Response:
    return admin.post(f"/api/v1/live/{id}/cancel")


def rest(wire: Wire) -> bytes:
    """Everything up to the connection's end."""
    while wire.more():
        pass
    return wire.buffer


def asked(upstream: MockUpstream, tag: str) -> dict[str, Any]:
    (row,) = [each for each in upstream.journal() if f'"tag": "{tag}"' in each["body"]]
    return row


def assert_stopped(upstream: MockUpstream, tag: str, at: float) -> None:
    """The instance's connection was closed within a second of that moment."""
    eventually(lambda: asked(upstream, tag)["ended"], 5, "the instance's work ends")
    row = asked(upstream, tag)
    assert row["ended"] == "peer_closed"
    assert row["end_time"] - at < SOON, row["end_time"] - at


def assert_receipt(gate: Gate, one: dict[str, Any], status: int = 200) -> dict[str, Any]:
    row = gate.receipt(one["request_id"])
    assert (row["id"], row["ended"], row["reason"], row["status"]) == (one["id"], "gate_stopped", "cancelled", status), row
    return row


def assert_noted(admin: httpx.Client, one: dict[str, Any]) -> None:
    rows = [each for each in admin.get("/api/v1/audit").json()["changes"] if each["target"] == one["id"]]
    assert [(each["actor"], each["action"], each["address"]) for each in rows] == [("admin", "cancel", "127.0.0.1")]
    assert (rows[0]["detail"]["client"], rows[0]["detail"]["state"]) == (one["client"], one["state"])


def test_streams_on_every_worker_are_seen_and_ended(gate: Gate, admin: httpx.Client, upstream: MockUpstream) -> None:
    wires: dict[str, Wire] = {}
    workers: set[int] = set()
    while len(workers) < 2:  # the kernel chooses the worker
        assert len(wires) < 40, "void: all connections came to one worker"
        tag = f"seen-{len(wires)}"
        wires[tag] = stream(gate, tag)
        rows = when(admin, len(wires))
        workers = {row["worker"] for row in rows}
    found = live(admin)
    assert (found["total"], found["matching"], found["silent"]) == (len(wires), len(wires), 0)
    (client,) = found["clients"]
    assert (client["client"], client["in_flight"], client["queued"]) == ("main", len(wires), 0)
    assert [row["since"] for row in rows] == sorted(row["since"] for row in rows)
    for row in rows:
        assert (row["client"], row["team"], row["model"], row["endpoint"]) == ("main", "acme", "tiny", "chat")
        assert (row["state"], row["stream"], row["address"]) == ("streaming", True, "127.0.0.1")
        assert row["instance"].startswith("tiny/")
    # what they have come to is what the instance has sent, but for what is on its way
    time.sleep(0.3)
    sent = sum(asked(upstream, tag)["events"] for tag in wires)
    told = sum(row["tokens"] for row in live(admin)["requests"])
    assert abs(told - sent) <= 2 * len(wires) and told >= len(wires) * 3, (told, sent)
    eventually(lambda: live(admin)["models"][0]["in_flight"] == len(wires), 5, "tallies say so")
    first = live(admin)["models"][0]
    assert (first["model"], first["ready"], first["queued"]) == ("tiny", True, 0)
    for tag, wire in wires.items():
        (one,) = [row for row in live(admin)["requests"] if row["request_id"] == gate_id(upstream, tag)]
        before = time.monotonic()
        assert cancel(admin, one["id"]).json()["id"] == one["id"]
        events = rest(wire).split(b"\n\n")
        assert b'"code":"cancelled"' in events[-2] and b"[DONE]" not in events[-2], events[-3:]
        assert_stopped(upstream, tag, before)
        receipt = assert_receipt(gate, one)
        assert receipt["completion_tokens"] >= 1 and receipt["estimated"]
    assert_noted(admin, one)
    assert live(admin)["total"] == 0


def gate_id(upstream: MockUpstream, tag: str) -> str:
    return str(dict(asked(upstream, tag)["headers"])["x-request-id"])


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/messages", b'event: error\ndata: {"type":"error","error":{"type":"permission_error"'),
        ("/api/chat", b'"code":"cancelled"}\n'),
    ],
    ids=["anthropic", "ollama"],
)
def test_each_dialect_says_so_in_its_way(
    gate: Gate, admin: httpx.Client, upstream: MockUpstream, path: str, error: bytes
) -> None:
    tag = path.replace("/", "")
    with stream(gate, tag, path=path) as wire:
        (one,) = when(admin, 1)
        before = time.monotonic()
        assert cancel(admin, one["id"]).status_code == 200
        assert error in rest(wire)
        assert_stopped(upstream, tag, before)
    assert_receipt(gate, one)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with signin.chromium() as made:
        yield made


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_the_page_sees_and_ends_it(
    gate: Gate, admin: httpx.Client, upstream: MockUpstream, browser: Browser, script: bool
) -> None:
    """An operator finds the stream in the list, is asked whether he means it, and is told what became of it."""
    name, words = f"otto-{script}".lower(), "otto has four plain words"
    made = admin.post("/api/v1/admin/users", json={"name": name, "role": "operator", "password": words})
    assert made.status_code == 201, made.text
    context = browser.new_context(java_script_enabled=script)
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.goto(f"http://127.0.0.1:{gate.admin}/login?next=/live")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(words)
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("No request is under way")
    tag = f"page-{script}"
    with stream(gate, tag) as wire:
        (one,) = when(admin, 1)
        if not script:
            page.reload()
        row = page.get_by_role("row").filter(has_text="streaming")  # with script, the page finds it by itself
        expect(row).to_contain_text("main")
        page.get_by_role("link", name="Cancel the request of main at tiny").click()
        expect(page.locator("main")).to_contain_text(one["id"])
        assert not asked(upstream, tag)["ended"]
        before = time.monotonic()
        page.get_by_role("button", name="Cancel this request").click()
        expect(page.get_by_role("status")).to_contain_text("The request was cancelled")
        assert b'"code":"cancelled"' in rest(wire)
        assert asked(upstream, tag)["end_time"] - before < 5
    assert_receipt(gate, one)
    (line,) = [each for each in admin.get("/api/v1/audit").json()["changes"] if each["target"] == one["id"]]
    assert (line["actor"], line["action"]) == (f"user:{name}", "cancel")
    # its own page: by what its client called it, with where its time went
    page.goto(f"http://127.0.0.1:{gate.admin}/requests/{one['request_id']}")
    expect(page.locator("main")).to_contain_text("200 cancelled.")
    expect(page.locator("table.timeline")).to_contain_text("Stream")
    page.get_by_role("link", name="Requests", exact=True).click()
    expect(page.get_by_role("row").filter(has_text="cancelled").first).to_contain_text("main")
    context.close()


def test_before_the_first_byte_it_is_an_answer(gate: Gate, admin: httpx.Client, upstream: MockUpstream) -> None:
    with Wire(gate.port) as wire:
        wire.send(request(chat(tag="silent", do="silence"), secret=SECRET))
        (one,) = when(admin, 1, in_state="waiting")
        before = time.monotonic()
        assert cancel(admin, one["id"]).status_code == 200
        answer = wire.answer()
        assert (answer.status, answer.code, answer.header("retry-after")) == (403, "cancelled", None)
        assert_stopped(upstream, "silent", before)
        assert_receipt(gate, one, 403)
        assert wire.ask(request(chat(), secret=SECRET)).status == 200  # the connection serves on


def test_its_limits_are_free_again(gate: Gate, admin: httpx.Client, upstream: MockUpstream) -> None:
    def used() -> dict[str, Any]:
        limits = admin.get("/api/v1/limits", params={"key": "declared:limited"}).json()["limits"]
        return {each["unit"]: each["used"] for each in limits}

    with stream(gate, "limited", secret=LIMITED) as wire:
        (one,) = when(admin, 1)
        assert used()["concurrent"] == 1
        assert used()["tokens"] >= 100  # what it may come to is held
        assert cancel(admin, one["id"]).status_code == 200
        rest(wire)
    receipt = assert_receipt(gate, one)
    came_to = receipt["prompt_tokens"] + receipt["completion_tokens"]
    assert 0 < came_to < 100
    eventually(lambda: used() == {"concurrent": 0, "tokens": came_to}, 5, f"what is left is {came_to} tokens")


def test_in_the_line(gate: Gate, admin: httpx.Client, upstream: MockUpstream) -> None:
    """Who waits for an instance and is cancelled never reaches it; who stands behind moves up."""
    first = stream(gate, "line-0", model="one")
    at_work = when(admin, 1)[0]["worker"]
    behind: list[Wire] = []
    while len([row for row in live(admin, limit=1000)["requests"] if row["state"] == "queued" and row["worker"] == at_work]) < 2:
        assert len(behind) < 60, "void: no two came to the worker that has a line"
        wire = Wire(gate.port)
        wire.send(request(chat(model="one", tag=f"line-{len(behind) + 1}", do="silence"), secret=SECRET))
        behind.append(wire)
        when(admin, len(behind) + 1)
    rows = [row for row in live(admin, in_state="queued")["requests"] if row["worker"] == at_work]
    assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["instance"] is None for row in rows)
    assert cancel(admin, rows[0]["id"]).status_code == 200
    now = [row for row in live(admin, in_state="queued")["requests"] if row["worker"] == at_work]
    assert [(row["id"], row["position"]) for row in now] == [(row["id"], at) for at, row in enumerate(rows[1:], 1)]
    receipt = assert_receipt(gate, rows[0], 403)
    assert (receipt["attempts"], receipt["prompt_tokens"], receipt["instance"]) == (0, 0, "")
    for wire in (first, *behind):
        wire.__exit__()


def test_what_cannot_be_cancelled(gate: Gate, admin: httpx.Client, upstream: MockUpstream) -> None:
    assert cancel(admin, "f" * 20).status_code == 404
    assert cancel(admin, "nonsense").status_code == 404
    with Wire(gate.port) as wire:
        done = wire.ask(request(chat(), secret=SECRET, headers=("X-Request-Id: finished-one",)))
    assert done.status == 200
    receipt = gate.receipt("finished-one")
    over = cancel(admin, receipt["id"])
    assert (over.status_code, "already" in over.json()["detail"]) == (409, True)
    assert cancel(admin, "finished-one").status_code == 409  # its client's word for it: the ledger knows it too
    with stream(gate, "twice") as wire:
        (one,) = when(admin, 1)
        answers: list[int] = []
        tries = [threading.Thread(target=lambda: answers.append(cancel(admin, one["id"]).status_code)) for _ in range(4)]
        for each in tries:
            each.start()
        for each in tries:
            each.join()
        rest(wire)
    assert sorted(answers) == [200, 409, 409, 409]
    assert cancel(admin, one["id"]).status_code == 409
    assert_receipt(gate, one)
    viewer = admin.post("/api/v1/admin/keys", json={"name": "seer", "role": "viewer"}).json()["secret"]
    refused = admin.post(f"/api/v1/live/{one['id']}/cancel", headers={"authorization": f"Bearer {viewer}"})
    assert refused.status_code == 403


def test_a_thousand_are_listed_in_bounded_time(gate: Gate, admin: httpx.Client, upstream: MockUpstream) -> None:
    many = 1000
    wires = [Wire(gate.port) for _ in range(many)]
    for wire in wires:
        wire.send(request(chat(tag="many", do="silence"), secret=SECRET))
    eventually(lambda: live(admin)["total"] == many, 60, "all of them are under way", 0.2)
    began = time.monotonic()
    found = live(admin, limit=1000)
    took = time.monotonic() - began
    assert (found["total"], len(found["requests"]), found["silent"]) == (many, many, 0)
    assert len({row["id"] for row in found["requests"]}) == many
    assert took < 2.0, took
    print(f"{many} listed in {took * 1000:.0f} ms")
    for wire in wires:
        wire.__exit__()


def test_a_worker_that_dies_in_the_middle_of_a_list(launch: Launch, upstream: MockUpstream) -> None:
    """The list comes, with what the others have, and says that one is missing."""
    gate = launch({"tiny": model(upstream.url)}, worker_timeout="20s")
    secret = (gate.state / "admin.key").read_text().strip()
    with httpx.Client(
        base_url=f"http://127.0.0.1:{gate.admin}", headers={"authorization": f"Bearer {secret}"}, trust_env=False, timeout=30
    ) as admin:
        wires: list[Wire] = []
        while len({row["worker"] for row in live(admin)["requests"]}) < 2:
            assert len(wires) < 40, "void: all connections came to one worker"
            wires.append(stream(gate, f"dies-{len(wires)}"))
        rows = when(admin, len(wires))
        dies = gate.workers()[0]
        os.kill(dies, signal.SIGSTOP)
        threading.Timer(0.5, lambda: os.kill(dies, signal.SIGKILL)).start()
        began = time.monotonic()
        found = live(admin)
        assert time.monotonic() - began < 1.9  # it is not waited for once it is gone
        left = {row["worker"] for row in found["requests"]}
        assert (found["silent"], len(left)) == (1, 1)
        assert {row["id"] for row in found["requests"]} == {row["id"] for row in rows if row["worker"] in left}
        (one,) = [row for row in rows if row["worker"] not in left][:1]
        eventually(lambda: cancel(admin, one["id"]).status_code == 409, 10, "it is settled")
        assert gate.receipt(one["request_id"])["ended"] == "unknown"
        for wire in wires:
            wire.__exit__()
