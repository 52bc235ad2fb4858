"""The pages of requests under way: the list, which stays fresh, and the question before one of them is ended.

Everything comes from the handlers of the admin API, so that a page shows and does what the API does. It asks no worker itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from slmgate.control.admin import handlers
from slmgate.control.admin import live as api
from slmgate.control.admin.dashboard import tables, words
from slmgate.control.admin.dashboard.asking import Ask, Go, View, Wrong
from slmgate.control.admin.dashboard.tables import Cell, Column
from slmgate.control.operators import Permission
from slmgate.link.messages import LiveRequest

REFRESH = 3
SHOWN, EVERY = 200, 1000
"""Requests asked for, the oldest: for the page, and for its table as CSV."""
MOST = 20
"""Clients, and models, that are shown beside the list: the busiest."""
TONES = {"reading": "", "queued": "warn", "connecting": "", "waiting": "", "streaming": "good"}
SAID = {
    "cancelled": "The request was cancelled: its instance's work has stopped, and its client has been told.",
    "over": "The request had come to its end already.",
}
FILTERS = ("client", "model", "instance")
COLUMNS = (
    Column("seconds", "For", "seconds", help="How long it has been under way"),
    Column("client", "Client"),
    Column("model", "Model"),
    Column("state", "State"),
    Column("tokens", "Tokens", "count", help="Of a stream so far, as the gate counts them"),
    Column("instance", "Instance", wide=True),
    Column("endpoint", "Endpoint", wide=True),
    Column("worker", "Worker", "count", wide=True),
)
MORE = tuple(
    Column(name, name)
    for name in ("id", "request_id", "since", "address", "key", "team", "stream", "position", "prompt_tokens", "attempts")
)
"""Of each request, in CSV beside what the page shows."""
ACTION = Column("action", "", "html", sort=False)


async def live(ask: Ask) -> View:
    """What is under way, the oldest first."""
    given = {name: ask.text(name) for name in FILTERS}
    state = ask.text("state")
    every = tables.asked(ask, "")
    asked = {name: value or None for name, value in given.items()}
    in_state = state if state in api.STATES else None
    found = await api.live(ask.context, **asked, in_state=in_state, limit=EVERY if every else SHOWN)
    rows = [_row(ask, one) for one in found.requests]
    columns = (*COLUMNS, *MORE) if every else (*COLUMNS, ACTION) if ask.may(Permission.OPERATOR) else COLUMNS
    filtered = any(given.values()) or in_state is not None
    return View(
        template="live.html",
        values={
            "table": tables.whole(ask, columns, rows, "-seconds", size=SHOWN),
            "found": found,
            "counted": len(rows),
            "given": given,
            "state": in_state or "",
            "states": api.STATES,
            "filtered": filtered,
            "clients": sum(1 for each in found.clients if each.in_flight),
            "lately": f"{found.recent_since.astimezone(ask.zone):%H:%M}",
            "MOST": MOST,
            "models": sorted(found.models, key=lambda each: (-each.in_flight - each.queued, each.model)),
        },
        tables=[tables.whole(ask, columns, rows, "-seconds", size=SHOWN)],
        refresh=REFRESH,
        ranged=False,
    )


async def confirm(ask: Ask) -> View | Go:
    """The question before one is cancelled: which it is, and what will happen."""
    one = await api.find_live(ask.context, ask.names["id"])
    if one is None:
        raise handlers.Unknown("There is no such request under way. It may have come to its end: look for it under Requests.")
    if one == "over":
        return Go(ask.at("live"), "over")
    assert isinstance(one, LiveRequest)
    return View(template="cancel.html", values={"one": api.live_view(one, ask.now)}, ranged=False)


async def cancel(ask: Ask) -> Go:
    """End it."""
    try:
        await api.cancel_live(ask.context, ask.caller, ask.names["id"])
    except handlers.NotUnderWay:
        return Go(ask.at("live"), "over")
    except handlers.Unknown as error:
        raise Wrong(str(error.args[0]), 404) from None
    return Go(ask.at("live"), "cancelled")


def _row(ask: Ask, one: api.LiveView) -> Mapping[str, Any]:
    state = f"queued, no.\u00a0{words.count(one.position)}" if one.position else one.state
    name = f"{one.client or 'somebody'} at {one.model or 'no model yet'}"
    button = Markup('<a class="button small bad" href="{}" aria-label="Cancel the request of {}">Cancel</a>').format(
        ask.at("live", one.id, "cancel"), name
    )
    row: dict[str, Any] = {column.key: getattr(one, column.key) for column in (*COLUMNS, *MORE)}
    return row | {
        "client": None if one.client is None else Cell(one.client, href=ask.at("clients", one.client)),
        "model": None if one.model is None else Cell(one.model, href=ask.at("models", one.model)),
        "state": Cell(one.state, text=state, tone=TONES[one.state]),
        "tokens": one.tokens if one.stream else None,
        "action": Cell("", html=button),
    }
