"""Checks on a turned clock and a transport of functions: what is asked, how outcomes are told, when the next one is due.

What a row of outcomes comes to is `tests/policy/test_health.py`'s; real instances are asked in tests/system.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from msgspec import structs

from slmgate.control import checker as module
from slmgate.control.checker import AGAIN_SECONDS, PATHS, PER_SECOND, Checker, Outcome, Target, make_client, targets
from slmgate.control.config import Config, load_text
from slmgate.control.config.addresses import Origin
from slmgate.link.messages import Checked, CheckedOut
from tests.tools.fakes import Clock, FakeLoop

ONE = 'models: {m: {instances: [{url: "http://a:1"}]%s}}'
TARGET = Target(
    url="http://a:1", path="/health", strict=False, bearer=None, interval=5, timeout=2, healthy_after=2, unhealthy_after=2
)


def config(text: str = "", of: str = ONE) -> Config:
    return load_text(of % text).unwrap()


def test_what_each_engine_is_asked() -> None:
    for engine, path in PATHS.items():
        text = f'models: {{m: {{instances: [{{url: "https://a", engine: {engine}, bearer: abcd}}]}}}}'
        target = targets(load_text(text).unwrap())["m/a:443"]
        assert (target.url, target.path, target.strict, target.bearer) == ("https://a:443", path, False, "abcd")


def test_options() -> None:
    given = "health: {interval: 1s, timeout: 200ms, healthy_after: 3, unhealthy_after: 4, path: /ready}"
    assert targets(config(f", {given}")) == {
        "m/a:1": Target(
            url="http://a:1", path="/ready", strict=True, bearer=None, interval=1, timeout=0.2, healthy_after=3, unhealthy_after=4
        )
    }
    assert targets(config(", health: off")) == {}


def test_a_name_is_not_checked_but_what_it_leads_to() -> None:
    named = load_text("models: {m: {instances: [{dns: vllm.svc, port: 8000, engine: vllm}]}}").unwrap()
    assert targets(named) == {}
    (entry,) = named.models["m"].instances
    found = structs.replace(entry, url=Origin("10.0.0.5", 8000), dns=None, port=None)
    models = {"m": structs.replace(named.models["m"], instances=(entry, found))}
    assert {id: target.url for id, target in targets(structs.replace(named, models=models)).items()} == {
        "m/10.0.0.5:8000": "http://10.0.0.5:8000"
    }


class Scene:
    """A checker at work. `answers` says for each host what becomes of a request to it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = FakeLoop(self.clock)
        self.answers: dict[str, Callable[[], int]] = {}
        self.asked: list[tuple[str, float]] = []
        self.told: list[Checked] = []
        self.said: list[str] = []

        async def make() -> Checker:
            return Checker(self.told.append, self.said.append, httpx.MockTransport(self._answer))

        self.checker: Checker = self.loop.run_until_complete(make())
        self.life = self.loop.create_task(self.checker.run())

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.host, self.clock.passed))
        return httpx.Response(self.answers.get(request.url.host, lambda: 200)())

    def verdicts(self) -> dict[str, str]:
        return {id: one.checks.verdict for id, one in self.checker.checkups().items()}

    def shut(self) -> None:
        self.life.cancel()
        self.loop.settle()
        self.loop.close()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene()
    monkeypatch.setattr(module, "time", made.clock)
    yield made
    made.shut()
    assert not made.loop.failures


OUT = CheckedOut("m/a:1", "refused", "GET /v1/models answered 503")


def test_out_and_back(scene: Scene) -> None:
    scene.checker.configure(config())
    scene.loop.turn(2)
    assert scene.verdicts() == {"m/a:1": "healthy"}
    assert scene.told == [Checked(well=("m/a:1",))]
    assert scene.said == []
    scene.answers["a"] = lambda: 503
    scene.loop.turn(7)
    assert scene.verdicts() == {"m/a:1": "unhealthy"}
    assert scene.told[1:2] == [Checked(out=(OUT,))]
    scene.answers["a"] = lambda: 200
    scene.loop.turn(3)
    assert scene.told[-1] == Checked(well=("m/a:1",))
    assert scene.said == [
        "m/a:1 is out, no worker asks it: GET /v1/models answered 503 (2 checks in a row)",
        "m/a:1 is back: GET /v1/models answered 200 (2 checks in a row)",
    ]
    one = scene.checker.checkups()["m/a:1"]
    assert one.outcome == Outcome("GET /v1/models answered 200")
    assert scene.clock.time() - 2 < one.since <= one.at <= scene.clock.time()


def test_how_often(scene: Scene) -> None:
    """At its interval; sooner in doubt and while it has just gone out; not so often for ever."""
    scene.checker.configure(config())
    scene.loop.turn(2)
    scene.asked.clear()
    scene.loop.turn(50)
    assert 9 <= len(scene.asked) <= 12
    scene.answers["a"] = lambda: 503
    scene.loop.turn(10)
    scene.asked.clear()
    scene.loop.turn(10)
    assert 9 <= len(scene.asked) <= 12
    scene.loop.turn(20)
    scene.asked.clear()
    scene.loop.turn(50)
    assert 9 <= len(scene.asked) <= 12


def test_who_is_out_is_said_again(scene: Scene) -> None:
    scene.answers["a"] = lambda: 503
    scene.checker.configure(config())
    scene.loop.turn(3)
    scene.told.clear()
    scene.loop.turn(3 * AGAIN_SECONDS)
    assert scene.told == [Checked(out=(OUT,))] * 3


def test_many_are_not_asked_at_once(scene: Scene) -> None:
    urls = ", ".join(f'{{url: "http://h{n}:1"}}' for n in range(1000))
    scene.checker.configure(config(of=f"models: {{m: {{instances: [{urls}]%s}}}}"))
    for _ in range(600):  # in steps as small as the checker's own
        scene.clock.passed += 0.05
        scene.loop.settle()
    assert set(scene.verdicts().values()) == {"healthy"}
    seconds = Counter(int(at) for _, at in scene.asked)
    assert max(seconds.values()) <= PER_SECOND * 1.2
    assert len(scene.checker.whole().well) == 1000


def test_no_more_than_so_many_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    hanging: list[Target] = []

    async def hangs(_: Any, target: Target) -> Outcome:
        hanging.append(target)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(scene.checker, "ask", hangs)
    urls = ", ".join(f'{{url: "http://h{n}:1"}}' for n in range(10))
    scene.checker.configure(config(of=f"models: {{m: {{instances: [{urls}]%s}}}}"))
    scene.loop.turn(9)
    assert len(hanging) == 3


def test_a_reload_keeps_what_is_known(scene: Scene) -> None:
    two = 'models: {m: {instances: [{url: "http://a:1"}, {url: "http://b:1"}]%s}}'
    scene.answers["a"] = lambda: 503
    scene.checker.configure(config(of=two))
    scene.loop.turn(4)
    assert scene.checker.whole() == Checked(out=(OUT,), well=("m/b:1",))
    scene.told.clear()
    scene.checker.configure(config(", health: {interval: 3s}"))
    scene.loop.turn(2)
    assert scene.verdicts() == {"m/a:1": "unhealthy"}
    assert scene.told == []
    scene.checker.configure(config(", health: off"))
    scene.loop.turn(1)
    assert scene.told == [Checked(well=("m/a:1",))], "without checks, nothing is held against it"


def test_what_comes_too_late_is_not_told(scene: Scene) -> None:
    scene.checker.configure(config())
    one = scene.checker.checkups()["m/a:1"]
    scene.checker.configure(config(", health: off"))
    for _ in range(3):
        scene.checker.heard(one, Outcome("too late", "broken"), 1.0, 2.0)
    scene.loop.turn(1)
    assert (scene.told, scene.said) == ([], [])


def raises(error: Exception) -> Callable[[], int]:
    def answer() -> int:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "strict", "outcome"),
    [
        (lambda: 200, False, Outcome("GET /health answered 200")),
        (lambda: 404, False, Outcome("GET /health answered 404")),
        (lambda: 499, False, Outcome("GET /health answered 499")),
        (lambda: 500, False, Outcome("GET /health answered 500", "refused")),
        (lambda: 503, False, Outcome("GET /health answered 503", "refused")),
        (lambda: 299, True, Outcome("GET /health answered 299")),
        (lambda: 302, True, Outcome("GET /health answered 302", "refused")),
        (lambda: 404, True, Outcome("GET /health answered 404", "refused")),
        (raises(httpx.ConnectError("no")), False, Outcome("it cannot be reached", "unreachable")),
        (raises(httpx.ConnectTimeout("no")), False, Outcome("GET /health: no answer within 2 s", "silent")),
        (raises(httpx.ReadTimeout("no")), False, Outcome("GET /health: no answer within 2 s", "silent")),
        (raises(TimeoutError()), False, Outcome("GET /health: no answer within 2 s", "silent")),
        (
            raises(httpx.RemoteProtocolError("no")),
            False,
            Outcome("GET /health: no valid answer (RemoteProtocolError)", "broken"),
        ),
    ],
)
def test_outcomes(scene: Scene, answer: Callable[[], int], strict: bool, outcome: Outcome) -> None:
    scene.answers["a"] = answer
    target = Target(**{**{name: getattr(TARGET, name) for name in TARGET.__struct_fields__}, "strict": strict})

    async def asks() -> Outcome:
        async with httpx.AsyncClient(transport=httpx.MockTransport(scene._answer)) as client:
            return await scene.checker.ask(client, target)

    assert scene.loop.run_until_complete(asks()) == outcome


def test_its_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """It follows no redirect and no proxy of the environment, and carries the instance's own credential."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(302, headers={"location": "http://b/"})

    monkeypatch.setenv("HTTP_PROXY", "http://proxy:1")

    async def asks() -> Outcome:
        checker = Checker(lambda _: None, lambda _: None)
        (target,) = targets(config(of='models: {m: {instances: [{url: "http://a:1", bearer: abcd}]%s}}')).values()
        async with make_client(httpx.MockTransport(answer)) as client:
            return await checker.ask(client, target)

    assert asyncio.run(asks()) == Outcome("GET /v1/models answered 302")
    (request,) = seen
    assert (request.method, str(request.url), request.headers["authorization"]) == ("GET", "http://a:1/v1/models", "Bearer abcd")
    assert request.headers["user-agent"] == "slmgate"
