"""`slmgate admin`: local accounts, admin keys beside the first one, and signed-in browsers.

A password is asked for, or read from standard input where that is no terminal, never taken from the command line, which
other users of the machine can read. What is allowed is decided behind the admin API.
"""

from __future__ import annotations

import getpass
import re
import sys
from typing import Annotated, Any

import typer

from slmgate.cli import show
from slmgate.cli.client import AdminClient, AdminOption, ConfigOption, JsonOption, session
from slmgate.cli.ends import NO, USAGE, CommandFailed

MAX_LINE = 4096

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]
RoleOption = Annotated[
    str, typer.Option("--role", help="viewer sees, operator also changes what can be undone, owner changes everything.")
]

admin_app = typer.Typer(help="Who may use the admin side: accounts, admin keys, signed-in browsers.", no_args_is_help=True)
users = typer.Typer(help="Local accounts, for sign-in with a browser.", no_args_is_help=True)
keys = typer.Typer(help="Admin keys, for programs and commands, beside the first one in admin.key.", no_args_is_help=True)
sessions = typer.Typer(help="Signed-in browsers.", no_args_is_help=True)


@users.command("add")
def add_user(
    name: NameArgument, role: RoleOption, config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False
) -> None:
    """Make an account. Its password is asked for, or is the first line of standard input."""
    with session(config, admin) as client:
        made = client.post("/api/v1/admin/users", {"name": name, "role": role, "password": read_password()})
    _say(made, as_json, f"account {show.visible(name)} made, with the role {role}")


@users.command("list")
def list_users(config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """All accounts."""
    with session(config, admin) as client:
        page = client.get("/api/v1/admin/users")
    columns = ("name", "role", "created", "changed")
    _list(page, as_json, columns, [[each["name"], each["role"], *_times(each, columns[2:])] for each in page["accounts"]])


@users.command("password")
def set_password(name: NameArgument, config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """Give an account a new password, asked for or from standard input. Its browsers are signed out."""
    with session(config, admin) as client:
        made = client.post(f"/api/v1/admin/users/{_in_path(name)}/password", {"password": read_password()})
    _say(made, as_json, f"account {show.visible(name)} has a new password; its browsers are signed out")


@users.command("role")
def set_role(
    name: NameArgument, role: RoleOption, config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False
) -> None:
    """Give an account another role. Its browsers are signed out."""
    with session(config, admin) as client:
        made = client.post(f"/api/v1/admin/users/{_in_path(name)}/role", {"role": role})
    _say(made, as_json, f"account {show.visible(name)} has the role {role}")


@users.command("remove")
def remove_user(name: NameArgument, config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """End an account. Its browsers are signed out."""
    with session(config, admin) as client:
        gone = client.post(f"/api/v1/admin/users/{_in_path(name)}/remove")
    _say(gone, as_json, f"account {show.visible(name)} removed; its browsers are signed out")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option("--name", help="What the key is called; unique among admin keys that are not revoked.")],
    role: RoleOption,
    expires: Annotated[str, typer.Option("--expires", help="A day (2027-01-01), a duration (30d), or never.")] = "never",
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue an admin key. Its secret is printed once and kept nowhere."""
    with session(config, admin) as client:
        issued = client.post("/api/v1/admin/keys", {"name": name, "role": role, "expires": expires})
    if as_json:
        typer.echo(show.json_text(issued))
        return
    typer.echo(f"admin key {show.visible(name)} (id {issued['key']['id']}, {role}). The secret, shown this once:", err=True)
    typer.echo(issued["secret"])


@keys.command("list")
def list_keys(config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """All admin keys but the first one, revoked ones too."""
    with session(config, admin) as client:
        page = client.get("/api/v1/admin/keys")
    columns = ("id", "name", "role", "created", "expires", "revoked")
    rows = [[each["id"], each["name"], each["role"], *_times(each, columns[3:])] for each in page["keys"]]
    _list(page, as_json, columns, rows)


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's name or id.")],
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an admin key for good, at once."""
    with session(config, admin) as client:
        gone = client.post(f"/api/v1/admin/keys/{_key_id(client, key)}/revoke")
    _say(gone, as_json, f"admin key {show.visible(gone['name'])} is revoked")


@sessions.command("list")
def list_sessions(config: ConfigOption = None, admin: AdminOption = None, as_json: JsonOption = False) -> None:
    """All signed-in browsers, the newest first."""
    with session(config, admin) as client:
        page = client.get("/api/v1/admin/sessions")
    columns = ("id", "operator", "role", "address", "created", "seen")
    rows = [[*(each[name] for name in columns[:4]), *_times(each, columns[4:])] for each in page["sessions"]]
    _list(page, as_json, columns, rows)


@sessions.command("end")
def end_session(
    id: Annotated[str, typer.Argument(metavar="ID", help="The session's id.")],
    config: ConfigOption = None,
    admin: AdminOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a browser out."""
    if not re.fullmatch(r"[a-z2-7]{12}", id):
        id = "-"  # which none has: the answer says so
    with session(config, admin) as client:
        gone = client.post(f"/api/v1/admin/sessions/{id}/end")
    _say(gone, as_json, f"{show.visible(gone['operator'])} is signed out there")


def read_password() -> str:
    """Raises CommandFailed: none came, or the two that were typed differ."""
    if sys.stdin.isatty():
        first = getpass.getpass("Password: ")
        if getpass.getpass("The same again: ") != first:
            raise CommandFailed(USAGE, "the two passwords differ; nothing was changed")
        return first
    line = sys.stdin.readline(MAX_LINE)
    if not line.removesuffix("\n").removesuffix("\r"):
        raise CommandFailed(USAGE, "no password came; type it at the prompt, or give it as the first line of standard input")
    return line.removesuffix("\n").removesuffix("\r")


def _in_path(name: str) -> str:
    """A name that can be an account's, as it is; what cannot be one is in no path."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._@-]*", name):
        raise CommandFailed(NO, f"There is no account {name!r}; `slmgate admin users list` shows all.")
    return name


def _key_id(client: AdminClient, key: str) -> str:
    found = [each for each in client.get("/api/v1/admin/keys")["keys"] if key in (each["id"], each["name"])]
    if not found:
        raise CommandFailed(NO, f"There is no admin key {key!r}; `slmgate admin keys list` shows all.")
    return str(next((each["id"] for each in found if each["revoked"] is None), found[-1]["id"]))


def _times(record: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [str(record[name] or "-")[:16].replace("T", " ") for name in names]


def _list(page: dict[str, Any], as_json: bool, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    if as_json:
        typer.echo(show.json_text(page))
    else:
        show.table(columns, rows)


def _say(data: dict[str, Any], as_json: bool, text: str) -> None:
    typer.echo(show.json_text(data) if as_json else text)


def register(app: typer.Typer) -> None:
    admin_app.add_typer(users, name="users")
    admin_app.add_typer(keys, name="keys")
    admin_app.add_typer(sessions, name="sessions")
    app.add_typer(admin_app, name="admin")
