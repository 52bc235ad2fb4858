"""Of one model, the instances that the gate would have to start first: whether one may come, who waits for it, and how long.

A worker starts nothing: it says that one is wanted, and learns from the next snapshot that it is there, or from control that it
could not be started. Only requests that stand in line come here. It keeps no request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import ceil
from typing import TYPE_CHECKING

from slmgate.policy.specs import ModelSpec
from slmgate.terms import Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.pool import Instance

AGAIN_SECONDS = 0.25
"""How often control is told at most; tallies say the same once a second."""

NEWS_SECONDS = 3.0
"""How long one that was lost with its engine waits for the news that this is so, and another is started."""


class Sleepers:
    """One model's. `asleep`: there is one that may be started."""

    __slots__ = ("_left_alone_until", "_patience", "_startable", "_want", "_wanted_at", "asleep", "model")

    def __init__(self, spec: ModelSpec, want: Callable[[str], None]) -> None:
        self._want = want
        self._wanted_at = -AGAIN_SECONDS
        self._left_alone_until = 0.0  # the last start failed: until then there is no other
        self.update(spec)

    def __repr__(self) -> str:
        return f"<Sleepers of {self.model}: {'one' if self.asleep else 'none'} asleep>"

    def update(self, spec: ModelSpec) -> None:
        """Take a new snapshot's settings."""
        self.model = spec.name
        asleep = [one for one in spec.instances if one.asleep and not one.draining]
        self.asleep = bool(asleep)
        self._startable = any(one.start_within and not one.draining for one in spec.instances)
        self._patience = max((one.start_within for one in asleep), default=0.0)
        if self._startable and not asleep:
            self._left_alone_until = 0.0

    def may_come(self, tried: Sequence[Instance], now: float) -> bool:
        """Whether an instance may yet come for a request: one that sleeps, or the one that it was lost with."""
        if not self._startable or now < self._left_alone_until:
            return False
        return self.asleep or (bool(tried) and tried[-1].gone and tried[-1].spec.start_within > 0)

    def wake(self, waiting: Iterable[Exchange], now: float) -> None:
        """These stand in line, and one is asleep: have it started, and let them wait as long as that may take.

        Who stands there already has that long from when it came, so that nobody waits for ever for one that goes to sleep time
        and again; but one that was lost with its instance comes anew.
        """
        if not self.asleep or now < self._left_alone_until:
            return
        for exchange in waiting:
            since = now if exchange.tried else exchange.queued_at or now
            exchange.deadline = max(exchange.deadline, since + self._patience)
        if now - self._wanted_at >= AGAIN_SECONDS:
            self._wanted_at = now
            self._want(self.model)

    def left_alone(self, until: float) -> None:
        """A start has failed; there is no other before `until`."""
        self._left_alone_until = until

    def refusal(self, why: str, now: float) -> Refuse:
        """What one is told that waits no longer, where nothing else serves the model; `why` it does not, in words."""
        seconds = self._left_alone_until - now
        if seconds > 0:
            after, said = max(1, ceil(seconds)), "The model could not be started."
        else:
            after, said = max(1, ceil(self._patience)), f"The model is being started. {why}"
        return Refuse("overloaded", f"{said} Try again in {after} second{'s' if after != 1 else ''}.", retry_after=after)
