"""When each engine runs: started when requests wait for it, watched, left alone for a while when it fails, stopped when idle.

One state machine for each engine, moved on by `step`, which is called often and whenever something happened. It is told what
workers have in flight, and tells who publishes which engines are up; processes are `kept.py`'s. All calls are made on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from math import inf
from typing import Literal, Protocol

import msgspec

from slmgate.control.checker import Outcome, Target
from slmgate.control.config import Config
from slmgate.control.config.addresses import Origin
from slmgate.control.config.compile import LOOPBACK, instance_id
from slmgate.control.engines.kept import Held
from slmgate.control.engines.pause import STEADY, Pause
from slmgate.control.engines.plan import Plan
from slmgate.link.messages import NotStarted, Tally, Wanted

STEP = 0.25
PROBE_SECONDS = 0.1
"""Between two questions whether a starting engine is ready."""
OVERDUE = 5.0
"""Seconds beyond `stop_within` after which a keeper is killed: it is frozen, or its engine is deaf to SIGKILL."""

State = Literal["stopped", "starting", "up", "resting", "stopping"]
"""`resting`: it runs, but is given nothing any more, and is stopped when nothing is in flight there."""


Process = Literal["stopped", "starting", "up", "stopping", "backing_off"]
"""The same as operators see it; one that failed and is left alone for a while is `backing_off`."""


class Launcher(Protocol):
    """What starts engines; `kept.Keepers` is one."""

    def launch(self, plan: Plan, port: int, linger: float) -> Held: ...

    def find(self) -> Sequence[Held]: ...

    def ours(self) -> bool: ...

    def shared(self) -> bool: ...


class EngineStatus(msgspec.Struct, frozen=True):
    """What operators see of one. `again`: seconds until it may be started again, `why` what for."""

    state: Process
    pid: int
    why: str = ""
    again: float = 0.0


class Engine:
    """One engine and where it stands."""

    __slots__ = (
        "asked",
        "done_in",
        "held",
        "leaving",
        "pause",
        "plan",
        "probing",
        "seen",
        "sick",
        "since",
        "start_by",
        "state",
        "used",
        "why",
    )

    def __init__(self, plan: Plan, pause: Pause) -> None:
        self.plan = plan
        self.pause = pause
        self.state: State = "stopped"
        self.since = 0.0  # when this state began
        self.held: Held | None = None  # its run, unless it is stopped
        self.start_by = 0.0
        self.asked = 0.0  # when it may be asked again whether it is ready
        self.probing = False
        self.used = 0.0  # when it was last seen to have work
        self.seen: dict[int, float] = {}  # by worker, how much it was given by then
        self.done_in: set[int] = set()  # while it rests: workers that have nothing there any more
        self.leaving = False  # it is not in the configuration any more
        self.sick = False  # its checks have failed for so long that it is started anew
        self.why = ""  # of its last failure

    def __repr__(self) -> str:
        return f"<Engine {self.plan.id} {self.state}>"

    @property
    def open(self) -> bool:
        """Whether requests are given to it."""
        return self.state == "up"


class _Stranger:
    """An engine that runs and is in no configuration that is known here: it is ended when no worker has anything there."""

    __slots__ = ("done_in", "held", "stopped")

    def __init__(self, held: Held) -> None:
        self.held = held
        self.stopped = False
        self.done_in: set[int] = set()

    def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            self.held.stop()


class Engines:
    """All engines of this gate."""

    def __init__(
        self,
        launcher: Launcher,
        probe: Callable[[Target], Awaitable[Outcome]],
        say: Callable[[str], None],
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        """`probe` asks an engine whether it is ready, `say` is for the operator, `chance` gives numbers from 0 to 1."""
        self._launcher = launcher
        self._probe = probe
        self._say = say
        self._clock = clock
        self._chance = chance
        self._known: dict[str, Engine] = {}
        self._found = {one.id: one for one in launcher.find()}
        self._strangers: dict[str, _Stranger] = {}
        self._waiting: dict[tuple[int, str], int] = {}  # by worker and model, how many wait there
        self._changed = False
        self._turn = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._linger = 0.0
        # what control is asked for
        self.drained: Callable[[], Collection[str]] = frozenset
        self.workers: Callable[[], Collection[int]] = tuple  # that serve, or are connected
        self.out_since: Callable[[str], float | None] = lambda _: None  # since when its checks fail, if they do, by the clock
        self.agreed: Callable[[], bool] = lambda: True  # all workers go by what was published last
        self.on_change: Callable[[], None] = lambda: None  # other engines are up than before
        self.tell: Callable[[NotStarted], None] = lambda _: None  # every worker

    def __repr__(self) -> str:
        return f"<Engines: {', '.join(map(repr, self._known.values())) or 'none'}>"

    # -- what there is

    def take(self, wanted: Mapping[str, Plan], linger: float) -> None:
        """These are the engines of the configuration in force; `linger` is how long one outlives its gate, in seconds."""
        now = self._clock()
        self._linger = linger
        for id, plan in wanted.items():
            engine = self._known.get(id)
            if engine is None:
                engine = self._known[id] = Engine(plan, Pause(self._chance))
                stranger = self._strangers.get(id)
                found = self._found.pop(id, None) if stranger is None or stranger.stopped else self._strangers.pop(id).held
                if found is not None:
                    self._adopt(engine, found, now)
            elif engine.leaving and engine.state == "resting":
                engine.leaving = False
                self._become(engine, "up", now)
            engine.plan, engine.leaving = plan, False
        for id, engine in self._known.items():
            engine.leaving = id not in wanted
        for held in self._found.values():
            self._say(f"{held.id} runs, and is not in the configuration any more: it is to be stopped")
            self._strangers[held.id] = _Stranger(held)
        self._found = {}
        self._turn.set()

    def _adopt(self, engine: Engine, found: Held, now: float) -> None:
        """It was started before this process was."""
        engine.held = found
        engine.start_by = now + engine.plan.start_within
        engine.used = now
        self._become(engine, "stopping" if found.stopping() else "up" if found.up() else "starting", now)

    def expand(self, config: Config) -> Config:
        """The configuration with the addresses of the engines that are up."""
        if not self._known:
            return config
        models = dict(config.models)
        for name, model in config.models.items():
            if not any(one.command for one in model.instances):
                continue
            made = []
            for one in model.instances:
                engine = self._known.get(instance_id(name, one)) if one.command else None
                if engine is not None and engine.open and engine.held is not None:
                    one = msgspec.structs.replace(one, url=Origin(LOOPBACK, engine.held.port))
                made.append(one)
            models[name] = msgspec.structs.replace(model, instances=tuple(made))
        return msgspec.structs.replace(config, models=models)

    def statuses(self) -> dict[str, EngineStatus]:
        """Each engine as operators see it, by its id."""
        now = self._clock()
        return {id: _status(engine, now) for id, engine in self._known.items()}

    # -- what is told

    def wanted(self, message: Wanted) -> None:
        """A worker has a request that waits."""
        self._waiting[message.slot, message.model] = 1
        if any(one.plan.model == message.model for one in self._known.values()):
            self._tell_of_failure(message.model, self._clock())  # it may not know yet
        self._turn.set()

    def told(self, tally: Tally) -> None:
        """What a worker has in flight."""
        if not self._known and not self._strangers:
            return
        now, slot = self._clock(), tally.slot
        agreed = self.agreed()
        rows = {row.id: row for row in tally.instances if row.id in self._known or row.id in self._strangers}
        for id, stranger in self._strangers.items():
            row = rows.get(id)
            if agreed and (row is None or (row.draining and not row.in_flight)):
                stranger.done_in.add(slot)
            else:
                stranger.done_in.discard(slot)
        for id, engine in self._known.items():
            row = rows.get(id)
            if row is None:
                if agreed and (engine.leaving or engine.state == "resting"):
                    engine.done_in.add(slot)
                continue
            self._waiting[slot, engine.plan.model] = row.waiting
            if row.in_flight or engine.seen.get(slot) != row.served:
                engine.seen[slot] = row.served
                engine.used = now
            if engine.state == "resting" and row.draining and agreed and not row.in_flight:
                engine.done_in.add(slot)
            else:
                engine.done_in.discard(slot)
        self._turn.set()

    def left(self, slot: int) -> None:
        """A worker is gone."""
        for key in [key for key in self._waiting if key[0] == slot]:
            del self._waiting[key]
        for engine in self._known.values():
            engine.seen.pop(slot, None)
            engine.done_in.discard(slot)
        for stranger in self._strangers.values():
            stranger.done_in.discard(slot)
        self._turn.set()

    def _served(self, model: str) -> None:
        """Those who wait now have got what they waited for, or were refused: the next tallies say who still does."""
        for key in [key for key in self._waiting if key[1] == model]:
            del self._waiting[key]

    def _is_wanted(self, model: str) -> bool:
        return any(count for (_, name), count in self._waiting.items() if name == model)

    # -- one step

    def step(self) -> None:
        """Move every engine on; unless another gate has taken them over, and this one is about to end."""
        if (self._known or self._strangers) and not self._launcher.ours():
            return
        now = self._clock()
        self._strangers = {id: one for id, one in self._strangers.items() if one.held.alive()}
        for stranger in self._strangers.values():
            if stranger.done_in >= set(self.workers()):
                stranger.stop()
        drained = self.drained()
        for engine in list(self._known.values()):
            unwanted = engine.leaving or self._closing or engine.sick or engine.plan.id in drained
            self._step(engine, unwanted, now)
            if engine.leaving and engine.state == "stopped":
                del self._known[engine.plan.id]
        if self._changed:
            self._changed = False
            self.on_change()

    def _step(self, engine: Engine, unwanted: bool, now: float) -> None:
        held = engine.held
        if held is not None and not held.alive():
            self._ended(engine, held, now)
        elif engine.state == "stopped":
            if not unwanted and now >= engine.pause.until and (engine.plan.always or self._is_next(engine)):
                self._start(engine, now)
        elif held is None:
            return
        elif engine.state == "stopping":
            if now - engine.since >= engine.plan.stop_within + OVERDUE:
                held.kill()
        elif engine.state == "starting":
            if unwanted:
                self._stop(engine, held, now)
            elif now >= engine.start_by:
                self._stop(engine, held, now)
                self._failed(engine, f"it was not ready within {engine.plan.start_within:g} s", None, now)
            elif not engine.probing and now >= engine.asked:
                self._ask(engine, held)
        elif engine.state == "up":
            if now - engine.since >= STEADY:
                engine.pause.steady()
            out = self.out_since(engine.plan.id)
            if unwanted:
                self._rest(engine, "it is drained or not configured any more", now)
            elif out is not None and now - max(out, engine.since) >= engine.plan.start_within:
                engine.sick = True
                self._rest(engine, f"its checks have failed for {engine.plan.start_within:g} s", now)
            elif self._is_idle(engine, now):
                self._rest(engine, f"nobody has asked for it for {engine.plan.idle:g} s", now)
        elif engine.state == "resting":
            if not unwanted and (engine.plan.always or self._is_wanted(engine.plan.model)):
                engine.used = now
                self._become(engine, "up", now)
            elif engine.done_in >= set(self.workers()):
                self._stop(engine, held, now)

    def _is_next(self, engine: Engine) -> bool:
        """Whether it is this one that is to be started for those who wait: of several for one model one at a time."""
        model = engine.plan.model
        if not self._is_wanted(model):
            return False
        return not any(
            one.state in ("starting", "resting") for one in self._known.values() if one.plan.model == model and not one.leaving
        )

    def _is_idle(self, engine: Engine, now: float) -> bool:
        idle = inf if engine.plan.idle is None or engine.plan.always else engine.plan.idle
        return now - engine.used >= idle and not self._is_wanted(engine.plan.model)

    def _become(self, engine: Engine, state: State, now: float) -> None:
        self._changed = self._changed or (engine.state == "up") != (state == "up")
        engine.state, engine.since = state, now

    def _start(self, engine: Engine, now: float) -> None:
        plan = engine.plan
        if plan.port is not None and any(
            one.held is not None and one.held.port == plan.port for one in self._known.values() if one is not engine
        ):
            return  # another one has it still, and is being stopped
        if self._strangers and any(one.held.port == plan.port or id == plan.id for id, one in self._strangers.items()):
            return
        port = free_port(plan.port)
        if port is None:
            self._failed(engine, f"the port {plan.port} of {LOOPBACK} is taken", None, now)
            return
        try:
            held = self._launcher.launch(plan, port, self._linger)
        except OSError as error:
            self._failed(engine, f"it cannot be started: {error.strerror}", None, now)
            return
        held.on_end(self._turn.set)
        engine.held, engine.start_by, engine.asked = held, now + plan.start_within, now
        engine.seen, engine.done_in = {}, set()
        self._say(f"{plan.id} is started on port {port}")
        self._become(engine, "starting", now)

    def _ask(self, engine: Engine, held: Held) -> None:
        engine.probing = True
        task = asyncio.get_running_loop().create_task(self._probed(engine, held))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probed(self, engine: Engine, held: Held) -> None:
        outcome = await self._probe(engine.plan.checked_at(held.port))
        self.heard(engine.plan.id, held, outcome)

    def heard(self, id: str, held: Held, outcome: Outcome) -> None:
        """How the question went whether it is ready."""
        engine, now = self._known.get(id), self._clock()
        if engine is None or engine.held is not held:
            return
        engine.probing = False
        engine.asked = now + PROBE_SECONDS
        if engine.state == "starting" and outcome.kind is None and held.alive():
            held.ready()
            engine.used = now
            self._say(f"{id} is up, {now - engine.since:.1f} s after its start")
            self._served(engine.plan.model)
            self._become(engine, "up", now)
            self._turn.set()

    def _rest(self, engine: Engine, why: str, now: float) -> None:
        self._say(f"{engine.plan.id} is to be stopped: {why}")
        engine.done_in = set()
        self._become(engine, "resting", now)

    def _stop(self, engine: Engine, held: Held, now: float) -> None:
        held.stop()
        self._become(engine, "stopping", now)

    def _ended(self, engine: Engine, held: Held, now: float) -> None:
        before, since = engine.state, engine.since
        sick, engine.sick = engine.sick, False
        engine.held, engine.probing = None, False
        self._become(engine, "stopped", now)
        if sick and before == "stopping":
            self._failed(engine, "its checks failed", 0.0, now)
        elif before in ("starting", "up", "resting"):
            self._failed(engine, held.ended(), None if before == "starting" else now - since, now)
        else:
            self._say(f"{engine.plan.id} is stopped")

    def _failed(self, engine: Engine, why: str, served: float | None, now: float) -> None:
        """It failed, after it had been ready for `served` seconds, or before it was."""
        seconds = engine.pause.failed(now, served)
        engine.why = why
        if engine.leaving or self._closing:
            return
        self._say(
            f"{engine.plan.id} has failed: {why}; "
            + (f"it is left alone for {seconds:.1f} s" if seconds else "it is started again when asked for")
        )
        self._tell_of_failure(engine.plan.model, now)

    def _tell_of_failure(self, model: str, now: float) -> None:
        """Workers are told how long no engine of the model is started, if that is so: those who wait for it do so in vain."""
        engines = [one for one in self._known.values() if one.plan.model == model and not one.leaving]
        if all(one.state in ("stopped", "stopping") and one.pause.until > now for one in engines):
            self._served(model)
            self.tell(NotStarted(model, min(one.pause.until for one in engines) - now))

    # -- life

    async def run(self) -> None:
        """Step until cancelled."""
        for engine in self._known.values():
            if engine.held is not None:
                engine.held.on_end(self._turn.set)
        while True:
            self.step()
            self._turn.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._turn.wait()

    def _pause(self) -> float:
        return PROBE_SECONDS if any(one.state == "starting" for one in self._known.values()) else STEP

    async def close(self) -> None:
        """Stop all of them, and wait until they have ended; unless another gate has taken them over, or the one before has not
        ended yet and may have requests there: then their keepers end them with it."""
        self._closing = True
        if not self._launcher.ours() or self._launcher.shared():
            return
        running = [(engine, engine.held) for engine in self._known.values() if engine.held is not None]
        for engine, held in running:
            self._stop(engine, held, self._clock())
        for stranger in self._strangers.values():
            stranger.stop()
        while any(held.alive() for _, held in running):  # each is bounded, by its keeper or by `OVERDUE`
            self.step()
            await asyncio.sleep(STEP / 5)


def _status(engine: Engine, now: float) -> EngineStatus:
    pid = engine.held.pid() if engine.held is not None else 0
    again = max(0.0, engine.pause.until - now) if engine.state == "stopped" else 0.0
    shown: Process = "backing_off" if again else "stopping" if engine.state == "resting" else engine.state
    return EngineStatus(shown, pid, engine.why if engine.state == "stopped" and engine.pause.failures else "", again)


def free_port(wanted: int | None) -> int | None:
    """A port of loopback on which nobody listens; None: the one that is wanted is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, wanted or 0))
        except OSError:
            return None
        return int(probe.getsockname()[1])
