"""How commands reach the gate: over its admin API when one runs, else through the same API on the store itself.

Turns what goes wrong into messages and exit codes. Where the gate is, `place.py` says; this module knows no command, and
of the API only its form, not its routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from slmgate.cli.ends import NO, UNREACHABLE, USAGE, CommandFailed, exits, not_ours
from slmgate.cli.place import KEY_VARIABLE, find

if TYPE_CHECKING:
    import httpx

    from slmgate.control.admin.local import LocalContext

TIMEOUT = 30.0
_MARK = "slmgate-admin-api"  # the header of every answer; `control/admin/routes.py` says it too, and costs too much to import

# readable=False: what is wrong with a file is ours to say, not that of the library of flags
ConfigOption = Annotated[
    Path | None,
    typer.Option("-c", "--config", metavar="FILE", readable=False, help="The configuration file.  [default: slmgate.yaml]"),
]
AdminOption = Annotated[
    str | None, typer.Option("--admin", metavar="URL", help=f"A gate's admin address; its key comes from {KEY_VARIABLE}.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


class NotNow(CommandFailed):
    """The gate answers, and cannot do it at the moment: a later try may go well."""


class Road(Protocol):
    """A way to an admin API. `ask` returns HTTP status and decoded JSON; it raises CommandFailed when nothing answers."""

    def ask(
        self, method: str, path: str, query: Mapping[str, object], body: Mapping[str, object] | None, timeout: float = TIMEOUT
    ) -> tuple[int, Any]: ...

    def close(self) -> None: ...


class Network:
    """The road to a gate that runs."""

    def __init__(self, url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        """`transport` None: the network."""
        # Imported here, as commands need it only where a gate runs.
        import httpx

        self._url = url
        self._failures = (httpx.TransportError, httpx.InvalidURL)
        self._http = httpx.Client(
            transport=transport,
            base_url=url,
            headers={"authorization": f"Bearer {key}"},
            trust_env=False,  # a gate on this machine is not asked for through a proxy
        )

    def ask(
        self, method: str, path: str, query: Mapping[str, object], body: Mapping[str, object] | None, timeout: float = TIMEOUT
    ) -> tuple[int, Any]:
        params = {name: str(value) for name, value in query.items()}
        try:
            answer = self._http.request(method, path, params=params, json=body, timeout=timeout)
        except self._failures as error:
            raise CommandFailed(
                UNREACHABLE, f"{self._url} does not answer ({_reason(error)}); is `slmgate serve` running there?"
            ) from error
        try:
            if _MARK not in answer.headers:
                raise ValueError
            return answer.status_code, answer.json()
        except ValueError:
            raise CommandFailed(UNREACHABLE, f"what answers at {self._url} is not a slmgate admin API") from None

    def close(self) -> None:
        self._http.close()


class AdminClient:
    """One command's conversation over a road. Use it in a `with`."""

    def __init__(self, road: Road) -> None:
        self.road = road

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.road.close()

    def get(self, path: str, query: Mapping[str, object] | None = None, timeout: float = TIMEOUT) -> Any:
        """The answer's JSON, within so many seconds. None among the query's values are left out. Raises CommandFailed."""
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        return self._ask("GET", path, asked, None, timeout)

    def post(self, path: str, body: Mapping[str, object] | None = None, timeout: float = TIMEOUT) -> Any:
        """As `get`, for a change, which may take so many seconds."""
        return self._ask("POST", path, {}, body or {}, timeout)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        body: Mapping[str, object] | None,
        timeout: float = TIMEOUT,
    ) -> Any:
        status, data = self.road.ask(method, path, query, body, timeout)
        if status < 400:
            return data
        detail = data.get("detail") if isinstance(data, dict) else None
        if status == 503:
            raise NotNow(NO, str(detail or data))
        raise CommandFailed(USAGE if status == 400 else NO, str(detail or data))


def connect(config: Path | None, admin: str | None) -> AdminClient:
    """A client of the running gate, or of its store when none runs here. Raises CommandFailed."""
    from slmgate.control.state_dir import is_served

    place = find(config, admin)
    try:
        if place.named or place.state_dir is None or is_served(place.state_dir):
            return AdminClient(Network(place.url, place.admin_key()))
    except PermissionError as error:
        raise CommandFailed(UNREACHABLE, not_ours(error)) from error
    from slmgate.control.admin.local import LocalApi

    return AdminClient(LocalApi(open_local(place.state_dir)))


def open_local(state_dir: Path) -> LocalContext:
    """The store in `state_dir`, with its keyring. Raises CommandFailed."""
    from slmgate.control.admin.local import STORE_FAULTS, LocalContext

    try:
        return LocalContext(state_dir)
    except (*STORE_FAULTS, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, PermissionError):
            raise CommandFailed(UNREACHABLE, not_ours(cause)) from error
        raise CommandFailed(NO, str(error)) from error


@contextmanager
def session(config: Path | None, admin: str | None) -> Iterator[AdminClient]:
    """`connect` for a command: what fails is said on stderr and becomes the exit code."""
    with exits(), connect(config, admin) as client:
        yield client


def _reason(error: Exception) -> str:
    return "timed out" if "Timeout" in type(error).__name__ else str(error) or type(error).__name__
