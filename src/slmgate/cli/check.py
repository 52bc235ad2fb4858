"""`slmgate check`: is this configuration file right, and if not, where not.

It prints what loading found and changes nothing. What counts as a fault is the configuration room's affair.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from slmgate.cli import faults
from slmgate.control.config import Config, ConfigFault, Loaded
from slmgate.control.config.trust_checks import UNVERIFIED, unverified
from slmgate.control.lists import list_faults
from slmgate.control.trials.running import load_tested

FileOption = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", readable=False, help="The configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]
DEFAULT_FILE = Path("slmgate.yaml")


def need_file(path: Path, as_json: bool = False) -> None:
    """End with 2 (usage) where there is no file that can be read at `path`, and say why."""
    found = _trouble(path)
    if found is None:
        return
    problem, hint = found
    if as_json:
        fault = ConfigFault(file=str(path), line=0, column=0, option="", problem=problem, hint=hint)
        typer.echo(_report(path, (fault,)))
    else:
        typer.echo(f"{path}: {problem}: {hint}", err=True)
    raise typer.Exit(2)


def _trouble(path: Path) -> tuple[str, str] | None:
    """What keeps a file from being read, and the way out."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "there is no such file", "name one with -c, or let `slmgate init` write one"
    except OSError as error:
        return f"the file cannot be read ({error.strerror})", "run this as the gate's user, or change who may read it"
    if stat.S_ISDIR(mode):
        return "this is a directory", "name the file in it"
    if not os.access(path, os.R_OK):
        return "the file cannot be read (Permission denied)", "run this as the gate's user, or change who may read it"
    return None


def _report(path: Path, found: Sequence[ConfigFault], warnings: Sequence[str] = ()) -> str:
    report = {"file": str(path), "ok": not found, "faults": found, "warnings": warnings}
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def check(config: FileOption = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """Validate a configuration file, and the files of instances that it names: every fault with its place, the option's sentence
    and a hint."""
    need_file(config, as_json)
    loaded = load_tested(config)
    if loaded.config is not None and (found := list_faults(loaded.config)):
        loaded = Loaded(config=None, faults=found)
    warnings = [] if loaded.config is None else [f"{id}: {UNVERIFIED}" for id in unverified(loaded.config)]
    if as_json:
        typer.echo(_report(config, loaded.faults, warnings))
    elif loaded.config is not None:
        for warning in warnings:
            typer.echo(f"WARNING: {warning}", err=True)
        typer.echo(f"{config} is right: {_summary(loaded.config)}")
    else:
        typer.echo(faults.text(loaded.faults))
    raise typer.Exit(0 if loaded.config is not None else 1)


def _summary(config: Config) -> str:
    instances = sum(len(model.instances) for model in config.models.values())
    parts = ((len(config.models), "model"), (instances, "instance"), (len(config.keys), "declared key"))
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in parts)


def register(app: typer.Typer) -> None:
    app.command("check")(check)
