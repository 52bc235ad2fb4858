"""The overview: what the gate does now, what went through it, and what needs somebody's attention.

It reads through analytics, the gate's status and the handler of limits; it knows no store.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, NamedTuple

from msgspec.structs import asdict

from slmgate.control.admin.dashboard import figures, words
from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.admin.dashboard.tables import Cell, Column, whole
from slmgate.control.admin.handlers import BadQuery
from slmgate.control.admin.standing import limits
from slmgate.control.analytics import Analytics, Overview
from slmgate.control.analytics import Series as Told
from slmgate.control.instance_words import condition, takes_requests
from slmgate.control.looking import NobodyLooks
from slmgate.control.standing import Stand

NEAR = 0.8
"""The share of a limit from which on it is said to be near."""
LOOKED = 50
"""Keys whose limits are looked at for the overview; the page of limits shows all."""
SOON = timedelta(days=14)
"""Before its end, a certificate needs attention."""
BEHIND = 30.0
"""Seconds that the ledger may be behind the journal."""
MOST = 12
"""Lines of a list here; the pages behind show all."""


class Concern(NamedTuple):
    """Something that needs attention. `tone` is `bad` or `warn`."""

    tone: str
    what: str
    text: str
    href: str = ""


async def overview(ask: Ask) -> View:
    """All of it: few questions to the store, made in a thread."""
    near = await _near(ask)
    seen, before = await asyncio.to_thread(_read, ask)
    return show(ask, seen, before, near)


def show(ask: Ask, seen: Overview, before: Told | None, near: list[Stand]) -> View:
    """The page from what was read."""
    now = ask.status
    rest = f"{words.count(seen.clients_total)} clients in all." if seen.clients_total > len(seen.clients) else ""
    instances = whole(ask, _COLUMNS, [_instance(ask, asdict(row)) for row in now.instances], "name", "instances", size=MOST)
    return View(
        template="overview.html",
        values={
            "concerns": concerns(ask, near),
            "state": "not running" if not now.running else "draining" if now.draining else "ready" if now.ready else "not ready",
            "tiles": [
                *figures.tiles(seen.compared, ask, seen.series),
                figures.flight_tile(list(map(asdict, now.instances))),
            ],
            "charts": [
                figures.requests_chart(ask, seen.series, before),
                figures.tokens_chart(ask, seen.series, before),
                figures.latency_chart(ask, seen.series, "first_byte", "Time to the first token", before),
                figures.latency_chart(ask, seen.series, "total", "Time of the whole answer", before),
            ],
            "rankings": [
                figures.top(seen.clients, ask, "clients", "top-clients", "Top clients", rest),
                figures.top(seen.models, ask, "models", "top-models", "Top models"),
                figures.split(seen.compared.now, "split", "Where the time goes"),
                figures.counted(seen.refusals, "refusals", "Refused, by reason", "warn"),
                figures.counted(seen.failures, "failures", "Failed, by how it ended", "bad"),
            ],
            "instances": instances,
            "nothing": not seen.compared.now.requests and not seen.compared.before.requests,
            "later": seen.since if seen.since > ask.span.since else None,
        },
        tables=[instances],
        refresh=10,
    )


def concerns(ask: Ask, near: list[Stand]) -> list[Concern]:
    """What needs attention, the worst first."""
    now = ask.status
    found = [Concern("bad", "Configuration", f"The newest was refused: {fault}") for fault in now.faults]
    if now.running and not any(worker.ready for worker in now.workers):
        found.append(Concern("bad", "Workers", "No worker serves."))
    found += [
        Concern("bad", model.name, "No instance of it takes requests.", ask.at("models", model.name))
        for model in now.models
        if not model.ready and not model.hidden
    ]
    for row in map(asdict, now.instances):
        if not row["healthy"] and row["source"] != "removed" and not row["draining"]:
            text = f"{row['id']} is {condition(row)}" + (f": {row['why']}" if row["why"] else "")
            found.append(Concern("bad", row["model"], text, ask.at("models", row["model"])))
        elif row["catalogue"] is not None and row["catalogue"].state == "missing":
            text = f"{row['id']} does not list its model: {row['catalogue'].text}"
            found.append(Concern("warn", row["model"], text, ask.at("models", row["model"])))
    for one in now.certificates:
        name = ", ".join(one.names) or one.serial
        if one.state == "expired":
            found.append(Concern("bad", "Certificate", f"{name} has run out."))
        elif one.error:
            found.append(Concern("warn", "Certificate", f"{name} could not be renewed: {one.error}"))
        elif one.not_after is not None and one.not_after - ask.now < SOON and (one.next_try is None or one.next_try < ask.now):
            found.append(Concern("warn", "Certificate", f"{name} ends {words.ago(one.not_after, ask.now)}."))
    if now.ledger_lag is not None and now.ledger_lag > BEHIND:
        found.append(Concern("warn", "Ledger", f"It is {words.duration(now.ledger_lag)} behind what was served."))
    unjournaled = sum(worker.unjournaled for worker in now.workers)
    if unjournaled:
        found.append(Concern("bad", "Journal", f"{words.count(unjournaled)} requests were served without a record."))
    found += [Concern("warn", "Files and names", note) for note in now.notes]
    for stand in sorted(near, key=lambda stand: -stand.share):
        tone = "bad" if stand.share >= 1 else "warn"
        found.append(Concern(tone, "Limit", f"{stand.whose}: {stand.limit}, {words.share(stand.share)} used", ask.at("limits")))
    found.sort(key=lambda each: each.tone != "bad")
    if len(found) > MOST:
        found[MOST:] = [
            Concern("warn", "More", f"{words.count(len(found) - MOST)} others; see the pages of models and of limits.")
        ]
    return found


_COLUMNS = (
    Column("name", "Instance", "code"),
    Column("model", "Model"),
    Column("state", "State"),
    Column("in_flight", "In flight", "count"),
    Column("waiting", "Waiting", "count"),
    Column("since", "Since", wide=True),
)


def _instance(ask: Ask, row: dict[str, Any]) -> dict[str, object]:
    since = row["since"]
    return {
        "name": row["id"],
        "model": Cell(row["model"], ask.at("models", row["model"])),
        "state": Cell(condition(row), tone=tone_of(row)),
        "in_flight": row["in_flight"],
        "waiting": row["waiting"],
        "since": Cell(since, text=words.ago(since, ask.now)) if since is not None else None,
    }


def tone_of(row: dict[str, Any]) -> str:
    """How an instance's state is coloured, given the fields of its `InstanceStatus`."""
    if takes_requests(row):
        return "good" if row["state"] == "healthy" else "warn"
    return "warn" if row["draining"] or row["source"] == "removed" else "bad"


async def _near(ask: Ask) -> list[Stand]:
    """Limits that are nearly used up, of what is nobody's alone and of the first keys."""
    try:
        page = await limits(ask.context, near=NEAR, limit=LOOKED)
    except (NobodyLooks, BadQuery):  # no worker serves, or no gate runs: the page says so by itself
        return []
    return list(page.limits)


def _read(ask: Ask) -> tuple[Overview, Told | None]:
    asked = Analytics(ask.context.store)
    return asked.overview(ask.span.range), asked.series(ask.span.range.before()) if ask.compare else None
