"""The limits of a configuration -> `LimitSpec`s: the places where they stand, for whom they count, what their use is known by.

Pure: no file, store or clock. What a worker does with a limit is not its affair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from slmgate.control.config.limit_options import ALL, WEEKDAYS, Limit
from slmgate.control.config.limit_words import write
from slmgate.control.config.options import Config
from slmgate.control.keyfields import DECLARED
from slmgate.policy.limits import LimitSpec, Per

EVERY: tuple[Per, ...] = ("principal", "team", "role", "model", "ip")
"""Whose use may be counted together, in the order that is written down: `[model, team]` counts what `[team, model]` does."""


class Holder(NamedTuple):
    """Something with limits: `place` is its path with names, empty for the whole gate; `per` holds where a limit says none."""

    place: str
    limits: tuple[Limit, ...]
    per: tuple[Per, ...]


def holders(config: Config) -> Iterator[Holder]:
    """Everything in `config` that may have limits."""
    yield Holder("", config.limits, ())
    for name, role in config.roles.items():
        yield Holder(f"roles.{name}", role.limits, ("principal",))
    for name, team in config.teams.items():
        yield Holder(f"teams.{name}", team.limits, ("team",))
    for name, model in config.models.items():
        yield Holder(f"models.{name}", model.limits, ())
    for key in config.keys:
        yield Holder(f"keys.{key.name}", key.limits, ("principal",))


class Limits:
    """The limits of one configuration, by the place of their holder."""

    def __init__(self, config: Config) -> None:
        self._specs = {holder.place: specs(holder) for holder in holders(config) if holder.limits}
        self._keys = tuple(key.name for key in config.keys if key.limits)

    def of(self, place: str) -> tuple[LimitSpec, ...]:
        """Those of `roles.partner`, `teams.acme`, `models.smollm2`, and with an empty place those for all."""
        return self._specs.get(place, ())

    def of_keys(self) -> tuple[tuple[str, tuple[LimitSpec, ...]], ...]:
        """Those of single keys, by the keys' ids."""
        return tuple((DECLARED + name, self.of(f"keys.{name}")) for name in self._keys)


def specs(holder: Holder) -> tuple[LimitSpec, ...]:
    """The limits of one holder in their order.

    What was used is known by what is counted, and by no amount, so that it stays when an amount changes. Of several limits that
    count the same, the smallest is the first: it is the one that binds, and goes on with what was used whatever stands beside it.
    """
    known = [_known(holder, limit) for limit in holder.limits]
    smallest = sorted(
        range(len(known)), key=lambda i: (holder.limits[i].limit.burst is not None, holder.limits[i].limit.amount, i)
    )
    ordinals: dict[int, int] = {}
    seen: Counter[str] = Counter()
    for i in smallest:
        seen[known[i]] += 1
        ordinals[i] = seen[known[i]]
    return tuple(_spec(holder, i, f"{known[i]} {ordinals[i]}") for i in range(len(known)))


def _known(holder: Holder, limit: Limit) -> str:
    """What is counted: the place, unit, window, currency, zone, first day, and whose use together. No amount, and no position."""
    words = limit.limit
    over = words.calendar or (f"{words.seconds}s" if words.seconds else "now")
    parts = [holder.place or "all", words.unit, over]
    if words.currency:
        parts.append(words.currency)
    if words.calendar is not None:
        parts.append(limit.timezone or "UTC")
    if words.calendar == "week":
        parts.append(limit.week_starts or WEEKDAYS[0])
    return " ".join([*parts, "per", ",".join(_per(holder, limit.per)) or ALL])


def _per(holder: Holder, given: Sequence[str]) -> tuple[Per, ...]:
    return tuple(per for per in EVERY if per in given) if given else holder.per


def _spec(holder: Holder, index: int, identity: str) -> LimitSpec:
    limit = holder.limits[index]
    words, raised = limit.limit, limit.raised
    return LimitSpec(
        name=f"{holder.place}.limits[{index}]" if holder.place else f"limits[{index}]",
        text=write(words),
        identity=identity,
        unit=words.unit,
        amount=words.amount,
        seconds=words.seconds,
        calendar=words.calendar,
        burst=words.burst,
        zone=limit.timezone or "UTC",
        first_day=WEEKDAYS.index(limit.week_starts or WEEKDAYS[0]),
        per=_per(holder, limit.per),
        clamp=limit.on_excess == "clamp",
        currency=words.currency,
        raised=None if raised is None else raised.to.amount,
        raised_until=0.0 if raised is None else raised.until.timestamp(),
    )
