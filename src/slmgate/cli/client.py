"""How commands reach the gate: over its admin API when one runs, else through the same API on the store itself.

Finds the address, the state directory and the admin key, and turns what goes wrong into messages and exit codes. It
knows no command; and of the API only its form, not its routes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import httpx
import typer

DEFAULT_FILE = Path("slmgate.yaml")
KEY_VARIABLE = "SLMGATE_ADMIN_KEY"
TIMEOUT = 30.0

DONE, NO, USAGE, UNREACHABLE = 0, 1, 2, 3

ConfigOption = Annotated[
    Path | None, typer.Option("-c", "--config", metavar="FILE", help="The configuration file.  [default: slmgate.yaml]")
]
AdminOption = Annotated[
    str | None, typer.Option("--admin", metavar="URL", help=f"A gate's admin address; its key comes from {KEY_VARIABLE}.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


class CommandFailed(Exception):
    """A command ends here: `code` is its exit code, the message is for the user."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Place:
    """Where a gate is, or would be: its admin address as a URL, and its state directory (None: not on this machine)."""

    def __init__(self, url: str, state_dir: Path | None) -> None:
        self.url = url
        self.state_dir = state_dir

    def admin_key(self) -> str | None:
        from slmgate.control.operators import read_admin_key

        return os.environ.get(KEY_VARIABLE) or (read_admin_key(self.state_dir) if self.state_dir else None)


class AdminClient:
    """One command's conversation. Use it in a `with`."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None,
        url: str,
        key: str | None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """`transport` None: the network. `close` is called at the end, for what stands behind the transport."""
        self._url = url
        self._close = close
        self._runner = asyncio.Runner()
        self._http = httpx.AsyncClient(
            transport=transport,
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT,
            trust_env=False,  # a gate on this machine is not asked for through a proxy
        )

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._runner.run(self._http.aclose())
        self._runner.close()
        self._close()

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """The answer's JSON. None among the query's values are left out. Raises CommandFailed."""
        return self._ask("GET", path, {name: str(value) for name, value in (query or {}).items() if value is not None}, None)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """As `get`, for a change."""
        return self._ask("POST", path, {}, body or {})

    def _ask(self, method: str, path: str, query: dict[str, str], body: Mapping[str, object] | None) -> Any:
        try:
            answer = self._runner.run(self._http.request(method, path, params=query, json=body))
        except httpx.TransportError as error:
            raise CommandFailed(
                UNREACHABLE, f"{self._url} does not answer ({_reason(error)}); is `slmgate serve` running there?"
            ) from error
        try:
            data = answer.json()
        except ValueError:
            raise CommandFailed(UNREACHABLE, f"What answers at {self._url} is not slmgate's admin API.") from None
        if answer.is_success:
            return data
        detail = data.get("detail") if isinstance(data, dict) else None
        raise CommandFailed(USAGE if answer.status_code == 400 else NO, str(detail or data))


def find(config: Path | None, admin: str | None) -> Place:
    """Where the gate is that a command is about. Raises CommandFailed."""
    from slmgate.control.config import Config, load

    path = config or DEFAULT_FILE
    if admin is not None and (config is None and not path.is_file()):
        return Place(_checked(admin), None)
    if path.is_file():
        loaded = load(path)
        if loaded.config is None:
            from slmgate.cli import faults

            raise CommandFailed(USAGE, faults.text(loaded.faults))
        found = loaded.config
    elif config is not None:
        raise CommandFailed(USAGE, f"There is no file {path}; name one with -c, or let `slmgate init` write one.")
    else:
        found = Config(models={})  # what `slmgate serve --upstream URL` runs with
    host, port = found.admin.address.host, found.admin.address.port
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound to
    own = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return Place(own if admin is None else _checked(admin), found.state_dir)


def connect(config: Path | None, admin: str | None) -> AdminClient:
    """A client of the running gate, or of its store when none runs here. Raises CommandFailed."""
    from slmgate.control.state_dir import is_served

    place = find(config, admin)
    if admin is not None or place.state_dir is None or is_served(place.state_dir):
        key = place.admin_key()
        if key is None:
            raise CommandFailed(USAGE, f"No admin key: set {KEY_VARIABLE}, or run this where the state directory's admin.key is.")
        return AdminClient(None, place.url, key)
    from slmgate.control.admin import create_app
    from slmgate.control.admin.local import STORE_FAULTS, LocalContext

    try:
        context = LocalContext(place.state_dir)
    except (*STORE_FAULTS, OSError) as error:
        raise CommandFailed(NO, str(error)) from error
    app: Any = create_app(context)  # Litestar's types of an ASGI application and httpx's differ in words only
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return AdminClient(transport, "http://localhost", "local", context.store.close)  # any key will do


@contextmanager
def session(config: Path | None, admin: str | None) -> Iterator[AdminClient]:
    """`connect` for a command: what fails is said on stderr and becomes the exit code."""
    with exits(), connect(config, admin) as client:
        yield client


@contextmanager
def exits() -> Iterator[None]:
    """A CommandFailed inside ends the command with its message and code."""
    try:
        yield
    except CommandFailed as error:
        typer.echo(f"slmgate: {error}", err=True)
        raise typer.Exit(error.code) from None


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise CommandFailed(USAGE, f"{url!r} is not an admin address; write it as http://127.0.0.1:8081.")
    return url


def _reason(error: httpx.TransportError) -> str:
    return "timed out" if isinstance(error, httpx.TimeoutException) else str(error) or type(error).__name__
