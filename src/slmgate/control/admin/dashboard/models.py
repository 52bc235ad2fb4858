"""The pages of models: all of them, and one with its instances, which operators drain and enable there.

They read through analytics and the gate's status; a drain is what the admin API's handlers do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from msgspec.structs import asdict

from slmgate.control.admin import instances as api
from slmgate.control.admin.dashboard import figures
from slmgate.control.admin.dashboard.asking import Ask, Go, View, Wrong
from slmgate.control.admin.dashboard.overview import tone_of
from slmgate.control.admin.dashboard.tables import Cell, Column, Table, whole
from slmgate.control.analytics import Analytics, Figures, Row
from slmgate.control.instance_words import condition, takes_requests
from slmgate.control.operators import Permission

NOTHING = Row(name="", figures=Figures(), share=0.0)
SAID = {
    "drained": "It is draining: it gets no new request, and those that it has go on.",
    "enabled": "It is enabled, and gets requests again.",
}


def models(ask: Ask) -> View:
    """Every model that is configured or was asked for."""
    told = Analytics(ask.context.store)
    used = {row.name: row for row in told.models(ask.span.range)}
    now = ask.status
    ready = {model.name: model for model in now.models}
    rows = []
    for name in sorted({*used, *ready}):
        places = [asdict(row) for row in now.instances if row.model == name]
        up = sum(1 for row in places if takes_requests(row))
        state = Cell("not configured", tone="") if name not in ready else _state(ready[name].ready, up, len(places))
        rows.append(
            figures.cells(used.get(name) or Row(name=name, figures=Figures(), share=0.0), ask.at("models", name))
            | {
                "state": state,
                "in_flight": sum(row["in_flight"] for row in places),
                "speed": figures.speed(used[name].figures) if name in used else None,
            }
        )
    columns = figures.columns(
        "Model",
        [row.figures for row in used.values()],
        (
            Column("state", "State"),
            Column("in_flight", "In flight", "count"),
        ),
    )
    columns.append(Column("speed", "Tokens/s", "count", wide=True, help="of a streamed answer: half are faster"))
    table = whole(ask, columns, rows, "-requests")
    return View(template="models.html", values={"table": table}, tables=[table], refresh=10)


def model(ask: Ask) -> View:
    """One model, and its instances."""
    name = ask.names["name"]
    told = Analytics(ask.context.store)
    seen = told.model(name, ask.span.range)
    configured = next((model for model in ask.status.models if model.name == name), None)
    if configured is None and not seen.compared.now.requests and not seen.compared.before.requests:
        raise Wrong("No model of this name is configured, and nobody asked for one in this time.", 404)
    before = told.series(ask.span.range.before(), model=name) if ask.compare else None
    by_instance = told.series(ask.span.range, by="instance", model=name)
    places = [asdict(row) for row in ask.status.instances if row.model == name]
    instances = _instances(ask, name, places, {row.name: row for row in seen.instances})
    return View(
        template="model.html",
        title=name,
        values={
            "name": name,
            "configured": configured,
            "state": "not configured" if configured is None else "ready" if configured.ready else "not ready",
            "tiles": [
                *figures.tiles(seen.compared, ask, seen.series),
                figures.flight_tile(places),
            ],
            "charts": [
                figures.requests_chart(ask, seen.series, before),
                figures.lines_chart(ask, by_instance, f"By instance, requests per {ask.span.step_said}", "by-instance"),
                figures.latency_chart(ask, seen.series, "queue", "Waiting in line", before),
                figures.latency_chart(ask, seen.series, "instance", "Instance to the first token", before),
                figures.latency_chart(ask, seen.series, "stream", "Streaming the answer", before),
                figures.speed_chart(ask, seen.series, before),
                figures.latency_chart(ask, seen.series, "total", "Time of the whole answer", before),
                figures.tokens_chart(ask, seen.series, before),
            ],
            "rankings": [
                figures.split(seen.compared.now, "split", "Where the time goes"),
                figures.top(seen.clients, ask, "clients", "top-clients", "Top clients"),
                figures.counted(seen.refusals, "refusals", "Refused, by reason", "warn"),
                figures.counted(seen.failures, "failures", "Failed, by how it ended", "bad"),
            ],
            "instances": instances,
            "nothing": not seen.compared.now.requests,
            "later": seen.since if seen.since > ask.span.since else None,
        },
        tables=[instances],
        refresh=10,
    )


async def drain(ask: Ask) -> Go:
    """Give an instance no new request."""
    await api.drain_instance(ask.context, ask.caller, api.InstanceName(id=ask.value("id")))
    return Go(ask.at("models", ask.value("model")), "drained")


async def enable(ask: Ask) -> Go:
    """Undo it."""
    await api.enable_instance(ask.context, ask.caller, api.InstanceName(id=ask.value("id")))
    return Go(ask.at("models", ask.value("model")), "enabled")


_COLUMNS = (
    Column("name", "Instance", "code"),
    Column("state", "State"),
    Column("in_flight", "In flight", "count"),
    Column("requests", "Requests", "count"),
    Column("errors", "Errors", "share", help="of those that it was given"),
    Column("queue", "In line, p95", "seconds", wide=True, help="waiting in line"),
    Column("connect", "Connect, p95", "seconds", wide=True),
    Column("instance", "First token, p95", "seconds"),
    Column("stream", "Stream, p95", "seconds", wide=True),
    Column("speed", "Tokens/s", "count", help="of a streamed answer: half are faster"),
)


def _instances(ask: Ask, model: str, places: Sequence[Mapping[str, Any]], used: Mapping[str, Row]) -> Table:
    rows = []
    known = {row["id"]: row for row in places}
    for id in sorted({*known, *used}):
        now, one = used.get(id, NOTHING).figures, known.get(id)
        rows.append(
            {
                "name": id,
                "state": Cell("gone") if one is None else _condition(one),
                "in_flight": None if one is None else _carried(one),
                "requests": now.requests,
                "errors": now.error_share if now.admitted else None,
                **{kind: figures.seconds(now, kind) for kind in ("queue", "connect", "instance", "stream")},
                "speed": figures.speed(now),
                "do": None if one is None else _button(ask, model, one),
            }
        )
    columns = [*_COLUMNS]
    if ask.may(Permission.OPERATOR) and ask.token:
        columns.insert(2, Column("do", "Do", "html", sort=False))
    return whole(ask, columns, rows, "name", "instances")


def _carried(row: Mapping[str, Any]) -> Cell:
    """What it has in flight, and what waits for it in line."""
    text = f"{row['in_flight']}, {row['waiting']} waiting" if row["waiting"] else ""
    return Cell(row["in_flight"], text=text)


def _condition(row: Mapping[str, Any]) -> Cell:
    """What it is, and why it is passed over."""
    what = condition(row)
    return Cell(what, text=f"{what}: {row['why']}" if row["why"] and not row["healthy"] else "", tone=tone_of(dict(row)))


def _button(ask: Ask, model: str, row: Mapping[str, Any]) -> Cell | None:
    if row["source"] == "removed":
        return None
    what = "enable" if row["draining"] else "drain"
    form = Markup(
        '<form class="action" method="post" action="/instances/{}"><input type="hidden" name="token" value="{}">'
        '<input type="hidden" name="id" value="{}"><input type="hidden" name="model" value="{}">'
        '<button type="submit" class="small">{}<span class="unseen"> {}</span></button></form>'
    )
    return Cell(None, html=form.format(what, ask.token, row["id"], model, what.title(), row["id"]))


def _state(ready: bool, up: int, all: int) -> Cell:
    text = f"{up} of {all} up" if all else "no instance"
    return Cell(text, tone="bad" if not ready else "good" if up == all else "warn")
