"""`slmgate serve`: the gate and the admin listener, in the foreground.

It finds the configuration (a file, or an instance's URL that is probed) and hands over to the supervisor; it knows nothing
of how serving is done.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slmgate.control.orders import ConfigSource

DEFAULT_FILE = Path("slmgate.yaml")


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration file; slmgate.yaml if absent.")] = None,
    upstream: Annotated[
        str | None, typer.Option(help="Serve this instance without any file, e.g. http://127.0.0.1:8000.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="With --upstream: its model, instead of asking it.")] = None,
    engine: Annotated[str | None, typer.Option(help="With --upstream: its engine, instead of asking it.")] = None,
) -> None:
    """Start the gate. It prints one line per listener when it is ready and stops cleanly on SIGTERM or Ctrl-C."""
    from slmgate.control.config import ConfigError
    from slmgate.control.orders import ConfigSource
    from slmgate.control.supervisor import CannotServe, Supervisor

    if upstream is not None and config is not None:
        raise typer.BadParameter("give --config or --upstream, not both")
    if upstream is None and (model or engine):
        raise typer.BadParameter("--model and --engine go with --upstream")
    if upstream is not None:
        source = _ask(upstream, model or [], engine)
    else:
        path = config or DEFAULT_FILE
        if not path.exists():
            typer.echo(
                f"slmgate: there is no {path}. `slmgate init` writes one; `slmgate serve --upstream URL` needs none.", err=True
            )
            raise typer.Exit(2)
        source = ConfigSource(path=str(path.absolute()))
    try:
        loaded = source.load().unwrap()
    except ConfigError as error:
        for fault in error.faults:
            typer.echo(f"slmgate: {fault}", err=True)
        typer.echo("slmgate: not started; `slmgate check` shows each fault in its place.", err=True)
        raise typer.Exit(1) from error
    try:
        code = Supervisor(source, loaded).run()
    except CannotServe as error:
        typer.echo(f"slmgate: not started: {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(code)


def _ask(upstream: str, models: list[str], engine: str | None) -> ConfigSource:
    """What the instance at `upstream` says of itself, where the flags do not say it."""
    from slmgate.control.orders import ConfigSource
    from slmgate.control.probe import ProbeError, probe

    if not models or engine is None:
        try:
            found = asyncio.run(probe(upstream))
        except ProbeError as error:
            typer.echo(f"slmgate: {error}", err=True)
            typer.echo("slmgate: not started; give --model and --engine to start without asking the instance.", err=True)
            raise typer.Exit(3) from error
        models = models or list(found.models)
        engine = engine or found.engine
    return ConfigSource(upstream=upstream, models=tuple(models), engine=engine)
