"""`slmgate keys`: clients' keys created, changed, listed, rotated, disabled and revoked, carried out to files and in from them.

A secret is printed once, alone on stdout, and all else about it on stderr, so that `KEY=$(slmgate keys create --name x)`
holds the secret and nothing more. What a key may be is decided behind the admin API.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from slmgate.cli import show
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, session
from slmgate.cli.ends import UNREACHABLE, USAGE, CommandFailed

PAGE = 1000
"""Keys in one answer of the admin API, at the most."""
IMPORT_SECONDS = 300.0


class Clearable(StrEnum):
    """What `keys edit` can take away."""

    owner = "owner"
    team = "team"
    roles = "roles"
    tags = "tags"
    networks = "networks"
    limits = "limits"
    expires = "expires"


KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The key's name or id.")]

keys = typer.Typer(help="Clients' keys.", no_args_is_help=True)


Owner = Annotated[str | None, typer.Option("--owner", help="Who answers for it: a person, an address, a program.")]
Team = Annotated[str | None, typer.Option("--team", help="The team that it belongs to.")]
Roles = Annotated[list[str] | None, typer.Option("--role", help="A role that it has; may be given several times.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A word to find it by, such as env:test; several times.")]
Networks = Annotated[
    list[str] | None, typer.Option("--network", help="From where it may be used, such as 10.0.0.0/8; several times.")
]
Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="WORDS", help="How much it may use, such as '60 requests/minute'; several times."),
]


@keys.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="What the key is called; unique among keys that are not revoked.")],
    owner: Owner = None,
    team: Team = None,
    role: Roles = None,
    tag: Tags = None,
    network: Networks = None,
    limit: Limits = None,
    expires: Annotated[str, typer.Option("--expires", help="A day (2027-01-01), a duration (30d), or never.")] = "never",
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue a key. Its secret is printed once and kept nowhere."""
    lists = {"roles": role or [], "tags": tag or [], "networks": network or [], "limits": limit or []}
    body = {"name": name, "owner": owner, "team": team, **lists}
    with session(config, admin) as client:
        issued = client.post("/api/v1/keys", {**body, "expires": expires})
    _print_issued(issued, as_json)


@keys.command("edit")
def edit(
    key: KeyArgument,
    owner: Owner = None,
    team: Team = None,
    role: Roles = None,
    tag: Tags = None,
    network: Networks = None,
    limit: Limits = None,
    expires: Annotated[str | None, typer.Option("--expires", help="A day (2027-01-01), a duration (30d), or never.")] = None,
    clear: Annotated[
        list[Clearable] | None, typer.Option("--clear", help="Take this field away from it; may be given several times.")
    ] = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a key: what is not given stays as it is; roles, tags, networks or limits that are given replace all that it had."""
    lists = {"roles": role, "tags": tag, "networks": network, "limits": limit}
    given = {"owner": owner, "team": team, **lists, "expires": expires}
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    with session(config, admin) as client:
        for field in clear or []:
            if field.value in body:
                raise CommandFailed(USAGE, f"--clear {field.value} and a value for it were both given; which is it?")
        empty: dict[str, Any] = {"owner": None, "team": None, "expires": "never"}
        body |= {field.value: empty.get(field.value, []) for field in clear or []}
        if not body:
            raise CommandFailed(USAGE, "nothing to change was given; see `slmgate keys edit --help`")
        _print_key(client.post(f"/api/v1/keys/{_find(client, key)['id']}", body), as_json)


@keys.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option("--owner", help="Only those of this owner.")] = None,
    team: Annotated[str | None, typer.Option("--team", help="Only those of this team.")] = None,
    role: Annotated[str | None, typer.Option("--role", help="Only those with this role.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only those with this tag.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only active, disabled, expired or revoked ones.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="Only those with this in id, name, owner or team.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at the most.")] = 100,
    after: Annotated[str | None, typer.Option("--after", metavar="ID", help="From behind this key on.")] = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keys, oldest first, revoked ones too. Those that the configuration declares come before all."""
    which = {"owner": owner, "team": team, "role": role, "tag": tag, "in_state": state, "search": search}
    found: list[dict[str, Any]] = []
    with session(config, admin) as client:
        while len(found) < limit:
            page = client.get("/api/v1/keys", {**which, "limit": min(limit - len(found), PAGE), "after": after})
            found += page["keys"]
            after = page["next"]
            if after is None:
                break
    if as_json:
        typer.echo(show.json_text({"keys": found, "next": after}))
        return
    columns = ("id", "name", "owner", "team", "roles", "state", "created", "expires", "last used")
    show.table(columns, [_row(key) for key in found])
    if after is not None:
        typer.echo(f"There are more: --limit takes a larger number, and --after {after} goes on from here.", err=True)


@keys.command("export")
def export(
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV in place of lines of JSON.")] = False,
    config: ConfigOption = None,
    admin: AdminOption = None,
) -> None:
    """All keys that are not revoked, to stdout, for `slmgate keys import`: digests, no secrets. Declared ones are left out."""
    from slmgate.control.keyfiles import COLUMNS, cells

    with session(config, admin) as client:
        if as_csv:
            typer.echo(show.csv_text(COLUMNS, []), nl=False)
        after: str | None = ""
        while after is not None:
            page = client.get("/api/v1/keys/export", {"limit": PAGE, "after": after or None})
            after = page["next"]
            if as_csv:
                typer.echo(show.csv_rows(cells(row) for row in page["keys"]), nl=False)
            else:
                typer.echo("".join(msgspec.json.encode(row).decode() + "\n" for row in page["keys"]), nl=False)


@keys.command("import")
def import_keys(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Lines of JSON, or CSV; `-` is stdin.")],
    out: Annotated[
        Path | None, typer.Option("--secrets", metavar="FILE", help="Write the secrets that are made here, not to stdout.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look whether all of them could be taken.")] = False,
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in many keys, all or none. A row without `hash` gets a secret, which is printed once, as CSV of id, name, secret."""
    from slmgate.control.keyfiles import BadKeyFile, read_rows, with_secrets

    with session(config, admin) as client:
        try:
            rows = read_rows(_text(file))
        except BadKeyFile as error:
            raise CommandFailed(USAGE, str(error)) from error
        # Made on this side, so that they never travel, and are not lost if the answer is.
        made = with_secrets(rows)
        text = show.csv_text(("id", "name", "secret"), [[one.id, one.name, one.secret] for one in made]) if made else ""
        if out is not None and not dry_run:
            _write_new(out, text)
        try:
            body = {"keys": msgspec.to_builtins(rows), "dry_run": dry_run}
            taken = client.post("/api/v1/keys/import", body, timeout=IMPORT_SECONDS)
        except CommandFailed as error:
            if out is not None and not dry_run and error.code != UNREACHABLE:
                out.unlink()  # they open nothing
            raise
    if dry_run:
        typer.echo(f"{len(rows):,} keys could be imported; nothing was changed", err=True)
        return
    said = f"{taken['count']:,} keys imported"
    typer.echo(f"{said}, {len(made):,} with new secrets, shown this once" if made else said, err=True)
    if as_json:
        typer.echo(show.json_text({"count": taken["count"], "secrets": [] if out else msgspec.to_builtins(made)}))
    elif out is None:
        typer.echo(text, nl=False)


def _text(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode()
    except OSError as error:
        raise CommandFailed(USAGE, f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandFailed(USAGE, f"{file} is not UTF-8 text") from error


def _write_new(file: Path, text: str) -> None:
    """Write a file that only its owner can read, and that was not there before."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(text)
    except OSError as error:
        raise CommandFailed(USAGE, f"{file} cannot be written: {error.strerror}; give a new file") from error


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
    found: dict[str, Any] = client.get("/api/v1/keys", {"key": key})["keys"][0]
    return found


def _row(key: dict[str, Any]) -> list[object]:
    created = "declared" if key["declared"] else _day(key["created"])
    used = _day(key["used"]["time"]) if key["used"] else "never"
    roles = " ".join(key["roles"])
    return [key["id"], key["name"], key["owner"], key["team"], roles, key["state"], created, _end(key), used]


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
    used = key["used"]
    rows = {
        "id": key["id"],
        "name": key["name"],
        "owner": key["owner"] or "-",
        "team": key["team"] or "-",
        "roles": ", ".join(key["roles"]) or "-",
        "tags": ", ".join(key["tags"]) or "-",
        "networks": ", ".join(key["networks"]) or "anywhere",
        "limits": "; ".join(key["limits"]) or "-",
        "state": key["state"],
        "created": key["created"] or "declared in the configuration",
        "expires": key["expires"] or "never",
        "revoked": key["revoked"] or "-",
        "used": f"{used['time']} from {used['address']}" if used else "never",
        "secrets": "in the configuration" if key["declared"] else secrets,
    }
    for name, value in rows.items():
        typer.echo(f"{name:<8} {show.visible(value)}")


def _day(time: str) -> str:
    return time[:10]


def _end(key: dict[str, Any]) -> str:
    return _day(key["expires"]) if key["expires"] else "never"


def register(app: typer.Typer) -> None:
    app.add_typer(keys, name="keys")
