"""Who is to be told of what: looks at plans and at the gate now and then, writes what there is to tell, and has it sent.

One for each control process. All of it is off the road; it knows the admin API's context and the store, and no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

import msgspec

from slmgate.control.admin import standing as pages
from slmgate.control.admin.context import AdminContext
from slmgate.control.events import Event, Watch, identity
from slmgate.control.keyring import utc_now
from slmgate.control.looking import NobodyLooks
from slmgate.control.notices import Notices
from slmgate.control.standing import Standing
from slmgate.control.webhooks import Webhooks
from slmgate.stores.billing import BillingStore, NoticeRecord
from slmgate.stores.records import LedgerUnavailable

SECONDS = 5.0
"""Between two looks."""
KEYS_AT_ONCE = 1000
"""So many keys are looked at for their limits in one look; all of them in turn."""

_log = logging.getLogger("slmgate.control")


class Notifier:
    """Looks and sends until it is cancelled (`run`)."""

    def __init__(
        self,
        context: AdminContext,
        store: BillingStore,
        notices: Notices,
        webhooks: Webhooks,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._context = context
        self._store = store
        self._notices = notices
        self._webhooks = webhooks
        self._now = now
        self._watch = Watch(store.last_types)
        self._bans_seen = -1  # how many bans all workers had made, when these were looked at
        self._after: str | None = None  # where the next look at limits goes on
        self._unwritten: list[Event] = []  # seen, and not in the store yet: they are seen only once
        self._down = False
        self._looked = asyncio.Event()

    async def run(self) -> None:
        """Who is slow to be told holds up no look: what goes on for a moment only would not be seen."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._look_for_ever())
            both.create_task(self._send_for_ever())

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._notices.look)
                await self.look()
                self._down = False
            except LedgerUnavailable as error:
                if not self._down:
                    _log.error("nobody is notified while the ledger is away: %s", error)
                self._down = True
            except Exception:  # noqa: BLE001  # a fault of our own must not end all notices
                _log.exception("notices failed; they are tried again")
            self._looked.set()
            await asyncio.sleep(SECONDS)

    async def _send_for_ever(self) -> None:
        while True:
            await self._looked.wait()
            self._looked.clear()
            try:
                await self._webhooks.deliver()
            except LedgerUnavailable:
                pass  # whoever looks meets it too, and says so
            except Exception:  # noqa: BLE001  # nor may one webhook end all others
                _log.exception("webhooks failed; they are tried again")

    async def look(self) -> None:
        """Write down what has happened since the last look, for whoever wants to be told. Raises LedgerUnavailable."""
        config = self._context.config
        if config is None or not config.notifications:
            self._watch = Watch(self._store.last_types)
            self._bans_seen = -1
            self._unwritten.clear()
            return
        await self._write_all()  # before another look: what cannot be written does not pile up
        wanted = {topic for hook in config.notifications.values() for topic in hook.events}
        status, now = self._context.status(), self._now()
        if status.draining:
            return
        self._unwritten += await asyncio.to_thread(self._watch.look, status, now)
        try:
            if "ban" in wanted:
                self._unwritten += await self._bans(sum(worker.bans for worker in status.workers), now)
            if "limit" in wanted:
                self._unwritten += await self._limits(now)
        except NobodyLooks:
            pass  # the next look asks again
        await self._write_all()

    async def _write_all(self) -> None:
        """Write down what was seen. Raises LedgerUnavailable: what is left is written before the next look."""
        while self._unwritten:
            await asyncio.to_thread(self._write, self._unwritten[0])
            del self._unwritten[0]

    async def _bans(self, made: int, now: datetime) -> list[Event]:
        """Workers are asked who is banned only when there are more bans than before."""
        if made == self._bans_seen and not self._watch.has_news:
            return []
        found = await self._context.bans()
        self._bans_seen = made
        return self._watch.banned(found, now)

    async def _limits(self, now: datetime) -> list[Event]:
        config = self._context.config
        assert config is not None
        standing = Standing(config)
        try:
            seats, self._after = await asyncio.to_thread(pages.page, self._context, config, standing, KEYS_AT_ONCE, self._after)
        except (LookupError, ValueError):
            self._after = None  # what it would have gone on behind is gone
            return []
        seats = [seat for seat in seats if seat.counted.spec.calendar is not None]
        found = await self._context.look([(seat.counted.spec, seat.counted.subject) for seat in seats])
        stands = [standing.stand(seat, used, amount, now) for seat, (used, amount) in zip(seats, found, strict=True)]
        at = sorted({percent for hook in config.notifications.values() if "limit" in hook.events for percent in hook.limits_at})
        return self._watch.reached(stands, at, now)

    def _write(self, event: Event) -> None:
        """For each webhook that wants it."""
        config = self._context.config
        hooks = {} if config is None else config.notifications
        told = False
        for name, hook in hooks.items():
            if event.topic not in hook.events or (event.topic == "limit" and event.data["at"] not in hook.limits_at):
                continue
            record = NoticeRecord(
                id=f"nt_{identity(event.id, name)[3:]}",
                team=str(event.data.get("team") or ""),
                plan="",
                payload=msgspec.json.encode(event),
                created=event.created,
                retry=event.created,
                webhook=name,
                subject=event.subject,
                type=event.type,
            )
            told |= self._store.add_notice(record)
        if told:
            _log.info("notified: %s", event.summary)
