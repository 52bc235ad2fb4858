"""`slmgate doctor`: weak spots of the gate, from its own machine, and with `--outside` as a stranger sees it.

What is looked at and how it is judged is the doctor's room (`control/doctor`). This command gathers what it needs from the
configuration file, the running gate or its store, and shows what came of it. Nothing is changed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slmgate.cli import faults, show
from slmgate.cli.check import DEFAULT_FILE, FileOption, JsonOption, need_file
from slmgate.cli.ends import NO, USAGE, CommandFailed, exits
from slmgate.control.config import Config, load

if TYPE_CHECKING:
    from slmgate.control.config.addresses import Address, Origin
    from slmgate.control.doctor.findings import Finding

OutsideOption = Annotated[bool, typer.Option("--outside", help="Ask the gate's addresses as a stranger would.")]
UrlOption = Annotated[
    list[str] | None,
    typer.Option("--url", metavar="URL", help="With --outside: an address of the gate, where it is not the configured one."),
]
_MARKS = {"ok": "ok", "warn": "WARN", "bad": "BAD"}
_KEYS = 200


def doctor(
    config: FileOption = DEFAULT_FILE, outside: OutsideOption = False, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Find weak spots: ways around the gate, plain HTTP, open files, old keys, wrong clocks. Exits 1 when one is bad."""
    from slmgate.control.doctor.findings import sorted_by_weight, worst

    with exits():
        if url and not outside:
            raise CommandFailed(USAGE, "--url goes with --outside.")
        if not (url and outside):
            need_file(config, as_json)
        found = _outside(config, url or []) if outside else _inside(config)
    found = list(sorted_by_weight(found))
    verdict = worst(found)
    if as_json:
        typer.echo(show.json_text({"verdict": verdict, "findings": found}))
    else:
        _print(found)
    raise typer.Exit(NO if verdict == "bad" else 0)


def _print(found: Sequence[Finding]) -> None:
    for one in found:
        typer.echo(f"{_MARKS[one.verdict]:<5} {one.check}: {show.visible(one.seen)}")
        if one.next:
            typer.echo(f"      -> {show.visible(one.next)}")
    count = {verdict: sum(one.verdict == verdict for one in found) for verdict in _MARKS}
    typer.echo(f"{count['bad']} bad, {count['warn']} to look at, {count['ok']} well")


def _loaded(file: Path) -> Config:
    loaded = load(file)
    if loaded.config is None:
        raise CommandFailed(NO, f"{file} cannot be used:\n{faults.text(loaded.faults)}")
    return loaded.config


def _inside(file: Path) -> list[Finding]:
    from slmgate.control.doctor.inside import Patient, examine

    config = _loaded(file)
    served, keys, wrong, audit = _from_the_gate(file, config)
    return list(
        examine(
            Patient(
                config,
                datetime.now(UTC),
                served=served,
                file=file,
                text=file.read_text(encoding="utf-8", errors="replace"),
                keys=keys,
                wrong_sums=wrong,
                audit=audit,
                free=_free(config.state_dir),
            )
        )
    )


def _from_the_gate(file: Path, config: Config) -> tuple[bool, list[dict[str, Any]], int | None, str]:
    """Whether a gate runs, its keys, how many sums of its ledger are wrong, and what is wrong with its audit log."""
    from slmgate.cli.client import connect, open_local
    from slmgate.control.state_dir import LEDGER_FILE, is_served

    if not (config.state_dir / LEDGER_FILE).exists():
        return False, [], None, ""  # it never ran
    served = is_served(config.state_dir)
    with connect(file, None) as client:
        keys: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = client.get("/api/v1/keys", {"limit": _KEYS, "after": cursor})
            keys += page["keys"]
            cursor = page["next"]
            if cursor is None:
                break
        verdict = client.get("/api/v1/audit/verify", {"head": None})
    context = open_local(config.state_dir)
    try:
        wrong = sum(len(one.differences) for one in context.store.verify())
        return served, keys, wrong, "" if verdict["right"] else str(verdict["why"])
    finally:
        context.store.close()


def _free(folder: Path) -> int | None:
    try:
        figures = os.statvfs(folder)
    except OSError:
        return None
    return figures.f_bavail * figures.f_frsize


def _outside(file: Path, urls: Sequence[str]) -> list[Finding]:
    from slmgate.control.config.addresses import Url
    from slmgate.control.config.faults import BadValueError
    from slmgate.control.doctor.outside import look

    try:
        origins = [Url().read(one) for one in urls]
    except BadValueError as error:
        raise CommandFailed(USAGE, f"--url {error}") from None
    if not origins:
        origins = [_origin(listen.address, listen.tls is not None) for listen in _loaded(file).listen]
    return [one for origin in origins for one in look(origin)]


def _origin(address: Address, tls: bool) -> Origin:
    """A listener as one asks it: of every address of this machine, one that is not its own loopback, if there is one."""
    from slmgate.control.config.addresses import Origin, is_everywhere

    return Origin(_own_address() if is_everywhere(address.host) else address.host, address.port, tls)


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: it only says which address a packet would leave from
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)
