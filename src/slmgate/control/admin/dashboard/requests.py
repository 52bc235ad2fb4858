"""The page of receipts: what was asked, newest first, with filters and cursors, in a ledger of any size.

It asks `control/searching.py`, which looks for a bounded time; where that was not enough, the page says so and offers to go on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from slmgate.control.admin.dashboard import tables, words
from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.admin.dashboard.tables import Cell, Column
from slmgate.control.admin.views import decimal_text
from slmgate.control.searching import Found, search
from slmgate.errors import FAULTS
from slmgate.stores.records import NumberedReceipt, ReceiptFilter
from slmgate.terms import Receipt

SIZE = 50
REFRESH = 15
CSV_SECONDS = 20.0
"""So long rows are looked for where they are wanted as CSV."""
FILTERS = ("client", "model", "instance", "reason", "status")
REASONS = tuple(sorted((*FAULTS, "client_left", "replayed")))
COLUMNS = (
    Column("time", "Time", "time", sort=False),
    Column("status", "Status", "count", sort=False),
    Column("client", "Client", sort=False),
    Column("outcome", "Outcome", sort=False),
    Column("model", "Model", sort=False),
    Column("tokens", "Tokens", "tokens", sort=False, help="Of prompt and answer"),
    Column("first_byte", "First byte", "seconds", sort=False, wide=True),
    Column("total", "Total", "seconds", sort=False),
    Column("instance", "Instance", sort=False, wide=True),
)
_MICROSECONDS = ("receive_us", "queue_us", "connect_us", "overhead_us", "first_byte_us", "total_us")
WHOLE = tuple(
    Column(name.removesuffix("_us"), name.removesuffix("_us"), "seconds" if name in _MICROSECONDS else "text", sort=False)
    for name in Receipt.__struct_fields__
)
"""Of each receipt, as CSV: everything, times in seconds."""


def requests(ask: Ask) -> View:
    """A page of receipts."""
    given = {name: ask.text(name) for name in FILTERS}
    status, problem = _status(given["status"])
    which = ReceiptFilter(
        client=given["client"] or None,
        model=given["model"] or None,
        instance=given["instance"] or None,
        reason=given["reason"] or None,
        status=status,
        since=ask.span.since,
        until=ask.span.until,
    )
    every = tables.asked(ask, "")
    before, after = _cursor(ask, "before"), _cursor(ask, "after")
    if every:
        found = search(ask.context.store, which, tables.MOST_CSV, time.monotonic, patience=CSV_SECONDS)
        table = _table(ask, WHOLE, [_whole(one.receipt) for one in found.receipts])
    else:
        found = search(ask.context.store, which, SIZE, time.monotonic, before=None if after is not None else before, after=after)
        table = _table(ask, COLUMNS, [_row(ask, one) for one in found.receipts])
    return View(
        template="requests.html",
        values={
            "table": table,
            "given": given,
            "filtered": any(given.values()),
            "reasons": REASONS,
            "problem": problem,
            "found": found,
            "ways": _ways(ask, found),
        },
        tables=[table],
        refresh=REFRESH if before is None and after is None else 0,
    )


def _table(ask: Ask, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> tables.Table:
    return tables.Table(ask=ask, name="", columns=columns, rows=rows, sort="", size=SIZE)


def _ways(ask: Ask, found: Found) -> dict[str, str]:
    """Where the pages beside this one are, by what they are called."""
    ways = {}
    if found.newer is not None:
        ways["Newest"] = ask.here(before=None, after=None)
        ways["Newer"] = ask.here(after=found.newer, before=None)
    if found.older is not None:
        ways["Older" if found.all else "Look further back"] = ask.here(before=found.older, after=None)
    return ways


def _status(text: str) -> tuple[int | None, str]:
    if not text:
        return None, ""
    if text.isascii() and text.isdigit() and len(text) == 3:
        return int(text), ""
    return None, f"A status is a number such as 429, and not {text[:20]!r}: these are of every status."


def _cursor(ask: Ask, name: str) -> int | None:
    text = ask.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def outcome(receipt: Receipt) -> tuple[str, str]:
    """How it ended in a word or two, and its colour."""
    if receipt.ended == "complete" and not receipt.reason and receipt.status < 400:
        return "complete", ""
    said = receipt.reason or receipt.ended
    if receipt.ended in ("refused", "client_left", "complete"):
        return said.replace("_", " "), "warn"
    return said.replace("_", " "), "bad"


def _row(ask: Ask, one: NumberedReceipt) -> Mapping[str, Any]:
    receipt = one.receipt
    said, tone = outcome(receipt)
    tokens = receipt.prompt_tokens + receipt.completion_tokens
    return {
        "time": Cell(receipt.time, href=ask.at("requests", receipt.id), text=_when(ask, receipt.time)),
        "client": Cell(receipt.principal, href=ask.at("clients", receipt.principal)) if receipt.principal else None,
        "model": Cell(receipt.model, href=ask.at("models", receipt.model)) if receipt.model else None,
        "status": Cell(receipt.status, text=str(receipt.status)),
        "outcome": Cell(said, tone=tone),
        "tokens": Cell(tokens, text=("~ " if receipt.estimated else "") + words.count(tokens)) if receipt.attempts else None,
        "first_byte": None if receipt.first_byte_us is None else receipt.first_byte_us / 1e6,
        "total": receipt.total_us / 1e6,
        "instance": receipt.instance,
    }


def _when(ask: Ask, time: datetime) -> str:
    """Of today, the time alone."""
    local, now = time.astimezone(ask.zone), ask.now.astimezone(ask.zone)
    return f"{local:%H:%M:%S}" if local.date() == now.date() else words.moment(time, ask.zone)


def _whole(receipt: Receipt) -> Mapping[str, Any]:
    row = msgspec.structs.asdict(receipt)
    for name in _MICROSECONDS:
        value = row.pop(name)
        row[name.removesuffix("_us")] = None if value is None else value / 1e6
    currency = receipt.price.partition(" ")[0]
    return row | {"cost": f"{decimal_text(receipt.cost)} {currency}" if currency else ""}
