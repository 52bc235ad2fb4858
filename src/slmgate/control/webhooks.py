"""Webhooks: what stands in the store to be told is sent, signed, until an answer says that it arrived or a day has passed.

Each message stands there under an identity of its own before it is sent, so that a restart neither forgets nor doubles it.
What there is to tell, and whether it was told before, is `notices.py`'s and `events.py`'s affair. All of it is off the road.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from slmgate.control.config import Config
from slmgate.control.config.addresses import host_of
from slmgate.control.config.notify_options import Notification
from slmgate.control.config.plan_options import Notify
from slmgate.control.keyring import utc_now
from slmgate.stores.billing import BillingStore, NoticeRecord
from slmgate.stores.records import LedgerUnavailable

if TYPE_CHECKING:
    import ssl

    import httpx

TIMEOUT = 10.0
GIVEN_UP = timedelta(hours=24)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(hours=1)
AT_ONCE = 16
SIGNATURE = "slmgate-signature"

_log = logging.getLogger("slmgate.control")


class Webhooks:
    """Sends what is due. `config` is asked anew each time; `transport` None: the network, with each address checked."""

    def __init__(
        self,
        store: BillingStore,
        config: Callable[[], Config],
        now: Callable[[], datetime] = utc_now,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._now = now
        self._transport = transport
        self._unsaved: dict[str, NoticeRecord] = {}  # by id: what became of tries, where the store could not be written

    async def deliver(self) -> None:
        """Send what is due. A webhook that does not answer is asked no more in this round, however much waits for it, so that
        the others' notices do not wait behind its own.

        Raises LedgerUnavailable. What became of the last tries is known all the same, and kept before anything else is sent: a
        store that can be read and not written, as on a full disk, has nobody told again and again.
        """
        silent: set[tuple[str, str]] = set()
        await self._save_all()
        while due := await asyncio.to_thread(self._store.due_notices, self._now(), AT_ONCE, tuple(silent)):
            async with asyncio.TaskGroup() as sending:
                tries = [(record, sending.create_task(self._send(record))) for record in due]
            silent |= {(record.webhook, record.plan) for record, answered in tries if not answered.result()}
            await self._save_all()
            if len(due) < AT_ONCE:
                return

    async def _send(self, record: NoticeRecord) -> bool:
        """One try. What became of it is kept before the next. False: its webhook did not answer at all."""
        hook = self._hook(record)
        answered, failed = True, "its webhook is not configured any more"
        if hook is not None:
            answered, failed = await self._post(hook, record)
        now = self._now()
        attempts = record.attempts + 1
        pause = min(FIRST_PAUSE * 2 ** min(attempts - 1, 20), LONGEST_PAUSE)
        if not failed:
            after = msgspec.structs.replace(record, attempts=attempts, retry=None, delivered=now)
        elif now + pause > record.created + GIVEN_UP:
            _log.error("the notice %s (%s) is given up: %s", record.id, _about(record), failed)
            after = msgspec.structs.replace(record, attempts=attempts, retry=None)
        else:
            if record.attempts == 0:
                _log.warning("the notice %s (%s) is sent again for a day: %s", record.id, _about(record), failed)
            after = msgspec.structs.replace(record, attempts=attempts, retry=now + pause)
        self._unsaved[after.id] = after
        with contextlib.suppress(LedgerUnavailable):  # the others are on their way, and not to be cut off: `deliver` tries again
            await self._save(after)
        return answered

    async def _save(self, record: NoticeRecord) -> None:
        await asyncio.to_thread(self._store.save_notice, record)
        del self._unsaved[record.id]

    async def _save_all(self) -> None:
        for record in list(self._unsaved.values()):
            await self._save(record)

    def _hook(self, record: NoticeRecord) -> Notify | Notification | None:
        """Where it is sent: the webhook of this name, or that of its plan."""
        config = self._config()
        if record.webhook:
            return config.notifications.get(record.webhook)
        plan = config.plans.get(record.plan)
        return plan.notify if plan is not None else None

    async def _post(self, hook: Notify | Notification, record: NoticeRecord) -> tuple[bool, str]:
        """Send it once; whether there was an answer, and what went wrong, or nothing. Only the answer's status is looked at."""
        import httpx  # here and below: a gate without notices starts without what sends them

        from slmgate.control.admin.signin.fetch import CheckedTransport, ProviderFailed

        try:
            transport = self._transport or CheckedTransport(
                host_of(hook.url), httpx.AsyncHTTPTransport(verify=await asyncio.to_thread(_trusted), trust_env=False)
            )
            headers = {
                "content-type": "application/json",
                "user-agent": "slmgate",
                SIGNATURE: signature(str(hook.secret), record.payload, int(self._now().timestamp())),
            }
            async with (
                asyncio.timeout(TIMEOUT),
                httpx.AsyncClient(transport=transport, timeout=TIMEOUT, trust_env=False, follow_redirects=False) as client,
                client.stream("POST", hook.url, content=record.payload, headers=headers) as answer,
            ):
                return True, "" if answer.is_success else f"{host_of(hook.url)} answered {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL, ProviderFailed, TimeoutError, OSError) as error:
            return False, f"{host_of(hook.url)} cannot be told: {str(error) or type(error).__name__}"
        except Exception:  # noqa: BLE001  # a fault of our own costs this try: the others are on their way to other webhooks
            _log.exception("a fault while %s was told", host_of(hook.url))
            return False, f"{host_of(hook.url)} could not be told: the gate failed"


def _about(record: NoticeRecord) -> str:
    return f"{record.subject} for the webhook {record.webhook}" if record.webhook else f"for the team {record.team!r}"


def signature(secret: str, payload: bytes, at: int) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 over the seconds, a dot and the body, in the form of Stripe's webhooks.

    The receiver looks whether the seconds are near its own clock, so that nobody can send an old notice again. Source:
    https://docs.stripe.com/webhooks#verify-manually
    """
    digest = hmac.new(secret.encode(), b"%d." % at + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@cache
def _trusted() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()
