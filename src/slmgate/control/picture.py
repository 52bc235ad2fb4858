"""The gate's models and instances as they are now: the configuration's, with what the workers last told of them.

Pure: the control process brings both. It knows no process and no API.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import get_args

from msgspec.structs import replace

from slmgate.control.admin.context import InstanceState, InstanceStatus, ModelStatus
from slmgate.control.checker import Checkup
from slmgate.control.config import Config
from slmgate.control.config.compile import has_id, instance_id
from slmgate.control.config.options import Instance
from slmgate.control.engines.service import EngineStatus
from slmgate.link.messages import InstanceTally, Tally

_WORST = get_args(InstanceState)
NOBODY: Mapping[str, Checkup] = {}
NO_ENGINES: Mapping[str, EngineStatus] = {}


def picture(
    config: Config,
    tallies: Collection[Tally],
    checkups: Mapping[str, Checkup] = NOBODY,
    drained: Collection[str] = (),
    source: Callable[[str, Instance], str] = lambda *_: "file",
    *,
    silent: bool = False,
    engines: Mapping[str, EngineStatus] = NO_ENGINES,
    elders: Collection[Tally] = (),
) -> tuple[list[ModelStatus], list[InstanceStatus]]:
    """Every configured model and instance, and instances that are gone from the configuration but still at work.

    Until a worker has told of an instance, nothing is known against it. An instance counts as drained once each worker has told
    that it gives it nothing any more and has nothing there; `silent`: a worker serves that has told nothing yet. `elders` are
    tallies of workers whose gate was taken over: what they have in flight counts, and not how they find instances.
    """
    instances = {
        (name, id): InstanceStatus(id=id, model=name, draining=id in drained, source=source(name, instance))
        for name, model in config.models.items()
        for instance in model.instances
        if has_id(instance)
        for id in (instance_id(name, instance),)
    }
    configured = list(instances)
    done: dict[tuple[str, str], int] = {}
    for tally in tallies:
        for row in tally.instances:
            at = row.model, row.id
            known = instances.get(at) or InstanceStatus(id=row.id, model=row.model, source="removed")
            instances[at] = _with(known, row)
            if row.draining and not row.in_flight:
                done[at] = done.get(at, 0) + 1
    busy: set[tuple[str, str]] = set()
    for tally in elders:
        for row in tally.instances:
            at = row.model, row.id
            known = instances.get(at) or InstanceStatus(id=row.id, model=row.model, source="removed")
            instances[at] = replace(known, in_flight=known.in_flight + row.in_flight, waiting=known.waiting + row.waiting)
            if row.in_flight or not row.draining:
                busy.add(at)
    for at, known in list(instances.items()):
        if known.draining and not silent and tallies and done.get(at, 0) == len(tallies) and at not in busy:
            instances[at] = replace(known, drained=True)
        elif known.source == "removed" and not known.in_flight:
            del instances[at]
    for at, known in list(instances.items()):
        if known.id in engines:
            instances[at] = _started(known, engines[known.id])
    usable = {at[0] for at in configured if instances[at].healthy and not instances[at].draining}
    models = [ModelStatus(name=name, ready=name in usable, hidden=model.hidden) for name, model in config.models.items()]
    return models, sorted((_checked(row, checkups.get(row.id)) for row in instances.values()), key=lambda row: row.id)


def told_by_all(slots: Iterable[int], tallies: Collection[Tally]) -> bool:
    """Whether each of these workers has told of itself."""
    return set(slots) <= {tally.slot for tally in tallies}


def _with(known: InstanceStatus, row: InstanceTally) -> InstanceStatus:
    """What is known of an instance, and how one more worker sees it."""
    worse = _WORST.index(row.state) > _WORST.index(known.state)
    return replace(
        known,
        in_flight=known.in_flight + row.in_flight,
        waiting=known.waiting + row.waiting,
        healthy=known.healthy and row.healthy,
        state=row.state if worse else known.state,
        why=row.why if worse else known.why,
        again=max(known.again, row.again),
        failures=max(known.failures, row.failures),
    )


def _started(known: InstanceStatus, engine: EngineStatus) -> InstanceStatus:
    """The same of one that the gate starts itself: while it is not up, what workers saw of it is of an earlier run."""
    with_engine = replace(known, process=engine.state, pid=engine.pid or None)
    if engine.state == "up":
        return with_engine
    waits = engine.state == "backing_off"
    return replace(with_engine, healthy=not waits, state="checking", why=engine.why, again=engine.again, failures=0)


def _checked(known: InstanceStatus, one: Checkup | None) -> InstanceStatus:
    """The same with what its checks have found. Until they have found anything, an instance that looks well is not yet known."""
    if one is None:
        return known
    undecided = one.checks.verdict == "checking"
    return replace(
        known,
        state="checking" if undecided and known.state == "healthy" else known.state,
        check=None if one.outcome is None else one.outcome.text,
        checked=_moment(one.at),
        since=_moment(one.since),
        catalogue=one.catalogue,
    )


def _moment(seconds: float) -> datetime | None:
    """0: never."""
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None
