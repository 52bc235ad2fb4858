"""`slmgate certificates`: with which certificates the gate shows itself, until when, and what stands in the way of the next.

Only a running gate knows. It decides nothing and reads no file.
"""

from __future__ import annotations

from typing import Any

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminOption, ConfigOption, JsonOption, session

certificates = typer.Typer(help="The certificates that the gate shows to clients.", no_args_is_help=True)


@certificates.command("list")
def list_certificates(config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """Every certificate: its names, where it is from, since and until when it is good, when it is renewed or asked for again,
    and why the last try failed."""
    with session(config, admin) as client:
        rows: list[dict[str, Any]] = client.get("/api/v1/certificates")
    if as_json:
        typer.echo(show.json_text(rows))
        return
    heads = ("names", "source", "state", "issuer", "not before", "not after", "next try", "last error")
    show.table(heads, [_shown(row) for row in rows], ())


def _shown(row: dict[str, Any]) -> list[Any]:
    return [
        ", ".join(row["names"]),
        row["source"],
        row["state"],
        row["issuer"] or "-",
        row["not_before"] or "-",
        row["not_after"] or "-",
        row["next_try"] or "-",
        f"{row['error']} ({row['error_at']})" if row["error"] else "",
    ]


def register(app: typer.Typer) -> None:
    app.add_typer(certificates, name="certificates")
