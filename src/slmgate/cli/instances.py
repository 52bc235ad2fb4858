"""`slmgate instances`: the servers behind the gate, what each carries now, and how they are taken out and put in.

Only a running gate knows; the figures are those of its workers' last second. What is allowed is decided behind the admin API.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, session
from slmgate.cli.ends import NO, UNREACHABLE, USAGE, CommandFailed
from slmgate.control.instance_words import state

LOOK = 0.25
"""Seconds between two looks at an instance that is waited for."""

instances = typer.Typer(help="The servers behind the gate.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The instance, as `instances list` calls it.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until nothing is in flight there.")]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", help="How long to wait at most; after that, exit code 1, and it stays drained.")
]


@instances.command("list")
def list_instances(config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """Every instance: its model, whether it is used and why not, what it carries, its checks, whether the model is there, and
    where it is configured."""
    with session(config, admin) as client:
        status = _status(client)
    rows = status["instances"]
    for note in status["notes"]:
        typer.echo(f"slmgate: {show.visible(note)}", err=True)
    if as_json:
        typer.echo(show.json_text(rows))
        return
    health = ("failures", "last check", "since", "its models", "why")
    heads = ("model", "instance", "state", "in flight", "waiting", "source", *health)
    show.table(heads, [_shown(row) for row in rows], ("in flight", "waiting", "failures"))


def _shown(row: dict[str, Any]) -> list[Any]:
    return [
        row["model"],
        row["id"],
        state(row) + (f", pid {row['pid']}" if row["pid"] else ""),
        row["in_flight"],
        row["waiting"],
        row["source"],
        row["failures"],
        row["check"] or "-",
        row["since"] or "",
        "-" if row["catalogue"] is None else row["catalogue"]["text"],
        "" if row["catalogue"] is not None and row["catalogue"]["text"] == row["why"] else row["why"],
    ]


@instances.command("drain")
def drain(
    id: IdArgument,
    wait: WaitOption = False,
    timeout: TimeoutOption = "5m",
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an instance no new request until it is enabled again; those that it has go on. It outlives reloads and restarts."""
    with session(config, admin) as client:
        seconds = _seconds(timeout)
        row = client.post("/api/v1/instances/drain", {"id": id})
        if wait:
            row = _wait(client, id, seconds, timeout)
    _say(row, as_json)


@instances.command("enable")
def enable(id: IdArgument, config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """Undo `drain`: the instance gets requests again."""
    with session(config, admin) as client:
        row = client.post("/api/v1/instances/enable", {"id": id})
    _say(row, as_json)


@instances.command("add")
def add(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model of the configuration.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the instance is: scheme, host and port.")],
    engine: Annotated[str | None, typer.Option("--engine", help="The instance's software. [default: openai]")] = None,
    weight: Annotated[int | None, typer.Option("--weight", help="Share of the work beside the others. [default: 1]")] = None,
    max_in_flight: Annotated[
        int | None, typer.Option("--max-in-flight", help="Requests of each worker that it works on at once. [default: no bound]")
    ] = None,
    upstream_model: Annotated[
        str | None, typer.Option("--upstream-model", help="The model's name there, where it differs.")
    ] = None,
    bearer_env: Annotated[
        str | None,
        typer.Option("--bearer-env", metavar="NAME", help="The gate's environment variable with the secret that it asks for."),
    ] = None,
    server_name: Annotated[
        str | None,
        typer.Option("--server-name", metavar="NAME", help="For https: whose certificate it must show, if not the URL's."),
    ] = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add an instance to a model, beside those of the configuration. It outlives reloads and restarts."""
    given = {
        "model": model,
        "url": url,
        "engine": engine,
        "weight": weight,
        "max_in_flight": max_in_flight,
        "upstream_model": upstream_model,
        "bearer_env": bearer_env,
        "server_name": server_name,
    }
    with session(config, admin) as client:
        row = client.post("/api/v1/instances", {name: value for name, value in given.items() if value is not None})
    _say(row, as_json)


@instances.command("remove")
def remove(
    id: IdArgument,
    wait: WaitOption = False,
    timeout: TimeoutOption = "5m",
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take away an instance that was added with `add`. It gets no new request; those that it has go on.

    With `--wait` it is drained first, and removed when nothing is in flight.
    """
    with session(config, admin) as client:
        seconds = _seconds(timeout)
        if wait:
            if any(row["id"] == id and row["source"] != "added" for row in _rows(client)):
                client.post("/api/v1/instances/remove", {"id": id})  # which says why not, before anything is drained
            client.post("/api/v1/instances/drain", {"id": id})
            _wait(client, id, seconds, timeout)
        row = client.post("/api/v1/instances/remove", {"id": id})
    _say(row, as_json)


def _status(client: AdminClient) -> dict[str, Any]:
    status: dict[str, Any] = client.get("/api/v1/status")
    if not status["running"]:
        raise CommandFailed(UNREACHABLE, "No gate runs here, so nothing is known of instances; `slmgate serve` starts one.")
    return status


def _rows(client: AdminClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _status(client)["instances"]
    return rows


def _wait(client: AdminClient, id: str, seconds: float, said: str) -> dict[str, Any]:
    """The instance once it is drained."""
    until = time.monotonic() + seconds
    while True:
        row = next((row for row in _rows(client) if row["id"] == id), None)
        if row is None or not row["draining"]:
            raise CommandFailed(NO, f"{id} is not drained any more: somebody else has enabled or removed it.")
        if row["drained"]:
            return row
        if time.monotonic() >= until:
            raise CommandFailed(NO, f"{id} still has {row['in_flight']} in flight after {said}; it stays drained.")
        time.sleep(LOOK)  # a command waits for somebody: nothing else is to be done meanwhile


def _seconds(text: str) -> float:
    from slmgate.control.keyfields import BadKeyInput, parse_duration

    try:
        return parse_duration(text).total_seconds()
    except BadKeyInput as error:
        raise CommandFailed(USAGE, f"--timeout: {error}") from None


def _say(row: dict[str, Any], as_json: bool) -> None:
    typer.echo(show.json_text(row) if as_json else f"{show.visible(row['id'])}: {state(row)}")


def register(app: typer.Typer) -> None:
    app.add_typer(instances, name="instances")
