"""`slmgate init`: from the address of a running model server to a configuration file and a first admin key.

It asks on a terminal and takes flags without one; it never overwrites a file unless told to. How an engine is recognised
is `control/probe.py`'s affair, what a file may say the configuration room's.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NoReturn, cast, get_args

import msgspec
import typer

from slmgate.cli import faults, show
from slmgate.control.config import Config, client_names, load_text
from slmgate.control.config.document import yaml_type
from slmgate.control.config.options import Engine
from slmgate.control.config.tlsfiles import authorities_fault
from slmgate.control.probe import Probe, ProbeError, probe

PROBE_TIMEOUT = 5.0
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/+-]*")


class Found(msgspec.Struct, frozen=True):
    """One model on one server: the name that clients will use, and the server's own."""

    name: str
    upstream: Probe
    upstream_model: str


def init(
    upstream: Annotated[
        list[str] | None, typer.Option("--upstream", metavar="URL", help="A running model server; may be repeated.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", metavar="FILE", readable=False, help="The file to write.")] = Path(
        "slmgate.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="The model to offer; by default all that the server has.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="ENGINE", help=f"The server's software: {', '.join(get_args(Engine))}.")
    ] = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="Where clients will reach the gate.")
    ] = "127.0.0.1:8080",
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="With --listen: plain HTTP on an address that is not private is meant.")
    ] = False,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca", metavar="FILE", readable=False, help="For https: the authorities (PEM) to believe, in place of the system's."
        ),
    ] = None,
) -> None:
    """Write slmgate.yaml for a running model server, and a first admin key."""
    if engine is not None and engine not in get_args(Engine):
        _stop(2, f"there is no engine {engine}: write {', '.join(get_args(Engine))}")
    try:
        there = output.exists()
    except OSError as error:
        _stop(2, f"{output} cannot be looked at: {error.strerror}; name another --output")
    if there and not force:
        _stop(2, f"{output} exists already: choose another --output, or --force to overwrite it")
    if ca is not None and (fault := authorities_fault(ca)) is not None:
        _stop(2, f"{ca} {fault.problem}: {fault.hint}")
    authorities = "" if ca is None else str(ca.absolute())
    urls = upstream or _ask()
    found = [each for url in urls for each in _find(url, model, cast("Engine | None", engine), authorities)]
    text = render(found, listen, plain_http, authorities)
    loaded = load_text(text, str(output), output.absolute().parent)
    if loaded.config is None:
        typer.echo(faults.text(loaded.faults), err=True)
        _stop(2, f"nothing was written to {output}: correct the flags")
    _write(output, text, force)
    _say(output, found, loaded.config)


def on_terminal() -> bool:
    return sys.stdin.isatty()


def _ask() -> list[str]:
    if not on_terminal():
        _stop(2, "name the model server with --upstream URL (there is no terminal to ask on)")
    return [typer.prompt("URL of the running model server", default="http://127.0.0.1:8000")]


def _stop(code: int, message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _find(url: str, model: str | None, engine: Engine | None, ca: str) -> list[Found]:
    """The models of the server at `url`, of which `model` chooses one. With engine and model named, nothing is asked."""
    if engine is not None and model is not None:
        return [Found(model, Probe(url, engine, (model,), None, "named, not asked"), model)]
    typer.echo(f"asking {url} what it is ...", err=True)
    try:
        answer = asyncio.run(probe(url, PROBE_TIMEOUT, ca=ca))
    except ProbeError as error:
        _stop(3, str(error))
    if engine is not None:
        answer = msgspec.structs.replace(answer, engine=engine)
    models = ", ".join(answer.models) or "none that can be read"
    typer.echo(show.visible(f"{_title(answer)}: {answer.detail}; models: {models}"), err=True)
    return choose(answer, model)


def choose(answer: Probe, model: str | None) -> list[Found]:
    """The models to offer. Ends with 1 where `model` is not among them, or there are none to choose from."""
    named = client_names(answer.models)
    if model is None:
        if not named:
            _stop(1, f"{answer.url} names no model: name one with --model")
        return [Found(name, answer, own) for name, own in named.items()]
    own = named.get(model) or (model if model in answer.models else None)
    if own is None and len(answer.models) > 1:
        _stop(1, f"{answer.url} has no model {model}: it has {', '.join(answer.models)}")
    # A server with one model, or none that it tells, is offered under the name that was asked for.
    return [Found(model, answer, own or (answer.models[0] if answer.models else model))]


def render(found: Sequence[Found], listen: str, plain_http: bool = False, ca: str = "") -> str:
    """The text of the file. `ca`: the file of the authorities that vouch for instances."""
    return "\n".join(_file(found, listen, plain_http, ca)) + "\n"


def _file(found: Sequence[Found], listen: str, plain_http: bool, ca: str) -> Iterator[str]:
    yield "# Made by `slmgate init`. `slmgate check` validates this file, `slmgate config sample` prints every option."
    yield ""
    yield "# Where clients reach the gate; 0.0.0.0:8080, every IPv4 address of this machine, needs tls or plain_http: true."
    yield "listen:"
    yield f"  - address: {_scalar(listen)}"
    if plain_http:
        yield "    plain_http: true"
    yield ""
    yield "# For operators: keys, usage, health. Keep it on a private address."
    yield "admin:"
    yield "  address: 127.0.0.1:8081"
    yield ""
    yield "# Ledger, keys and journals; it must outlive restarts. Relative to this file."
    yield "state_dir: ./slmgate-data"
    yield ""
    yield "# The names that clients use, each with the servers that run the model."
    yield "models:"
    for name in dict.fromkeys(each.name for each in found):
        yield f"  {_scalar(name)}:"
        if ca and any(each.name == name and each.upstream.url.startswith("https:") for each in found):
            yield f"    tls: {{ca: {_scalar(ca)}}}"
        yield "    instances:"
        for each in found:
            if each.name == name:
                yield f"      - url: {_scalar(each.upstream.url)}"
                yield f"        engine: {each.upstream.engine}"
                if each.upstream_model != name:
                    yield f"        upstream_model: {_scalar(each.upstream_model)}"
        yield '        #bearer: "${env:NAME}"   # if the server asks for a key'
        yield "        #max_in_flight: 16       # requests of each worker that the server takes at once; more wait here"


def _scalar(text: str) -> str:
    """YAML for `text` that stands for exactly this text, whatever it is: a server chooses its models' names."""
    if (_PLAIN.fullmatch(text) and yaml_type(text) == "text") or re.fullmatch(r"[a-z]+://[A-Za-z0-9.-]+(:[0-9]+)?", text):
        return text
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False)


def _write(output: Path, text: str, force: bool) -> None:
    """Put the file there whole or not at all."""
    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        if not force:
            with output.open("x", encoding="utf-8") as file:
                file.write(text)
            return
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(output)
    except OSError as error:
        _stop(2, f"{output} cannot be written: {error.strerror}")


def _say(output: Path, found: Sequence[Found], config: Config) -> None:
    # Imported late: it opens the store, which no other path of this command needs.
    from slmgate.control.operators import create_first_admin_key

    names = ", ".join(config.models)
    typer.echo(f"wrote {output}: {names} at {', '.join(dict.fromkeys(each.upstream.url for each in found))}")
    path = config.state_dir / "admin.key"
    try:
        made = create_first_admin_key(config.state_dir)
    except OSError as error:
        _stop(1, f"{path} cannot be written: {error.strerror}; mend that and try again with --force")
    typer.echo(f"{'wrote' if made else 'kept'} {path}: the first admin key, readable by you alone")
    option = "" if output == Path("slmgate.yaml") else f" -c {output}"
    typer.echo(f"next:\n  slmgate serve{option}\n  slmgate keys create{option} --name me")


def _title(answer: Probe) -> str:
    return f"{answer.engine}{f' {answer.version}' if answer.version else ''} at {answer.url}"


def register(app: typer.Typer) -> None:
    app.command("init")(init)
