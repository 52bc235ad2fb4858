"""Limits counted over past requests: what a proposed configuration would have had left when each of them came.

The verdicts are `policy`'s, as on the road. What was used is kept here for as long as its window lasts, and in as many slices as
the road keeps, so that a year of receipts needs no more memory than a day. Nothing is known of what live requests had reserved:
each counts with what it came to. It knows no ledger and no report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush

from slmgate.control.trials.limited import need
from slmgate.policy.charges import Charges, Tariff
from slmgate.policy.limiting import BUCKET, CALENDAR, SECOND, SLICES, SLIDING, Meter, slice_at
from slmgate.policy.roles import Scalar
from slmgate.policy.room import weigh
from slmgate.terms import Principal, Receipt, Refuse, Usage

MAX_CELLS = 200_000
"""Limits of single callers that are counted at the same time; the one that is longest without use goes first."""
MAX_TARIFFS = 20_000


class _Cell:
    """What is used of one limit by one subject. `at` is the second that `used` was last asked for."""

    __slots__ = ("_at", "_ends", "_meter", "_slices", "_used")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._used = 0.0
        self._at = 0.0  # of a calendar, when its period began
        self._slices: deque[list[int]] = deque()  # of a rolling window: [number of the slice, what it holds]
        self._ends: list[float] = []  # of requests under way

    def used(self, now: float) -> int:
        meter = self._meter
        if meter.kind == SLIDING:
            oldest = slice_at(int(now * SECOND), meter.period) - SLICES
            while self._slices and self._slices[0][0] < oldest:
                self._used -= self._slices.popleft()[1]
        elif meter.kind == CALENDAR:
            start = float(meter.period_at(now)[0])
            if start > self._at:
                self._at, self._used = start, 0.0
        elif meter.kind == BUCKET:
            passed = max(0.0, now - self._at) * SECOND
            self._at, self._used = max(now, self._at), max(0.0, self._used - passed * meter.rate / meter.period)
            return -int(-self._used // 1)
        else:
            while self._ends and self._ends[0] <= now:
                heappop(self._ends)
            return len(self._ends)
        return int(self._used)

    def charge(self, amount: int, now: float, ends: float) -> None:
        """A request that came at `now` and was over at `ends` came to `amount`."""
        meter = self._meter
        if meter.kind == SLIDING:
            number = slice_at(int(now * SECOND), meter.period)
            if not self._slices or self._slices[-1][0] < number:
                self._slices.append([number, 0])
            self._slices[-1][1] += amount
        elif meter.kind not in (CALENDAR, BUCKET):
            heappush(self._ends, ends)
            return
        self._used += amount


class Pace:
    """The limits of one configuration. Requests are taken in about the order in which they came."""

    def __init__(self, charges: Charges) -> None:
        self._charges = charges
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._tariffs: dict[tuple[str, str | None, str, str, str], Tariff] = {}

    def __repr__(self) -> str:
        return f"<Pace {len(self._cells)} cells>"

    def take(
        self, receipt: Receipt, principal: Principal, role: str, endpoint: str, parameters: Mapping[str, Sequence[Scalar]]
    ) -> Refuse | None:
        """Count a request that `role` admits, or say why there would have been no room. `parameters` with what the role sets."""
        tariff = self._tariff(principal, receipt.model, role, receipt.address)
        if not tariff.meters:
            return None
        now = receipt.time.timestamp()
        cells = [self._cell(meter, subject) for meter, subject in zip(tariff.meters, tariff.subjects, strict=True)]
        needed = need(tariff, endpoint, receipt.prompt_tokens, parameters)
        refuse, bound, _ = weigh(tariff, [cell.used(now) for cell in cells], needed, now)
        if refuse is not None:
            return refuse
        most = receipt.completion_tokens if bound is None else min(receipt.completion_tokens, bound * needed.answers)
        engine = max(0, receipt.total_us - receipt.queue_us)
        forwarded = receipt.attempts > 0 or receipt.verdict == "refuse"  # refused then, it would have gone on now
        came_to = tariff.came_to(Usage(receipt.prompt_tokens, most), engine) if forwarded else [0] * len(cells)
        for cell, amount in zip(cells, came_to, strict=True):
            cell.charge(amount, now, now + receipt.total_us / 1e6)
        return None

    def _tariff(self, principal: Principal, model: str, role: str, address: str) -> Tariff:
        which = (principal.id, principal.team, model, role, address)
        found = self._tariffs.get(which)
        if found is None:
            if len(self._tariffs) >= MAX_TARIFFS:
                self._tariffs.clear()
            found = self._tariffs[which] = self._charges.tariff(principal, model, role, address)
        return found

    def _cell(self, meter: Meter, subject: str) -> _Cell:
        which = (meter.spec.identity, subject)
        found = self._cells.pop(which, None) or _Cell(meter)
        while len(self._cells) >= MAX_CELLS:
            del self._cells[next(iter(self._cells))]
        self._cells[which] = found
        return found
