"""What the admin API needs from the process that it runs in, and the records in which it tells of the gate.

The control process answers this protocol while the gate runs; `local.py` does for commands when none runs. Nothing here
knows HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from slmgate.control.accounts import Accounts
from slmgate.control.acme.status import CertificateStatus
from slmgate.control.catalogue import Catalogue
from slmgate.control.config import Config
from slmgate.control.config.admin_options import Admin
from slmgate.control.keyring import Keyring
from slmgate.control.live import LiveRequests
from slmgate.control.looking import Place
from slmgate.control.operators import AdminKeys
from slmgate.control.roster import Roster
from slmgate.link.messages import Ban
from slmgate.stores.base import Store

InstanceState = Literal["checking", "healthy", "recovering", "half_open", "ejected", "unhealthy"]
"""From good to bad. `checking`: nothing is known of it yet. `unhealthy`: its checks fail, or it has not the model. The others go
by requests."""


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`ready`: at least one instance takes requests. `hidden`: nobody may ask for it, so that the gate is ready without."""

    name: str
    ready: bool
    hidden: bool = False


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One instance, over all workers. `healthy` False: at least one worker passes it over.

    `state` is the worst that any worker sees, `why` what for, `again` the seconds until it is tried at the latest (0: its checks
    decide, or now), `failures` the most requests in a row that failed there. `check` says how the last check went and `checked`
    when, `since` since when checks say what they say now; None: it is not checked, or was not yet. `catalogue` is what it last
    said that it serves; None: it was not asked.

    All that is health. Beside it, `draining`: it gets no new request; `drained`: and no worker has one there any more. `source`:
    `file` (the configuration), `dns:` and a name or `file:` and a file that led to it, `added` (at run time), or `removed`, when
    it is gone and what is under way there goes on. `process` is what one is that the gate starts itself (None: it does not),
    `pid` its process id.
    """

    id: str
    model: str
    in_flight: int = 0
    waiting: int = 0
    healthy: bool = True
    state: InstanceState = "healthy"
    why: str = ""
    again: float = 0.0
    failures: int = 0
    check: str | None = None
    checked: datetime | None = None
    since: datetime | None = None
    catalogue: Catalogue | None = None
    draining: bool = False
    drained: bool = False
    source: str = "file"
    process: Literal["stopped", "starting", "up", "stopping", "backing_off"] | None = None
    pid: int | None = None


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process. Counters grow from its start; `unjournaled` counts requests served without a record, `shadows` the
    copies of requests that were sent and have ended, `shadows_dropped` those for which there was no room.
    Of the guard: connections that were closed at once (`turned_away`) or because the gate was full (`shed`), requests that were
    refused without a receipt (`guarded`), and bans. `self_service` counts the requests of key holders to `/me`.
    """

    slot: int
    pid: int
    ready: bool
    connections: int = 0
    in_flight: int = 0
    requests: int = 0
    refused: int = 0
    unjournaled: int = 0
    shadows: int = 0
    shadows_dropped: int = 0
    turned_away: int = 0
    guarded: int = 0
    bans: int = 0
    shed: int = 0
    self_service: int = 0


class GateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The gate as it is now. `faults` are those of the last configuration that was refused; empty: the newest is in force.
    `notes` say what is wrong with names and files that are followed: of instances, and of TLS.

    `ledger_lag` is seconds since the ledger had all that was journaled, None when it never had.
    `running` False: no gate runs, and the rest says nothing.
    """

    generation: int = 0
    draining: bool = False
    models: Sequence[ModelStatus] = ()
    instances: Sequence[InstanceStatus] = ()
    workers: Sequence[WorkerStatus] = ()
    faults: Sequence[str] = ()
    notes: Sequence[str] = ()
    ledger_lag: float | None = None
    certificates: Sequence[CertificateStatus] = ()
    running: bool = True

    @property
    def ready(self) -> bool:
        """Every model has an instance, a worker serves, and nothing is being shut down."""
        serving = any(worker.ready for worker in self.workers)
        return self.running and not self.draining and serving and all(model.ready or model.hidden for model in self.models)


class AdminContext(Protocol):
    """The gate, as the admin API sees it. `status` is called on the event loop and must not block."""

    @property
    def store(self) -> Store: ...

    @property
    def keyring(self) -> Keyring: ...

    @property
    def admin_keys(self) -> AdminKeys: ...

    @property
    def config(self) -> Config | None:
        """The configuration in force; None where no gate runs."""
        ...

    @property
    def accounts(self) -> Accounts: ...

    @property
    def roster(self) -> Roster: ...

    @property
    def admin(self) -> Admin:
        """The options of this listener, as they are in force."""
        ...

    def status(self) -> GateStatus: ...

    @property
    def live(self) -> LiveRequests | None:
        """Whom to ask for requests under way; None where no gate runs."""
        ...

    async def look(self, places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        """What is used of each of these limits, and what may be at most now. Raises NobodyLooks."""
        ...

    async def bans(self) -> Sequence[Ban]:
        """Whose address is banned, in no order. Raises NobodyLooks."""
        ...

    async def lift_ban(self, address: str) -> Ban | None:
        """Ban an address no more; None: it was not banned. Raises NobodyLooks."""
        ...

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """The figures for Prometheus, in a form that `accept` (a header) takes, and that form. Raises LedgerUnavailable."""
        ...

    async def reload(self) -> Sequence[object]:
        """Read the configuration afresh; returns the faults (as `str` shows them) for which the old one stays, if any."""
        ...
