"""A share: what a worker took of all limits of an account at once, out of which it gives to many requests by itself.

It is only had while there is plenty of everything (`Table.share` says how much), so that nothing is ever given that was not taken
before, and the last of a limit is always asked for in the table, request by request. Eight times a second what its requests came
to is charged, and what it does not need goes back. What they have come to meanwhile stands in the table's file, in measures that
are charged if the worker dies. It knows no socket, and of the table one share's measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add, itemgetter
from typing import Protocol

from slmgate.dataplane.table import MEASURES, Part, Shared, Spot
from slmgate.policy.charges import ENGINE_HOLD, Tariff
from slmgate.policy.limits import Unit

UNITS: tuple[Unit, ...] = ("requests", "tokens", "prompt_tokens", "completion_tokens", "cost", "engine_time", "concurrent")
REQUESTS, TOKENS, PROMPT, COMPLETION, COST, ENGINE, CONCURRENT = range(7)
"""All limits on one unit are given the same, so that one number for each unit says what is left of a share."""

LANES = 16
"""For how many requests under way at once, more than twice those that are, a share is made at least."""
MOST_LANES = 8192
"""A share is made for no more than these."""
USEFUL = 8
"""For how many it must suffice, to be worth having."""
PLENTY = 1 << 61
"""What a share has of a unit on which there is no limit."""
MOST = 1 << 50
"""No request is charged more tokens than this, whatever an instance says: sums of them must have room in a word."""

NOWHERE = memoryview(bytes(MEASURES * 8)).cast("q")
"""The measures of an empty share: nothing is counted in it."""


class Given(Protocol):
    """What a share must know of a request that has taken of it: the tokens that it took, and what of it was noted so far."""

    prompt: int
    held: int
    noted: int
    noted_us: int


class Share:
    """One account's share in this worker; it may be empty, and is filled again when there is much to do."""

    __slots__ = (
        "_besides",
        "_came",
        "_given",
        "_lanes",
        "_prices",
        "_rates",
        "_taken",
        "_told",
        "ends",
        "form",
        "left",
        "measures",
        "need",
        "number",
        "retired",
        "units",
    )

    def __init__(self, tariff: Tariff) -> None:
        price = tariff.price
        self._prices = price.prompt, price.completion
        self.units = tuple(UNITS.index(unit) for unit in tariff.units)
        """Of each limit."""
        self._rates = tuple(
            (fixed, prompt, completion, engine) for prompt, completion, _, fixed, engine in tariff.terms
        )  # in the order of measures
        self.number = -1
        """Of its hold in the table; -1: it holds nothing."""
        self.ends = 0.0
        """The second of the wall clock from which on it gives nothing: a period ends, or it was closed."""
        self.retired = False
        """Whether its account is no more."""
        self.need = 0, 0
        """The prompt and completion tokens of the request for which it was filled last."""
        # by unit: what may still be given; that and what live requests had when it was filled; what was given then
        self.left = [0] * len(UNITS)
        self._taken = [0] * len(UNITS)
        self._given = [0] * len(UNITS)
        self._lanes = LANES  # for how many requests under way at once it is made
        # what requests that are over have come to since, by measure; and that of live ones too, in the table's file
        self._came = [0] * MEASURES
        self.measures = NOWHERE
        # header lines without their figures, and of each figure what is left beside the share, and what of `left` comes to that
        self.form = b""
        self._besides: tuple[int, ...] = ()
        self._told: Callable[[list[int]], tuple[int, ...]] = itemgetter(0, 0)

    def __repr__(self) -> str:
        return f"<Share {self.number}: {self.live} live, {self.served} served{'' if self.open else ', closed'}>"

    @property
    def live(self) -> int:
        """How many requests under way have taken of it."""
        return self._taken[CONCURRENT] - self.left[CONCURRENT]

    @property
    def served(self) -> int:
        """To how many it gave since it was filled."""
        return self._given[REQUESTS] - self.left[REQUESTS]

    @property
    def open(self) -> bool:
        """Whether it was given anything when it was filled."""
        return self._given[CONCURRENT] != 0

    @property
    def stirred(self) -> bool:
        """Whether anything began or ended since it was filled."""
        return self.served != 0 or self._came != [0] * MEASURES

    def take(self, prompt: int, completion: int, second: float) -> bool:
        """Take what a request may come to, of all limits or of none."""
        requests, tokens, prompts, completions, cost, engine, lanes = self.left
        for_prompt, for_completion = self._prices
        requests -= 1
        tokens -= prompt + completion
        prompts -= prompt
        completions -= completion
        cost -= prompt * for_prompt + completion * for_completion
        engine -= ENGINE_HOLD
        lanes -= 1
        if (
            second >= self.ends
            or requests < 0
            or tokens < 0
            or prompts < 0
            or completions < 0
            or cost < 0
            or engine < 0
            or lanes < 0
        ):
            return False
        self.left = [requests, tokens, prompts, completions, cost, engine, lanes]
        measures = self.measures
        measures[0] += 1
        measures[1] += prompt
        return True

    def told(self) -> bytes:
        """The header lines about what is left, of a request that has just taken."""
        return self.form % tuple(map(add, self._besides, self._told(self.left)))

    def tell(self, form: bytes, figures: Sequence[tuple[int, int]]) -> None:
        """What `told` says from now on: each figure is what is left beside the share, and the unit of what is left in it."""
        self.form = form
        self._besides = tuple(beside for beside, _ in figures)
        self._told = itemgetter(*(unit for _, unit in figures), 0, 0)  # of one alone it would make no tuple; `map` takes no more

    def note(self, hold: Given, generated: int, engine_us: int) -> None:
        """What a live request has come to so far."""
        self.measures[2] += generated - hold.noted
        self.measures[3] += engine_us - hold.noted_us
        hold.noted, hold.noted_us = generated, engine_us

    def settle(self, hold: Given, prompt: int, completion: int, engine_us: int, *, forwarded: bool) -> bool:
        """The request is over and came to so much. True: it came to more than the share had, which must be owed at once."""
        requests, tokens, prompts, completions, cost, engine, lanes = self.left
        measures, came = self.measures, self._came
        if not forwarded:
            prompt = completion = engine_us = 0
            requests += 1
            measures[0] -= 1
        else:
            if prompt > MOST:
                prompt = MOST
            if completion > MOST:
                completion = MOST
            came[0] += 1
            came[1] += prompt
            came[2] += completion
            came[3] += engine_us
        less_prompt, less_completion = hold.prompt - prompt, hold.held - completion
        for_prompt, for_completion = self._prices
        tokens += less_prompt + less_completion
        prompts += less_prompt
        completions += less_completion
        cost += less_prompt * for_prompt + less_completion * for_completion
        engine += ENGINE_HOLD - engine_us
        self.left = [requests, tokens, prompts, completions, cost, engine, lanes + 1]
        if less_prompt:
            measures[1] -= less_prompt
        measures[2] += completion - hold.noted
        measures[3] += engine_us - hold.noted_us
        return tokens < 0 or prompts < 0 or completions < 0 or cost < 0 or engine < 0

    def run_out(self) -> None:
        """It had not enough until the next tick: it is to be larger."""
        self._lanes = min(MOST_LANES, 2 * self._lanes)

    def tick(self) -> None:
        """Some time has passed: it may be smaller."""
        self._lanes //= 2

    def parts(self, spots: Sequence[Spot], need: tuple[int, int] | None) -> list[Part]:
        """What is to be charged and kept of each limit, and wished for more such requests: `need` is their prompt and completion
        tokens; None: for none.
        """
        came, keeps = self._by_unit(*self._came), self._kept()
        wishes = leasts = [0] * len(UNITS)
        if need is not None:
            prompt, completion = need
            each = self._by_unit(1, prompt, completion, ENGINE_HOLD)
            each[CONCURRENT] = 1
            self._lanes = max(self._lanes, LANES + 2 * keeps[CONCURRENT])
            wishes = [self._lanes * one + 2 * used for one, used in zip(each, came, strict=True)]
            leasts = [USEFUL * one for one in each]
        return [
            Part(spot, unit, rates, sum(map(int.__mul__, rates, self._came)), keeps[unit], wishes[unit], leasts[unit])
            for spot, unit, rates in zip(spots, self.units, self._rates, strict=True)
        ]

    def live_measures(self) -> list[int]:
        """What live requests have come to as far as is known, by measure."""
        return [noted - over for noted, over in zip(self.measures, self._came, strict=True)]

    def filled(self, shared: Shared, measures: memoryview) -> bool:
        """Go on with what was charged, kept and given. Returns whether there is anything to give."""
        keeps = self._kept()
        given = [PLENTY if any(shared.given) else 0] * len(UNITS)
        for unit, give in zip(self.units, shared.given, strict=True):
            given[unit] = give
        self.number, self.measures = shared.number, measures
        self._came = [0] * MEASURES
        self.left = list(given)
        self._given = given
        self._taken = [keep + give for keep, give in zip(keeps, given, strict=True)]
        return any(shared.given)

    def _kept(self) -> list[int]:
        """What live requests have taken of it, by unit."""
        return [taken - left - used for taken, left, used in zip(self._taken, self.left, self._by_unit(*self._came), strict=True)]

    def _by_unit(self, requests: int, prompt: int, completion: int, engine_us: int) -> list[int]:
        for_prompt, for_completion = self._prices
        cost = prompt * for_prompt + completion * for_completion
        return [requests, prompt + completion, prompt, completion, cost, engine_us, 0]
