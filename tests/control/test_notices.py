"""Notices: each threshold announced once, signed, sent until it arrives, whatever restarts in between."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from slmgate.control.config import Config, load_text
from slmgate.control.notices import Notices, identity
from slmgate.control.webhooks import Webhooks
from slmgate.policy.limits import NANO, Price
from slmgate.stores.records import Batch
from slmgate.stores.sql import SqlStore, open_store
from tests.control.test_statements import charged

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONFIG = """\
models: {m: {instances: [{url: "http://127.0.0.1:1"}]}}
plans:
  gold:
    currency: EUR
    timezone: Europe/Berlin
    included: %s
    notify: {url: "https://billing.example.com/hook?", secret: a-long-enough-secret, at: [80, 100]}
""".replace("?", "")


class Receiver:
    """What a webhook's other end does: keeps what comes, answers with the statuses that it is given, then 204."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.got.append(request)
        status = self.statuses.pop(0) if self.statuses else 204
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, headers={"location": "https://elsewhere.example.com"})

    @property
    def told(self) -> list[tuple[str, int]]:
        bodies = [json.loads(request.content) for request in self.got]
        return [(body["team"], body["at"]) for body in bodies]


class Gate:
    """A store, a clock and a control process that can be started again."""

    def __init__(self, store: SqlStore, receiver: Receiver, included: str = "1000 tokens/month") -> None:
        self.store = store
        self.receiver = receiver
        self.now = NOW
        self.config: Config = load_text(CONFIG % included).unwrap()
        self.used = 0
        self.start()

    def start(self) -> None:
        self.notices = Notices(self.store.billing, lambda: self.config, lambda: self.now)
        self.webhooks = Webhooks(self.store.billing, lambda: self.config, lambda: self.now, httpx.MockTransport(self.receiver))

    def use(self, tokens: int, team: str = "acme", price: Price | None = None, **fields: object) -> None:
        self.used += 1
        values: dict[str, Any] = {"time": self.now, "prompt_tokens": tokens, "completion_tokens": 0, **fields}
        receipt = charged(f"r{self.used}", price or Price(100, 300), team=team, **values)
        self.store.write(Batch(receipts=[receipt]))

    def turn(self, seconds: float = 0.0) -> list[tuple[str, int]]:
        """So many seconds later, one round; what the receiver has got by then."""
        self.now += timedelta(seconds=seconds)
        self.notices.look()
        asyncio.run(self.webhooks.deliver())
        return self.receiver.told


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger")
    yield store
    store.close()


def test_each_threshold_is_announced_once(store: SqlStore) -> None:
    gate = Gate(store, Receiver())
    gate.use(799)
    assert gate.turn() == []
    gate.use(1)
    assert gate.turn() == [("acme", 80)]
    gate.use(199)
    assert gate.turn() == [("acme", 80)]
    gate.use(1)
    assert gate.turn() == [("acme", 80), ("acme", 100)]
    gate.use(5000)
    gate.start()
    assert gate.turn(3600) == [("acme", 80), ("acme", 100)]


def test_teams_and_months_are_apart(store: SqlStore) -> None:
    gate = Gate(store, Receiver())
    gate.use(900)
    gate.use(5000, team="beta")
    gate.use(5000, team="gamma", plan="silver")
    gate.use(5000, team="delta", currency="USD")
    assert sorted(gate.turn()) == [("acme", 80), ("beta", 80), ("beta", 100)]
    gate.now = datetime(2026, 11, 30, 23, 0, 1, tzinfo=UTC)  # December in Berlin
    gate.use(900)
    gate.use(100, time=gate.now - timedelta(seconds=2))  # came late, of November
    gate.turn()
    assert [json.loads(request.content)["month"] for request in gate.receiver.got[3:]] in (
        ["2026-12", "2026-11"],
        ["2026-11", "2026-12"],
    )
    assert gate.turn(2 * 3600) == gate.receiver.told


def test_money(store: SqlStore) -> None:
    gate = Gate(store, Receiver(), "5 EUR/month")
    gate.use(4, price=Price(NANO, 0))
    gate.turn()
    body = json.loads(gate.receiver.got[0].content)
    assert (body["at"], body["unit"], body["included"], body["used"], body["currency"]) == (80, "cost", "5", "4", "EUR")


def test_a_plan_that_is_changed_counts_what_is_its_own(store: SqlStore) -> None:
    """As after a restart: what came in another currency, or while there was no such plan, is not lost and not mixed up."""
    gate = Gate(store, Receiver(), "5 EUR/month")
    gate.use(3, price=Price(NANO, 0))
    assert gate.turn() == []
    euro, dollars = gate.config, load_text(CONFIG.replace("EUR", "USD") % "3 USD/month").unwrap()
    gate.config = dollars
    gate.use(1, price=Price(NANO, 0), currency="USD")
    assert gate.turn() == []
    assert gate.notices.used() == [("acme", "gold", 1 / 3)]
    gate.config = load_text('models: {m: {instances: [{url: "http://127.0.0.1:1"}]}}').unwrap()
    gate.use(1, price=Price(NANO, 0))
    assert (gate.turn(), gate.notices.used()) == ([], [])
    gate.config = euro
    assert gate.turn() == [("acme", 80)]
    assert gate.notices.used() == [("acme", "gold", 0.8)]


def test_what_arrives(store: SqlStore) -> None:
    gate = Gate(store, Receiver())
    gate.use(800)
    gate.turn()
    (request,) = gate.receiver.got
    assert (request.method, str(request.url)) == ("POST", "https://billing.example.com/hook")
    assert json.loads(request.content) == {
        "id": identity("acme", "gold", "2026-11", 80),
        "type": "plan.threshold",
        "created": "2026-11-20T12:00:00Z",
        "team": "acme",
        "plan": "gold",
        "month": "2026-11",
        "timezone": "Europe/Berlin",
        "at": 80,
        "unit": "tokens",
        "included": 1000,
        "used": 800,
        "currency": "",
    }
    found = re.fullmatch(r"t=([0-9]+),v1=([0-9a-f]{64})", request.headers["slmgate-signature"])
    assert found is not None
    assert int(found[1]) == int(NOW.timestamp())
    signed = f"{found[1]}.".encode() + request.content
    assert hmac.compare_digest(hmac.new(b"a-long-enough-secret", signed, hashlib.sha256).hexdigest(), found[2])


def test_many_at_once(store: SqlStore) -> None:
    gate = Gate(store, Receiver())
    for number in range(40):
        gate.use(1000, team=f"team{number}")
    assert len(set(gate.turn())) == 80
