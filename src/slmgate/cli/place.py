"""Where the gate is that a command is about: its admin address, its state directory, and whether its owner key may be used.

The configuration says it; while that is broken, the copy of the last good one does, because a key must be revocable then,
too. This module asks no gate and changes nothing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import typer

from slmgate.cli.ends import UNREACHABLE, USAGE, CommandFailed, not_ours
from slmgate.control.config.addresses import Address, Listener
from slmgate.control.config.document import parse, plain_value
from slmgate.control.config.faults import BadValueError
from slmgate.control.operators import read_admin_key
from slmgate.control.state_dir import LAST_GOOD, noted_admin_address

DEFAULT_FILE = Path("slmgate.yaml")
DEFAULT_STATE_DIR = "slmgate-data"
DEFAULT_ADMIN = Address("127.0.0.1", 8081)
KEY_VARIABLE = "SLMGATE_ADMIN_KEY"

_ANY = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound to
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Place(NamedTuple):
    """`url` is the admin address. `state_dir` None: not this machine's own gate, so that its key must be given.

    `named`: the address was given to the command, which then asks there and nowhere else.
    """

    url: str
    state_dir: Path | None
    named: bool = False

    def admin_key(self) -> str:
        """Raises CommandFailed: there is none that may be sent to this address. PermissionError: another user's."""
        key = os.environ.get(KEY_VARIABLE) or (read_admin_key(self.state_dir) if self.state_dir else None)
        if key is None and self.state_dir is None:
            raise CommandFailed(
                USAGE,
                f"no admin key for {self.url}: set {KEY_VARIABLE}. The key in a state directory is sent to the address of its "
                "own configuration only.",
            )
        if key is None:
            raise CommandFailed(USAGE, f"no admin key: set {KEY_VARIABLE}, or bring back {self.state_dir}/admin.key")
        return key


def find(config: Path | None, admin: str | None) -> Place:
    """The place that the flags `-c` and `--admin` mean. Raises CommandFailed."""
    if admin is None:
        place, warning = _configured(config)
        if warning:
            typer.echo(f"slmgate: warning: {warning}", err=True)
        return place
    url = _checked(admin)
    if os.environ.get(KEY_VARIABLE):
        return Place(url, None, named=True)
    # Only to see whether the address is our own gate's: then, and only then, the key of its state directory goes there.
    try:
        own, _ = _configured(config)
    except CommandFailed:
        return Place(url, None, named=True)
    return Place(url, own.state_dir if _same(url, own.url) else None, named=True)


def _configured(config: Path | None) -> tuple[Place, str]:
    """What the file says, and a warning when it could not be gone by."""
    from slmgate.control.config import Config, load

    path = config or DEFAULT_FILE
    try:
        there = path.is_file()
    except PermissionError as error:
        raise CommandFailed(UNREACHABLE, not_ours(error)) from error
    if not there:
        if config is not None:
            raise CommandFailed(USAGE, f"There is no file {path}; name one with -c, or let `slmgate init` write one.")
        default = Config(models={})  # what `slmgate serve --upstream URL` runs with, but for what its flags said
        noted = noted_admin_address(default.state_dir)
        return Place(_url((_address(noted) if noted else None) or default.admin.address), default.state_dir), ""
    if not os.access(path, os.R_OK):
        raise CommandFailed(UNREACHABLE, not_ours(PermissionError(13, "", str(path))))
    loaded = load(path)
    if loaded.config is not None:
        return Place(_url(loaded.config.admin.address), loaded.config.state_dir), ""
    address, state_dir = _glimpse(path)
    where = path.absolute().parent / (state_dir or DEFAULT_STATE_DIR)
    if not where.is_dir():
        from slmgate.cli import faults

        raise CommandFailed(USAGE, f"no gate has run by this file, and it cannot be used:\n{faults.text(loaded.faults)}")
    kept = where / LAST_GOOD
    in_force, _ = _glimpse(kept)
    by = f"the last good one, {kept}" if in_force else f"the state directory {where}"
    return (
        Place(_url(in_force or address or DEFAULT_ADMIN), where),
        f"{path} has faults (`slmgate check` shows them); going by {by}",
    )


def _glimpse(path: Path) -> tuple[Address | None, str | None]:
    """Admin address and state directory that a file names, whatever else is wrong in it or missing from the environment."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, None
    root, _ = parse(text)
    if root is None:  # not even YAML; the line of the state directory may still be whole
        lines = (re.fullmatch(r"""state_dir\s*:\s*["']?([^"'#]+?)["']?\s*(?:#.*)?""", line) for line in text.splitlines())
        return None, next((found[1] for found in lines if found and "${" not in found[1]), None)
    values = plain_value(root)
    if not isinstance(values, dict):
        return None, None
    admin, state_dir = values.get("admin"), values.get("state_dir")
    address = _address(admin.get("address", str(DEFAULT_ADMIN))) if isinstance(admin, dict) else DEFAULT_ADMIN
    return address, state_dir if isinstance(state_dir, str) and "${" not in state_dir else None


def _address(text: object) -> Address | None:
    try:
        address: Address = Listener().take(str(text), "quoted")
    except BadValueError:
        return None
    return address


def _url(address: Address) -> str:
    return f"http://{Address(_ANY.get(address.host, address.host), address.port)}"


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise CommandFailed(USAGE, f"{url!r} is not an admin address; write it as http://127.0.0.1:8081.")
    return url


def _same(one: str, other: str) -> bool:
    """Whether two URLs mean one listener on this machine: equal, or both of its loopback."""
    a, b = urlsplit(one), urlsplit(other)
    hosts = a.hostname == b.hostname or (a.hostname in _LOOPBACK and b.hostname in _LOOPBACK)
    return a.scheme == b.scheme and hosts and (a.port or 80) == (b.port or 80) and a.username is None
