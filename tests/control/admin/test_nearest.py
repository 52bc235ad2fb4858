"""Who is near a limit: who was refused or asked most, and what nobody has alone; and nobody else is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.admin import handlers
from slmgate.control.admin import nearest as module
from slmgate.control.admin.nearest import Nearest, active, nearest
from slmgate.control.config import load_text
from slmgate.stores.records import Batch
from slmgate.terms import Receipt
from tests.tools.admin_gate import AdminGate

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SINCE = NOW - timedelta(hours=1)
CONFIG = (
    """
models: {m: {instances: [{url: "http://10.0.0.5:8000"}]}}
limits: [{limit: 100 requests/second, per: model}]
roles: {partner: {models: [m], endpoints: [chat], limits: [60 requests/minute]}}
keys:
  - {name: busy, roles: [partner], hash: "sha256:ZERO"}
  - {name: refused, roles: [partner], hash: "sha256:ONE", limits: [5 requests/hour]}
  - {name: idle, roles: [partner], hash: "sha256:TWO"}
""".replace("ZERO", "0" * 64)
    .replace("ONE", "1" * 64)
    .replace("TWO", "2" * 64)
)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    made.config = load_text(CONFIG, "slmgate.yaml", tmp_path).unwrap()
    yield made
    made.store.close()


def asked(gate: AdminGate, key: str | None, count: int, reason: str = "", at: datetime = NOW - timedelta(minutes=5)) -> None:
    told: dict[str, Any] = {
        "time": at, "method": "POST", "path": "/v1/chat/completions", "status": 429 if reason else 200, "reason": reason,
        "verdict": "refuse" if reason else "admit", "ended": "refused" if reason else "complete",
        "principal": (key or "").removeprefix("declared:"),
        "key": key,
    }  # fmt: skip
    ids = [f"{key}-{reason}-{number}-{at:%H%M}" for number in range(count)]
    gate.store.write(Batch(receipts=[Receipt(id=id, request_id=id, **told) for id in ids]))


def found(gate: AdminGate) -> Nearest:
    return asyncio.run(nearest(gate, SINCE, NOW))


def test_nobody_has_asked(gate: AdminGate) -> None:
    got = found(gate)
    assert [(one.limit, one.client) for one in got.limits] == [("100 requests/second", None)]
    assert (got.principals, got.cut) == (0, False)


def test_the_nearest_come_first(gate: AdminGate) -> None:
    asked(gate, "declared:busy", 3)
    asked(gate, "declared:refused", 1, "rate_limit_exceeded")
    asked(gate, "declared:idle", 9, at=NOW - timedelta(hours=3))  # that was before
    gate.used = {("60 requests/minute", "declared:busy"): 30, ("5 requests/hour", "declared:refused"): 5}
    got = found(gate)
    assert [(one.client, one.limit, one.share) for one in got.limits] == [
        ("refused", "5 requests/hour", 1.0),
        ("busy", "60 requests/minute", 0.5),
        (None, "100 requests/second", 0.0),
        ("refused", "60 requests/minute", 0.0),
    ]
    assert (got.principals, got.cut) == (2, False)
    assert not [whose for _, whose in gate.asked if "idle" in whose]


def test_who_is_gone_is_passed_over(gate: AdminGate) -> None:
    record, _ = gate.keyring.create("revoked", roles=("partner",))
    gate.keyring.revoke(record.id)
    for key in (record.id, "nobody", None):
        asked(gate, key, 2)
    got = found(gate)
    # "nobody" is who once came with a token, as far as anyone knows
    assert {one.client for one in got.limits} <= {None, "nobody"}


def test_however_many_there_are(gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRINCIPALS", 2)
    for number in range(5):
        asked(gate, f"k{number}", number + 4)
        asked(gate, f"r{number}", number + 1, "quota_exceeded")
        asked(gate, f"r{number}", 1, "rate_limit_exceeded")
    assert list(active(gate.store, SINCE, NOW)) == ["r4", "r3", "k4", "k3"]
    monkeypatch.setattr(module, "MOST", 1)
    asked(gate, "declared:busy", 9)
    got = found(gate)
    assert (len(got.limits), got.cut) == (1, True)


def test_where_no_gate_runs(gate: AdminGate) -> None:
    gate.config = None
    with pytest.raises(handlers.BadQuery, match="No gate runs here"):
        found(gate)
