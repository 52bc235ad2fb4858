"""What the admin API tells of models and instances: the configuration's, with what the workers told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from slmgate.control.admin.context import InstanceStatus, ModelStatus
from slmgate.control.catalogue import Catalogue
from slmgate.control.checker import Checkup, Outcome, targets
from slmgate.control.config import load_text
from slmgate.control.engines.service import EngineStatus
from slmgate.control.picture import picture, told_by_all
from slmgate.link.messages import InstanceTally, Tally
from slmgate.policy.health import Checks, State

CONFIG = load_text('models: {m: {instances: [{url: "http://a:1"}, {url: "http://b:2"}]}, n: {instances: [{url: "http://c:3"}]}}')


def tally(slot: int, *instances: InstanceTally) -> Tally:
    return Tally(slot=slot, connections=0, in_flight=0, requests=0, refused=0, unjournaled=0, instances=instances)


def test_before_any_worker_told() -> None:
    models, instances = picture(CONFIG.unwrap(), (), {})
    assert models == [ModelStatus(name="m", ready=True), ModelStatus(name="n", ready=True)]
    assert instances == [
        InstanceStatus(id="m/a:1", model="m"),
        InstanceStatus(id="m/b:2", model="m"),
        InstanceStatus(id="n/c:3", model="n"),
    ]


def test_workers_are_added_up() -> None:
    told = [
        tally(0, InstanceTally(model="m", id="m/a:1", in_flight=2, waiting=1, healthy=True)),
        tally(1, InstanceTally(model="m", id="m/a:1", in_flight=3, waiting=0, healthy=False)),
    ]
    models, instances = picture(CONFIG.unwrap(), told, {})
    assert instances[0] == InstanceStatus(id="m/a:1", model="m", in_flight=5, waiting=1, healthy=False)
    assert models[0].ready, "b:2 still takes requests"


def test_a_model_is_not_ready_when_a_worker_passes_over_all_its_instances() -> None:
    down = tally(0, InstanceTally(model="n", id="n/c:3", in_flight=0, waiting=0, healthy=False))
    assert [model.ready for model in picture(CONFIG.unwrap(), [down], {})[0]] == [True, False]


def test_instances_that_left_the_configuration() -> None:
    gone = tally(0, InstanceTally(model="m", id="m/old:9", in_flight=1, waiting=0, healthy=True))
    _, instances = picture(CONFIG.unwrap(), [gone], {})
    assert instances[2] == InstanceStatus(id="m/old:9", model="m", in_flight=1, source="removed")
    down = [InstanceTally(model="m", id=name, in_flight=0, waiting=0, healthy=False) for name in ("m/a:1", "m/b:2")]
    models, _ = picture(CONFIG.unwrap(), [gone, tally(1, *down)], {})
    assert not models[0].ready, "what is left of an instance that was removed takes no new requests"


def checkup(*outcomes: Outcome) -> Checkup:
    checks = Checks()
    for outcome in outcomes:
        checks.heard(outcome.kind is None, 1, 1)
    (target,) = targets(load_text('models: {m: {instances: [{url: "http://a:1"}]}}').unwrap()).values()
    last = outcomes[-1] if outcomes else None
    return Checkup(
        "m/a:1", target, 0.0, checks, last, since=1_800_000_000.5 if last else 0.0, at=1_800_000_060.5 if last else 0.0
    )


def test_what_checks_have_found() -> None:
    """Until they have found anything, nobody knows; of what they found, when it was found so first and last."""
    _, instances = picture(CONFIG.unwrap(), (), {"m/a:1": checkup(), "n/c:3": checkup(Outcome("answered 200"))})
    assert [row.state for row in instances] == ["checking", "healthy", "healthy"]
    assert (instances[0].check, instances[0].checked, instances[0].since) == (None, None, None)
    assert instances[2].check == "answered 200"
    assert instances[2].since == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
    assert instances[2].checked == datetime(2027, 1, 15, 8, 1, tzinfo=UTC)


def test_what_it_says_that_it_serves() -> None:
    one = checkup(Outcome("answered 200"))
    one.catalogue = Catalogue(state="missing", text="m is not there: it lists x", serves=("x",), count=1)
    _, instances = picture(CONFIG.unwrap(), (), {"m/a:1": one})
    assert [row.catalogue for row in instances] == [one.catalogue, None, None]


def test_the_worst_that_any_worker_sees() -> None:
    def seen(state: State, **more: Any) -> InstanceTally:
        return InstanceTally("m/a:1", "m", 0, 0, state in ("healthy", "recovering"), state, **more)

    told = [
        tally(0, seen("recovering")),
        tally(1, seen("ejected", why="it answered 503", again=4.0, failures=5)),
        tally(2, seen("half_open", why="it cannot be reached", failures=7)),
    ]
    row = picture(CONFIG.unwrap(), told, {"m/a:1": checkup()})[1][0]
    assert (row.state, row.why, row.again, row.failures, row.healthy) == ("ejected", "it answered 503", 4.0, 7, False)


@pytest.mark.parametrize(
    ("elder", "in_flight", "drained"),
    [
        ((), 0, True),  # it never knew of it
        ((InstanceTally("m/a:1", "m", 2, 1, False, "ejected", draining=True),), 2, False),
        ((InstanceTally("m/a:1", "m", 0, 0, True),), 0, False),  # another version of slmgate: it goes by what it knew
        ((InstanceTally("m/a:1", "m", 0, 0, True, draining=True),), 0, True),
    ],
)
def test_workers_whose_gate_was_taken_over(elder: tuple[InstanceTally, ...], in_flight: int, drained: bool) -> None:
    """What they work on counts, how they find instances does not."""
    told = [tally(0, InstanceTally("m/a:1", "m", 0, 0, True, draining=True))]
    gone = InstanceTally("m/old:9", "m", 1, 0, True)
    rows = picture(CONFIG.unwrap(), told, {}, ["m/a:1"], elders=[tally(-2, *elder, gone)])[1]
    assert (rows[0].in_flight, rows[0].drained, rows[0].healthy) == (in_flight, drained, True)
    assert (rows[2].id, rows[2].source, rows[2].in_flight) == ("m/old:9", "removed", 1)


def test_one_that_is_gone_and_has_nothing_left_is_not_shown() -> None:
    done = tally(0, InstanceTally(model="m", id="m/old:9", in_flight=0, waiting=0, healthy=True, draining=True))
    assert len(picture(CONFIG.unwrap(), [done])[1]) == 3


def row(in_flight: int, draining: bool = True) -> InstanceTally:
    return InstanceTally(model="m", id="m/a:1", in_flight=in_flight, waiting=0, healthy=True, draining=draining)


@pytest.mark.parametrize(
    ("rows", "silent", "drained"),
    [
        ([row(0), row(0)], False, True),
        ([row(0), row(1)], False, False),
        ([row(0), row(0, draining=False)], False, False),  # that worker's word is from before the drain
        ([row(0), row(0)], True, False),
        ([], False, False),
    ],
)
def test_drained_once_every_worker_says_so(rows: list[InstanceTally], silent: bool, drained: bool) -> None:
    tallies = [tally(slot, one) for slot, one in enumerate(rows)]
    models, instances = picture(CONFIG.unwrap(), tallies, {}, {"m/a:1"}, silent=silent)
    assert (instances[0].draining, instances[0].drained) == (True, drained)
    assert models[0].ready
    assert [model.ready for model in picture(CONFIG.unwrap(), tallies, {}, {"n/c:3"})[0]] == [True, False]


def test_where_an_instance_comes_from() -> None:
    _, instances = picture(CONFIG.unwrap(), (), source=lambda name, _: "added" if name == "n" else "file")
    assert [one.source for one in instances] == ["file", "file", "added"]


def test_health_of_one_that_is_drained() -> None:
    """Its health is told as that of any other, and nobody counts on it."""
    out = tally(0, InstanceTally("m/a:1", "m", 0, 0, False, "unhealthy", why="it cannot be reached", draining=True))
    models, instances = picture(CONFIG.unwrap(), [out], {"m/a:1": checkup()}, {"m/a:1", "m/b:2"})
    assert (instances[0].state, instances[0].why, instances[0].drained) == ("unhealthy", "it cannot be reached", True)
    assert (instances[1].state, instances[1].draining, instances[1].drained) == ("healthy", True, False)
    assert [model.ready for model in models] == [False, True]


def test_a_name_is_no_instance() -> None:
    named = load_text("models: {m: {instances: [{dns: vllm.svc, port: 8000}]}}").unwrap()
    models, instances = picture(named, ())
    assert ([model.ready for model in models], instances) == ([False], [])


def test_who_has_told() -> None:
    assert told_by_all([], [])
    assert told_by_all([0, 1], [tally(1), tally(0), tally(2)])
    assert not told_by_all([0, 1], [tally(1)])


def test_a_hidden_model_is_told_as_such() -> None:
    config = load_text('models: {m: {hidden: true, instances: [{url: "http://a:1"}]}}').unwrap()
    models, _ = picture(config, [tally(0, InstanceTally(model="m", id="m/a:1", in_flight=0, waiting=0, healthy=False))], {})
    assert models == [ModelStatus(name="m", ready=False, hidden=True)]


STARTED = load_text('models: {m: {instances: [{command: [sh, "{port}"]}]}}', env={"PATH": "/bin:/usr/bin"}).unwrap()


def test_of_one_that_is_not_up_the_last_run_says_nothing() -> None:
    ((before,),) = [picture(STARTED, ())[1]]
    told = [tally(0, InstanceTally(model="m", id=before.id, in_flight=1, waiting=2, healthy=False, state="ejected", why="lost"))]

    def shown(engine: EngineStatus) -> tuple[InstanceStatus, bool]:
        models, (row,) = picture(STARTED, told, engines={before.id: engine})
        return row, models[0].ready

    row, ready = shown(EngineStatus("starting", 7))
    assert (row.process, row.pid, row.healthy, row.why, row.waiting, ready) == ("starting", 7, True, "", 2, True)
    row, ready = shown(EngineStatus("backing_off", 0, "it ended with code 1", 2.5))
    assert (row.process, row.pid, row.healthy, row.why, row.again, ready) == (
        "backing_off",
        None,
        False,
        "it ended with code 1",
        2.5,
        False,
    )
    row, ready = shown(EngineStatus("up", 7))
    assert (row.process, row.state, row.healthy, row.why, ready) == ("up", "ejected", False, "lost", False)
