"""`slmgate db`: the store's schema brought up to date, its sums verified, its receipts exported, its file backed up while in use.

`upgrade`, `verify` and `backup` work on the store itself, running gate or not; `export` reads through the admin API.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import msgspec
import typer

from slmgate.cli import show
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, open_local, session
from slmgate.cli.ends import NO, CommandFailed, exits, terminated
from slmgate.cli.place import DEFAULT_STATE_DIR, find
from slmgate.cli.progress import progress
from slmgate.cli.replay import total

if TYPE_CHECKING:
    from slmgate.control.admin.local import LocalContext

_PAGE = 1000
_SHOWN = 100

db = typer.Typer(help="The store of receipts and keys.", no_args_is_help=True)


class Format(enum.StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


@db.command("upgrade")
def upgrade(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the store's schema up to date. `serve` does the same when it starts."""
    with exits(), _store(config) as context:
        revision = context.store.revision()
    typer.echo(show.json_text({"revision": revision}) if as_json else f"the schema is at revision {revision}, the newest")


@db.command("backup")
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the whole store into a new file, consistent, while the gate goes on. Its schema stays that of the gate that runs."""
    from slmgate.control.admin.local import STORE_FAULTS, back_up

    state_dir = find(config, None).state_dir or Path(DEFAULT_STATE_DIR)
    with exits(), terminated():
        try:
            with progress("pages") as bar:
                back_up(state_dir, target, bar.reach)
        except STORE_FAULTS as error:
            if isinstance(error.__cause__, PermissionError):
                raise error.__cause__ from error
            raise CommandFailed(NO, str(error)) from error
        except FileExistsError:
            raise CommandFailed(NO, f"{target} exists already; name a new file.") from None
        except OSError as error:
            raise CommandFailed(NO, f"{target} cannot be written: {error.strerror}.") from error
        size = target.stat().st_size
    typer.echo(show.json_text({"file": str(target), "bytes": size}) if as_json else f"wrote {target}, {size:,} bytes")


@db.command("verify")
def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Compare the sums by minute, hour, day and month with the receipts, while the gate goes on. Exits 1 when one is wrong."""
    rows = 0
    differences: list[Any] = []
    with exits(), _store(config) as context, progress("sums") as bar:
        for found in context.store.verify():
            rows += found.rows
            differences += found.differences
            bar.advance(found.rows)
    if as_json:
        typer.echo(show.json_text({"rows": rows, "differences": differences}))
    else:
        for difference in differences[:_SHOWN]:
            typer.echo(difference.told())
        if len(differences) > _SHOWN:
            typer.echo(f"... and {len(differences) - _SHOWN:,} more; --json has all of them")
        typer.echo(f"{rows:,} sums compared, {len(differences):,} wrong")
    raise typer.Exit(NO if differences else 0)


@db.command("export")
def export(
    format: Annotated[Format, typer.Option("--format", help="JSON lines or CSV.")] = Format.JSONL,
    since: Annotated[str | None, typer.Option("--since", help="A duration back from now (30d), a day, or a time (UTC).")] = None,
    until: Annotated[str | None, typer.Option("--until", help="As --since.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="A new file instead of stdout.")] = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every receipt, oldest first."""
    kind = Format.JSONL if as_json else format
    quiet = output is None and sys.stdout.isatty()  # a bar would stand among the receipts
    with (
        session(config, admin) as client,
        terminated(),
        _output(output) as out,
        progress("receipts", total(client, since, until), quiet) as bar,
    ):
        for number, page in enumerate(_pages(client, since, until)):
            bar.advance(len(page))
            if kind is Format.JSONL:
                out.writelines(msgspec.json.encode(receipt).decode() + "\n" for receipt in page)
                continue
            columns = list(page[0])
            text = show.csv_text(columns, ([receipt[name] for name in columns] for receipt in page))
            out.write(text if number == 0 else text.partition("\n")[2])


def _pages(client: AdminClient, since: str | None, until: str | None) -> Iterator[list[dict[str, Any]]]:
    cursor: int | None = 0
    while cursor is not None:
        answer = client.get("/api/v1/receipts", {"since": since, "until": until, "limit": _PAGE, "after": cursor})
        if answer["receipts"]:
            yield [entry["receipt"] for entry in answer["receipts"]]
        cursor = answer["next"]


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """A new file, or stdout. Of an export that does not come to its end no file is left: it would be taken for a whole one."""
    if path is None:
        yield sys.stdout
        return
    if os.path.lexists(path):
        raise CommandFailed(NO, f"{path} exists already; name a new file.")
    try:  # from before it is there: whoever stops this may do so in any moment
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as out:
            yield out
    except FileExistsError as error:  # another one's, made in this moment
        raise CommandFailed(NO, f"{path} exists already; name a new file.") from error
    except BaseException as error:  # also Ctrl-C
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CommandFailed(NO, f"{path} cannot be written: {error.strerror}. Nothing was kept of it.") from error
        raise


@contextmanager
def _store(config: Path | None) -> Iterator[LocalContext]:
    from slmgate.control.admin.local import STORE_FAULTS

    context = open_local(find(config, None).state_dir or Path(DEFAULT_STATE_DIR))
    try:
        yield context
    except STORE_FAULTS as error:
        raise CommandFailed(NO, str(error)) from error
    finally:
        context.store.close()


def register(app: typer.Typer) -> None:
    app.add_typer(db, name="db")
