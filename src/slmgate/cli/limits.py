"""`slmgate limits`: where everybody stands with their limits now, as a table, CSV or JSON.

Only a running gate knows: the figures are those of the table that its workers count in. This file only asks and shows.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, session
from slmgate.cli.ends import UNREACHABLE, CommandFailed

PAGE = 1000
"""Keys that one answer of the admin API looks at, at the most."""
SOON = 3600
"""Seconds up to which a table says in how many of them something is."""
COLUMNS = ("whose", "where", "limit", "unit", "amount", "used", "left", "share", "whole")

Key = Annotated[
    str | None, typer.Option("--key", metavar="NAME", help="All that this key comes under, or who else called by this name.")
]
Near = Annotated[
    str | None,
    typer.Option("--near", metavar="PERCENT", help="Only what is used to this part, such as 80%; most used first."),
]


def limits(
    key: Key = None,
    near: Near = None,
    ip: Annotated[str | None, typer.Option("--ip", help="A client's address, to see the limits that count by it, too.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to show at the most.")] = 100,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where everybody stands with their limits: what is used, what is left, and when all of it is there again.

    First what is nobody's alone (of everybody, models, teams), then what is of single keys. What requests under way have reserved
    counts as used.
    """
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json were both given; which is it?")
    share = _share(near)
    with session(config, admin) as client:
        if not client.get("/api/v1/status")["running"]:
            raise CommandFailed(UNREACHABLE, "The gate is not running, so no limit is in use; `slmgate serve` starts it.")
        query: dict[str, object] = {"key": key, "near": share or None, "address": ip}
        time, found, more = _all(client, query, None if share else limit)
    if share:
        found.sort(key=lambda stand: -stand["share"])
    more = more or len(found) > limit
    del found[limit:]
    if as_json:
        typer.echo(show.json_text({"time": time, "limits": found}))
    elif as_csv:
        typer.echo(show.csv_text(COLUMNS, map(_cells, found)), nl=False)
    elif found:
        numbers = ("used", "left", "share")
        show.table(("whose", "where", "limit", *numbers, "whole again"), [_row(stand, time) for stand in found], numbers)
    else:
        typer.echo(f"nothing is used to {near}" if share else "there are no limits")
    if more:
        typer.echo("There are more: --limit takes a larger number, and --key and --near show fewer.", err=True)


def _share(near: str | None) -> float:
    """`80%` or `80`, as a part of 1."""
    if near is None:
        return 0.0
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4})? ?%?", near):
        raise typer.BadParameter(f"{near!r} is not a part in percent; write --near 80%", param_hint="--near")
    return float(near.rstrip("% ")) / 100


def _all(client: AdminClient, query: dict[str, object], enough: int | None) -> tuple[str, list[dict[str, Any]], bool]:
    """When it was so, at least `enough` of what there is (None: all of it), and whether there may be more."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        size = PAGE if enough is None else min(PAGE, enough)
        page = client.get("/api/v1/limits", {**query, "limit": size, "after": after})
        found += page["limits"]
        after = page["next"]
        if after is None or (enough is not None and len(found) >= enough):
            return page["time"], found, after is not None


def _row(stand: dict[str, Any], time: str) -> list[object]:
    limit = stand["limit"]
    if stand["raised"] is not None:
        limit = f"{stand['raised']} until {_moment(stand['raised_until'])}, then {limit}"
    money = f" {stand['currency']}" if stand["currency"] else ""
    figures = [_figure(stand[name]) + money for name in ("used", "left")]
    return [stand["whose"], stand["name"], limit, *figures, f"{stand['share']:.0%}", _whole(stand["whole"], time)]


def _cells(stand: dict[str, Any]) -> list[object]:
    unit = stand["currency"] or stand["unit"]
    figures = [stand[name] for name in ("amount", "used", "left", "share", "whole")]
    return [stand["whose"], stand["name"], stand["limit"], unit, *figures]


def _figure(amount: object) -> str:
    return amount if isinstance(amount, str) else f"{amount:,}"


def _whole(whole: str | None, now: str) -> str:
    if whole is None:
        return "-"
    seconds = (datetime.fromisoformat(whole) - datetime.fromisoformat(now)).total_seconds()
    return f"in {max(1, round(seconds))} s" if seconds <= SOON else _moment(whole)


def _moment(time: str) -> str:
    return time[:16].replace("T", " ")


def register(app: typer.Typer) -> None:
    app.command("limits")(limits)
