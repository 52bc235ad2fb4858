"""`slmgate audit`: who changed what and when, and whether the log of it is as it was written.

Both are answered behind the admin API, or by the store itself where no gate runs. What is a row and what makes it genuine is not
known here.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminOption, ConfigOption, JsonOption, session
from slmgate.cli.ends import NO

_PAGE = 1000
_SECONDS = 600.0

audit = typer.Typer(help="The audit log: every change that operators made, in a chain that shows what was altered.")


@audit.command("list")
def list_rows(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many of the newest.")] = 50,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest changes, and attempts that were refused, oldest first."""
    found: list[dict[str, Any]] = []
    before: int | None = None
    with session(config, admin) as client:
        while len(found) < limit:
            page = client.get("/api/v1/audit", {"limit": min(_PAGE, limit - len(found)), "before": before})
            found += page["changes"]
            before = page["next"]
            if before is None:
                break
    found.reverse()
    if as_json:
        typer.echo(show.json_text({"changes": found}))
        return
    rows = [
        [each["id"], each["time"][:19].replace("T", " "), each["actor"], each["address"] or "-", each["action"], each["target"],
         ", ".join(f"{name}={value}" for name, value in each["detail"].items())]
        for each in found
    ]  # fmt: skip
    show.table(("row", "time", "who", "from", "what", "of", "how"), rows, ("row",))


@audit.command("verify")
def verify(
    head: Annotated[
        str, typer.Option("--head", metavar="NUMBER:SEAL", help="A row that was the newest once, as it was told then.")
    ] = "",
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at every row: exits 1, with the number of the first bad one, when any was changed, added, moved or removed."""
    with session(config, admin) as client:
        verdict = client.get("/api/v1/audit/verify", {"head": head or None}, _SECONDS)
    if as_json:
        typer.echo(show.json_text(verdict))
    elif verdict["right"]:
        typer.echo(f"{verdict['rows']:,} rows, all as they were written; the newest is {verdict['head'] or 'none'}")
    else:
        bad = verdict["first_bad"]
        typer.echo(f"NOT as it was written{f', from row {bad} on' if bad else ''}: {show.visible(verdict['why'])}")
        typer.echo(f"{verdict['rows']:,} rows before that are right, up to {verdict['head'] or 'none'}")
    raise typer.Exit(0 if verdict["right"] else NO)


def register(app: typer.Typer) -> None:
    app.add_typer(audit, name="audit")
