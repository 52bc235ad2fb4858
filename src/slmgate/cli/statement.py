"""`slmgate statement`: what a team has used in a month and what it comes to, as a page to print, CSV, JSON or a table.

The statement is recomputed from receipts behind the admin API, or by the configuration file where no gate runs; this file only
asks and shows.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from slmgate.cli import show
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, Network, session
from slmgate.cli.ends import NO, CommandFailed
from slmgate.cli.place import DEFAULT_FILE
from slmgate.control import statements
from slmgate.control.statements import Statement


class Format(enum.StrEnum):
    TABLE = "table"
    HTML = "html"
    CSV = "csv"
    JSON = "json"


def statement(
    team: Annotated[str, typer.Option("--team", help="Whose statement.")],
    month: Annotated[str, typer.Option("--month", help="Which month, like 2026-11; it begins and ends in the plan's time zone.")],
    plan: Annotated[str | None, typer.Option("--plan", help="By which plan, where it is another than the team has now.")] = None,
    format: Annotated[Format, typer.Option("--format", help="How to print it; html is a page for paper.")] = Format.TABLE,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """The statement of a team's month, recomputed to the minor unit from its receipts."""
    with session(config, admin) as client:
        _configure(client, config)
        answer = client.get("/api/v1/statement", {"team": team, "month": month, "plan": plan})
    made = msgspec.convert(answer, Statement)
    if as_json or format is Format.JSON:
        typer.echo(show.json_text(answer))
    elif format is Format.HTML:
        typer.echo(statements.html(made))
    elif format is Format.CSV:
        typer.echo(show.csv_rows(statements.table(made)), nl=False)
    else:
        _print(made)


def _configure(client: AdminClient, config: Path | None) -> None:
    """Where no gate runs, none has a configuration in force: the file says what is charged."""
    if isinstance(client.road, Network):
        return
    from slmgate.cli import faults
    from slmgate.control.admin.local import LocalApi
    from slmgate.control.config import load

    path = config or DEFAULT_FILE
    if not isinstance(client.road, LocalApi) or not path.is_file():
        return  # the API says itself that there is none
    loaded = load(path)
    if loaded.config is None:
        raise CommandFailed(NO, f"{path} cannot be used:\n{faults.text(loaded.faults)}")
    client.road.configure(loaded.config)


def _print(made: Statement) -> None:
    state = "  PRELIMINARY: the month is not closed" if made.preliminary else ""
    typer.echo(f"{show.visible(made.team)}  plan {made.plan}  {made.month} ({made.timezone}){state}")
    titles = ["line", "requests", "prompt", "completion", "included", "price for 1M", made.currency]
    rows: list[list[object]] = [["base fee", "", "", "", "", "", made.base]] if made.base.strip("0.") else []
    for line in made.lines:
        included: object = line.included_prompt_tokens + line.included_completion_tokens
        if line.included_money != "0":
            included = f"{line.included_money} {made.currency}"
        price = f"{line.prompt_price} / {line.completion_price}"
        rows.append([line.model, line.requests, line.prompt_tokens, line.completion_tokens, included, price, line.amount])
    if made.credit.strip("0."):
        rows.append(["credit", "", "", "", "", "", f"-{made.credit}"])
    rows.append(["total", made.requests, made.prompt_tokens, made.completion_tokens, "", "", made.total])
    show.table(titles, rows, titles[1:])
    if made.estimated or made.unknown:
        typer.echo(f"{made.estimated} of these requests have estimated tokens, the end of {made.unknown} is not known")
    for other in made.elsewhere:
        under = f"under the plan {other.plan}" if other.plan else "under no plan"
        priced = f", priced in {other.currency}" if other.currency else ""
        typer.echo(f"not on it: {other.requests} requests with {other.tokens:,} tokens {show.visible(under)}{priced}")


def register(app: typer.Typer) -> None:
    app.command("statement")(statement)
