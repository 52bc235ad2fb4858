"""`slmgate replay`: past receipts against a proposed configuration: who would newly be refused, limited or admitted.

Receipts are read page by page through the admin API of the running gate, or from its store where none runs; nothing is changed.
What they come to is worked out in `control/trials/replaying.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from slmgate.cli import show, telling
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, session
from slmgate.cli.ends import NO, exits
from slmgate.cli.explain import key_of, loaded_file
from slmgate.cli.place import DEFAULT_FILE
from slmgate.cli.progress import progress
from slmgate.control.trials.replaying import Change, Judge, Replay, ReplayReport
from slmgate.terms import Principal, Receipt

_PAGE = 1000
_KINDS = {
    "refused": "would newly be refused",
    "limited": "would newly have no room in a limit",
    "admitted": "would newly be admitted",
    "reason": "would be refused for another reason",
}


class Entry(msgspec.Struct):
    """One receipt of a page."""

    receipt: Receipt


def replay(
    since: Annotated[str, typer.Option("--since", help="A duration back from now (7d), a day, or a time (UTC).")] = "7d",
    until: Annotated[str | None, typer.Option("--until", help="As --since; up to now by default.")] = None,
    config: ConfigOption = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="FILE", readable=False, help="Compare with this configuration, not with what was decided then."
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate",
            metavar="FILE",
            readable=False,
            help="The configuration of the gate whose receipts are meant: slmgate.yaml, or -c.",
        ),
    ] = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold past receipts against a proposed configuration (-c). Exits 1 when somebody would newly be refused or limited."""
    with exits():
        proposed = loaded_file(config)
        other = None if against is None else loaded_file(against)
    ledger = gate or (None if DEFAULT_FILE.is_file() else config)
    with session(ledger, admin) as client:
        stored = stored_keys(client)
        made = Replay(Judge(proposed, stored), None if other is None else Judge(other, stored))
        with progress("receipts", total(client, since, until)) as bar:
            for page in pages(client, since, until):
                for entry in page:
                    made.take(entry.receipt)
                bar.advance(len(page))
    report = made.report()
    if not report.receipts:
        typer.echo("slmgate: there are no receipts in this time", err=True)
    if as_json:
        typer.echo(show.json_text(report))
    else:
        _print(report)
    raise typer.Exit(NO if report.refused or report.limited else 0)


def pages(client: AdminClient, since: str, until: str | None) -> Iterator[Sequence[Entry]]:
    """The receipts of the ledger, oldest first, by the thousand."""
    cursor: int | None = 0
    while cursor is not None:
        answer = client.get("/api/v1/receipts", {"since": since, "until": until, "limit": _PAGE, "after": cursor})
        yield msgspec.convert(answer["receipts"], list[Entry])
        cursor = answer["next"]


def stored_keys(client: AdminClient) -> dict[str, Principal]:
    """The keys of the store, by id. A proposal changes what their roles mean, not whether they are valid."""
    found: dict[str, Principal] = {}
    after: str | None = None
    while True:
        page: dict[str, Any] = client.get("/api/v1/keys", {"limit": _PAGE, "after": after})
        for view in page["keys"]:
            key = key_of(view)
            found[key.id] = msgspec.structs.replace(key, disabled=False, expires=None)
        after = page["next"]
        if after is None:
            return found


def total(client: AdminClient, since: str | None, until: str | None) -> int:
    """How many receipts there are of this time: what a bar counts to."""
    rows = client.get("/api/v1/usage", {"since": since, "until": until})["rows"]
    return sum(row["requests"] for row in rows)


def _print(report: ReplayReport) -> None:
    columns = telling.width()
    typer.echo(f"{report.receipts:,} receipts, {report.judged:,} judged: {report.same:,} end as before")
    for kind, words in _KINDS.items():
        changes = [change for change in report.changes if change.kind == kind]
        if changes:
            typer.echo(f"\n{sum(change.count for change in changes):,} {words}")
            for change in changes:
                typer.echo("\n".join(_lines(change, columns)))
    for words, counts in (("not judged", report.left_out), ("not known", report.missing)):
        if counts:
            typer.echo(f"\n{words}")
            for what, count in counts.items():
                typer.echo("\n".join(telling.wrapped(f"  {count:>7,}  ", show.visible(what), columns)))


def _lines(change: Change, columns: int) -> Iterator[str]:
    by = f" by {change.rule}" if change.rule else ""
    what = f"{change.client}: {change.endpoint} {change.model}".rstrip()
    how = f"{change.before} -> {change.after}{by}"
    yield from telling.wrapped(f"  {change.count:>7,}  ", show.visible(f"{what}: {how}"), columns)
    when = f"{change.first:%Y-%m-%d %H:%M} to {change.last:%Y-%m-%d %H:%M} UTC, one is {change.example}"
    yield from telling.wrapped(" " * 11, show.visible(when), columns)


def register(app: typer.Typer) -> None:
    app.command("replay")(replay)
