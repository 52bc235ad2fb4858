"""Checks of every instance, once for the whole gate: a plain GET of what its engine answers when it is ready, never an inference.

A run of checks that fail takes an instance out on every worker, a run that succeeds brings it back. It knows no request; what
workers make of its word is `policy/health.py`'s. Checks are spread over time and bounded in number, however many instances there
are: of more than `PER_SECOND` a second, each is made less often.

Seldom, and in the course of a check, an instance is asked as well what it serves: at first sight, when it has been away, and then
every `CATALOGUE_SECONDS`. `catalogue.py` says what its answer comes to; one that is sure to refuse the model's name is out too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable, Collection
from functools import partial

import httpx
import msgspec

from slmgate.control import catalogue
from slmgate.control.catalogue import Catalogue, Wanted
from slmgate.control.config import Config
from slmgate.control.config.compile import instance_id
from slmgate.control.config.held import held
from slmgate.control.config.options import Engine, Instance, Model
from slmgate.control.config.trust import stamped, tls_of, trust_of
from slmgate.control.reaching import Clients, Way, may_want_a_certificate, why_not_reached
from slmgate.link.messages import Checked, CheckedOut
from slmgate.policy.health import VERDICT_SECONDS, Checks, Failure
from slmgate.policy.specs import HeldSpec

PER_SECOND = 100
AT_ONCE = 64
AGAIN_SECONDS = VERDICT_SECONDS / 3
"""How often workers are told again who is out."""
SOON = 5
"""In doubt, and for a while after an instance has gone out, the next check comes so many times sooner."""
SOON_FOR_SECONDS = 30.0
CATALOGUE_SECONDS = 60.0
MISSING_SECONDS = 10.0
"""How soon it is asked again what it serves where the model was missing: somebody may be pulling it."""
_STEP = 0.05
_IDLE = 1.0

PATHS: dict[Engine, str] = {
    "vllm": "/health",
    "llamacpp": "/health",  # 503 while it loads its model
    "ollama": "/api/version",
    "sglang": "/health",
    "tgi": "/info",  # its /health may generate a token
    "openai": "/v1/models",
}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked, and how. `strict`: only a status of 2xx is good, else any below 500. `wanted`: what it is to serve; None:
    it is not asked. `way`: how it is spoken to over TLS. `held`: where its name has to lead."""

    url: str
    path: str
    strict: bool
    bearer: str | None
    interval: float
    timeout: float
    healthy_after: int
    unhealthy_after: int
    wanted: Wanted | None = None
    way: Way | None = None
    held: HeldSpec | None = None


def targets(config: Config, added: Collection[str] = ()) -> dict[str, Target]:
    """The instances that are to be checked, by their ids. A name (`dns`) is none: those that it leads to stand beside it. Nor is
    one that the gate would have to start. `added` are ids of instances that were given at run time."""
    names = held(config, added)
    return {
        (id := instance_id(name, instance)): target_of(name, model, instance, str(instance.url), names.get(id))
        for name, model in config.models.items()
        if not model.health.off
        for instance in model.instances
        if instance.url is not None
    }


def target_of(name: str, model: Model, instance: Instance, url: str, held: HeldSpec | None = None) -> Target:
    """How an instance of a model of this name is checked, were it at this address."""
    return Target(
        url=url,
        path=model.health.path or PATHS[instance.engine],
        strict=model.health.path is not None,
        bearer=None if instance.bearer is None else str(instance.bearer),
        interval=model.health.interval,
        timeout=model.health.timeout,
        healthy_after=model.health.healthy_after,
        unhealthy_after=model.health.unhealthy_after,
        held=held,
        wanted=None
        if model.health.catalogue == "off"
        else Wanted(
            engine=instance.engine,
            name=instance.upstream_model or name,
            model=name,
            named=instance.upstream_model is not None,
            route=model.health.catalogue == "route",
        ),
        way=None
        if not url.startswith("https:")
        else Way(stamped(trust_of(model, instance)), tls_of(model, instance).server_name),
    )


class Outcome(msgspec.Struct, frozen=True):
    """How one check went: in words, and in which way it failed (None: it did not)."""

    text: str
    kind: Failure | None = None


class Checkup(msgspec.Struct):
    """One instance's checks so far. `since` and `at` are seconds since the epoch: of the verdict, and of the last check."""

    id: str
    target: Target
    due: float
    checks: Checks = msgspec.field(default_factory=Checks)
    outcome: Outcome | None = None
    fault: Outcome | None = None  # the last one that was bad
    since: float = 0.0
    at: float = 0.0
    out_at: float = 0.0  # when it went out, of the monotonic clock
    under_way: bool = False
    catalogue: Catalogue | None = None
    catalogue_due: float = 0.0  # when it is to be asked again what it serves


class Checker:
    """All checks of this gate. All calls are made on the event loop."""

    def __init__(
        self,
        tell: Callable[[Checked], None],
        say: Callable[[str], None],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`tell` reaches every worker, `say` the operator. `transport` stands for the network in tests."""
        self._tell = tell
        self._say = say
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, Checkup] = {}
        self._listing: dict[str, frozenset[str]] = {}  # by model, the ids of the instances that list it
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Event()  # there is something to do before the next check is due
        self._out: dict[str, CheckedOut] = {}  # of verdicts that workers have not been told
        self._well: dict[str, None] = {}
        self._told_at = 0.0
        self._wakes_at = 0.0  # when it looks for checks that are due again, unless it is woken
        self._next_step = 0.0  # no checks are begun before

    def configure(self, config: Config, added: Collection[str] = ()) -> None:
        """Check these instances from now on, of which some (their ids) were added at run time; what is known of them stands."""
        wanted = targets(config, added)
        now = self._loop.time()
        fresh = [id for id in wanted if id not in self._known]
        spread = len(fresh) / PER_SECOND
        for id in [id for id in self._known if id not in wanted]:
            gone = self._known.pop(id)
            if self._as_out(gone) is not None:
                self._settle(id, None)  # it may be there still, and is to be judged by its requests only
            self._lists(gone, False)
        for id, target in wanted.items():
            known = self._known.get(id)
            if known is None:
                due = now + min(spread, target.interval) * random.random()  # noqa: S311  # no secret: it spreads the work
                self._known[id] = Checkup(id, target, due)
            elif known.target != target:
                if known.target.wanted != target.wanted:
                    self._forget_catalogue(known)
                known.target, known.due, known.catalogue_due = target, now, now
        self._turn.set()

    def whole(self) -> Checked:
        """What is known of all that have been checked, for a worker that joins."""
        out = [one for one in map(self._as_out, self._known.values()) if one is not None]
        bad = {one.id for one in out}
        well = [one.id for one in self._known.values() if one.checks.verdict == "healthy" and one.id not in bad]
        return Checked(tuple(out), tuple(well))

    def checkups(self) -> dict[str, Checkup]:
        """What is known of each instance that is checked."""
        return self._known

    # -- one check

    def due(self, now: float) -> list[Checkup]:
        """Whose turn it is, those who have waited longest first; no more than may be begun in one step."""
        waiting = sorted((one for one in self._known.values() if one.due <= now and not one.under_way), key=lambda one: one.due)
        return waiting[: min(max(1, round(PER_SECOND * _STEP)), AT_ONCE - len(self._tasks))]

    def heard(self, one: Checkup, outcome: Outcome, now: float, wall: float) -> None:
        """A check came to its end."""
        target, checks, before = one.target, one.checks, one.checks.verdict
        one.outcome, one.at, one.under_way = outcome, wall, False
        if outcome.kind is not None:
            one.fault, one.catalogue_due = outcome, 0.0  # whoever comes back may be another one
        if self._known.get(one.id) is not one:
            return  # it left the configuration meanwhile
        if checks.heard(outcome.kind is None, target.healthy_after, target.unhealthy_after):
            one.since = wall
            if checks.verdict == "unhealthy":
                one.out_at = now
                self._say(f"{one.id} is out, no worker asks it: {outcome.text} ({checks.in_a_row} checks in a row)")
            elif before == "unhealthy":
                self._say(f"{one.id} is back: {outcome.text} ({checks.in_a_row} checks in a row)")
            self._settle(one.id, one)
        lately_out = checks.verdict == "unhealthy" and now - one.out_at < SOON_FOR_SECONDS
        pause = target.interval / SOON if lately_out or checks.doubtful() else target.interval
        one.due = now + pause * random.uniform(0.9, 1.0)  # noqa: S311  # no secret: it keeps them from falling into step
        if one.due < self._wakes_at:
            self._turn.set()

    def _not_made(self, one: Checkup, why: str) -> None:
        """No check can be made with the files that there are: that says nothing of the instance. Workers may have better ones."""
        one.outcome, one.at, one.under_way = Outcome(why), time.time(), False
        one.due = self._loop.time() + one.target.interval

    def _settle(self, id: str, one: Checkup | None) -> None:
        """Workers are to be told; None: that there is no bad word for it any more."""
        out = None if one is None else self._as_out(one)
        self._out.pop(id, None)
        self._well.pop(id, None)
        if out is not None:
            self._out[id] = out
        else:
            self._well[id] = None
        self._turn.set()

    # -- what it serves

    def found(self, one: Checkup, target: Target, new: Catalogue, now: float) -> None:
        """An instance has said what it serves."""
        if self._known.get(one.id) is not one or one.target.wanted != target.wanted:
            return
        was, was_out = "" if one.catalogue is None else one.catalogue.state, self._as_out(one)
        one.catalogue = new
        pause = MISSING_SECONDS if new.state == "missing" else CATALOGUE_SECONDS
        one.catalogue_due = now + pause * random.uniform(0.9, 1.0)  # noqa: S311  # no secret: it keeps them from falling into step
        self._lists(one, new.state == "listed")
        out = self._as_out(one)
        if new.state == "missing" and (was != "missing" or (out is None) != (was_out is None)):
            self._say_missing(one)
        elif was == "missing" and new.state != "missing":
            self._say(f"{one.id}: the model is not missing there any more ({new.text})")
        if out != was_out:
            self._settle(one.id, one)

    def _say_missing(self, one: Checkup) -> None:
        assert one.catalogue is not None
        so = "it is asked all the same" if self._as_out(one) is None else "no worker asks it"
        self._say(f"{one.id}: {one.catalogue.text}; {so}")

    def _forget_catalogue(self, one: Checkup) -> None:
        """What it said was about another name."""
        was_out, one.catalogue = self._as_out(one), None
        self._lists(one, False)
        if self._as_out(one) != was_out:
            self._settle(one.id, one)

    def _lists(self, one: Checkup, listed: bool) -> None:
        """Whether it lists its model. Where nobody does, those that might have it all the same are asked; that may change now."""
        if one.target.wanted is None:
            return
        model = one.target.wanted.model
        before = self._listing.get(model, frozenset())
        now = before | {one.id} if listed else before - {one.id}
        if now:
            self._listing[model] = now
        else:
            self._listing.pop(model, None)
        if bool(now) == bool(before):
            return
        for other in self._known.values():
            wanted = other.target.wanted
            if wanted is None or wanted.model != model or wanted.sure or other is one:
                continue
            if other.catalogue is not None and other.catalogue.absent and other.checks.verdict != "unhealthy":
                self._say_missing(other)
                self._settle(other.id, other)

    def _as_out(self, one: Checkup) -> CheckedOut | None:
        """What workers are told of an instance that is out; None: it is not."""
        if one.checks.verdict == "unhealthy" and one.fault is not None and one.fault.kind is not None:
            return CheckedOut(one.id, one.fault.kind, one.fault.text)
        wanted, said = one.target.wanted, one.catalogue
        if wanted is not None and said is not None and said.absent and (wanted.sure or wanted.model in self._listing):
            return CheckedOut(one.id, "absent", said.text)
        return None

    async def ask(self, client: httpx.AsyncClient, target: Target) -> Outcome:
        """Make one check."""
        what = f"GET {target.path}"
        fields = {} if target.bearer is None else {"authorization": f"Bearer {target.bearer}"}
        try:
            async with (
                asyncio.timeout(target.timeout),
                client.stream("GET", target.url + target.path, headers=fields, timeout=target.timeout) as answer,
            ):
                status = answer.status_code
        except (TimeoutError, httpx.TimeoutException):
            return Outcome(f"{what}: no answer within {target.timeout:g} s", "silent")
        except httpx.ConnectError as error:
            return Outcome(why_not_reached(error, target.url, target.way) or "it cannot be reached", "unreachable")
        except (httpx.HTTPError, ssl.SSLError) as error:  # what comes of TLS later than its handshake, httpx lets pass
            if (why := why_not_reached(error, target.url, target.way)) is not None:
                return Outcome(why, "unreachable")
            more = may_want_a_certificate(target.way) if isinstance(error, httpx.TransportError) else ""
            return Outcome(f"{what}: no valid answer ({type(error).__name__}){more}", "broken")
        except Exception as fault:  # noqa: BLE001  # a name that httpx takes for none, say; this check must not be the last
            return Outcome(f"{what}: it could not be asked ({type(fault).__name__})", "broken")
        good = 200 <= status < 300 if target.strict else status < 500
        return Outcome(f"{what} answered {status}", None if good else "refused")

    async def _check(self, clients: Clients, one: Checkup) -> None:
        target = one.target
        client = clients.of(target.way, target.held)
        if isinstance(client, str):
            self._not_made(one, client)
            return
        outcome = await self.ask(client, target)
        if target.wanted is not None and outcome.kind is None and self._loop.time() >= one.catalogue_due:
            # Before anybody hears that it is well: one that has come back without its model must not be asked.
            try:
                said = await catalogue.ask(client, target.url, target.wanted, target.bearer, target.timeout)
            except Exception as fault:  # noqa: BLE001  # whatever it was, this check must not be the last
                said = Catalogue(state="unknown", text=f"unknown: it could not be asked ({type(fault).__name__})")
            self.found(one, target, said, self._loop.time())
        self.heard(one, outcome, self._loop.time(), time.time())

    def _ended(self, one: Checkup, task: asyncio.Task[None]) -> None:
        """A check's task is through. A fault of our own says nothing of the instance, which is checked again."""
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            why = f"it could not be checked, by a fault of slmgate ({type(fault).__name__})"
            if one.outcome is None or one.outcome.text != why:
                self._say(f"{one.id}: {why}")
            self._not_made(one, why)

    # -- life

    async def run(self) -> None:
        """Check until cancelled."""
        async with Clients(self._say, self._transport) as clients:
            while True:
                now = self._loop.time()
                if now >= self._next_step:
                    self._next_step = now + _STEP
                    for one in self.due(now):
                        one.under_way = True
                        task = self._loop.create_task(self._check(clients, one))
                        self._tasks.add(task)
                        task.add_done_callback(partial(self._ended, one))
                self.report(now)
                self._turn.clear()
                next_due = min((one.due for one in self._known.values() if not one.under_way), default=now + _IDLE)
                self._wakes_at = min(max(next_due, self._next_step), now + _IDLE)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(self._wakes_at):
                        await self._turn.wait()

    def report(self, now: float) -> None:
        """Tell the workers what is new to them, and now and then who is out."""
        again = now - self._told_at >= AGAIN_SECONDS
        if again:
            self._out = {out.id: out for out in map(self._as_out, self._known.values()) if out is not None}
            self._told_at = now
        if self._out or self._well:
            self._tell(Checked(tuple(self._out.values()), tuple(self._well)))
            self._out, self._well = {}, {}
