"""The admin API without a gate: what commands talk to when no server runs, over the same store.

It opens the store itself, so a command has one way to ask and one form of answer, whoever answers. It starts no process,
reads no configuration and serves no socket; the caller is the owner of the files and needs no credential.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slmgate.control.admin.context import GateStatus
from slmgate.control.keyring import Keyring
from slmgate.control.operators import AdminKeys, Operator, Permission
from slmgate.control.state_dir import LEDGER_FILE
from slmgate.stores.base import LedgerUnavailable, NotOffered, SchemaTooNew
from slmgate.stores.sql import open_store

STORE_FAULTS = (LedgerUnavailable, SchemaTooNew, NotOffered)
"""What opening or asking a store may raise; the message of each says what to do."""


class OwnerOfFiles(AdminKeys):
    """Whoever can read and write the state directory needs no key to do so."""

    def check(self, secret: str) -> Operator | None:
        return Operator("cli", Permission.OWNER)


class LocalContext:
    """`AdminContext` over the store in `state_dir`. Raises LedgerUnavailable, SchemaTooNew, OSError."""

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.store = open_store(state_dir / LEDGER_FILE)
        self.keyring = Keyring(self.store)
        self.admin_keys = OwnerOfFiles(state_dir)

    def status(self) -> GateStatus:
        return GateStatus(running=False)

    async def reload(self) -> Sequence[object]:
        return ("No gate runs; `slmgate serve` reads the configuration when it starts.",)
