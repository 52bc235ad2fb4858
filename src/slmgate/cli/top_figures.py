"""What `slmgate top` shows, worked out from what the admin API tells: rows of clients, models, instances and live requests.

Pure: answers in, rows out. It knows no terminal and asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from slmgate.cli.usage import NO_KEY

SPAN = 60
"""Seconds over which requests and tokens are counted."""
Row = tuple[str, ...]
Told = Mapping[str, Any]
"""What the API told, decoded."""
TABLES = ("requests", "clients", "models", "instances")
_PACE = ("first byte p50", "p95", "tokens/s p50")
_LOAD = ("in flight", "queued", "requests/min", "tokens/min", "refused", "errors")
HEADS: Mapping[str, tuple[str, ...]] = {
    "requests": ("client", "model", "state", "for", "tokens", "instance", "endpoint", "address"),
    "clients": ("client", *_LOAD),
    "models": ("model", "state", *_LOAD, *_PACE),
    "instances": ("instance", "model", "state", "in flight", "of the model"),
}
NUMBERS = frozenset(("for", "tokens", "of the model", *_LOAD, *_PACE))
_COUNTED = ("requests", "total_tokens", "refused", "errors")


class Picture(NamedTuple):
    """One look at the gate. `rows` by table, each with the id of what it is about: a live request's, else the first cell."""

    head: str
    rows: Mapping[str, Sequence[tuple[str, Row]]]


def picture(live: Told, usage: Told, latencies: Told, status: Told) -> Picture:
    """`live` is of `/api/v1/live`, `usage` of `/api/v1/usage` by client and model, `latencies` of `/api/v1/analytics/models`."""
    clients, models = _summed(usage["rows"], "client"), _summed(usage["rows"], "model")
    every = _together(clients.values())
    queued = sum(model["queued"] for model in live["models"])
    return Picture(
        "  ".join(
            (
                _condition(status, live),
                f"{every[0] / SPAN:,.1f} requests/s",
                f"{every[1] / SPAN:,.0f} tokens/s",
                f"{live['total']:,} under way",
                f"{queued:,} queued",
                f"{every[2]:,} refused, {every[3]:,} failed in a minute",
            )
        ),
        {
            "requests": [(one["id"], _request(one)) for one in live["requests"]],
            "clients": _clients(live["clients"], clients),
            "models": _models(live["models"], models, latencies),
            "instances": _instances(live["instances"]),
        },
    )


def _condition(status: Told, live: Told) -> str:
    """In two or three words, what is wrong first."""
    if status["draining"]:
        return "draining"
    if not any(worker["ready"] for worker in status["workers"]):
        return "no worker"
    missing = [model["model"] for model in live["models"] if not model["ready"]]
    if missing:
        return f"no instance: {', '.join(missing[:3])}"
    if status["faults"]:
        return "configuration refused"
    if status["ledger_lag"] is None or status["ledger_lag"] > SPAN:
        return "ledger behind"
    return "ready"


def _summed(rows: Iterable[Told], name: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in rows:
        sums = found.setdefault(row["group"][name] or (NO_KEY if name == "client" else "-"), [0] * len(_COUNTED))
        for place, figure in enumerate(_COUNTED):
            sums[place] += row[figure]
    return found


def _together(sums: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*sums, strict=True)] or [0] * len(_COUNTED)


def _clients(live: Sequence[Told], counted: Mapping[str, Sequence[int]]) -> list[tuple[str, Row]]:
    """The busiest first: by what is under way, then by the last minute."""
    now = {one["client"] or NO_KEY: one for one in live}

    def busy(name: str) -> tuple[int, int, str]:
        return -(now[name]["in_flight"] if name in now else 0), -counted.get(name, (0,))[0], name

    rows = []
    for name in sorted({*now, *counted}, key=busy):
        one, (requests, tokens, refused, errors) = now.get(name), counted.get(name, (0, 0, 0, 0))
        under_way = (one["in_flight"], one["queued"]) if one is not None else (0, 0)
        rows.append((name, (name, *_counts(*under_way, requests, tokens, refused, errors))))
    return rows


def _models(live: Sequence[Told], counted: Mapping[str, Sequence[int]], latencies: Told) -> list[tuple[str, Row]]:
    known = {row["name"]: row["figures"]["latency"] or {} for row in latencies.get("rows", ())}
    rows = []
    for one in live:
        name = one["model"]
        figures = _counts(one["in_flight"], one["queued"], *counted.get(name, (0, 0, 0, 0)))
        took = known.get(name, {})
        first, speed = took.get("first_byte") or {}, took.get("speed") or {}
        pace = f"{speed['p50']:,.0f}" if speed else "-"
        state = "ready" if one["ready"] else "no instance"
        rows.append((name, (name, state, *figures, _time(first.get("p50")), _time(first.get("p95")), pace)))
    return rows


def _instances(live: Sequence[Told]) -> list[tuple[str, Row]]:
    whole: dict[str, int] = {}
    for one in live:
        whole[one["model"]] = whole.get(one["model"], 0) + one["in_flight"]
    rows: list[tuple[str, Row]] = []
    for one in live:
        state = "draining" if one["draining"] else one["state"]
        share = f"{one['in_flight'] / whole[one['model']]:.0%}" if whole[one["model"]] else "-"
        rows.append((one["id"], (one["id"], one["model"], state, f"{one['in_flight']:,}", share)))
    return rows


def _request(one: Told) -> Row:
    state = one["state"] if one["position"] is None else f"{one['state']}, {one['position']}."
    tokens = f"{one['tokens']:,}" if one["stream"] else "-"
    places = (one["instance"] or "-", one["endpoint"] or "-", one["address"])
    return (one["client"] or "-", one["model"] or "-", state, f"{one['seconds']:,.1f} s", tokens, *places)


def _counts(*figures: int) -> Row:
    return tuple(f"{figure:,}" for figure in figures)


def _time(us: int | None) -> str:
    """Microseconds, as people read them."""
    if us is None:
        return "-"
    return f"{us / 1e6:.2f} s" if us >= 1_000_000 else f"{us / 1e3:.0f} ms"


def by_column(rows: Sequence[tuple[str, Row]], column: int) -> list[tuple[str, Row]]:
    """The rows by one column: numbers from the most to the least, words from A to Z."""
    return sorted(rows, key=lambda row: _key(row[1][column]))


def _key(cell: str) -> tuple[int, float, str]:
    number, _, unit = cell.replace(",", "").partition(" ")
    scale = {"ms": 1e-3}.get(unit, 1.0)
    try:
        return 0, -float(number.rstrip("%")) * scale, ""
    except ValueError:
        return 1, 0.0, cell
