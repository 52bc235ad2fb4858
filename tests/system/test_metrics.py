"""Known traffic in, exact figures out: what a Prometheus has is what `slmgate usage`, the ledger and the instances have.

The Prometheus is a real one. A worker and the control process are killed with kill -9 while the traffic flows, and nothing may be
counted twice or be left out.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from slmgate.control.metrics.families import FROM_RECEIPTS
from tests.system.conftest import Launch
from tests.system.limited import key, named, secret_of
from tests.tools.crowd import Caller, Crowd
from tests.tools.gate import Gate, eventually, get, model
from tests.tools.load import LONG, Background
from tests.tools.prometheus import Prometheus
from tests.tools.upstream import MockUpstream

REQUESTS = 20_000 if LONG else 600
CLIENTS = 12
PLANS = {"gold": {"currency": "EUR", "prices": {"*": {"prompt": "0.10/1M", "completion": "0.30/1M"}}}}
CALLERS = [
    Caller("first", secret_of("first"), 3),
    Caller("second", secret_of("second"), 4, stream=True),
    Caller("third", secret_of("third"), 5, model="small"),
    Caller("first", secret_of("first"), 1, model="nowhere"),
]


def admin_key(gate: Gate) -> str:
    return (gate.state / "admin.key").read_text().strip()


@pytest.fixture
def prometheus(tmp_path: Path, launch: Launch, upstream: MockUpstream, second: MockUpstream) -> Iterator[tuple[Gate, Prometheus]]:
    gate = launch(
        {"tiny": model(upstream.url), "small": model(second.url)},
        workers=2,
        keys=[key(name, team="acme") for name in ("first", "second", "third")],
        teams={"acme": {"plan": "gold"}},
        plans=PLANS,
    )
    made = Prometheus(tmp_path / "prometheus", gate.admin, admin_key(gate))
    yield gate, made
    made.close()


async def traffic(crowd: Crowd) -> None:
    async def client(number: int) -> None:
        while len(crowd.journal) < REQUESTS:
            told = await crowd.one(CALLERS[number % len(CALLERS)])
            if not told.status:
                await asyncio.sleep(0.05)

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


def usage(gate: Gate) -> list[dict[str, Any]]:
    """What `slmgate usage --by client,model` says."""
    command = [sys.executable, "-m", "slmgate", "usage", "--by", "client,model", "--json", "-c", str(gate.file)]
    told = subprocess.run(command, cwd=gate.home, capture_output=True, text=True, check=True, timeout=60)
    rows: list[dict[str, Any]] = json.loads(told.stdout)["rows"]
    return rows


@pytest.mark.timeout(180 + REQUESTS // 50)
def test_all_of_them_say_the_same(prometheus: tuple[Gate, Prometheus], upstream: MockUpstream, second: MockUpstream) -> None:
    gate, asked = prometheus
    crowd = Crowd(gate.port, CALLERS, seed=7)
    with Background(traffic(crowd), 120 + REQUESTS / 50):
        eventually(lambda: len(crowd.journal) > REQUESTS / 4, 60 + REQUESTS / 50, "traffic flows")
        psutil.Process(gate.control()).kill()
        eventually(lambda: get(gate.admin, "/readyz") == httpx.codes.OK, 60, "another control process answers")
        eventually(lambda: len(crowd.journal) > REQUESTS / 2, 60 + REQUESTS / 50, "traffic flows on")
        psutil.Process(gate.workers()[0]).kill()
    reached = [(one, where) for where in (upstream, second) for one in where.journal()]
    ids = {named(one) for one, _ in reached} | {told.id for told in crowd.journal if told.good or told.status == 404}
    receipts = gate.receipts(ids, within=30)
    rows = [row for row in gate.rows() if row["verdict"] != "shadow"]
    assert len(rows) == len({row["request_id"] for row in rows}) >= len(receipts)

    def seen() -> bool:
        found = asked.ask("sum(slmgate_requests_total)")
        return bool(found) and float(found[0]["value"][1]) >= len(rows)

    eventually(seen, 30, "Prometheus has scraped all of it", 0.2)
    compare_with_ledger(asked, rows)
    # what the instances saw
    told = {each.id: each for each in crowd.journal}
    assert asked.value('sum(slmgate_requests_total{ended!="refused"})') == len({named(one) for one, _ in reached})
    for name, where in (("tiny", upstream), ("small", second)):
        there = {named(one) for one in where.journal()}
        prompts = sum(told[id].prompt for id in there)
        written = sum(told[id].completion for id in there if receipts[id]["ended"] == "complete")
        assert asked.value(f'slmgate_tokens_total{{model="{name}",direction="prompt"}}') == prompts
        cut = sum(row["completion_tokens"] for row in rows if row["model"] == name and row["ended"] != "complete")
        assert asked.value(f'slmgate_tokens_total{{model="{name}",direction="completion"}}') == written + cut
    # what the command says
    groups = usage(gate)
    assert sum(group["requests"] for group in groups) == len(rows) == asked.value("sum(slmgate_requests_total)")
    for group in groups:
        client, served = group["group"]["client"], group["group"]["model"]
        if served in ("tiny", "small"):
            which = f'client="{client}",model="{served}"'
            assert asked.value(f"slmgate_client_requests_total{{{which}}}") == group["requests"]
            assert asked.value(f'slmgate_client_tokens_total{{{which},direction="prompt"}}') == group["prompt_tokens"]
            assert asked.value(f'slmgate_client_tokens_total{{{which},direction="completion"}}') == group["completion_tokens"]
    assert asked.value("slmgate_worker_restarts_total") == 1
    assert asked.value("slmgate_workers") == 2
    check(gate)


def compare_with_ledger(asked: Prometheus, rows: list[dict[str, Any]]) -> None:
    """Every counter that comes from receipts, and how many each histogram has, series by series."""

    def series(name: str, *labels: str) -> dict[tuple[str, ...], float]:
        found = asked.ask(f"sum by ({', '.join(labels)}) ({name})" if labels else f"sum({name})")
        return {tuple(one["metric"].get(label, "") for label in labels): float(one["value"][1]) for one in found}

    def model_of(row: dict[str, Any]) -> str:
        return "(unknown)" if row["reason"] == "model_not_found" else row["model"]

    counted: Counter[tuple[str, ...]] = Counter()
    costs: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        counted[model_of(row), row["endpoint"], str(row["status"]), row["ended"]] += 1
        if row["price"]:
            costs[row["principal"], row["price"].split()[0]] += row["cost"]
    assert series("slmgate_requests_total", "model", "endpoint", "code", "ended") == dict(counted)
    refused = Counter((row["reason"], model_of(row)) for row in rows if row["verdict"] == "refuse")
    assert series("slmgate_refusals_total", "reason", "model") == dict(refused)
    assert series("slmgate_client_cost_total", "client", "currency") == {
        who: pytest.approx(cost / 1e9) for who, cost in costs.items()
    }
    admitted = [row for row in rows if row["verdict"] == "admit" and row["ended"] != "unknown"]
    assert series("slmgate_request_duration_seconds_count") == {(): len(admitted)}
    total = sum(row["total_us"] for row in admitted) / 1e6
    assert series("slmgate_request_duration_seconds_sum") == {(): pytest.approx(total)}
    assert series("slmgate_queue_duration_seconds_count") == {(): len(admitted)}
    assert series("slmgate_overhead_duration_seconds_count") == {(): sum(row["overhead_us"] > 0 for row in rows)}
    opened = sum(row["connect_us"] > 0 for row in admitted)
    assert series("slmgate_connect_duration_seconds_count") == {(): opened} and 0 < opened < len(admitted)
    streams = [row for row in admitted if row["stream"] and row["status"] == 200 and row["first_byte_us"] is not None]
    assert series("slmgate_time_to_first_token_seconds_count") == {(): len(streams)} and streams


def check(gate: Gate) -> None:
    """promtool finds nothing to say of the text, and it has every family."""
    answer = httpx.get(
        f"http://127.0.0.1:{gate.admin}/metrics",
        headers={"authorization": f"Bearer {admin_key(gate)}"},
        timeout=20,
        trust_env=False,
    )
    told = subprocess.run(
        ["promtool", "check", "metrics"], input=answer.text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    for family in FROM_RECEIPTS:
        assert f"# TYPE {family.name} " in answer.text


def test_a_scraper_that_takes_nothing_holds_up_nobody(gate: Gate) -> None:
    """It asks and does not read; others are answered, and so are requests."""
    head = f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {admin_key(gate)}\r\n\r\n".encode()
    lazy = []
    try:
        for _ in range(20):
            link = socket.create_connection(("127.0.0.1", gate.admin), 5)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            link.sendall(head * 3)
            lazy.append(link)
        begun = time.monotonic()
        asked = httpx.get(
            f"http://127.0.0.1:{gate.admin}/metrics",
            headers={"authorization": f"Bearer {admin_key(gate)}"},
            timeout=20,
            trust_env=False,
        )
        assert asked.status_code == httpx.codes.OK and "slmgate_workers 1.0" in asked.text
        assert httpx.get(f"http://127.0.0.1:{gate.port}/healthz", timeout=20, trust_env=False).status_code == httpx.codes.OK
        assert time.monotonic() - begun < 15
    finally:
        for link in lazy:
            link.close()
