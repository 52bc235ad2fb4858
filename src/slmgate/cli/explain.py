"""`slmgate explain`: why a request is admitted or refused, rule by rule: one that might come, or one that did.

It asks the running gate by its admin API; with `-c FILE`, or where no gate runs, it judges by the file itself, and looks into the
store only for what the file cannot know: a stored key, a receipt. What led to a verdict is worked out in `control/trials`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from slmgate.cli import faults, show, telling
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, Network, connect
from slmgate.cli.ends import NO, USAGE, CommandFailed, exits
from slmgate.cli.place import DEFAULT_FILE, find
from slmgate.control.config import Config, load
from slmgate.control.keylimits import read_limits
from slmgate.control.trials.asked import declared_key
from slmgate.control.trials.told import Past, Told, past, principal_of, told
from slmgate.control.trials.wish import BadTrial, Wish, parse_parameters, parse_used
from slmgate.terms import Key, Receipt


def explain(
    name: Annotated[str | None, typer.Option("--as", metavar="KEY", help="Who asks: a key's name or id.")] = None,
    roles: Annotated[str, typer.Option("--roles", metavar="A,B", help="Or a would-be principal with these roles.")] = "",
    team: Annotated[str | None, typer.Option("--team", help="The team of that would-be principal.")] = None,
    model: Annotated[str, typer.Option("--model", help="The model that is asked for.")] = "",
    endpoint: Annotated[str, typer.Option("--endpoint", help="As roles call it: chat, embeddings, models ...")] = "chat",
    address: Annotated[str | None, typer.Option("--ip", metavar="ADDRESS", help="Where the call comes from.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="When: 2026-11-24T08:00:00Z, or with a zone's name. Now if absent.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the request; any number of times.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="A streamed answer is asked for.")] = False,
    body_size: Annotated[int | None, typer.Option("--body-size", metavar="BYTES", help="The size of the body.")] = None,
    prompt_tokens: Annotated[int | None, typer.Option("--prompt-tokens", metavar="N", help="The length of the prompt.")] = None,
    used: Annotated[
        list[str] | None,
        typer.Option("--used", metavar="LIMIT=AMOUNT", help="What is used of a limit before it, like '60 requests/minute=59'."),
    ] = None,
    request: Annotated[str | None, typer.Option("--request", metavar="ID", help="A past request, by its id, instead.")] = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why a request would be admitted or refused: each rule looked at. Exits 0 when admitted, 1 when refused."""
    with exits():
        if request is not None:
            if name or roles or team or model or param or used:
                raise CommandFailed(
                    USAGE, "--request tells all of a past request: leave out --as, --roles, --team, --model, --param, --used."
                )
            _past(request, config, admin, as_json)
            return
        try:
            wish = Wish(
                name=name,
                roles=tuple(one.strip() for one in roles.split(",") if one.strip()),
                team=team,
                model=model,
                endpoint=endpoint,
                stream=stream,
                parameters=parse_parameters(param or []),
                address=address,
                at=at,
                body_size=body_size,
                prompt_tokens=prompt_tokens,
                used=parse_used(used or []),
            )
            wish.who, wish.trial(0.0)  # so that what is wrong with them is said whoever answers
            found = _would_be(wish, config, admin)
        except BadTrial as wrong:
            raise CommandFailed(USAGE, str(wrong)) from None
    if as_json:
        typer.echo(show.json_text(found))
    else:
        typer.echo("\n".join(telling.lines(found, telling.width())))
    raise typer.Exit(0 if found.verdict.admitted else 1)


def _would_be(wish: Wish, config: Path | None, admin: str | None) -> Told:
    if config is None and (client := _running(admin)) is not None:
        with client:
            return msgspec.convert(client.post("/api/v1/explain", msgspec.to_builtins(wish)), Told)
    loaded = loaded_file(config)
    principal = principal_of(loaded, wish.who, lambda key: _stored(config, admin, key)[0])
    if principal is None:
        raise CommandFailed(NO, f"There is no key {wish.name!r} that could be used; `slmgate keys list` shows all.")
    return told(loaded, principal, wish.trial(datetime.now(UTC).timestamp()))


def _past(request: str, config: Path | None, admin: str | None, as_json: bool) -> None:
    client = _running(admin) if config is None else None
    if client is not None:
        with client:
            found = msgspec.convert(client.get(f"/api/v1/explain/{request}"), Past)
    else:
        loaded = loaded_file(config)
        with connect(config, admin) as client:
            receipt = msgspec.convert(client.get(f"/api/v1/receipts/{request}"), Receipt)
        principal, state = declared_key(loaded, receipt.key or ""), "active"
        if principal is None and receipt.key is not None:
            principal, state = _stored(config, admin, receipt.key)
        found = past(loaded, receipt, principal, state)
    if as_json:
        typer.echo(show.json_text(found))
        return
    columns = telling.width()
    typer.echo("\n".join(_past_lines(found, columns)))


def _past_lines(found: Past, columns: int) -> list[str]:
    lines = list(telling.facts(_receipt_pairs(found.receipt), columns))
    if found.differs:
        lines += ["", "what differs today"]
        lines += [line for text in found.differs for line in telling.wrapped("  - ", show.visible(text), columns)]
    if found.unknown:
        lines += ["", "what cannot be known"]
        lines += [line for text in found.unknown for line in telling.wrapped("  - ", show.visible(text), columns)]
    if found.today is not None:
        lines += ["", "the configuration in force would say", ""]
        lines += telling.lines(found.today, columns)
    return lines


def _receipt_pairs(receipt: Receipt) -> list[tuple[str, object]]:
    """What was recorded then."""
    first = "no first byte" if receipt.first_byte_us is None else f"first byte after {_ms(receipt.first_byte_us)}"
    return [
        ("request", receipt.request_id if receipt.request_id == receipt.id else f"{receipt.request_id} ({receipt.id})"),
        ("time", f"{receipt.time:%a %Y-%m-%d %H:%M:%S} UTC"),
        ("verdict", f"{receipt.verdict}{f' by {receipt.rule}' if receipt.rule else ''}"),
        ("reason", f"{receipt.reason}, status {receipt.status}, ended {receipt.ended}"),
        ("who", f"{receipt.principal or 'nobody known'}{f', team {receipt.team}' if receipt.team else ''}"),
        ("roles", receipt.roles.replace(",", ", ") or "none"),
        ("from", receipt.address or "-"),
        ("asked", f"{receipt.method} {receipt.path}{', streamed' if receipt.stream else ''}"),
        ("model", receipt.model or "-"),
        ("parameters", receipt.parameters or "none noted"),
        ("sizes", f"{receipt.bytes_in:,} bytes in, {receipt.bytes_out:,} out"),
        ("instance", f"{receipt.instance or 'none asked'}, {receipt.attempts} attempt{'' if receipt.attempts == 1 else 's'}"),
        ("waited", f"in line {_ms(receipt.queue_us)}, {first}, all of it {_ms(receipt.total_us)}"),
        (
            "tokens",
            f"{receipt.prompt_tokens:,} read, {receipt.completion_tokens:,} written{', estimated' if receipt.estimated else ''}",
        ),
    ]


def _ms(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms"


def _running(admin: str | None) -> AdminClient | None:
    """The running gate's admin API, if one is meant and runs."""
    if admin is None and not _served():
        return None
    client = connect(None, admin)
    return client if isinstance(client.road, Network) else None


def _served() -> bool:
    from slmgate.control.state_dir import is_served

    place = find(None, None)
    return place.state_dir is not None and is_served(place.state_dir)


def loaded_file(config: Path | None) -> Config:
    """The configuration in the file that is meant. Raises CommandFailed with its faults."""
    path = config or DEFAULT_FILE
    if not path.is_file():
        hint = "name one with -c, or start the gate" if config is None else "name another with -c"
        raise CommandFailed(USAGE, f"There is no file {path}; {hint}.")
    loaded = load(path)
    if loaded.config is None:
        raise CommandFailed(USAGE, f"{path} cannot be used:\n{faults.text(loaded.faults)}")
    return loaded.config


def _stored(config: Path | None, admin: str | None, key: str) -> tuple[Key | None, str]:
    """A stored key, if there is a store, and its state."""
    place = find(config, admin)
    if not place.named and place.state_dir is not None and not place.state_dir.is_dir():
        return None, "active"
    with connect(config, admin) as client:
        try:
            view: dict[str, Any] = client.get("/api/v1/keys", {"key": key})["keys"][0]
        except CommandFailed as error:
            if error.code != NO:
                raise
            return None, "active"
    if view["state"] == "revoked":
        return None, "revoked"
    return key_of(view), view["state"]


def key_of(view: dict[str, Any]) -> Key:
    """A key as the admin API shows it, as the road would decide by it."""
    expires = view["expires"]
    return Key(
        id=view["id"],
        name=view["name"],
        team=view["team"],
        roles=tuple(view["roles"]),
        networks=tuple(view["networks"]),
        limits=read_limits(view["limits"]),
        disabled=view["state"] == "disabled",
        expires=None if expires is None else datetime.fromisoformat(expires).timestamp(),
    )


def register(app: typer.Typer) -> None:
    app.command("explain")(explain)
