"""The ledger of the worked example of docs/policies.md: a week of one client's requests, the same each time.

It writes receipts as a gate would have left them; it knows no policy.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from slmgate.stores.records import Batch
from slmgate.stores.sql import open_store
from slmgate.terms import Receipt
from tests.tools.journal_writer import make_receipt

MONDAY = datetime(2026, 11, 16, 7, tzinfo=UTC)


def receipts() -> list[Receipt]:
    """Forty a day from Monday to Friday, each asking for more than the one before; one that was refused."""
    found = [
        _receipt(f"00d{day}{number:02d}", MONDAY + timedelta(days=day, minutes=12 * number), f"max_tokens={8 * number + 200}")
        for day in range(5)
        for number in range(40)
    ]
    refused: dict[str, object] = {
        "verdict": "refuse",
        "ended": "refused",
        "status": 400,
        "reason": "parameter_not_allowed",
        "rule": "roles.partner.parameters.max_tokens.max",
        "attempts": 0,
        "instance": "",
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "first_byte_us": None,
        "total_us": 310,
        "queue_us": 0,
        "bytes_out": 178,
    }
    return [*found, _receipt("00d499", MONDAY + timedelta(days=4, hours=9), "max_tokens=900", **refused)]


def _receipt(id: str, time: datetime, parameters: str, **fields: object) -> Receipt:
    base: dict[str, object] = {
        "time": time,
        "key": "declared:globex-bot",
        "principal": "globex-bot",
        "team": "globex",
        "roles": "partner",
        "rule": "roles.partner",
        "instance": "smollm2/10.0.0.5:8000",
        "address": "203.0.113.9",
        "parameters": parameters,
        "bytes_in": 412,
        "bytes_out": 903,
        "queue_us": 90,
        "first_byte_us": 41_000,
        "total_us": 380_000,
    }
    return make_receipt(id, **(base | fields))


def fill(state: Path) -> None:
    """Make the ledger in the state directory `state`."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = open_store(state / "ledger.sqlite3")
    store.write(Batch(receipts=receipts()))
    store.close()
