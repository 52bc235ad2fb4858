"""The control process: configuration, keys, ledger and admin API of one gate, off the road of every request.

It may die at any time and be started again: workers serve on meanwhile, and what they journaled is taken into the ledger
afterwards. It ties the parts of this room together and decides nothing itself; it never touches a client's bytes.
Length: one process has one list of its parts and one order of their beginning and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import importlib
import logging
import os
import random
import resource
import signal
import socket
import sys
import threading
from collections.abc import Coroutine, Sequence, Set
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from slmgate import __version__
from slmgate.control import audit, gatelog
from slmgate.control.access_log import AccessLog
from slmgate.control.accounts import Accounts
from slmgate.control.acme.presenting import Presenter
from slmgate.control.acme.service import Automatic
from slmgate.control.acme.status import CertificateStatus, of_files
from slmgate.control.acme.wiring import Orders
from slmgate.control.admin import create_app
from slmgate.control.admin.context import GateStatus, WorkerStatus
from slmgate.control.admin.serving import MAX_ADMIN_CONNECTIONS, MAX_ADMIN_HEAD, AdminConnection, AdminServer
from slmgate.control.certificates import Certificates
from slmgate.control.checker import Checker
from slmgate.control.config import Config, ConfigError, ConfigFault, Loaded, load_text
from slmgate.control.config.admin_options import Admin
from slmgate.control.config.log_options import targets
from slmgate.control.config.stamps import changed, stamp
from slmgate.control.config.trust_checks import UNVERIFIED, unverified
from slmgate.control.content.service import Contents
from slmgate.control.discovery import Discovery
from slmgate.control.elders import NOT_HERE_YET, Elders
from slmgate.control.enduring import enduring
from slmgate.control.engines.kept import Keepers
from slmgate.control.engines.plan import Plan, plans
from slmgate.control.engines.service import Engines
from slmgate.control.engines.wiring import Prober, connect
from slmgate.control.identity import Identity
from slmgate.control.keyring import Keyring, as_term, utc_now
from slmgate.control.lagging import Lag
from slmgate.control.ledger import Ingest
from slmgate.control.lists import Lists
from slmgate.control.live import LiveRequests
from slmgate.control.looking import Looking, Place
from slmgate.control.me.service import SelfService
from slmgate.control.metrics.gauges import Use
from slmgate.control.metrics.service import Metrics
from slmgate.control.notices import Notices
from slmgate.control.notifying import Notifier
from slmgate.control.operators import AdminKeys, create_first_admin_key
from slmgate.control.orders import ControlOrders
from slmgate.control.picture import picture, told_by_all
from slmgate.control.preparing import Preparing
from slmgate.control.reload import Publisher
from slmgate.control.retention import Retention
from slmgate.control.roster import Roster
from slmgate.control.state_dir import (
    ACME_DIR,
    DISCOVERED,
    ENGINES_DIR,
    JOURNAL_DIR,
    LAST_GOOD,
    LEDGER_FILE,
    LISTED,
    METRICS_FILE,
    lock_control,
)
from slmgate.control.tracing.service import Tracing
from slmgate.control.webhooks import Webhooks
from slmgate.link import beats
from slmgate.link.channel import LinkServer, Peer, pack
from slmgate.link.lookups import ControlLoop
from slmgate.link.messages import (
    Answering,
    Ban,
    Bans,
    Cancelled,
    CaptureKept,
    Captures,
    Confirm,
    Grounds,
    Live,
    Looked,
    Message,
    Mine,
    Tally,
    Verify,
    Wanted,
)
from slmgate.link.unhurried import never_wait
from slmgate.stores.base import Store
from slmgate.stores.records import KeyRecord, LedgerUnavailable
from slmgate.stores.sql import open_store
from slmgate.terms import Key

BEAT_SECONDS = 0.25
OWN_SECONDS = 0.05
WATCH_SECONDS = 0.5
INGEST_SECONDS = 0.5
NAMES_SECONDS = 2.0
"""How long a start or a reload waits for files of instances, and then for the first answers of names."""
JOIN_SECONDS = 1.0
"""How long workers that were there before have to find this process: until then they may have requests that it knows not of."""
CATCH_UP_SECONDS = 5.0
"""Between two tries to write down what the ledger was away for."""
KEYS_SECONDS = 3.0
"""How long whoever changes keys waits for the workers: an import of a hundred thousand takes a second of theirs."""

log = logging.getLogger("slmgate.control")


class Control:
    """What the admin API asks (`AdminContext`) and what runs beside it."""

    def __init__(self, orders: ControlOrders, loaded: Loaded) -> None:
        config = loaded.unwrap()
        self._orders = orders
        self._good = loaded.content  # the configuration file in force
        self._files = loaded.files  # the configuration file and those that it fetches from, as they were when they were read
        self._state_dir = Path(orders.state_dir)
        self._board = beats.Beats(orders.beats)
        self._tallies: dict[int, Tally] = {}
        self._pids: dict[int, int] = {}
        self._elders = Elders()
        self._all_here_at = inf
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._ending = threading.Event()
        self._left_to_others = False  # at the end: what workers still write is another control process's to take
        self._lag = Lag()
        self._loop = asyncio.get_running_loop()
        log.setLevel(config.log.level.upper())
        create_first_admin_key(self._state_dir)
        self.store: Store = open_store(self._state_dir / LEDGER_FILE)
        self.store.on_audit = audit.teller(log)
        self._read = _digest(loaded.content)  # of the configuration file, as it was read last
        self.keyring = Keyring(self.store)
        self.admin_keys = AdminKeys(self._state_dir, self.store.operators)
        self.accounts = Accounts(self.store)
        self.looking = Looking()
        self.live = LiveRequests()
        self._unverified: list[str] = []  # instances at which whoever answers is believed
        self._background: set[asyncio.Task[Any]] = set()
        self.roster = Roster(self.store.instances, log.warning)
        self.discovery = Discovery(self._state_dir / DISCOVERED, log.warning)
        self.lists = Lists(self._state_dir / LISTED, log.warning)
        self.discovery.on_change = self.lists.on_change = self._discovered
        self.checker = Checker(self._broadcast, log.info)
        self.certificates = Certificates(self._broadcast, log.info, log.error)
        self.presenter = Presenter(lambda: self.publisher.workers)
        self._acme_orders = Orders(self.presenter, self._loop)
        self.automatic = Automatic(self._state_dir / ACME_DIR, self._acme_orders.issue, log.info, log.error)
        self.automatic.can_answer = self._all_serve
        self._prober = Prober(self.checker)
        self.engines = Engines(
            Keepers(self._state_dir / ENGINES_DIR, os.getppid()),
            self._prober.ask,
            log.info,
            self._loop.time,
            random.Random().random,  # noqa: S311  # no secret: it keeps starts from falling into step
        )
        self.engines.take(self._plans(config), config.drain_timeout + 1.0)
        self.roster.discovered = lambda config: self.engines.expand(self.discovery.expand(self.lists.expand(config)))
        self.roster.found_by = lambda id: self.discovery.source(id) or self.lists.source(id)
        self.publisher = Publisher(config, self.keyring.live(), log.info, self._beside, self.roster)
        self.roster.config = lambda: self.publisher.config
        self.roster.on_change = self._instances_changed
        self.keyring.on_change.append(self._keys_changed)
        self.keyring.declared = lambda: self.publisher.config.keys
        self.keyring.roles = lambda: self.publisher.config.roles or None  # without any, every key may do everything
        self.keyring.config = lambda: self.publisher.config
        self.identity = Identity(self._state_dir, self._grounds_changed, log.warning)
        self.publisher.on_publish = self._configured
        connect(self.engines, self.publisher, self.roster, self.checker, self._workers)
        self.self_service = SelfService(self, self._beside)
        self.access_log = _access_log(config, orders.again)
        self.tracing = Tracing()
        self.metrics = Metrics(self._state_dir / METRICS_FILE, self._state_dir / JOURNAL_DIR, self.store, config.metrics.clients)
        self.metrics.watch("slmgate_log_dropped_lines_total", lambda: self.access_log.dropped)
        self.metrics.watch("slmgate_trace_dropped_spans_total", self.tracing.dropped)
        notices = Notices(self.store.billing, lambda: self.publisher.config)
        webhooks = Webhooks(self.store.billing, lambda: self.publisher.config)
        self._notifier = Notifier(self, self.store.billing, notices, webhooks)
        self.metrics.plans = lambda: [Use((team, plan), ratio) for team, plan, ratio in notices.used()]
        self._ingest = Ingest(self.store, self._state_dir / JOURNAL_DIR, self.access_log.write, self.metrics.count)
        self._ingest.told.append(self.tracing.take)
        self.contents = Contents(lambda: self.store.contents, lambda: self.publisher.config)
        self._retention = Retention(self.store, lambda: self.publisher.config.ledger)
        self._preparing = Preparing(lambda: self.store.tallies)

    # -- AdminContext

    @property
    def config(self) -> Config:
        return self.publisher.config

    def status(self) -> GateStatus:
        """A picture of the gate as it is now, put together from the workers' tallies of the last second."""
        tallies = list(self._tallies.values())
        serving = [slot for slot in range(self._orders.row) if self._board.read(slot)[1] == beats.READY]
        silent = self._elders.silent or not told_by_all(serving, tallies)
        models, instances = picture(
            self.publisher.config,
            tallies,
            self.checker.checkups(),
            self.roster.drained,
            self.roster.source,
            silent=silent,
            engines=self.engines.statuses(),
            elders=self._elders.tallies,
        )
        return GateStatus(
            generation=self.publisher.generation,
            draining=self._board.read(beats.DRAINING_ROW)[1] == beats.READY,
            models=models,
            instances=instances,
            workers=[
                WorkerStatus(
                    slot=slot,
                    pid=self._pids.get(slot, 0),
                    ready=self._board.read(slot)[1] == beats.READY,
                    connections=tally.connections,
                    in_flight=tally.in_flight,
                    requests=tally.requests,
                    refused=tally.refused,
                    unjournaled=tally.unjournaled,
                    shadows=tally.shadows,
                    shadows_dropped=tally.shadows_dropped,
                    turned_away=tally.turned_away,
                    guarded=tally.guarded,
                    bans=tally.bans,
                    shed=tally.shed,
                    self_service=tally.mine,
                )
                for slot, tally in sorted(self._tallies.items())
            ],
            faults=[str(fault) for fault in self.publisher.faults],
            notes=[
                *self.certificates.troubles,
                *self.automatic.troubles,
                *self.discovery.troubles,
                *self.lists.troubles,
                *(f"{id}: {UNVERIFIED}" for id in self._unverified),
                *self.contents.troubles,
            ],
            ledger_lag=self._lag.seconds,
            certificates=self._certificates(),
        )

    @property
    def admin(self) -> Admin:
        return self.publisher.config.admin

    async def look(self, places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        return await self.looking.ask(places)

    async def bans(self) -> Sequence[Ban]:
        return await self.looking.bans()

    async def lift_ban(self, address: str) -> Ban | None:
        return await self.looking.lift(address)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        return await self.metrics.scrape(self, accept)

    async def reload(self) -> tuple[ConfigFault, ...]:
        """Read the configuration afresh and put it into force, or keep the old one and say why.

        A large file, and one with policy tests, takes long to read: in a thread, since workers ask here whose tokens are whose.
        """
        async with self._reloading:
            return await self._take_up()

    async def _take_up(self) -> tuple[ConfigFault, ...]:
        """Inside the lock."""
        try:
            loaded = await asyncio.to_thread(self._orders.source.load)
        except ConfigError as error:
            self.metrics.reloaded(False)
            return error.faults
        self._read = _digest(loaded.content)
        self._files = loaded.files
        if loaded.config is not None:  # instances that it finds by name or file are there when it comes into force
            await self._find(loaded.config)
        faults = await self.publisher.take(loaded)
        self.metrics.reloaded(not faults)
        self.lists.configure(self.publisher.config)  # of what was not taken, nothing is followed
        self.discovery.configure(self.publisher.config)
        await self.certificates.configure(self.automatic.configure(self.publisher.config))
        if not faults:
            self._good = loaded.content
            self._keep_last_good()
        return faults

    # -- life

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it until it is done, or until the process ends."""
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _configured(self, config: Config) -> None:
        """A configuration is in force, with the instances that were added or found."""
        self.access_log.configure(targets(config.log))
        if self.tracing.wants(config.tracing):
            self._beside(asyncio.to_thread(self.tracing.configure))
        self.identity.configure(config.auth)
        self.checker.configure(config, self.roster.added)
        before, self._unverified = self._unverified, unverified(config)
        for id in self._unverified:
            if id not in before:
                log.warning("WARNING: %s: %s", id, UNVERIFIED)
        self.engines.take(self._plans(config), config.drain_timeout + 1.0)

    # -- engines that it starts

    def _plans(self, config: Config) -> dict[str, Plan]:
        path = self._orders.source.path
        return plans(config, Path(path).absolute().parent if path is not None else Path.cwd(), os.environ)

    def _broadcast(self, message: Message) -> None:
        self.publisher.broadcast(message)

    def _workers(self) -> set[int]:
        """Who may have a request at an instance: all that serve, and all that are connected, also of the gate before this one."""
        serving = {slot for slot in range(self._orders.row) if self._board.read(slot)[1] == beats.READY}
        serving.update(self._pids, self._elders.numbers)
        return serving if self._loop.time() >= self._all_here_at else serving | {NOT_HERE_YET}

    def _certificates(self) -> list[CertificateStatus]:
        """Those that the gate gets by itself, then those of files."""
        got = self.automatic.statuses()
        return got + of_files(self.certificates.identities, {one.serial for one in got})

    def _all_serve(self) -> bool:
        """Whether every worker of this gate accepts clients, so that whoever asks comes to one that was told what to answer."""
        return all(self._board.read(slot)[1] == beats.READY and slot in self._pids for slot in range(self._orders.row))

    def _keys_changed(self, records: Sequence[KeyRecord]) -> None:
        """Called in the thread that changed keys, which waits: who is told that a key changed may rely on it everywhere.

        What is to be worked out for all of them is worked out here, off the loop. A worker that is stuck is not waited for long.
        """
        put = [as_term(record) for record in records if record.revoked is None]
        gone = [record.id for record in records if record.revoked is not None]
        told = asyncio.run_coroutine_threadsafe(self._tell_of_keys(put, gone), self._loop)
        with contextlib.suppress(TimeoutError):
            told.result(KEYS_SECONDS + 1.0)

    async def _tell_of_keys(self, put: Sequence[Key], gone: Sequence[str]) -> None:
        self.publisher.keys_changed(put, gone)
        await self.publisher.settled(KEYS_SECONDS)

    async def _find(self, config: Config) -> None:
        """Read the files and ask for the names of a configuration, those in its files too; not for long."""
        await self.lists.prepare(config, NAMES_SECONDS)
        await self.discovery.prepare(self.lists.listed(config), NAMES_SECONDS)

    def _discovered(self) -> None:
        """The addresses of a name have changed, or a list. Whoever has the address of one that is gone next is not drained."""
        before = set(self._found_ids())
        self.publisher.refresh()
        if not self._reloading.locked():  # else the names of what comes are asked for, and its end does this
            self.discovery.configure(self.publisher.config)  # a list may have other names now
        gone = self.roster.drained & before.difference(self._found_ids())
        if gone:
            self._beside(self._lost(gone))

    async def _lost(self, gone: Set[str]) -> None:
        """Drained instances are found no more. Who gets their addresses is not drained, also while the ledger is away."""
        try:
            await asyncio.to_thread(self.roster.gone, gone)
        except LedgerUnavailable as error:
            log.warning("instances that are gone are drained no more, which is not written down yet: %s", error)
            self._beside(self._catch_up())
        if not gone.isdisjoint(self._found_ids()):  # they came back before this was done, and were told as drained
            self.publisher.refresh()

    async def _catch_up(self) -> None:
        while True:
            await asyncio.sleep(CATCH_UP_SECONDS)
            with contextlib.suppress(LedgerUnavailable):
                await asyncio.to_thread(self.roster.catch_up)
                return

    def _found_ids(self) -> list[str]:
        return [one.id for model in self.publisher.models for one in model.instances if self.roster.found_by(one.id)]

    def _instances_changed(self) -> None:
        """As `_keys_changed`: who is told that an instance is drained may rely on it."""
        told = asyncio.run_coroutine_threadsafe(self._tell_of_instances(), self._loop)
        with contextlib.suppress(TimeoutError):
            told.result(KEYS_SECONDS + 1.0)

    async def _tell_of_instances(self) -> None:
        self.publisher.refresh()
        await self.publisher.settled(KEYS_SECONDS)

    def _keep_last_good(self) -> None:
        """Keep the file in force: what a control process that is started again falls back to."""
        content = self._good
        if content is None:
            return
        copy = self._state_dir / LAST_GOOD
        with contextlib.suppress(OSError):
            new = copy.with_suffix(".new")
            new.touch(mode=0o600)
            new.write_bytes(content)
            new.replace(copy)

    def _told(self, peer: Peer, message: Message) -> None:
        if isinstance(message, Confirm):
            self.publisher.confirmed(peer, message.generation)
        elif isinstance(message, Tally):
            if self._is_ours(peer):
                self._tallies[message.slot] = message
                self.metrics.told(peer.hello.incarnation, message)
                self.engines.told(message)
            else:
                self.engines.told(self._elders.tally(peer, message))
        elif isinstance(message, Wanted):
            self.engines.wanted(message if self._is_ours(peer) else self._elders.wanted(peer, message))
        elif isinstance(message, Looked | Bans):
            self.looking.told(message)
        elif isinstance(message, Live | Cancelled):
            self.live.told(message)
        elif isinstance(message, Mine):
            self.self_service.ask(message, lambda told: peer.send(pack(told)))
        elif isinstance(message, Captures):
            confirm = partial(self._confirm, peer)
            self.contents.told(peer.hello.incarnation, message, confirm)
        elif isinstance(message, Answering):
            self.presenter.told(peer, message)
        elif isinstance(message, Verify):
            self.identity.ask(message.number, message.token, lambda verdict: peer.send(pack(verdict)))

    def _confirm(self, peer: Peer, kept: CaptureKept) -> None:
        """Called in the thread that has kept what `peer` had sent."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: it is sent again, to whoever comes next
            self._loop.call_soon_threadsafe(peer.send, pack(kept))

    def _grounds_changed(self) -> None:
        self.publisher.broadcast(Grounds(self.identity.grounds()))

    def _is_ours(self, peer: Peer) -> bool:
        """Not a worker of the gate that ours has taken over from, which still ends its work here."""
        return peer.hello.gate == self._orders.gate

    def _joined(self, peer: Peer) -> None:
        if self._is_ours(peer):
            self._pids[peer.hello.slot] = peer.hello.pid
            self.metrics.joined(f"{peer.hello.gate}/{peer.hello.slot}", peer.hello.incarnation)
            self.looking.joined(peer)
        else:
            self._elders.joined(peer)
            if peer.hello.version != __version__:
                return  # it may not understand what is said here, and goes on with what it knows
        peer.send(pack(self.certificates.message()))
        peer.send(pack(self.presenter.message()))
        self.publisher.joined(peer)
        self.live.joined(peer)
        peer.send(pack(self.checker.whole()))
        peer.send(pack(Grounds(self.identity.grounds())))

    def _left(self, peer: Peer) -> None:
        if self._is_ours(peer) and self._pids.get(peer.hello.slot) == peer.hello.pid:
            self._pids.pop(peer.hello.slot, None)
            self._tallies.pop(peer.hello.slot, None)
            self.engines.left(peer.hello.slot)
        elif (number := self._elders.left(peer)) is not None:
            self.engines.left(number)
        self.publisher.left(peer)
        self.presenter.left(peer)
        self.looking.left(peer)
        self.live.left(peer)

    def _ingest_forever(self) -> None:
        """The thread that carries journals into the ledger; the last round comes after the workers have ended, unless they have
        not: then this is to end however much they write, and another goes on with it.

        A disk or a database that fails is waited for. Anything else is a fault of ours: the process ends, and its successor
        begins where the last committed step ended.
        """
        down = False
        while True:
            ending = self._ending.is_set()
            try:
                self.metrics.begin()
                while self._ingest.run_once() and ending and not self._left_to_others:
                    pass
                self.metrics.keep(ending)
                self._lag.none()
                if not ending:
                    self._retention.step()
                    self._preparing.step()
                    self.contents.forget()
                if down:
                    log.info("the ledger can be written again")
                down = False
            except (LedgerUnavailable, OSError) as error:
                if not down:
                    log.error("the ledger cannot be written, receipts stay in the journal: %s", error)
                down = True
                self._lag.failed()
            except BaseException:  # whatever it was: a ledger that stands still unseen is worse than a restart
                log.exception("the ingest failed")
                os._exit(1)
            if ending:
                return
            self._ending.wait(INGEST_SECONDS)

    async def _beat(self) -> None:
        while True:
            self._board.beat(self._orders.row)
            await asyncio.sleep(BEAT_SECONDS)

    async def _watch(self) -> None:
        """Reload when the file, or one that it fetches from, changes.

        By looking at it twice a second (`config/stamps.py` says why).
        """
        if self._orders.source.path is None:
            return
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if changed(self._files):
                await asyncio.sleep(WATCH_SECONDS / 5)  # its writer may be in the middle of it
                now = {path: stamp(path) for path in self._files}
                try:
                    await self._reload_unasked()
                except Exception:  # one reload that fails must not be the last
                    log.exception("the configuration could not be reloaded; the old one stays in force")
                    self._files = now  # what failed once is tried again when it has changed

    async def run(self) -> None:
        """Until SIGTERM, until another gate's control is to go on (SIGUSR1), or until the supervisor is gone.

        SIGHUP: reload, and open logs anew. SIGUSR2: only the latter.
        """
        loop = self._loop
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGUSR1, self._hand_over)
        loop.add_signal_handler(signal.SIGUSR2, self.access_log.reopen)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        loop.add_reader(self._orders.lifeline, self._supervisor_gone)
        self._beside(enduring(self._beat))
        self._beside(enduring(self._watch))
        self._beside(enduring(self.identity.run))
        self._beside(enduring(self.checker.run))
        self._beside(enduring(self.engines.run))
        self._beside(enduring(self._notifier.run))
        await self.certificates.configure(self.automatic.configure(self.publisher.config))
        self._beside(enduring(self.certificates.run))
        await self._find(self.publisher.config)
        self._beside(enduring(self.lists.run))
        self._beside(enduring(self.automatic.run))
        self._configured(self.publisher.config)
        link = LinkServer(self._joined, self._told, self._left)
        await link.start(socket.socket(fileno=self._orders.link))
        if not self._orders.again:  # workers are told now what is in force: another one than it began with, if names took long
            self._keep_last_good()
        self._all_here_at = loop.time() + JOIN_SECONDS
        ingest = threading.Thread(target=self._ingest_forever, name="ledger")
        ingest.start()
        # The web framework takes a good part of a start to import: meanwhile workers are told what they wait for.
        await asyncio.to_thread(importlib.import_module, "slmgate.control.admin.app")
        admin = AdminServer(
            uvicorn.Config(
                create_app(self, [self.admin.address.host]),
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # uvicorn would believe X-Forwarded-For of whoever is on this machine
                lifespan="off",
                ws="none",
                http=AdminConnection,
                h11_max_incomplete_event_size=MAX_ADMIN_HEAD,
                limit_concurrency=MAX_ADMIN_CONNECTIONS,
            )
        )
        serving = loop.create_task(admin.serve(sockets=[socket.socket(fileno=self._orders.admin)]))
        self._board.mark(self._orders.row, beats.READY)
        await self._stop.wait()
        self._ending.set()
        self._acme_orders.close()
        admin.end(loop)
        await serving
        link.close()
        if not self._left_to_others:  # else workers have requests there still: another gate has them next, or keepers end them
            await self.engines.close()
        await asyncio.to_thread(ingest.join)
        for task in list(self._background):
            task.cancel()
        self.discovery.close()
        await self.identity.close()
        await self._prober.close()
        await asyncio.to_thread(self.contents.close)
        self.access_log.close()
        await asyncio.to_thread(self.tracing.close)
        self.store.close()

    def _hand_over(self) -> None:
        self._left_to_others = True
        self._stop.set()

    def _hang_up(self) -> None:
        """SIGHUP: reload, and go on in a new access log file where the old one was moved away."""
        self.access_log.reopen()
        self._beside(self._reload_unasked())

    async def _reload_unasked(self) -> None:
        """As the file has changed, or at SIGHUP. In the audit log is what is new, and not what an operator had read already."""
        async with self._reloading:
            before = self._read
            faults = await self._take_up()
            read = self._read
        if read is not None and read != before:
            detail = {"applied": "no" if faults else "yes", "sha256": read.hex()}
            noted = audit.line(utc_now(), audit.BY_THE_FILE, "reload", "configuration", detail)
            try:
                await asyncio.to_thread(self.store.append_audit, noted)
            except LedgerUnavailable as error:
                log.error("the configuration was read, but that is not in the audit log: %s", error)

    def _supervisor_gone(self) -> None:
        self._loop.remove_reader(self._orders.lifeline)
        self._hand_over()


def _digest(content: bytes | None) -> bytes | None:
    return None if content is None else hashlib.sha256(content).digest()


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _first_config(orders: ControlOrders) -> Loaded:
    """The configuration to begin with. A control process that is started again under serving workers falls back to the
    last good one when the file has become bad meanwhile."""
    loaded = orders.source.load()
    if loaded.config is None and orders.again and orders.source.path is not None:
        kept = _content(Path(orders.state_dir) / LAST_GOOD)
        if kept is not None:
            log.error("the configuration file has faults; going on with the last good one (see `slmgate check`)")
            path = Path(orders.source.path).absolute()
            # of TLS, workers have what was good; and each file that is bad is named when it is looked at
            # ... and the file itself is followed until it is mended
            good = load_text(kept.decode(errors="replace"), str(path), path.parent, tls_files=False)
            return msgspec.structs.replace(good, files={**good.files, **loaded.files}, content=loaded.content)
    return loaded


def _access_log(config: Config, again: bool) -> AccessLog:
    """The access log. Raises ConfigError; but for a control process that is started `again`: no log is worth the gate."""
    if again:
        log_of_all = AccessLog((), log.warning)
        log_of_all.configure(targets(config.log))
        return log_of_all
    try:
        return AccessLog(targets(config.log), log.warning)
    except OSError as error:
        problem = f"the access log {error.filename} cannot be opened: {error.strerror}"
        fault = ConfigFault(file="log", line=0, column=0, option="log.access", problem=problem, hint="make its directory")
        raise ConfigError((fault,)) from error


async def _own(orders: ControlOrders) -> None:
    """Wait until this is the only control process of the state directory: one of a killed gate may be about to end."""
    waits = False
    while lock_control(Path(orders.state_dir)) is None:
        if not waits:
            log.warning("waiting for another control process to end")
        waits = True
        await asyncio.sleep(OWN_SECONDS)


async def _main(orders: ControlOrders) -> None:
    await _own(orders)
    loaded = _first_config(orders)
    await Control(orders, loaded).run()


def main() -> None:
    """Entry of `python -m slmgate.control.process ORDERS`."""
    orders = msgspec.json.decode(sys.argv[1], type=ControlOrders)
    never_wait("stderr")
    gatelog.configure()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # batches of receipts come and go by the thousand, and hold no cycles
    try:
        with asyncio.Runner(loop_factory=ControlLoop) as runner:
            runner.run(_main(orders))
    except ConfigError as error:
        for fault in error.faults:
            log.error("%s", fault)
        sys.exit(1)
    except LedgerUnavailable as error:
        log.error("the ledger in %s cannot be opened: %s", orders.state_dir, error)
        sys.exit(1)


if __name__ == "__main__":
    main()
