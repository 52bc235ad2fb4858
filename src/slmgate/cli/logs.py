"""`slmgate logs`: receipts as they were, or as they come with `-f`, one line each.

It reads the ledger through the admin API, so it shows what every worker did, and nothing that is not yet in the ledger.
Prompts and answers are in no receipt; those that a role wants kept are apart (`--content`).
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer

from slmgate.cli import show
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, NotNow, session
from slmgate.cli.ends import UNREACHABLE, CommandFailed

POLL_SECONDS = 0.5
_PAGE = 1000


def logs(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    client: Annotated[str | None, typer.Option("--client", help="Only this client's.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only this model's.")] = None,
    status: Annotated[int | None, typer.Option("--status", help="Only answers with this HTTP status.")] = None,
    request: Annotated[str | None, typer.Option("--request", metavar="ID", help="Only this request.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="A duration back from now (2h), a day, or a time (UTC).")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=_PAGE, help="How many of the newest to begin with.")] = 20,
    content: Annotated[
        str | None,
        typer.Option("--content", metavar="ID", help="What is kept of this request's prompt and answer; for owners, and noted."),
    ] = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest receipts, oldest first."""
    query = {"client": client, "model": model, "status": status, "request_id": request, "since": since}
    with session(config, admin) as gate:
        if content is not None:
            kept = gate.get(f"/api/v1/receipts/{quote(content, safe='')}/content")
            typer.echo(msgspec.json.encode(kept).decode() if as_json else told(kept))
            return
        try:
            for receipt in receipts(gate, query, limit, follow):
                typer.echo(msgspec.json.encode(receipt).decode() if as_json else line(receipt))
        except KeyboardInterrupt:
            if not follow:
                raise
        except BrokenPipeError:  # whoever read has enough; nor is there anything more to flush for them
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def receipts(gate: AdminClient, query: Mapping[str, object], limit: int, follow: bool) -> Iterator[dict[str, Any]]:
    """The newest `limit` receipts, oldest first; then, to `follow`, each that comes, for ever.

    A gate that is away is waited for then, and told of on stderr. Each receipt comes once: the ledger numbers them.
    """
    known = _newest(gate) if follow else 0
    page = gate.get("/api/v1/receipts", {**query, "limit": limit})["receipts"]
    yield from (entry["receipt"] for entry in reversed(page))
    cursor = max([known, *(entry["cursor"] for entry in page)])
    filtered = any(value is not None for value in query.values())
    away = False
    while follow:
        try:
            # What does not fit is passed over once and not at each look: all up to here is known after the next one.
            known = _newest(gate) if filtered else cursor
            page = gate.get("/api/v1/receipts", {**query, "limit": _PAGE, "after": cursor})["receipts"]
            away = False
        except CommandFailed as failed:
            if failed.code != UNREACHABLE and not isinstance(failed, NotNow):
                raise
            if not away:
                typer.echo(f"slmgate: {show.visible(str(failed))}; waiting for it", err=True)
            away, known, page = True, cursor, []
        for entry in page:
            cursor = entry["cursor"]
            yield entry["receipt"]
        if len(page) < _PAGE:
            cursor = max(cursor, known)
        if not page:
            if _nobody_reads():
                return
            time.sleep(POLL_SECONDS)


def _newest(gate: AdminClient) -> int:
    """The number of the newest receipt there is; 0: there is none."""
    page = gate.get("/api/v1/receipts", {"limit": 1})["receipts"]
    return int(page[0]["cursor"]) if page else 0


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose other end was closed, which a write would show too late."""
    try:
        looker = select.poll()
        looker.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in looker.poll(0))
    except (OSError, ValueError):  # no file at all
        return False


def told(kept: Mapping[str, Any]) -> str:
    """A request's prompt and answer for a person, with nothing in them that a terminal would obey."""
    head = f"{kept['id']}  {kept['time']}  role {kept['role']}  kept until {kept['expires']}  {kept['masked']} masked"
    parts = [show.visible(head)]
    for side in ("prompt", "answer"):
        if kept[side] is not None:
            cut = " (its beginning)" if kept[f"{side}_cut"] else ""
            parts += ["", f"{side}{cut}:", *map(show.visible, kept[side].split("\n"))]
    return "\n".join(parts)


def line(receipt: Mapping[str, Any]) -> str:
    """One receipt for a person: when, what came of it, whose, which model, tokens, and how long it took."""
    tokens = f"{receipt['prompt_tokens']}+{receipt['completion_tokens']}{'~' if receipt['estimated'] else ''}"
    parts = (
        receipt["time"][:23].rstrip("Z") + "Z",
        f"{receipt['status'] or '-':>3}",
        receipt["principal"] or "-",
        receipt["model"] or "-",
        receipt["endpoint"] or receipt["path"] or "-",
        receipt["reason"] if receipt["ended"] in ("complete", "refused") else f"{receipt['reason']} {receipt['ended']}",
        f"{tokens} tokens",
        f"{receipt['total_us'] / 1000:.1f} ms",
        receipt["request_id"],
    )
    return "  ".join(show.visible(part) for part in parts)


def register(app: typer.Typer) -> None:
    app.command("logs")(logs)
