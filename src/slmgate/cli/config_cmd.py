"""`slmgate config show|schema|sample`: a configuration with its defaults, and what the option table says of all.

Secrets are never printed. These commands read the file, not the running server.
"""

from __future__ import annotations

import msgspec
import typer

from slmgate.cli import faults
from slmgate.cli.check import DEFAULT_FILE, FileOption, JsonOption, need_file
from slmgate.control.config import load
from slmgate.control.config.schema import schema_text
from slmgate.control.config.show import dump, sample, to_yaml


def show(config: FileOption = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """Print the whole configuration as it would be in force, defaults included and secrets struck out."""
    need_file(config, as_json)
    loaded = load(config)
    if loaded.config is None:
        typer.echo(faults.text(loaded.faults), err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(dump(loaded.config)), indent=2).decode())
    else:
        typer.echo(to_yaml(loaded.config), nl=False)


def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    typer.echo(schema_text(), nl=False)


def print_sample() -> None:
    """Print a configuration file with every option, its sentence and its default."""
    typer.echo(sample(), nl=False)


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="The configuration: in force, as a schema, as a sample.", no_args_is_help=True)
    group.command("show")(show)
    group.command("schema")(schema)
    group.command("sample")(print_sample)
    app.add_typer(group, name="config")
