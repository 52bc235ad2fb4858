"""Plans with a real gate: what clients were answered is what the statement says, and a webhook hears of each threshold once."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.system.conftest import Launch
from tests.system.test_commands import slmgate
from tests.tools.gate import SECRET, Gate, digest, eventually, model
from tests.tools.upstream import MockUpstream

HOOK_SECRET = "whsec-of-this-test"


class Hook(ThreadingHTTPServer):
    """A webhook's receiving end. It fails the first time it is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.got: list[tuple[str, bytes]] = []
        self.failed = False


class _Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.failed:
            self.server.got.append((self.headers["slmgate-signature"], body))
        self.send_response(204 if self.server.failed else 503)
        self.server.failed = True
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the test's own output is what is read."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(gate: Gate, completion: int) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "word " * 12}], "max_tokens": completion}
    headers = {"authorization": f"Bearer {SECRET}"}
    return httpx.post(f"http://127.0.0.1:{gate.port}/v1/chat/completions", json=body, headers=headers, timeout=10)


def test_the_statement_is_what_clients_were_answered(launch: Launch, upstream: MockUpstream, hook: Hook) -> None:
    plan: dict[str, Any] = {
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "prices": {"tiny": {"prompt": "100/1M", "completion": "3000/1M"}},
        "included": "1000 tokens/month",
        "base": "1.00 EUR",
        "notify": {"url": f"http://127.0.0.1:{hook.server_address[1]}/hook", "secret": HOOK_SECRET},
    }
    gate = launch(
        {"tiny": model(upstream.url)},
        workers=2,
        keys=[{"name": "bot", "team": "acme", "hash": digest(SECRET)}],
        teams={"acme": {"plan": "gold"}},
        plans={"gold": plan},
    )
    month = f"{datetime.now(UTC):%Y-%m}"
    upstream.default(usage={"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42})
    answers = [ask(gate, 20) for _ in range(20)]  # 840 tokens
    assert {answer.status_code for answer in answers} == {200}
    gate.receipts(answer.headers["x-request-id"] for answer in answers)
    eventually(lambda: len(hook.got) == 1, 25, "80 % are announced, though the first try failed")
    os.kill(gate.control(), signal.SIGKILL)
    more = [ask(gate, 20) for _ in range(20)]  # 1680 tokens
    gate.receipts((answer.headers["x-request-id"] for answer in more), within=15)
    eventually(lambda: len(hook.got) == 2, 25, "100 % are announced, by another control process")

    used = [answer.json()["usage"] for answer in (*answers, *more)]
    prompt, completion = (sum(each[name] for each in used) for name in ("prompt_tokens", "completion_tokens"))
    told = slmgate(gate.home, "statement", "--team", "acme", "--month", month, "--json")
    assert told.returncode == 0, told.stderr
    statement = json.loads(told.stdout)
    assert (statement["requests"], statement["prompt_tokens"], statement["completion_tokens"]) == (40, prompt, completion)
    assert statement["usage_cost"] == statement["receipts_cost"]
    assert statement["preliminary"]
    (line,) = statement["lines"]
    charged_prompt = prompt - line["included_prompt_tokens"]
    charged_completion = completion - line["included_completion_tokens"]
    assert charged_prompt + charged_completion == prompt + completion - 1000
    exact = (charged_prompt * Decimal(100) + charged_completion * Decimal(3000)) / 1_000_000
    assert Decimal(statement["total"]) == 1 + exact.quantize(Decimal("0.01"))
    page = slmgate(gate.home, "statement", "--team", "acme", "--month", month, "--format", "html")
    assert (page.returncode, "Preliminary" in page.stdout, statement["total"] in page.stdout) == (0, True, True)

    time.sleep(6)  # one more look of the control process, at the least
    assert [json.loads(body)["at"] for _, body in hook.got] == [80, 100]
    for header, body in hook.got:
        at, _, signed = header.removeprefix("t=").partition(",v1=")
        assert hmac.new(HOOK_SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest() == signed
        assert abs(time.time() - int(at)) < 120


def test_a_plan_that_stops(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch(
        {"tiny": model(upstream.url)},
        workers=1,
        keys=[{"name": "bot", "team": "acme", "hash": digest(SECRET)}],
        teams={"acme": {"plan": "free"}},
        plans={"free": {"currency": "EUR", "included": "1000 tokens/month", "overage": "stop"}},
    )
    upstream.default(usage={"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42})
    answers = [ask(gate, 12) for _ in range(30)]
    admitted = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(admitted) + len(refused) == 30
    assert 15 < len(admitted) <= 23  # 23 x 42 are 966: the next does not fit
    assert {answer.json()["error"]["code"] for answer in refused} == {"quota_exceeded"}
    month = f"{datetime.now(UTC):%Y-%m}"
    gate.receipts(answer.headers["x-request-id"] for answer in answers)
    statement = json.loads(slmgate(gate.home, "statement", "--team", "acme", "--month", month, "--json").stdout)
    assert (statement["requests"], statement["total"]) == (len(admitted), "0.00")
