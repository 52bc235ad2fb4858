"""A ledger to look at: two weeks of made-up traffic of a small company, the same each time, and the status of its gate.

For the pictures of docs/ and for tests of pages. Chance is seeded, and the present is given; it knows no page.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from slmgate.control.admin.context import GateStatus, InstanceStatus, ModelStatus, WorkerStatus
from slmgate.control.config import Config, load_text
from slmgate.stores.base import Store
from slmgate.stores.records import Batch
from slmgate.terms import Receipt
from tests.tools.journal_writer import make_receipt

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
"""A Saturday, so that the days before it are a week of work."""
INSTANCES = {
    "smollm2": ("smollm2/10.0.0.5:8000", "smollm2/10.0.0.6:8000", "smollm2/10.0.0.7:8080"),
    "qwen2.5-0.5b": ("qwen2.5-0.5b/10.0.0.8:8000", "qwen2.5-0.5b/10.0.0.9:8000"),
    "bge-small": ("bge-small/10.0.0.10:8080",),
}
CLIENTS = (
    ("support-bot", "smollm2", 30),
    ("search-index", "bge-small", 24),
    ("shop-assistant", "qwen2.5-0.5b", 16),
    ("ann@example.com", "smollm2", 7),
    ("nightly-summaries", "smollm2", 9),
    ("mail-sorter", "smollm2", 6),
    ("code-review", "qwen2.5-0.5b", 5),
    ("bob@example.com", "qwen2.5-0.5b", 3),
    ("helpdesk", "smollm2", 4),
    ("translations", "qwen2.5-0.5b", 3),
    ("intranet-search", "bge-small", 5),
    ("ci-smoke-test", "smollm2", 1),
    ("carla@example.com", "smollm2", 2),
    ("release-notes", "qwen2.5-0.5b", 1),
)
PRICES = {"smollm2": (100, 300), "qwen2.5-0.5b": (150, 450), "bge-small": (20, 0)}
"""Billionths of EUR for each prompt and each completion token."""
REFUSED = (
    ("rate_limit_exceeded", 429, 55),
    ("quota_exceeded", 429, 18),
    ("parameter_not_allowed", 400, 12),
    ("model_not_found", 404, 9),
)
FAILED = (("upstream_error", 502, 5), ("client_left", 200, 4), ("upstream_timeout", 504, 2))


def receipts(now: datetime = NOW, days: int = 15, an_hour: int = 40) -> Iterator[Receipt]:
    """The traffic of the days before `now`: quiet at night and at the end of the week, with one bad hour two days ago."""
    chance = random.Random(20261128)
    names, weights = [client[0] for client in CLIENTS], [client[2] for client in CLIENTS]
    number = 0
    for hour in range(days * 24, 0, -1):
        start = now - timedelta(hours=hour)
        busy = 0.25 + 0.75 * max(0.0, math.sin(math.pi * (start.hour - 5) / 15)) if 5 <= start.hour < 20 else 0.18
        busy *= 0.35 if start.weekday() >= 5 else 1.0
        bad = 44 <= hour < 46
        for _ in range(round(an_hour * busy * chance.uniform(0.8, 1.2))):
            number += 1
            client = chance.choices(names, weights)[0]
            model = next(usual for name, usual, _ in CLIENTS if name == client) if chance.random() < 0.9 else "smollm2"
            yield _receipt(chance, number, start + timedelta(seconds=chance.uniform(0, 3599)), client, model, bad)


def _receipt(chance: random.Random, number: int, time: datetime, client: str, model: str, bad: bool) -> Receipt:
    prompt = int(chance.lognormvariate(5.2, 0.8))
    price = f"EUR {PRICES[model][0]} {PRICES[model][1]}"
    shared: dict[str, object] = {
        "time": time,
        "principal": client,
        "key": f"k-{client}",
        "team": "example",
        "model": model,
        "instance": "",
        "trace": f"{number:032x}",
        "address": "203.0.113.9",
        "overhead_us": int(chance.lognormvariate(4.6, 0.4)),
    }
    if chance.random() < (0.08 if client in ("shop-assistant", "ci-smoke-test") else 0.015):
        reason, status, _ = chance.choices(REFUSED, [each[2] for each in REFUSED])[0]
        more: dict[str, object] = {
            "verdict": "refuse",
            "reason": reason,
            "status": status,
            "ended": "refused",
            "attempts": 0,
            "prompt_tokens": 0,
            "completion_tokens": 0,
        }
        return make_receipt(f"t{number:08d}", **shared, **more)
    embeds = model == "bge-small"
    completion = 0 if embeds else int(chance.lognormvariate(4.6, 0.7))
    queue = int(chance.lognormvariate(7, 1.2) * (30 if bad else 1))
    first = queue + int(chance.lognormvariate(10.6, 0.35)) + 120 * prompt
    stream = 0 if embeds else int(completion * chance.lognormvariate(9.3, 0.25))
    place = chance.choices(INSTANCES[model], [3, 2, 2][: len(INSTANCES[model])])[0]
    shared |= {
        "instance": place,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "queue_us": queue,
        "first_byte_us": first,
        "connect_us": int(chance.lognormvariate(6, 0.4)) if chance.random() < 0.1 else 0,
        "total_us": first + stream,
        "stream": not embeds,
        "endpoint": "embeddings" if embeds else "chat",
        "price": price,
        "cost": prompt * PRICES[model][0] + completion * PRICES[model][1],
    }
    if chance.random() < (0.2 if bad else 0.006):
        ended, status, _ = chance.choices(FAILED, [each[2] for each in FAILED])[0]
        shared |= {"ended": ended, "status": status}
    return make_receipt(f"t{number:08d}", **shared)


def fill(store: Store, now: datetime = NOW, **more: int) -> int:
    """Write the traffic; how many receipts it is."""
    rows = list(receipts(now, **more))
    for at in range(0, len(rows), 2000):
        store.write(Batch(receipts=rows[at : at + 2000]))
    return len(rows)


def config() -> Config:
    """The configuration of that gate, as far as pages ask for it."""
    models = ", ".join(
        f"{name}: {{instances: [{{url: 'http://{place.partition('/')[2]}'}}]}}" for name, (place, *_) in INSTANCES.items()
    )
    roles = "staff: {models: ['*'], endpoints: ['*'], limits: [600 requests/minute, 40 concurrent]}"
    key = "{name: support-bot, team: example, roles: [staff], hash: 'sha256:" + "0" * 64 + "'}"
    return load_text(f"models: {{{models}}}\nroles: {{{roles}}}\nteams: {{example: {{}}}}\nkeys: [{key}]\n").unwrap()


def status(now: datetime = NOW) -> GateStatus:
    """The gate at that time: one instance ejected, one being drained, the others at work."""
    carried = iter((5, 3, 0, 4, 1, 2))
    instances = []
    for model, places in INSTANCES.items():
        for place in places:
            shown = InstanceStatus(
                id=place, model=model, in_flight=next(carried), since=now - timedelta(hours=31), check="200 in 3 ms", checked=now
            )
            instances.append(shown)
    instances[2] = InstanceStatus(
        id=instances[2].id,
        model="smollm2",
        healthy=False,
        state="ejected",
        why="it answered 502",
        again=12.0,
        failures=5,
        since=now - timedelta(minutes=4),
        check="200 in 4 ms",
        checked=now,
    )
    instances[4] = InstanceStatus(
        id=instances[4].id, model="qwen2.5-0.5b", in_flight=1, draining=True, check="200 in 3 ms", checked=now
    )
    return GateStatus(
        generation=12,
        models=[ModelStatus(name=model, ready=True) for model in INSTANCES],
        instances=instances,
        workers=[WorkerStatus(slot=slot, pid=100 + slot, ready=True, connections=12, in_flight=8) for slot in range(2)],
        ledger_lag=0.4,
    )
