"""A request's limits: taken together before it goes on, settled when it is over, and told to its client.

It stands between `policy/charges.py` (what a request is counted against) and `table.py` (what was used), and finds the words and
headers for what came out. Accounts that are busy have a share of their limits in hand (`share.py`); all others, and what a share
cannot give, ask the table. It knows no socket and no exchange's life; `exchange.py` calls it twice for each request.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from slmgate.dataplane.share import NOWHERE, Share
from slmgate.dataplane.table import MAX_LIMITS, Held, Shared, Spot, Table, TableFull
from slmgate.policy.charges import Charges, Tariff
from slmgate.policy.limiting import CALENDAR, CONCURRENT, NEVER, SECOND, Meter
from slmgate.policy.limits import Unit
from slmgate.policy.room import TRIES, Need, Short, first_bound, refused, shorter, whole_window
from slmgate.terms import Principal, Refuse, Usage

MAX_ACCOUNTS = 50_000
"""Of how many (principal, model, role, address) it is remembered what they are counted against."""
BUSY = 16
"""With so many requests between two ticks an account is given a share."""
RETRY_SECONDS = 1.0
"""How long after a failure the table is opened anew."""
_NOT_COUNTED = Refuse(
    "accounting_unavailable", "The gate cannot count against your limits at the moment. Try again soon.", retry_after=5
)
_REQUEST_UNITS: frozenset[Unit] = frozenset(("requests",))
_TOKEN_UNITS: frozenset[Unit] = frozenset(("tokens", "prompt_tokens", "completion_tokens"))


class Account:
    """A tariff with the places where it is counted, and what its headers have in common."""

    __slots__ = ("_form", "_told", "_until", "asked", "share", "spots", "tariff", "tokens", "windows")

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
        self.asked = 0  # how often the table was asked since the last tick, or since it gave no share
        self.share: Share | None = None

    def told(self, held: Held, second: float) -> bytes:
        """The header lines about what is left, of an admitted request."""
        if not self.windows:
            return b""
        if second >= self._until:
            self._form.clear()
            self._until = min((self._ends(index, second) for index in self.windows), default=NEVER)
        left, reset = held.left, held.reset
        chosen = self._chosen(left, second)
        form = self._form.get(chosen)
        if form is None:
            form = self._form[chosen] = self._form_of(chosen, second)
        figures: list[int] = []
        for index in chosen:
            figures += (max(0, left[index]), -(-reset[index] // SECOND))
        for index in self.windows:
            figures += (max(0, left[index]), -(-reset[index] // SECOND))
        return form % tuple(figures)

    def prepare_share(self, share: Share, shared: Shared, second: float) -> None:
        """Until when a share that was filled holds, and the header lines of those who take of it; all but what remains."""
        share.ends = min(self._ends(index, second) for index in range(len(self.spots)))
        chosen = self._chosen(shared.left, second)
        told = [*chosen, *self.windows]
        resets = [-(-shared.reset[index] // SECOND) for index in told]
        form = self._form_of(chosen, second, resets) if told else b""
        share.tell(form, [(shared.left[index], share.units[index]) for index in told])

    def _chosen(self, left: list[int], second: float) -> tuple[int, ...]:
        """The limits for the fields of which there is one each: the tightest."""
        return tuple(indices[0] if len(indices) == 1 else self._tightest(indices, left, second) for _, indices in self._told)

    def _tightest(self, indices: tuple[int, ...], left: list[int], second: float) -> int:
        return min(indices, key=lambda index: left[index] / (self.tariff.meters[index].amount_at(second) or 1))

    def _ends(self, index: int, second: float) -> float:
        """Until when what headers say of a limit beside its figures stays as it is."""
        meter = self.tariff.meters[index]
        raised = meter.spec.raised_until if meter.temporary and meter.spec.raised_until > second else NEVER
        return min(raised, meter.period_at(second)[1]) if meter.kind == CALENDAR else raised

    def _form_of(self, chosen: tuple[int, ...], second: float, resets: Sequence[int] = ()) -> bytes:
        """Places for what remains and the resets; with `resets`, those stand in it."""
        meters = self.tariff.meters
        reset = iter([str(seconds) for seconds in resets] or ["%d"] * (len(chosen) + len(self.windows)))
        lines = [
            f"x-ratelimit-limit-{what}: {meters[index].amount_at(second)}\r\n"
            f"x-ratelimit-remaining-{what}: %d\r\nx-ratelimit-reset-{what}: {next(reset)}s\r\n"
            for (what, _), index in zip(self._told, chosen, strict=True)
        ]
        policies = ", ".join(policy_item(meters[index], second) for index in self.windows).replace("%", "%%")
        names = ", ".join(f'"{meters[index].spec.text}"'.replace("%", "%%") + f";r=%d;t={next(reset)}" for index in self.windows)
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
        """Of its hold in the table; -1: it has none of its own."""
        self.fields = fields
        self.completion = completion
        """The bound that each answer must be given, since more was not taken; None: the request's own stands."""


class Given(Hold):
    """What a live request was given out of its account's share."""

    __slots__ = ("held", "noted", "noted_us", "share")

    def __init__(self, account: Account, share: Share, completion: int | None, prompt: int, held: int) -> None:
        self.account = account
        self.prompt = prompt
        self.number = -1
        self.fields = share.told()
        self.completion = completion
        self.share = share
        self.held = held
        """Completion tokens that were taken for it."""
        self.noted = self.noted_us = 0


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
        self._asking: list[Account] = []  # those that asked the table since the last tick
        self._sharing: dict[Share, Account] = {}  # the shares that hold something
        # for the charges in force
        self._charges: Charges | None = None
        self._accounts: dict[tuple[str, str | None, str, str], Account | dict[str, Account]] = {}  # or by address
        self._remembered = 0

    def __repr__(self) -> str:
        return f"<Limiter {'open' if self._table else 'closed'}, {self._remembered} accounts>"

    def account(self, charges: Charges, principal: Principal, model: str, role: str, address: str) -> Account:
        """What requests of this principal for this model, admitted by this role, are counted against."""
        if charges is not self._charges or self._remembered >= MAX_ACCOUNTS:
            self._charges = charges
            self._accounts.clear()
            self._remembered = 0
            for share in self._sharing:
                share.retired = True  # others stand for the same limits now; what it has left goes back with the next tick
        who = (principal.id, principal.team, model, role)
        found = self._accounts.get(who)
        if isinstance(found, dict):
            return found.get(address) or self._new_account(charges, principal, model, role, address)
        return found or self._new_account(charges, principal, model, role, address)

    def _new_account(self, charges: Charges, principal: Principal, model: str, role: str, address: str) -> Account:
        who = (principal.id, principal.team, model, role)
        account = Account(charges.tariff(principal, model, role, address))
        self._remembered += 1
        by_address = self._accounts.get(who)
        if by_address is None and charges.by_address(principal, model, role):
            by_address = self._accounts[who] = {}
        if isinstance(by_address, dict):
            by_address[address] = account
        else:
            self._accounts[who] = account
        return account

    def take(self, account: Account, prompt: int, longest: int | None, answers: int, second: float) -> Hold | Refusal:
        """Take what a request may come to: `prompt` tokens, and `answers` answers of `longest` tokens (None: it sets no bound;
        0: it generates nothing). `second` is the wall clock's.
        """
        bound = None if longest is not None else first_bound(account.tariff, longest)
        each = longest if bound is None else bound
        share = account.share
        if share is not None:
            completion = (each or 0) * answers
            if share.take(prompt, completion, second) or self._refilled(account, share, (prompt, completion), second):
                return Given(account, share, bound, prompt, completion)
        if not account.spots:
            return Hold(account, -1, b"", None)
        table = self._table if self._table is not None else self._open()
        if table is None or len(account.spots) > MAX_LIMITS:
            return Refusal(_NOT_COUNTED)
        tariff = account.tariff
        for attempt in range(TRIES):
            completion = (each or 0) * answers
            wants = tariff.wants(prompt, completion)
            try:
                taken = table.take(account.spots, wants, tariff.kept(prompt), second)
            except TableFull:
                break
            if isinstance(taken, Held):
                hold = Hold(account, taken.number, account.told(taken, second), bound, prompt)
                self._asked(account, (prompt, completion), second)
                return hold
            less = shorter(tariff, taken, Need(prompt, longest, answers), each)
            if less is None or attempt == TRIES - 1:
                return _refusal(account, taken, wants[taken.which], second)
            each = bound = less  # and again: others may be short of it as well
        return Refusal(_NOT_COUNTED)

    def note(self, hold: Hold, generated: int, engine_us: int) -> None:
        """What a live request has come to so far: it is charged even if this worker dies now."""
        tariff = hold.account.tariff
        if isinstance(hold, Given):
            hold.share.note(hold, generated, engine_us)
        elif hold.number >= 0 and tariff.grows:
            assert self._table is not None
            self._table.note(hold.number, tariff.kept(hold.prompt, generated, engine_us))

    def settle(self, hold: Hold, usage: Usage, engine_us: int, second: float, *, forwarded: bool) -> None:
        """The request is over; `second` is the wall clock's. One that never was `forwarded` is charged nothing at all."""
        if isinstance(hold, Given):
            share = hold.share
            if share.settle(hold, usage.prompt_tokens, usage.completion_tokens, engine_us, forwarded=forwarded):
                self._fill(hold.account, share, None, second)
            return
        if hold.number < 0:
            return
        assert self._table is not None
        tariff = hold.account.tariff
        came_to = tariff.came_to(usage, engine_us) if forwarded else [0] * len(tariff.units)
        self._table.settle(hold.number, came_to, second)

    def owe(self, hold: Hold, second: float) -> Hold | None:
        """A hold in place of one that was given back, though its request had gone on: it has taken nothing, and what it comes to
        is owed when it is settled. None: it cannot be had, where more than the whole limit is used already.
        """
        account, table = hold.account, self._table
        if table is None or not account.spots:
            return None
        nothing = [0] * len(account.spots)
        try:
            taken = table.take(account.spots, nothing, nothing, second)
        except TableFull:
            return None
        return Hold(account, taken.number, hold.fields, hold.completion, hold.prompt) if isinstance(taken, Held) else None

    def look(self, spots: Sequence[Spot], second: float) -> list[tuple[int, int]] | None:
        """What is used of each limit, and what may be at most; None: the table cannot be had. `second` is the wall clock's."""
        table = self._table if self._table is not None else self._open()
        return None if table is None else table.look(spots, second)

    def prepare(self, charges: Charges) -> None:
        """Called when a snapshot comes into force, and once a second: the holds of this slot's dead are settled soon."""
        if self._table is None and (charges.any or self._path.exists()):
            self._open()

    def tick(self, second: float) -> None:
        """Called eight times a second: charge what shares came to, and give back what they do not need; wall clock's `second`."""
        for account in self._asking:
            account.asked = 0
        self._asking.clear()
        if self._table is not None:
            self._table.tend()
        for share, account in list(self._sharing.items()):
            share.tick()
            if share.served >= BUSY and not share.retired:
                self._fill(account, share, share.need, second)
            elif share.stirred or share.open:
                self._fill(account, share, None, second)

    def _refilled(self, account: Account, share: Share, need: tuple[int, int], second: float) -> bool:
        """Fill a share that had not enough for a request, if it is in good use. Returns whether the request has taken of it."""
        if share.served < BUSY or share.retired:
            return False
        share.run_out()
        return self._fill(account, share, need, second) and share.take(*need, second)

    def _asked(self, account: Account, need: tuple[int, int], second: float) -> None:
        """The table was asked and had room: an account that asks often is given a share."""
        if account.asked == 0:
            self._asking.append(account)
        account.asked += 1
        if account.asked >= BUSY:
            account.asked = 1
            share = account.share
            if share is None:
                share = account.share = Share(account.tariff)
            self._fill(account, share, need, second)

    def _fill(self, account: Account, share: Share, need: tuple[int, int] | None, second: float) -> bool:
        """Charge what a share came to, and fill it for more requests of such prompt and completion tokens (None: for none).

        False: it has nothing to give.
        """
        table = self._table
        assert table is not None
        try:
            shared = table.share(share.number, share.parts(account.spots, need), share.live_measures(), second)
        except (TableFull, MemoryError):
            share.ends = 0.0  # what it has stays with it until the next tick
            return False
        if shared.number >= 0:
            self._sharing[share] = account
            has_some = share.filled(shared, table.measures(shared.number))
        else:
            self._sharing.pop(share, None)
            has_some = share.filled(shared, NOWHERE)
        if has_some and need is not None:
            share.need = need
            account.prepare_share(share, shared, second)
        return has_some

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
