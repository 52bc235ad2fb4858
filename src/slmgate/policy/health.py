"""Whether an instance is fit to be asked: what its failures, its checks and the time make of it, as plain state machines.

`Health` is an instance as one worker sees it: fed with how requests ended and with what control's checks found, it says until
when the instance is passed over, and how much of its share of the work it is to have. `Checks` is what a row of checks comes
to. Neither knows a connection, a clock or an answer; what happened is told in the words of `FAILURES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

FIRST_EJECTION = 0.5
LONGEST_EJECTION = 10.0
TRIAL_SECONDS = 10.0
"""How long a trial may keep the next one waiting: it is a request, whose answer may be long in coming."""
VERDICT_SECONDS = 30.0
"""How long a check's bad word counts without being said again: whoever checks may have died."""
LEAST_SHARE = 0.1
NOTICEABLE = 0.05
"""Seconds by which an outlier must be slower than its siblings: factors of next to nothing say nothing."""
NEVER = float("inf")

State = Literal["healthy", "recovering", "ejected", "half_open", "unhealthy"]
Failure = Literal["unreachable", "silent", "broken", "refused", "slow", "absent"]


class Kind(NamedTuple):
    """`at_once`: one is enough. `gone`: nothing useful answers there, so that trying it relieves nobody, however few are left."""

    at_once: bool
    gone: bool


FAILURES: dict[Failure, Kind] = {
    "unreachable": Kind(at_once=True, gone=True),  # no connection
    "silent": Kind(at_once=False, gone=True),  # no answer in time
    "broken": Kind(at_once=False, gone=False),  # the connection was lost, or what came was no answer
    "refused": Kind(at_once=False, gone=False),  # an answer that is not for the client
    "slow": Kind(at_once=True, gone=False),  # an outlier, who has been compared already
    "absent": Kind(at_once=True, gone=True),  # it has not the model, and refuses each request for it
}


class HealthSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's options say of this. `errors` 0: no row of failures counts. `outlier` None: nobody is compared."""

    errors: int = 5
    slow_start: float = 10.0
    panic: float = 0.5
    outlier: float | None = None
    samples: int = 20


class Health:
    """One instance's; `now` and `asked_at` are of one monotonic clock.

    What becomes of a request that was asked before the state began is old news, and changes nothing: a hundred connections
    that are lost together are one ejection, and who was ejected is not brought back by an answer from better times.
    """

    __slots__ = ("_answered_at", "_ejections", "_told_at", "down_until", "failures", "kind", "since", "state", "why")

    def __init__(self) -> None:
        self.state: State = "healthy"
        self.since = 0.0
        self.down_until = 0.0  # passed over until then
        self.kind: Failure | None = None  # of the failure for which it is passed over, and what is said of it
        self.why = ""
        self.failures = 0  # in a row
        self._ejections = 0  # since it was well for long
        self._answered_at = 0.0
        self._told_at = 0.0  # when its checks last had a bad word for it

    def __repr__(self) -> str:
        return f"<Health {self.state}{f': {self.why}' if self.why else ''}>"

    def told(self, now: float) -> str:
        """What has become of it, for the operator."""
        if self.down_until > now and self.state != "half_open":
            how_long = "until its checks succeed" if self.state == "unhealthy" else f"for {self.down_until - now:.1f} s"
            return f"is passed over {how_long}: {self.why}"
        return {"healthy": "is well", "recovering": "is back, and takes more work bit by bit"}.get(self.state, "is tried again")

    def well(self) -> bool:
        """Nothing is to be remembered of it: whoever has no time need not ask further."""
        return self.state == "healthy" and not self.failures

    def gone(self) -> bool:
        """Nothing answers there; where checks say so and requests are answered all the same, it only has too much to do."""
        if self.kind is None or not FAILURES[self.kind].gone:
            return False
        return self.state != "unhealthy" or self.kind != "silent" or self._answered_at <= self.since

    def _become(self, state: State, now: float, until: float = 0.0, kind: Failure | None = None, why: str = "") -> None:
        self.state, self.since, self.down_until, self.kind, self.why = state, now, until, kind, why

    def _eject(self, kind: Failure, why: str, now: float) -> None:
        if self.state == "healthy" and now - self.since > LONGEST_EJECTION:
            self._ejections = 0
        seconds = min(FIRST_EJECTION * 2**self._ejections, LONGEST_EJECTION)
        self._ejections = min(self._ejections + 1, 10)
        self._become("ejected", now, now + seconds, kind, why)

    def _come_back(self, now: float, spec: HealthSpec) -> None:
        self.failures = 0
        self._become("recovering" if spec.slow_start else "healthy", now)

    # -- how requests ended

    def failed(self, kind: Failure, why: str, asked_at: float, now: float, spec: HealthSpec) -> None:
        """A request that was asked at `asked_at` failed; `why` is for the operator."""
        if asked_at < self.since:
            return
        self.failures += 1
        at_once, gone = FAILURES[kind]
        if self.state in ("unhealthy", "ejected"):
            if self.state == "ejected" and gone and not self.gone():  # worse than was thought: spared even when few are left
                self.kind, self.why = kind, why
        elif self.state == "half_open" or at_once or 0 < spec.errors <= self.failures:
            self._eject(kind, why, now)

    def connected(self, asked_at: float, now: float, spec: HealthSpec) -> None:
        """A connection came about: nothing more is wanted of one that was out for want of it."""
        if self.kind == "unreachable" and asked_at >= self.since and self.state in ("ejected", "half_open"):
            self._come_back(now, spec)

    def answered(self, asked_at: float, now: float, spec: HealthSpec) -> None:
        """A good answer began."""
        self._answered_at = now
        if asked_at >= self.since and self.state in ("ejected", "half_open"):
            self._come_back(now, spec)

    def completed(self, asked_at: float) -> None:
        """A good answer came to its end."""
        if asked_at >= self.since:
            self.failures = 0

    # -- what is found otherwise

    def begin(self, now: float) -> None:
        """A request is being given to it: after an ejection this is the trial, and who comes next passes it over."""
        if self.state in ("ejected", "half_open") and now >= self.down_until:
            self._become("half_open", now, now + TRIAL_SECONDS, self.kind, self.why)

    def checked_out(self, kind: Failure, why: str, now: float) -> None:
        """Its checks fail. Said again from time to time for as long as that is so."""
        self._told_at = now
        if self.state == "unhealthy":
            self.kind, self.why = kind, why
        else:
            self._become("unhealthy", now, NEVER, kind, why)

    def checked_well(self, now: float, spec: HealthSpec) -> None:
        """Its checks succeed. Who was ejected for failed requests may be tried now."""
        if self.state == "unhealthy":
            self._ejections = 0
            self._come_back(now, spec)
        elif self.state == "ejected":
            self.down_until = min(self.down_until, now)

    def found_slow(self, why: str, now: float) -> None:
        """It is an outlier among its siblings."""
        if self.state == "healthy":
            self._eject("slow", why, now)

    def tick(self, now: float, spec: HealthSpec) -> None:
        """Time passes."""
        if self.state == "recovering" and now - self.since >= spec.slow_start:
            self._become("healthy", now)
        elif self.state == "unhealthy" and now - self._told_at > VERDICT_SECONDS:
            self._become("ejected", now, now, self.kind, f"{self.why}; nobody has checked it since")

    def share(self, now: float, spec: HealthSpec) -> float:
        """Of the work that is its due, the part that it is to have: it rises to the whole after it has come back."""
        if self.state != "recovering" or not spec.slow_start:
            return 1.0
        return min(1.0, max(LEAST_SHARE, (now - self.since) / spec.slow_start))


def passed_over(them: Sequence[Health], now: float, panic: float) -> list[float]:
    """Until when each of a model's instances is to be passed over: what their states say, unless too few are left.

    When more than `panic` of them (a part of 1) are out, those that do answer are asked all the same: the load of all would
    only bring the rest down too. Those where nothing answers are not, since that would help nobody; unless all are out.
    """
    out = [one for one in them if one.down_until > now]
    if len(out) == len(them):
        return [0.0] * len(them)
    if len(out) <= panic * len(them):
        return [one.down_until for one in them]
    return [one.down_until if one.gone() else 0.0 for one in them]


def outliers(times: Sequence[float | None], factor: float) -> list[int]:
    """Those that take more than `factor` times as long as the median of the others; None: there is too little to go by.

    Who has fewer than two others to be compared with is compared with nobody, and never is more than one found: the slowest.
    """
    known = [(seconds, index) for index, seconds in enumerate(times) if seconds is not None]
    if len(known) < 3:
        return []
    slowest, index = max(known)
    others = _median(sorted(seconds for seconds, other in known if other != index))
    return [index] if slowest > factor * others and slowest - others > NOTICEABLE else []


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


class Checks:
    """What the checks of one instance come to: `verdict` changes after so many in a row that say otherwise."""

    __slots__ = ("in_a_row", "ok", "verdict")

    def __init__(self) -> None:
        self.verdict: Literal["checking", "healthy", "unhealthy"] = "checking"
        self.ok = True  # the last one
        self.in_a_row = 0  # like the last one

    def heard(self, ok: bool, healthy_after: int, unhealthy_after: int) -> bool:
        """The outcome of one more check. True: the verdict is another one now."""
        self.in_a_row = self.in_a_row + 1 if ok == self.ok else 1
        self.ok = ok
        verdict: Literal["healthy", "unhealthy"] = "healthy" if ok else "unhealthy"
        if verdict == self.verdict or self.in_a_row < (healthy_after if ok else unhealthy_after):
            return False
        self.verdict = verdict
        return True

    def doubtful(self) -> bool:
        """Whether the last check says otherwise than the verdict: the next one is wanted soon."""
        return self.verdict != ("healthy" if self.ok else "unhealthy")
