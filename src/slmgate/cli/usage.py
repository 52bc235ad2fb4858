"""`slmgate usage`: requests and tokens by client, model, day and more, as a table, CSV or JSON.

The sums are made behind the admin API from the ledger's receipts; this file only asks and shows.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Annotated

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminOption, ConfigOption, JsonOption, session

FIGURES = ("requests", "refused", "errors", "prompt_tokens", "completion_tokens", "total_tokens")
NO_KEY = "(no key)"


class Format(enum.StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def usage(
    by: Annotated[str, typer.Option("--by", help="Groups, with commas: client, team, model, day ...")] = "client,model",
    since: Annotated[str, typer.Option("--since", help="A duration back from now (30d), a day, or a time (UTC).")] = "30d",
    until: Annotated[str | None, typer.Option("--until", help="As --since; up to now by default.")] = None,
    format: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    shadow: Annotated[bool, typer.Option("--shadow", help="Of the copies of requests, which are in no other sum.")] = False,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Requests, refusals, errors and tokens from the ledger, the share of tokens that had to be estimated, and what it cost.

    A column for each currency; none where nothing had a price.
    """
    with session(config, admin) as client:
        query = {"by": by, "since": since, "until": until, **({"shadow": "true"} if shadow else {})}
        report = client.get("/api/v1/usage", query)
    groups = report["by"]
    currencies = sorted({currency for row in report["rows"] for currency in row["cost"]})
    columns = [*groups, *FIGURES, "estimated_share", *(f"cost_{currency}" for currency in currencies)]
    if as_json or format is Format.JSON:
        typer.echo(show.json_text(report))
        return
    rows = [[*(_shown(name, row["group"][name]) for name in groups), *(row[name] for name in FIGURES)] for row in report["rows"]]
    shares = [row["estimated_share"] for row in report["rows"]]
    costs = [[row["cost"].get(currency, "") for currency in currencies] for row in report["rows"]]
    if format is Format.CSV:
        lines = [[*row, share, *cost] for row, share, cost in zip(rows, shares, costs, strict=True)]
        typer.echo(show.csv_text(columns, lines), nl=False)
        return
    if not rows:
        typer.echo("no requests in this time")
        return
    titles = [*groups, "requests", "refused", "errors", "prompt", "completion", "total tokens", "estimated", *currencies]
    shown = [[*row, f"{share:.0%}", *cost] for row, share, cost in zip(rows, shares, costs, strict=True)]
    if groups and len(rows) > 1:
        sums = [sum(row[len(groups) + place] for row in rows) for place in range(len(FIGURES))]
        estimated = sum(share * row[-1] for row, share in zip(rows, shares, strict=True))
        share = f"{estimated / sums[-1]:.0%}" if sums[-1] else "0%"
        total = [f"{sum(Decimal(cost[place] or 0) for cost in costs):f}" for place in range(len(currencies))]
        shown.append(["all", *[""] * (len(groups) - 1), *sums, share, *total])
    show.table(titles, shown, titles[len(groups) :])


def _shown(group: str, value: str) -> str:
    """A group's text. Requests without a valid credential are no client's, which JSON says with an empty text."""
    return NO_KEY if group in ("client", "key") and not value else value


def register(app: typer.Typer) -> None:
    app.command("usage")(usage)
