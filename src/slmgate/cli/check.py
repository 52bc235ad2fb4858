"""`slmgate check`: is this configuration file right, and if not, where not.

It prints what loading found and changes nothing. What counts as a fault is the configuration room's affair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from slmgate.cli import faults
from slmgate.control.config import Config, load

FileOption = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]
DEFAULT_FILE = Path("slmgate.yaml")


def need_file(path: Path) -> None:
    """End with 2 (usage) where there is no such file."""
    if not path.is_file():
        typer.echo(f"there is no file {path}: name one with -c, or let `slmgate init` write one", err=True)
        raise typer.Exit(2)


def check(config: FileOption = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """Validate a configuration file: every fault with its place, the option's sentence and a hint."""
    need_file(config)
    loaded = load(config)
    if as_json:
        report = {"file": str(config), "ok": not loaded.faults, "faults": loaded.faults}
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    elif loaded.config is not None:
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
