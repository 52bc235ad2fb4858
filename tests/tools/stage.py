"""A worker on fakes: real connections, exchanges, pools and a real journal, on a turned clock and transports of bytes.

`Stage` sets it up, moves the other sides, and checks at the end that every request left one receipt and nothing is held.
It does not know what a test expects in between; `road.py` writes that down as a transcript.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slmgate.dataplane.client import ClientConnection
from slmgate.dataplane.door import Arrival
from slmgate.dataplane.journal import Journal
from slmgate.dataplane.worker import Worker
from slmgate.link import beats, journal
from slmgate.link.orders import WorkerOrders
from slmgate.policy.roles import RoleSpec
from slmgate.policy.specs import GateSpec, InstanceSpec, ModelSpec, SnapshotSpec
from slmgate.terms import Key
from tests.tools.fakes import Clock, FakeLoop, FakeTransport

INTENT, RECEIPT = b"I", b"R"
"""The kinds of records."""
SECRET = b"sk-slm-unit-0123456789abcdef"
KEY = Key(id="k1", name="acme-bot", team="acme", digests=((sha256(SECRET).digest(), None),))


def instance(name: str, **settings: Any) -> InstanceSpec:
    """An instance whose id and host are its name."""
    return InstanceSpec(id=name, host=name, port=80, **settings)


def model(*instances: str | InstanceSpec, name: str = "m", **settings: Any) -> ModelSpec:
    """A model with these instances, `a` when none is given."""
    specs = tuple(instance(one) if isinstance(one, str) else one for one in instances or ("a",))
    return ModelSpec(name=name, instances=specs, balance=settings.pop("balance", "round_robin"), **settings)


def request(
    body: bytes | dict[str, Any] = b"",
    fields: bytes = b"",
    line: bytes = b"POST /v1/chat/completions HTTP/1.1",
    key: bytes = SECRET,
) -> bytes:
    """A request with the key and a sized body; `fields` are further header lines, each with its line end."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    length = b"Content-Length: %d\r\n" % len(data) if data else b""
    return b"%b\r\nHost: gate\r\nAuthorization: Bearer %b\r\n%b%b\r\n%b" % (line, key, fields, length, data)


def reply(body: bytes, status: int = 200, fields: bytes = b"content-type: application/json\r\n") -> bytes:
    """An instance's sized answer."""
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, fields, len(body), body)


class WatchedJournal(Journal):
    """Notes every intent, as it stands in its file when it was taken down: a moment later its slot may be given back."""

    stage: Stage

    def intent(self, intent: bytes) -> int:
        slot = super().intent(intent)
        self.stage.read_segments()  # what came before
        path = self.stage.journal / journal.intents_name(self.stage.worker.incarnation)
        (payload,) = journal.read_payloads(path.read_bytes()[slot : slot + journal.SLOT])[0]
        self.stage.unread.append((INTENT, json.loads(payload)))
        return slot


class Stage:
    """`models` and the other settings are the first snapshot's; `told` is called with what our side does, as it does it."""

    def __init__(
        self,
        directory: Path,
        patch: pytest.MonkeyPatch,
        *models: ModelSpec,
        gate: GateSpec | None = None,
        segment_size: int = 64 * 1024,
        **orders: Any,
    ) -> None:
        self.clock = Clock()
        self.loop = FakeLoop(self.clock)
        for name, module in list(sys.modules.items()):
            if name.startswith(("slmgate.dataplane.", "slmgate.link.")) and getattr(module, "time", None) is time:
                patch.setattr(module, "time", self.clock)
        no_limits = SimpleNamespace(RLIMIT_NOFILE=0, getrlimit=lambda _: (1024, 4096), setrlimit=lambda *_: None)
        patch.setattr("slmgate.dataplane.worker.resource", no_limits)
        patch.setattr("slmgate.dataplane.worker.Journal", WatchedJournal)
        WatchedJournal.stage = self
        self.journal = directory / "journal"
        self.limits = directory / "limits"
        self.board = beats.create()
        settings = {
            "listeners": (),
            "sync": None,
            "link": "",
            "limits": str(self.limits),
            "answers": str(directory / "answers"),
            "segment_size": segment_size,
            **orders,
        }
        self.worker = Worker(
            WorkerOrders(
                slot=0,
                beats=self.board,
                lifeline=-1,
                journal=str(self.journal),
                **settings,
            ),
            self.loop,
        )
        self.gate = gate or GateSpec()
        self.models = models or (model(),)
        self.roles: tuple[RoleSpec, ...] = ()
        self.clients: list[ClientConnection] = []
        self.asked = 0  # requests that owe a receipt, by the ids given out
        self._read: dict[str, int] = {}  # segment -> how far it was read
        self.unread: list[tuple[bytes, dict[str, Any]]] = []
        self.records: list[tuple[bytes, dict[str, Any]]] = []
        self.publish()
        self.life = self.loop.create_task(self.worker.run())
        self.loop.settle()

    def publish(
        self,
        *models: ModelSpec,
        gate: GateSpec | None = None,
        keys: tuple[Key, ...] = (KEY,),
        roles: tuple[RoleSpec, ...] | None = None,
        **more: Any,
    ) -> None:
        """A new snapshot comes. `models`, `gate` and `roles` stay as they were where they are not given."""
        self.roles = self.roles if roles is None else roles
        self.models, self.gate = models or self.models, gate or self.gate
        generation = self.worker.snapshot.generation + 1
        self.worker.keys.begin()
        self.worker.keys.put(keys)
        self.worker.keys.end()
        self.worker.apply(SnapshotSpec(generation=generation, gate=self.gate, models=self.models, roles=self.roles, **more))
        self.loop.settle()

    def connect(self, name: str = "client", arrival: Arrival | None = None) -> FakeTransport:
        """A client connects; `name` is what it is called in what the loop tells. `arrival`: as it came through a door."""
        client = ClientConnection(self.worker, arrival)
        transport = FakeTransport(self.loop, client, lambda what, data: self.loop.told(name, what, data))
        client.connection_made(transport)
        self.clients.append(client)
        return transport

    def read_journal(self) -> list[tuple[bytes, dict[str, Any]]]:
        """The records that came since the last call, as control would find them: kind and fields."""
        self.read_segments()
        new, self.unread = self.unread, []
        self.records += new
        return new

    def read_segments(self) -> None:
        for path in sorted(self.journal.glob("*.seg")):
            begin = self._read.get(path.name, journal.HEADER_SIZE)
            payloads, self._read[path.name] = journal.read_payloads(path.read_bytes(), begin)
            self.unread += [(RECEIPT, json.loads(payload)) for payload in payloads]

    @property
    def receipts(self) -> list[dict[str, Any]]:
        self.read_journal()
        return [fields for kind, fields in self.records if kind == RECEIPT]

    def check(self) -> None:
        """Everybody leaves. Each request has one receipt, each intent among them, and nothing is held."""
        for client in self.clients:
            if client.state != "closed" or client.exchange is not None:
                client.connection_lost(None)
        self.worker.shadows.stop()  # they wait for no client
        for host in self.loop.doors:
            self.loop.doors[host] = "opens"
        self.loop.turn(1)
        ids = Counter(fields["id"] for fields in self.receipts)
        assert not [one for one, count in ids.items() if count > 1], "two receipts of one request"
        assert {fields["id"] for kind, fields in self.records if kind == INTENT} <= ids.keys(), "an intent without receipt"
        tables = [path.read_bytes() for path in self.journal.glob("*.intents")]
        assert [journal.read_intents(table) for table in tables] == [([], [])] * len(tables), "a slot was not given back"
        tally = self.worker.tally
        assert tally.requests + tally.shadows == len(ids) + tally.unjournaled
        pools = self.worker.pools.models.values()
        held = [one for pool in pools for one in (*pool.instances, *pool.leaving) if one.busy]
        assert held == [], "an instance is still held"
        assert [pool for pool in pools if len(pool.instances) > 1 and pool.in_flight] == [], "the count of all went wrong"
        assert [one for pool in pools for one in pool.waiting] == [], "an exchange still waits"
        assert self.worker.journal.open_intents == 0
        room = self.worker.journal.room
        if not self.life.done():
            self.worker.journal.prepare()
            assert self.worker.journal.room == room, "the journal's count of its room went wrong"
        assert not self.loop.failures, self.loop.failures

    def shut(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.settle()
        self.loop.close()
        self.worker.journal.close()
        os.close(self.board)
