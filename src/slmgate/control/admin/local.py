"""The admin API without a gate: what commands talk to when no server runs, over the same store.

The same handlers answer, in the same form, so a command has one way to ask, whoever answers. It starts no process, reads
no configuration, serves no socket and needs no web framework; the caller is the owner of the files and needs no credential.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from slmgate.control.accounts import Accounts
from slmgate.control.admin import (
    bans,
    billing,
    certificates,
    explaining,
    handlers,
    instances,
    live,
    metrics,
    operating,
    standing,
    views,
)
from slmgate.control.admin.context import GateStatus
from slmgate.control.admin.routes import ROUTES
from slmgate.control.config import Config
from slmgate.control.config.admin_options import Admin
from slmgate.control.keyring import Keyring
from slmgate.control.looking import NobodyLooks, Place
from slmgate.control.operators import AdminKeys, Operator, Permission
from slmgate.control.roster import Roster
from slmgate.control.state_dir import LEDGER_FILE, changing
from slmgate.link.messages import Ban
from slmgate.stores.records import LedgerUnavailable, NotOffered, SchemaTooNew
from slmgate.stores.sql import copy_ledger, open_store

STORE_FAULTS = (LedgerUnavailable, SchemaTooNew, NotOffered)
"""What opening or asking a store may raise; the message of each says what to do."""
_STARTED = "A gate has started here meanwhile, and nothing was changed; try again."
_NO_BANS = "No gate runs here, so that nobody is kept out."
_OWNER = Operator("cli", Permission.OWNER)
_BODIES: Mapping[Callable[..., Any], type] = {
    handlers.create_key: views.NewKey,
    handlers.edit_key: views.KeyEdit,
    handlers.rotate_key: views.Rotation,
    handlers.import_keys: views.KeyImport,
    operating.add_account: operating.NewAccount,
    operating.set_password: operating.NewPassword,
    operating.set_role: operating.NewRole,
    operating.create_admin_key: operating.NewAdminKey,
}
_OF_A_GATE = (
    handlers.healthz,
    handlers.readyz,
    metrics.metrics,
    handlers.reload,
    instances.add_instance,
    instances.drain_instance,
    instances.enable_instance,
    instances.remove_instance,
    explaining.explain,
    explaining.explain_request,
    billing.statement_page,
    standing.limits,
    certificates.certificates,
    bans.bans,
    bans.lift_ban,
    live.live,
    live.cancel_live,
)


class OwnerOfFiles(AdminKeys):
    """Whoever can read and write the state directory needs no key to do so."""

    def check(self, secret: str) -> Operator | None:
        return _OWNER


def back_up(state_dir: Path, target: Path, progress: Callable[[int, int], object]) -> None:
    """Copy the ledger in `state_dir`, whatever version of it that is: nothing is changed in it, nor made where there is none.

    Raises LedgerUnavailable, and OSError of `target`; with nothing left of the copy.
    """
    ledger = state_dir / LEDGER_FILE
    try:
        os.close(os.open(ledger, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise LedgerUnavailable(f"The ledger {ledger} cannot be read: {error.strerror}.") from error
    copy_ledger(ledger, target, progress)


class LocalContext:
    """`AdminContext` over the store in `state_dir`. Raises LedgerUnavailable, SchemaTooNew, OSError."""

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state_dir = state_dir
        self.store = open_store(state_dir / LEDGER_FILE)
        self.keyring = Keyring(self.store)
        self.admin_keys = OwnerOfFiles(state_dir)
        self.accounts = Accounts(self.store)
        self.roster = Roster(self.store.instances)
        self.admin = Admin()
        # None is in force; a command that needs one puts that of its file here.
        self.config: Config | None = None

    live = None

    def status(self) -> GateStatus:
        return GateStatus(running=False)

    async def look(self, places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        raise NobodyLooks("No gate runs here, so that no limit is in use.")

    async def bans(self) -> Sequence[Ban]:
        raise NobodyLooks(_NO_BANS)

    async def lift_ban(self, address: str) -> Ban | None:
        raise NobodyLooks(_NO_BANS)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        raise NobodyLooks("No gate runs here, so that there are no figures.")

    async def reload(self) -> Sequence[object]:
        return ("No gate runs; `slmgate serve` reads the configuration when it starts.",)


class LocalApi:
    """The routes of the admin API, answered over a store that no gate serves. Not for use from two threads."""

    def __init__(self, context: LocalContext) -> None:
        self._context = context

    def configure(self, config: Config) -> None:
        """Answer by this configuration, as a gate would that had it in force."""
        self._context.config = config

    def close(self) -> None:
        self._context.store.close()

    def ask(
        self, method: str, path: str, query: Mapping[str, object], body: Mapping[str, object] | None, timeout: float = 0.0
    ) -> tuple[int, Any]:
        """HTTP status and decoded JSON, as the API itself would give them. `query` holds values of the handlers' types."""
        handler, given = _handler(method, path)
        if handler is None:
            return 404, {"detail": f"The admin API has no {method} {path}."}
        if handler in _OF_A_GATE:
            return 409, {"detail": "No gate runs here; `slmgate serve` starts one."}
        try:
            if "caller" in inspect.signature(handler).parameters:
                given["caller"] = _OWNER
            if handler in _BODIES:
                given["data"] = msgspec.convert(body or {}, _BODIES[handler])
            if "context" in inspect.signature(handler).parameters:
                given["context"] = self._context
            if method == "GET":
                answer = _answer(handler, given, query)
            else:
                with changing(self._context.state_dir) as alone:
                    if not alone:
                        return 503, {"detail": _STARTED}
                    answer = _answer(handler, given, query)
        except msgspec.ValidationError as error:
            return 400, {"detail": str(error)}
        except tuple(handlers.STATUS) as error:
            return next(status for kind, status in handlers.STATUS.items() if isinstance(error, kind)), {"detail": str(error)}
        return 200, msgspec.json.decode(msgspec.json.encode(answer))


def _answer(handler: Callable[..., Any], given: Mapping[str, Any], query: Mapping[str, object]) -> Any:
    answer = handler(**given, **query)
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


def _handler(method: str, path: str) -> tuple[Callable[..., Any] | None, dict[str, Any]]:
    """The handler of the row for this path, with what the path says."""
    for row in ROUTES:
        before, variable, after = row.path.partition("{id:str}")
        found = re.fullmatch(f"{re.escape(before)}{'([^/]+)' if variable else ''}{re.escape(after)}", path)
        if row.method == method and found:
            return row.handler, {"id": found[1]} if variable else {}
    return None, {}
