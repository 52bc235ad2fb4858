"""`slmgate top`: what goes on at the gate now, on a screen that follows it; or once, as tables or data.

Only a running gate knows. Figures a minute are of the ledger's last minute, all else is as the workers know it.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, session
from slmgate.cli.ends import NO, CommandFailed
from slmgate.cli.top_figures import HEADS, NUMBERS, SPAN, TABLES, Picture, picture

REQUESTS = 200
"""So many live requests are shown, the oldest first."""
TIMEOUT = 10.0
SINCE = f"{SPAN}s"


def answers(client: AdminClient) -> dict[str, Any]:
    """What the gate says of itself now, by what of `picture` it is for. Raises CommandFailed."""
    live = client.get("/api/v1/live", {"limit": REQUESTS}, TIMEOUT)
    usage = client.get("/api/v1/usage", {"by": "client,model", "since": SINCE}, TIMEOUT)
    latencies = client.get("/api/v1/analytics/models", {"since": SINCE}, TIMEOUT)
    return {"live": live, "usage": usage, "latencies": latencies, "status": client.get("/api/v1/status", None, TIMEOUT)}


def top(
    every: Annotated[float, typer.Option("--every", min=0.5, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end, as where there is no terminal.")] = False,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Live: requests under way, clients, models and instances, with queues and latencies.

    Keys: 1 to 4 choose a table, s sorts it, p pauses, c cancels the chosen request, q quits.
    """
    with session(config, admin) as client:
        if as_json:
            typer.echo(show.json_text(answers(client)))
        elif once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            _print(picture(**answers(client)))
        else:
            _follow(client, every)


def _print(found: Picture) -> None:
    typer.echo(show.visible(found.head))
    for name in TABLES:
        typer.echo("")
        if found.rows[name]:
            show.table(HEADS[name], [cells for _, cells in found.rows[name]], NUMBERS)
        else:
            typer.echo(f"no {name}")


def _follow(client: AdminClient, every: float) -> None:
    try:
        from slmgate.cli.top_screen import Top
    except ImportError as error:
        raise CommandFailed(NO, f"the screen needs {error.name}; `slmgate top --once` does without") from error
    Top(lambda: picture(**answers(client)), lambda id: client.post(f"/api/v1/live/{id}/cancel", None, TIMEOUT), every).run()


def register(app: typer.Typer) -> None:
    app.command("top")(top)
