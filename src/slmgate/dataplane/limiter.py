"""A request's limits: taken together before it goes on, settled when it is over, and told to its client.

It stands between `policy/charges.py` (what a request is counted against) and `table.py` (what was used), and finds the words and
headers for what came out. It knows no socket and no exchange's life; `exchange.py` calls it twice for each request.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from slmgate.dataplane.table import MAX_LIMITS, Held, Spot, Table, TableFull
from slmgate.policy.charges import Charges, Tariff
from slmgate.policy.limiting import CALENDAR, CONCURRENT, NEVER, SECOND, Meter
from slmgate.policy.limits import Unit
from slmgate.policy.room import TRIES, Need, Short, first_bound, refused, shorter, whole_window
from slmgate.terms import Principal, Refuse, Usage

MAX_ACCOUNTS = 50_000
"""Of how many (principal, model, role, address) it is remembered what they are counted against."""
RETRY_SECONDS = 1.0
"""How long after a failure the table is opened anew."""
_NOT_COUNTED = Refuse(
    "accounting_unavailable", "The gate cannot count against your limits at the moment. Try again soon.", retry_after=5
)
_REQUEST_UNITS: frozenset[Unit] = frozenset(("requests",))
_TOKEN_UNITS: frozenset[Unit] = frozenset(("tokens", "prompt_tokens", "completion_tokens"))


class Account:
    """A tariff with the places where it is counted, and what its headers have in common."""

    __slots__ = ("_form", "_told", "_until", "spots", "tariff", "tokens", "windows")

    def __init__(self, tariff: Tariff) -> None:
        self.tariff = tariff
        self.spots = tuple(Spot(meter, subject) for meter, subject in zip(tariff.meters, tariff.subjects, strict=True))
        # limits that headers speak of: all but those of concurrency, which have no window
        self.windows = tuple(index for index, meter in enumerate(tariff.meters) if meter.kind != CONCURRENT)
        self._told = tuple(
            (what, of_unit)
            for what, units in (("requests", _REQUEST_UNITS), ("tokens", _TOKEN_UNITS))
            if (of_unit := tuple(index for index in self.windows if tariff.units[index] in units))
        )
        # The header lines without their figures, by the limits chosen for the fields of which there is one each; they hold until
        # a calendar's period or a temporary raise ends.
        self._form: dict[tuple[int, ...], bytes] = {}
        self._until = 0.0

    def told(self, held: Held, second: float) -> bytes:
        """The header lines about what is left, of an admitted request."""
        if not self.windows:
            return b""
        if second >= self._until:
            self._form.clear()
            self._until = min((self._ends(index, second) for index in self.windows), default=NEVER)
        left, reset = held.left, held.reset
        chosen = tuple(indices[0] if len(indices) == 1 else self._tightest(indices, left, second) for _, indices in self._told)
        form = self._form.get(chosen)
        if form is None:
            form = self._form[chosen] = self._form_of(chosen, second)
        figures: list[int] = []
        for index in chosen:
            figures += (max(0, left[index]), -(-reset[index] // SECOND))
        for index in self.windows:
            figures += (max(0, left[index]), -(-reset[index] // SECOND))
        return form % tuple(figures)

    def _tightest(self, indices: tuple[int, ...], left: list[int], second: float) -> int:
        return min(indices, key=lambda index: left[index] / (self.tariff.meters[index].amount_at(second) or 1))

    def _ends(self, index: int, second: float) -> float:
        """Until when what headers say of a limit beside its figures stays as it is."""
        meter = self.tariff.meters[index]
        raised = meter.spec.raised_until if meter.temporary and meter.spec.raised_until > second else NEVER
        return min(raised, meter.period_at(second)[1]) if meter.kind == CALENDAR else raised

    def _form_of(self, chosen: tuple[int, ...], second: float) -> bytes:
        meters = self.tariff.meters
        lines = [
            f"x-ratelimit-limit-{what}: {meters[index].amount_at(second)}\r\n"
            f"x-ratelimit-remaining-{what}: %d\r\nx-ratelimit-reset-{what}: %ds\r\n"
            for (what, _), index in zip(self._told, chosen, strict=True)
        ]
        policies = ", ".join(policy_item(meters[index], second) for index in self.windows).replace("%", "%%")
        names = ", ".join(f'"{meters[index].spec.text}"'.replace("%", "%%") + ";r=%d;t=%d" for index in self.windows)
        return "".join((*lines, f"ratelimit-policy: {policies}\r\nratelimit: {names}\r\n")).encode()

    def short(self, short: Short, wait: int, second: float) -> bytes:
        """The header lines of a refusal: about the limit that had no room, for which `wait` seconds are told."""
        index = short.which
        if index not in self.windows:
            return b""
        left, meter = max(0, short.left), self.tariff.meters[index]
        lines = "".join(
            f"x-ratelimit-limit-{what}: {short.amount}\r\n"
            f"x-ratelimit-remaining-{what}: {left}\r\nx-ratelimit-reset-{what}: {wait}s\r\n"
            for what, indices in self._told
            if index in indices
        )
        lines += f'ratelimit-policy: {policy_item(meter, second)}\r\nratelimit: "{meter.spec.text}";r={left};t={wait}\r\n'
        return lines.encode()


def policy_item(meter: Meter, second: float) -> str:
    """One item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers): a limit's name, quota, and window in seconds."""
    window = meter.spec.seconds
    if meter.kind == CALENDAR:
        start, end = meter.period_at(second)
        window = end - start
    return f'"{meter.spec.text}";q={meter.amount_at(second)};w={window}'


class Hold:
    """What a live request has taken. `fields` are header lines for its answer."""

    __slots__ = ("account", "completion", "fields", "number", "prompt")

    def __init__(self, account: Account, number: int, fields: bytes, completion: int | None, prompt: int = 0) -> None:
        self.account = account
        self.prompt = prompt
        self.number = number
        self.fields = fields
        self.completion = completion
        """The bound that each answer must be given, since more was not taken; None: the request's own stands."""


class Refusal(NamedTuple):
    """There is no room: the verdict, and header lines for its answer."""

    refuse: Refuse
    fields: bytes = b""


class Limiter:
    """This worker's limits. The table is opened when there is first something to count."""

    def __init__(self, path: Path, slot: int, workers: int) -> None:
        self._path = path
        self._slot = slot
        self._workers = workers
        self._table: Table | None = None
        self._failed = 0.0  # when opening the table failed last, monotonic
        # for the charges in force
        self._charges: Charges | None = None
        self._accounts: dict[tuple[str, str | None, str, str, str], Account] = {}
        self._by_address: dict[tuple[str, str | None, str, str], bool] = {}

    def __repr__(self) -> str:
        return f"<Limiter {'open' if self._table else 'closed'}, {len(self._accounts)} accounts>"

    def account(self, charges: Charges, principal: Principal, model: str, role: str, address: str) -> Account:
        """What requests of this principal for this model, admitted by this role, are counted against."""
        if charges is not self._charges or len(self._accounts) >= MAX_ACCOUNTS or len(self._by_address) >= MAX_ACCOUNTS:
            self._charges = charges
            self._accounts.clear()
            self._by_address.clear()
        who = (principal.id, principal.team, model, role)
        by_address = self._by_address.get(who)
        if by_address is None:
            by_address = self._by_address[who] = charges.by_address(principal, model, role)
        which = (*who, address if by_address else "")
        found = self._accounts.get(which)
        if found is None:
            found = self._accounts[which] = Account(charges.tariff(principal, model, role, address))
        return found

    def take(self, account: Account, prompt: int, longest: int | None, answers: int, second: float) -> Hold | Refusal:
        """Take what a request may come to: `prompt` tokens, and `answers` answers of `longest` tokens (None: it sets no bound;
        0: it generates nothing). `second` is the wall clock's.
        """
        if not account.spots:
            return Hold(account, -1, b"", None)
        table = self._table if self._table is not None else self._open()
        if table is None or len(account.spots) > MAX_LIMITS:
            return Refusal(_NOT_COUNTED)
        tariff = account.tariff
        bound = first_bound(tariff, longest)
        each = longest if bound is None else bound
        for attempt in range(TRIES):
            completion = (each or 0) * answers
            wants = tariff.wants(prompt, completion)
            try:
                taken = table.take(account.spots, wants, tariff.kept(prompt), second)
            except TableFull:
                break
            if isinstance(taken, Held):
                return Hold(account, taken.number, account.told(taken, second), bound, prompt)
            less = shorter(tariff, taken, Need(prompt, longest, answers), each)
            if less is None or attempt == TRIES - 1:
                return _refusal(account, taken, wants[taken.which], second)
            each = bound = less  # and again: others may be short of it as well
        return Refusal(_NOT_COUNTED)

    def note(self, hold: Hold, generated: int, engine_us: int) -> None:
        """What a live request has come to so far: it is charged even if this worker dies now."""
        tariff = hold.account.tariff
        if hold.number >= 0 and tariff.grows:
            assert self._table is not None
            self._table.note(hold.number, tariff.kept(hold.prompt, generated, engine_us))

    def settle(self, hold: Hold, usage: Usage, engine_us: int, second: float, *, forwarded: bool) -> None:
        """The request is over; `second` is the wall clock's. One that never was `forwarded` is charged nothing at all."""
        if hold.number < 0:
            return
        assert self._table is not None
        tariff = hold.account.tariff
        came_to = tariff.came_to(usage, engine_us) if forwarded else [0] * len(tariff.units)
        self._table.settle(hold.number, came_to, second)

    def look(self, spots: Sequence[Spot], second: float) -> list[tuple[int, int]] | None:
        """What is used of each limit, and what may be at most; None: the table cannot be had. `second` is the wall clock's."""
        table = self._table if self._table is not None else self._open()
        return None if table is None else table.look(spots, second)

    def prepare(self, charges: Charges) -> None:
        """Called when a snapshot comes into force, and once a second: the holds of this slot's dead are settled soon."""
        if self._table is None and (charges.any or self._path.exists()):
            self._open()

    def _open(self) -> Table | None:
        now = time.monotonic()
        if now - self._failed >= RETRY_SECONDS or not self._failed:
            try:
                self._table = Table(self._path, self._slot, self._workers)
            except (OSError, MemoryError):
                self._failed = now
        return self._table


def _refusal(account: Account, short: Short, want: int, second: float) -> Refusal:
    """The refusal, with what is known of the limit that had no room."""
    refuse = refused(account.tariff, short, want)
    wait = refuse.retry_after or whole_window(account.tariff.meters[short.which])
    return Refusal(refuse, account.short(short, wait, second))
