"""A gate as the admin API sees it, for tests: a real store and keyring, and a status that the test sets.

It starts nothing and opens no socket; `asking` speaks to the application in this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from argon2 import PasswordHasher
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.accounts import Accounts
from slmgate.control.admin import create_app
from slmgate.control.admin.context import GateStatus, InstanceStatus, ModelStatus, WorkerStatus
from slmgate.control.config import Config
from slmgate.control.config.admin_options import Admin
from slmgate.control.keyring import Keyring
from slmgate.control.live import LiveRequests
from slmgate.control.looking import Place
from slmgate.control.metrics.service import Metrics
from slmgate.control.operators import AdminKeys, create_first_admin_key, read_admin_key
from slmgate.control.passwords import Passwords
from slmgate.control.roster import Roster
from slmgate.link.messages import Ban
from slmgate.stores.base import Store
from slmgate.stores.sql import open_store

READY = GateStatus(
    generation=7,
    models=[ModelStatus(name="smollm2", ready=True)],
    instances=[InstanceStatus(id="http://10.0.0.5:8000", model="smollm2", in_flight=3, waiting=1)],
    workers=[WorkerStatus(slot=0, pid=4711, ready=True)],
    ledger_lag=0.0,
)


CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Argon2 without its cost."""


class AdminGate:
    """`AdminContext` over a store in `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        create_first_admin_key(state_dir)
        self.secret = read_admin_key(state_dir) or ""
        self.store: Store = open_store(state_dir / "ledger.sqlite3")
        self.keyring = Keyring(self.store)
        self.admin_keys = AdminKeys(state_dir, self.store.operators)
        self.accounts = Accounts(self.store, passwords=Passwords(CHEAP))
        self.roster = Roster(self.store.instances)
        self.admin = Admin()
        self.now = READY
        self.faults: Sequence[object] = ()
        self.live: LiveRequests | None = LiveRequests()
        self.config: Config | None = None
        self.used: dict[tuple[str, str], int] = {}
        """What is used, by a limit's words and for whom it is counted."""
        self.asked: list[Place] = []
        self.banned: list[Ban] = []
        self.metrics = Metrics(state_dir / "metrics.json", state_dir, self.store)
        self.metrics.begin()

    def status(self) -> GateStatus:
        return self.now

    async def look(self, places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        self.asked += places
        return [(self.used.get((spec.text, whose), 0), spec.amount) for spec, whose in places]

    async def bans(self) -> Sequence[Ban]:
        return self.banned

    async def lift_ban(self, address: str) -> Ban | None:
        found = next((ban for ban in self.banned if ban.address == address), None)
        self.banned = [ban for ban in self.banned if ban is not found]
        return found

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        return await self.metrics.scrape(self, accept)

    async def reload(self) -> Sequence[object]:
        return self.faults


@contextmanager
def asking(gate: AdminGate, *hosts: str) -> Iterator[TestClient[Litestar]]:
    """A client with the first admin key."""
    headers = {"authorization": f"Bearer {gate.secret}"}
    with TestClient(create_app(gate, hosts), base_url="http://127.0.0.1:8081", raise_server_exceptions=False) as client:
        client.headers.update(headers)
        yield client
