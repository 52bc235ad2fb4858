"""Who is told of what: events written down for each webhook that wants them, and nothing where none does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from slmgate.control.config import load_text
from slmgate.control.looking import NobodyLooks, Place
from slmgate.control.notices import Notices
from slmgate.control.notifying import Notifier
from slmgate.control.webhooks import Webhooks
from slmgate.link.messages import Ban
from slmgate.stores.billing import NoticeRecord
from slmgate.stores.records import LedgerUnavailable
from tests.control.test_notices import Receiver
from tests.tools.admin_gate import READY, AdminGate

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONFIG = """\
models: {smollm2: {instances: [{url: "http://10.0.0.5:8000"}]}}
roles: {small: {models: ["*"], endpoints: ["*"], limits: [10 requests/day, 5 requests/minute]}}
keys: [{name: ada, hash: "sha256:%s", roles: [small]}]
""" % ("ab" * 32)
HOOKS = """\
notifications:
  all: {url: "https://all.example.com/", secret: a-long-enough-secret}
  few: {url: "https://few.example.com/", secret: a-long-enough-secret, events: [instance, limit], limits_at: [100]}
"""
DOWN = [msgspec.structs.replace(READY.instances[0], healthy=False, state="unhealthy", why="silent")]


class Notified(AdminGate):
    def __init__(self, home: Path, text: str = CONFIG + HOOKS) -> None:
        super().__init__(home)
        self.config = load_text(text).unwrap()
        self.time = NOW
        self.away = False
        self.looks = 0
        self.receiver = Receiver()
        self.start()

    def start(self) -> None:
        def config() -> Any:
            return self.config

        billing = self.store.billing
        webhooks = Webhooks(billing, config, lambda: self.time, httpx.MockTransport(self.receiver))
        self.webhooks = webhooks
        self.notifier = Notifier(self, billing, Notices(billing, config, lambda: self.time), webhooks, lambda: self.time)

    async def bans(self) -> Sequence[Ban]:
        self.looks += 1
        return await super().bans()

    async def look(self, places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        if self.away:
            raise NobodyLooks("nobody")
        return await super().look(places)

    def turn(self, times: int = 2) -> list[tuple[str, str]]:
        """So many looks, and what has arrived by then: to whom, and what."""
        for _ in range(times):
            self.time += timedelta(seconds=5)
            asyncio.run(self.notifier.look())
        asyncio.run(self.webhooks.deliver())
        got, self.receiver.got = self.receiver.got, []
        return sorted((request.url.host.partition(".")[0], json.loads(request.content)["type"]) for request in got)


@pytest.fixture
def gate(tmp_path: Path) -> Notified:
    return Notified(tmp_path)


def test_each_webhook_is_told_of_what_it_wants(gate: Notified) -> None:
    assert gate.turn() == []
    gate.now = msgspec.structs.replace(READY, instances=DOWN, faults=["no"])
    assert gate.turn() == [("all", "configuration.refused"), ("all", "instance.down"), ("few", "instance.down")]
    gate.start()
    assert gate.turn() == []
    gate.now = READY
    assert gate.turn() == [("all", "configuration.applied"), ("all", "instance.up"), ("few", "instance.up")]
    assert {record.subject for record in gate.store.billing.notices(99)} == {"configuration", "instance http://10.0.0.5:8000"}


def test_without_webhooks_nobody_looks(tmp_path: Path) -> None:
    gate = Notified(tmp_path, CONFIG)
    gate.now = msgspec.structs.replace(READY, instances=DOWN)
    assert gate.turn(4) == []
    assert (gate.asked, gate.looks, gate.store.billing.notices(9)) == ([], 0, [])


def test_a_gate_that_drains_fails_nobody(gate: Notified) -> None:
    gate.now = msgspec.structs.replace(READY, instances=DOWN, draining=True)
    assert gate.turn(4) == []


def test_workers_are_asked_for_bans_only_when_there_are_more(gate: Notified) -> None:
    gate.turn(4)
    assert gate.looks == 1
    gate.banned = [Ban("203.0.113.7", 900, 1)]
    gate.now = msgspec.structs.replace(READY, workers=[msgspec.structs.replace(READY.workers[0], bans=1)])
    assert gate.turn() == [("all", "ban.made")]
    assert gate.looks == 2


def test_limits_of_a_calendar_are_told_at_their_marks(gate: Notified) -> None:
    gate.turn()
    assert {spec.calendar for spec, _ in gate.asked} == {"day"}
    spec, whose = gate.asked[-1]
    gate.used[spec.text, whose] = 8
    assert gate.turn() == [("all", "limit.near")]
    gate.used[spec.text, whose] = 10
    assert gate.turn() == [("all", "limit.reached"), ("few", "limit.reached")]
    gate.start()
    assert gate.turn() == []
    gate.away = True
    gate.now = msgspec.structs.replace(READY, instances=DOWN)
    assert gate.turn() == [("all", "instance.down"), ("few", "instance.down")], "the rest is told nevertheless"


def test_what_cannot_be_written_at_once_is_told_when_it_can(gate: Notified, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens while the ledger cannot be written is seen once only: it waits here, and no other look is made before."""
    gate.turn()
    gate.now = msgspec.structs.replace(
        READY, instances=DOWN, faults=["no"], workers=[msgspec.structs.replace(READY.workers[0], bans=1)]
    )
    gate.banned = [Ban("203.0.113.7", 900, 1)]
    writes = []

    def full(_: object, record: NoticeRecord) -> bool:
        writes.append(record.type)
        raise LedgerUnavailable("database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(type(gate.store.billing), "add_notice", full)
        for _ in range(10):
            with contextlib.suppress(LedgerUnavailable):
                gate.turn(1)
    assert len(writes) > 2
    told = [(name, type) for name, type in gate.turn(1) if type != "ban.made"]
    assert told == [("all", "configuration.refused"), ("all", "instance.down"), ("few", "instance.down")]
    assert gate.turn(20) == []
    assert [record.type for record in gate.store.billing.notices(99)].count("ban.made") == 1


def test_a_webhook_that_is_new_is_told_from_then_on(gate: Notified) -> None:
    gate.now = msgspec.structs.replace(READY, instances=DOWN)
    gate.turn()
    gate.config = load_text(CONFIG + HOOKS + '  new: {url: "https://new.example.com/", secret: a-long-enough-secret}\n').unwrap()
    assert gate.turn() == []
    gate.now = READY
    assert ("new", "instance.up") in gate.turn()


def test_who_is_slow_to_be_told_holds_up_no_look(gate: Notified, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slmgate.control.notifying.SECONDS", 0.0)
    monkeypatch.setattr("slmgate.control.webhooks.TIMEOUT", 1000.0)

    async def scene() -> None:
        asked, looked, left = asyncio.Event(), asyncio.Event(), 5

        async def hang(request: httpx.Request) -> httpx.Response:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        def config() -> Any:
            return gate.config

        async def look() -> None:
            nonlocal left
            gate.time += timedelta(seconds=5)
            await original()
            left -= asked.is_set()
            if left == 0:
                looked.set()

        gate.now = msgspec.structs.replace(READY, instances=DOWN)
        webhooks = Webhooks(gate.store.billing, config, lambda: gate.time, httpx.MockTransport(hang))
        notifier = Notifier(gate, gate.store.billing, Notices(gate.store.billing, config), webhooks, lambda: gate.time)
        original = notifier.look
        monkeypatch.setattr(notifier, "look", look)
        running = asyncio.create_task(notifier.run())
        async with asyncio.timeout(30):
            await looked.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(scene())
