"""`slmgate keys`: clients' keys created, listed, rotated, disabled and revoked.

A secret is printed once, alone on stdout, and all else about it on stderr, so that `KEY=$(slmgate keys create --name x)`
holds the secret and nothing more. What a key may be is decided behind the admin API.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, session
from slmgate.cli.ends import NO, CommandFailed

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The key's name or id.")]

keys = typer.Typer(help="Clients' keys.", no_args_is_help=True)


@keys.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="What the key is called; unique among keys that are not revoked.")],
    team: Annotated[str | None, typer.Option("--team", help="The team that it belongs to.")] = None,
    expires: Annotated[str, typer.Option("--expires", help="A day (2027-01-01), a duration (30d), or never.")] = "never",
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue a key. Its secret is printed once and kept nowhere."""
    with session(config, admin) as client:
        issued = client.post("/api/v1/keys", {"name": name, "team": team, "expires": expires})
    _print_issued(issued, as_json)


@keys.command("list")
def list_keys(config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """All keys, revoked ones too."""
    with session(config, admin) as client:
        page = client.get("/api/v1/keys")
    if as_json:
        typer.echo(show.json_text(page))
        return
    columns = ("id", "name", "team", "state", "created", "expires")
    show.table(
        columns, [[key["id"], key["name"], key["team"], key["state"], _day(key["created"]), _end(key)] for key in page["keys"]]
    )


@keys.command("show")
def show_key(key: KeyArgument, config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """One key."""
    with session(config, admin) as client:
        _print_key(_find(client, key), as_json)


@keys.command("rotate")
def rotate(
    key: KeyArgument,
    overlap: Annotated[str, typer.Option("--overlap", help="For how long the old secret works on, such as 24h.")] = "0s",
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret, printed once."""
    with session(config, admin) as client:
        issued = client.post(f"/api/v1/keys/{_find(client, key)['id']}/rotate", {"overlap": overlap})
    _print_issued(issued, as_json)


@keys.command("disable")
def disable(key: KeyArgument, config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """Refuse a key until it is enabled again."""
    _change(key, "disable", config, admin, as_json)


@keys.command("enable")
def enable(key: KeyArgument, config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """Take a disabled key again."""
    _change(key, "enable", config, admin, as_json)


@keys.command("revoke")
def revoke(key: KeyArgument, config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """End a key for good. Its receipts and its name in them stay."""
    _change(key, "revoke", config, admin, as_json)


def _change(key: str, action: str, config: ConfigOption, admin: AdminOption, as_json: bool) -> None:
    with session(config, admin) as client:
        _print_key(client.post(f"/api/v1/keys/{_find(client, key)['id']}/{action}"), as_json)


def _find(client: AdminClient, key: str) -> dict[str, Any]:
    """The key with this id, or the live one with this name, or the newest. A name may hold what a path may not."""
    known: list[dict[str, Any]] = client.get("/api/v1/keys")["keys"]
    named = [each for each in known if each["name"] == key]
    live = [each for each in named if each["state"] != "revoked"]
    found = [each for each in known if each["id"] == key] or live or named[-1:]
    if not found:
        raise CommandFailed(NO, f"There is no key {key!r}; `slmgate keys list` shows all.")
    return found[0]


def _print_issued(issued: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(show.json_text(issued))
        return
    key = issued["key"]
    typer.echo(f"key {show.visible(key['name'])} (id {key['id']}), expires {_end(key)}. The secret, shown this once:", err=True)
    typer.echo(issued["secret"])


def _print_key(key: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(show.json_text(key))
        return
    ends = [secret["until"] for secret in key["secrets"]]
    secrets = ", ".join("no end" if until is None else f"until {until}" for until in ends) or "none"
    rows = {
        "id": key["id"],
        "name": key["name"],
        "team": key["team"] or "-",
        "roles": ", ".join(key["roles"]) or "-",
        "state": key["state"],
        "created": key["created"],
        "expires": key["expires"] or "never",
        "revoked": key["revoked"] or "-",
        "secrets": secrets,
    }
    for name, value in rows.items():
        typer.echo(f"{name:<8} {show.visible(value)}")


def _day(time: str) -> str:
    return time[:10]


def _end(key: dict[str, Any]) -> str:
    return _day(key["expires"]) if key["expires"] else "never"


def register(app: typer.Typer) -> None:
    app.add_typer(keys, name="keys")
