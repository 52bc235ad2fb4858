"""`slmgate serve`: the gate and the admin listener, in the foreground.

It finds the configuration (a file, or an instance's URL that is probed) and hands over to the supervisor; it knows nothing
of how serving is done.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from msgspec.structs import replace

from slmgate.cli.check import need_file

if TYPE_CHECKING:
    from slmgate.control.orders import ConfigSource

DEFAULT_FILE = Path("slmgate.yaml")


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", readable=False, help="The configuration file; slmgate.yaml if absent.")
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(help="Serve this instance without any file, e.g. http://127.0.0.1:8000.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="With --upstream: its model, instead of asking it.")] = None,
    engine: Annotated[str | None, typer.Option(help="With --upstream: its engine, instead of asking it.")] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With --upstream: where clients reach it, 127.0.0.1:8080 if absent.")
    ] = None,
    plain_http: Annotated[
        bool,
        typer.Option("--plain-http", help="With --listen and --admin: plain HTTP on an address that is not private is meant."),
    ] = False,
    admin: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With --upstream: where operators do, 127.0.0.1:8081 if absent.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(readable=False, help="With --upstream: ledger, keys and journals, ./slmgate-data if absent.")
    ] = None,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="Take over from the gate that runs with this state directory, if there is one.")
    ] = False,
) -> None:
    """Start the gate. It prints one line per listener when it is ready and stops cleanly on SIGTERM or Ctrl-C."""
    from slmgate.control.config import ConfigError
    from slmgate.control.listening import CannotServe
    from slmgate.control.orders import ConfigSource
    from slmgate.control.supervisor import Supervisor

    if upstream is not None and config is not None:
        raise typer.BadParameter("give --config or --upstream, not both")
    if upstream is None and (model or engine or listen or plain_http or admin or state_dir):
        raise typer.BadParameter(
            "--model, --engine, --listen, --plain-http, --admin and --state-dir go with --upstream; with a file, write it there"
        )
    if upstream is not None:
        _check_flags(upstream, model or [], engine, listen, admin)
        source = _ask(upstream, model or [], engine)
        state = None if state_dir is None else str(state_dir.absolute())
        source = replace(source, listen=listen, plain_http=plain_http, admin=admin, state_dir=state)
    else:
        path = config or DEFAULT_FILE
        if config is None and not os.path.exists(path):
            typer.echo(
                f"slmgate: there is no {path}. `slmgate init` writes one; `slmgate serve --upstream URL` needs none.", err=True
            )
            raise typer.Exit(2)
        need_file(path)
        source = ConfigSource(path=str(path.absolute()))
    try:
        loaded = source.load().unwrap()
    except ConfigError as error:
        for fault in error.faults:
            typer.echo(f"slmgate: {fault}", err=True)
        pointer = "; `slmgate check` shows each fault in its place" if upstream is None else ""
        typer.echo(f"slmgate: not started{pointer}.", err=True)
        raise typer.Exit(1) from error
    try:
        code = Supervisor(source, loaded, takes_over=takeover).run()
    except CannotServe as error:
        typer.echo(f"slmgate: not started: {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(code)


def _check_flags(upstream: str, models: list[str], engine: str | None, listen: str | None, admin: str | None) -> None:
    """What the flags say, as the same options of a file are checked. Ends as any misuse of a command does."""
    from slmgate.control.config.addresses import Listener, Url
    from slmgate.control.config.faults import BadValueError
    from slmgate.control.config.kinds import Kind
    from slmgate.control.config.options import UPSTREAM_NAME, Engine

    given: list[tuple[str, Kind, str | None]] = [("--upstream", Url(), upstream)]
    given += [("--model", UPSTREAM_NAME, model) for model in models]
    given += [("--listen", Listener(), listen), ("--admin", Listener(), admin)]
    for flag, kind, value in given:
        try:
            if value is not None:
                kind.take(value, "quoted")
        except BadValueError as wrong:
            raise typer.BadParameter(f"{value!r} {wrong.problem}: {wrong.hint}", param_hint=flag) from None
    if engine is not None and engine not in get_args(Engine):
        known = ", ".join(get_args(Engine))
        raise typer.BadParameter(f"there is no engine {engine!r}: write one of {known}", param_hint="--engine")


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
