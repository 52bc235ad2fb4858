"""What the limits say of a request that was never sent, where somebody says how much of them was used.

Which limits it comes under and what follows from them is `policy`'s, as on the road; here the names and amounts that people write
are found. What was really used lives in the workers' table, and is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import inf

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.limit_words import parse, write
from slmgate.policy.access import GENERATING
from slmgate.policy.charges import Tariff
from slmgate.policy.limits import NANO, LimitSpec
from slmgate.policy.roles import Scalar
from slmgate.policy.room import Need

SCALES = {"cost": NANO, "engine_time": 1_000_000}
"""Units in which people write something else than what is counted: how many of the latter one of theirs is."""


def amounts(tariff: Tariff, given: Mapping[str, float]) -> tuple[list[int], list[str]]:
    """What is used of each limit of `tariff`, in its own measure, by what is said; and the names that are none of theirs.

    A limit is named by its place (`roles.partner.limits[0]`) or by its words (`60 requests/minute`). What nothing is said of is
    not used yet.
    """
    used = [0] * len(tariff.meters)
    strange: list[str] = []
    for name, amount in given.items():
        words = _words(name)
        meant = [index for index, meter in enumerate(tariff.meters) if _is(meter.spec, name, words)]
        if not meant:
            strange.append(name)
        for index in meant:
            spec = tariff.meters[index].spec
            used[index] = round(Fraction(str(amount)) * SCALES.get(spec.unit, 1))
    return used, strange


def _is(spec: LimitSpec, name: str, words: str) -> bool:
    return name == spec.name or words == spec.text


def _words(name: str) -> str:
    """The limit's words in their normal form; empty where they are none."""
    try:
        return write(parse(name))
    except BadValueError:
        return ""


def need(tariff: Tariff, endpoint: str, prompt: int, parameters: Mapping[str, Sequence[Scalar]]) -> Need:
    """What a request with these parameters may come to; those that the verdict sets are among them."""
    if not tariff.bounded or endpoint not in GENERATING:
        return Need(prompt, 0, 1)
    most = max(_numbers(parameters.get("max_tokens", ())), default=inf)
    several = [number for name in ("n", "best_of") for number in _numbers(parameters.get(name, ())) if number != inf]
    return Need(prompt, None if most == inf else max(0, int(most)), max(1, int(max(several, default=1))))


def _numbers(values: Iterable[Scalar]) -> Iterable[float]:
    """Values as numbers; infinite for what is none."""
    for value in values:
        try:
            yield float(value)
        except ValueError:
            yield inf
