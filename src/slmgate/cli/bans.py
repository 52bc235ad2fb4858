"""`slmgate bans`: whose address is banned for too many wrong keys, and how one is let in again.

Only a running gate knows. It decides nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminOption, ConfigOption, JsonOption, session

bans = typer.Typer(help="Addresses that are banned because too many keys from there were wrong.", no_args_is_help=True)


@bans.command("list")
def list_bans(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many at the most, the longest bans first.")] = 100,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who is banned, for how long still, and how often it was; of IPv6 addresses, whole /64 networks are."""
    with session(config, admin) as client:
        found: dict[str, Any] = client.get("/api/v1/bans", {"limit": limit})
    rows = found["bans"]
    if as_json:
        typer.echo(show.json_text(rows))
        return
    show.table(
        ("address", "for", "times"), [[row["address"], _time(row["seconds"]), row["times"]] for row in rows], ("for", "times")
    )
    if found["count"] > len(rows):
        typer.echo(f"{len(rows)} of {found['count']}; --limit shows more", err=True)


@bans.command("lift")
def lift(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="An IP address, or a /64 as `bans list` shows it.")],
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an address in again, on every worker, and forget what was wrong."""
    with session(config, admin) as client:
        row: dict[str, Any] = client.post("/api/v1/bans/lift", {"address": address})
    typer.echo(
        show.json_text(row)
        if as_json
        else f"{show.visible(row['address'])} is not banned any more (it was for {_time(row['seconds'])})"
    )


def _time(seconds: int) -> str:
    return str(timedelta(seconds=seconds))


def register(app: typer.Typer) -> None:
    app.add_typer(bans, name="bans")
