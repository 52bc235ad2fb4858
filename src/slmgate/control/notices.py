"""Notices of plans that are being used up: what has been reached is announced once, to the plan's webhook, signed.

One identity for each team, plan, month and threshold stands in the store before anything is sent, so that a restart neither
forgets a notice nor makes it twice; it is sent until an answer says that it arrived, or a day has passed. How much is used is
added up from the receipts, of which only new ones are read. All of it is off the road; this module knows no request.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from slmgate.control.config import Config
from slmgate.control.config.addresses import host_of
from slmgate.control.config.plan_options import Notify, Plan
from slmgate.control.keyring import utc_now
from slmgate.control.statements import LATE, belongs, used_of
from slmgate.policy.billing import month_bounds, month_of, nano_text
from slmgate.stores.base import LedgerUnavailable
from slmgate.stores.billing import BillingStore, NoticeRecord

if TYPE_CHECKING:
    import ssl

    import httpx

SECONDS = 5.0
"""Between two looks at what is used."""
TIMEOUT = 10.0
GIVEN_UP = timedelta(hours=24)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(hours=1)
AT_ONCE = 16
SIGNATURE = "slmgate-signature"

_log = logging.getLogger("slmgate.control")


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a notice. `included` and `used` are tokens, or decimal text of `currency` where money is included."""

    id: str
    type: str = "plan.threshold"
    created: datetime
    team: str
    plan: str
    month: str
    timezone: str
    at: int
    unit: str
    included: int | str
    used: int | str
    currency: str = ""


class Span(NamedTuple):
    """A month by the clocks of a zone."""

    month: str
    zone: str


class Notices:
    """Announces what is reached. One for each control process; `look` blocks and runs in a thread, one at a time."""

    def __init__(
        self,
        store: BillingStore,
        config: Callable[[], Config],
        now: Callable[[], datetime] = utc_now,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`config` is asked anew each time; `transport` None: the network, with each address checked."""
        self._store = store
        self._config = config
        self._now = now
        self._transport = transport
        # How far each month has been added up, and to what: (team, plan) -> tokens and billionths. Lost with the process, and
        # made again from the receipts.
        self._seen: dict[Span, int] = {}
        self._sums: dict[Span, dict[tuple[str, str], tuple[int, int]]] = {}
        self._down = False

    async def run(self) -> None:
        """Look and send, until it is cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look)
                await self.deliver()
                self._down = False
            except LedgerUnavailable as error:
                if not self._down:
                    _log.error("plans are not looked after while the ledger is away: %s", error)
                self._down = True
            except Exception:  # noqa: BLE001  # a fault of our own must not end the notices of all teams
                _log.exception("the plans' notices failed; they are tried again")
            await asyncio.sleep(SECONDS)

    def look(self) -> None:
        """Make a notice of each threshold that is reached and was not announced. Raises LedgerUnavailable."""
        config, now = self._config(), self._now()
        watched = {name: plan for name, plan in config.plans.items() if plan.included is not None}
        spans: dict[Span, list[str]] = {}
        for name, plan in watched.items():
            # for as long as receipts of the last month may come
            for month in {month_of(now, plan.timezone), month_of(now - LATE, plan.timezone)}:
                spans.setdefault(Span(month, plan.timezone), []).append(name)
        for gone in self._seen.keys() - spans.keys():
            del self._seen[gone], self._sums[gone]
        for span, names in spans.items():
            self._add_up(span, config.plans)
            for (team, name), (tokens, nano) in self._sums[span].items():
                if name in names:
                    self._announce(team, name, watched[name], span, tokens, nano)

    def used(self) -> list[tuple[str, str, float]]:
        """Team, plan, and how much of what it includes was used this month, at the last look: 1 is all of it."""
        config, now = self._config(), self._now()
        found = []
        for span, sums in list(self._sums.items()):
            for (team, name), (tokens, nano) in list(sums.items()):
                plan = config.plans.get(name)
                if plan is None or plan.included is None or span != Span(month_of(now, plan.timezone), plan.timezone):
                    continue
                used = nano if plan.included.unit == "cost" else tokens
                found.append((team, name, used / plan.included.amount if plan.included.amount else 1.0))
        return found

    def _add_up(self, span: Span, plans: Mapping[str, Plan]) -> None:
        """Add the receipts that came since the last look."""
        bounds = month_bounds(span.month, span.zone)
        newest, before = self._store.newest(), self._seen.get(span, 0)
        sums = self._sums.setdefault(span, {})
        if bounds is not None and newest > before:
            for row in self._store.charges(*bounds, after=before, upto=newest):
                plan = plans.get(row.plan)
                if plan is not None and belongs(row, row.plan, plan.currency):
                    tokens, nano = sums.get((row.team, row.plan), (0, 0))
                    used = used_of(row)
                    counted = tokens + used.prompt_tokens + used.completion_tokens, nano + used.cost
                    sums[row.team, row.plan] = counted
        self._seen[span] = newest

    def _announce(self, team: str, name: str, plan: Plan, span: Span, tokens: int, nano: int) -> None:
        if plan.included is None or plan.notify is None:
            return
        money = plan.included.unit == "cost"
        used, included = nano if money else tokens, plan.included.amount
        for at in sorted(set(plan.notify.at)):
            if used * 100 < at * included:
                break
            now = self._now()
            id = identity(team, name, span.month, at)
            notice = Notice(
                id=id,
                created=now,
                team=team,
                plan=name,
                month=span.month,
                timezone=span.zone,
                at=at,
                unit=plan.included.unit,
                included=nano_text(included) if money else included,
                used=nano_text(used) if money else used,
                currency=plan.included.currency,
            )
            record = NoticeRecord(id=id, team=team, plan=name, payload=msgspec.json.encode(notice), created=now, retry=now)
            if self._store.add_notice(record):
                _log.info("the team %r has used %d %% of what its plan %s includes in %s", team, at, name, span.month)

    async def deliver(self) -> None:
        """Send what is due. Raises LedgerUnavailable."""
        while due := await asyncio.to_thread(self._store.due_notices, self._now(), AT_ONCE):
            async with asyncio.TaskGroup() as sending:
                for record in due:
                    sending.create_task(self._send(record))
            if len(due) < AT_ONCE:
                return

    async def _send(self, record: NoticeRecord) -> None:
        """One try. What became of it is kept before the next."""
        plan = self._config().plans.get(record.plan)
        notify = plan.notify if plan is not None else None
        failed = "its plan has no webhook any more" if notify is None else await self._post(notify, record)
        now = self._now()
        attempts = record.attempts + 1
        pause = min(FIRST_PAUSE * 2 ** min(attempts - 1, 20), LONGEST_PAUSE)
        if not failed:
            after = msgspec.structs.replace(record, attempts=attempts, retry=None, delivered=now)
        elif now + pause > record.created + GIVEN_UP:
            _log.error("the notice %s for the team %r is given up: %s", record.id, record.team, failed)
            after = msgspec.structs.replace(record, attempts=attempts, retry=None)
        else:
            if record.attempts == 0:
                _log.warning("the notice %s for the team %r is sent again for a day: %s", record.id, record.team, failed)
            after = msgspec.structs.replace(record, attempts=attempts, retry=now + pause)
        await asyncio.to_thread(self._store.save_notice, after)

    async def _post(self, notify: Notify, record: NoticeRecord) -> str:
        """Send it once; what went wrong, or nothing. Of the answer only its status is looked at."""
        import httpx  # here and below: a gate without notices starts without what sends them

        from slmgate.control.admin.signin.fetch import CheckedTransport, ProviderFailed

        try:
            transport = self._transport or CheckedTransport(
                host_of(notify.url), httpx.AsyncHTTPTransport(verify=await asyncio.to_thread(_trusted), trust_env=False)
            )
            headers = {
                "content-type": "application/json",
                "user-agent": "slmgate",
                SIGNATURE: signature(str(notify.secret), record.payload, int(self._now().timestamp())),
            }
            async with (
                asyncio.timeout(TIMEOUT),
                httpx.AsyncClient(transport=transport, timeout=TIMEOUT, trust_env=False, follow_redirects=False) as client,
                client.stream("POST", notify.url, content=record.payload, headers=headers) as answer,
            ):
                return "" if answer.is_success else f"{host_of(notify.url)} answered {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL, ProviderFailed, TimeoutError, OSError) as error:
            return f"{host_of(notify.url)} cannot be told: {str(error) or type(error).__name__}"


def identity(team: str, plan: str, month: str, at: int) -> str:
    """What a notice is known by, the same however often it is worked out."""
    named = msgspec.json.encode((team, plan, month, at))
    return f"nt_{hashlib.sha256(named).hexdigest()[:32]}"


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
