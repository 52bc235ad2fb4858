"""`slmgate instances`: the servers behind the gate and what each carries now.

Only a running gate knows; the figures are those of its workers' last second.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminOption, ConfigOption, JsonOption, session
from slmgate.cli.ends import UNREACHABLE, CommandFailed

instances = typer.Typer(help="The servers behind the gate.", no_args_is_help=True)


@instances.callback()
def _group() -> None:
    pass  # with this, one command is still a group


@instances.command("list")
def list_instances(config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """Every instance: its model, whether it is used and why not, requests in flight and waiting, its checks."""
    with session(config, admin) as client:
        status = client.get("/api/v1/status")
        if not status["running"]:
            raise CommandFailed(UNREACHABLE, "No gate runs here, so nothing is known of instances; `slmgate serve` starts one.")
    rows = status["instances"]
    if as_json:
        typer.echo(show.json_text(rows))
        return
    heads = ("model", "instance", "state", "in flight", "waiting", "failures", "last check", "since", "why")
    show.table(heads, [_shown(row) for row in rows], ("in flight", "waiting", "failures"))


def _shown(row: dict[str, Any]) -> list[Any]:
    state = row["state"].replace("_", "-")
    if row["again"]:
        state += f" for {ceil(row['again'])} s"
    return [
        row["model"],
        row["id"],
        state,
        row["in_flight"],
        row["waiting"],
        row["failures"],
        row["check"] or "-",
        row["since"] or "",
        row["why"],
    ]


def register(app: typer.Typer) -> None:
    app.add_typer(instances, name="instances")
