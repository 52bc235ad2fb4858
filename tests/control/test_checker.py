"""Checks on a turned clock and a transport of functions: what is asked, how outcomes are told, when the next one is due.

What a row of outcomes comes to is `tests/policy/test_health.py`'s; real instances are asked in tests/system.

Length: one file for each source file, and what comes of TLS is one more way in which a check ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from msgspec import structs

from slmgate.control import catalogue
from slmgate.control import checker as module
from slmgate.control.catalogue import Wanted
from slmgate.control.checker import (
    AGAIN_SECONDS,
    CATALOGUE_SECONDS,
    MISSING_SECONDS,
    PATHS,
    PER_SECOND,
    Checker,
    Outcome,
    Target,
    targets,
)
from slmgate.control.config import Config, load_text
from slmgate.control.config.addresses import Origin
from slmgate.control.reaching import Clients, Way, make_client, may_want_a_certificate
from slmgate.link.messages import Checked, CheckedOut
from slmgate.policy.specs import HeldSpec, TrustSpec
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
            url="http://a:1",
            path="/ready",
            strict=True,
            bearer=None,
            interval=1,
            timeout=0.2,
            healthy_after=3,
            unhealthy_after=4,
            wanted=Wanted(engine="openai", name="m", model="m"),
        )
    }
    assert targets(config(", health: off")) == {}
    assert targets(config(", health: {catalogue: off}"))["m/a:1"].wanted is None
    shown = targets(config(", health: {catalogue: show}"))["m/a:1"].wanted
    assert shown == Wanted(engine="openai", name="m", model="m", route=False)
    named = 'models: {m: {instances: [{url: "http://a:1", engine: ollama, upstream_model: own}]%s}}'
    assert targets(config(of=named))["m/a:1"].wanted == Wanted(engine="ollama", name="own", model="m", named=True)


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
    """A checker at work. `answers` says for each host what becomes of a check of it, `lists` what it says that it serves."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = FakeLoop(self.clock)
        self.answers: dict[str, Callable[[], int]] = {}
        self.asked: list[tuple[str, float]] = []
        self.lists: dict[str, list[str]] = {}
        self.listed: list[float] = []  # when anybody was asked what it serves
        self.told: list[Checked] = []
        self.said: list[str] = []

        async def make() -> Checker:
            return Checker(self.told.append, self.said.append, httpx.MockTransport(self._answer))

        self.checker: Checker = self.loop.run_until_complete(make())
        self.life = self.loop.create_task(self.checker.run())

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers["accept"] == "application/json":
            self.listed.append(self.clock.passed)
            entries = [{"id": name, "name": name} for name in self.lists.get(request.url.host, ["m"])]
            return httpx.Response(200, json={"data": entries, "models": entries})
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


def refusal(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def caused(failure: Exception, cause: Exception) -> Exception:
    failure.__cause__ = cause
    return failure


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (
            caused(httpx.ConnectError("no"), refusal("UNSUPPORTED_PROTOCOL")),
            Outcome("it speaks no TLS of version 1.2 or newer", "unreachable"),
        ),
        (httpx.ConnectError("no"), Outcome("it cannot be reached", "unreachable")),
        (
            refusal("TLSV13_ALERT_CERTIFICATE_REQUIRED"),
            Outcome("it needs a client certificate (tls.cert), and was shown none", "unreachable"),
        ),
        (
            httpx.ReadError("no"),
            Outcome(f"GET /health: no valid answer (ReadError){may_want_a_certificate(Way())}", "broken"),
        ),
    ],
)
def test_outcomes_of_tls(scene: Scene, failure: Exception, outcome: Outcome) -> None:
    scene.answers["a"] = raises(failure)

    async def asks() -> Outcome:
        async with httpx.AsyncClient(transport=httpx.MockTransport(scene._answer)) as client:
            return await scene.checker.ask(client, structs.replace(TARGET, url="https://a:1", way=Way()))

    assert scene.loop.run_until_complete(asks()) == outcome


def test_checks_believe_whom_requests_believe(scene: Scene) -> None:
    text = """
models:
  m:
    instances: [{url: "https://a:1"}, {url: "http://a:2"}, {url: "https://a:3", tls: {server_name: b, verify: true}}]
    tls: {verify: false}
"""
    ways = {id: target.way for id, target in targets(load_text(text).unwrap()).items()}
    assert ways == {"m/a:1": Way(TrustSpec(verify=False)), "m/a:2": None, "m/a:3": Way(TrustSpec(), "b")}


def test_a_name_that_was_added_is_held_to_where_it_may_lead() -> None:
    text = 'models: {m: {instances: [{url: "http://a:1"}, {url: "http://b:1"}]}}\ndiscovery: {networks: [10.0.0.0/8]}'
    found = {id: target.held for id, target in targets(load_text(text).unwrap(), {"m/b:1"}).items()}
    assert found == {"m/a:1": None, "m/b:1": HeldSpec(networks=("10.0.0.0/8",))}


def test_files_that_cannot_be_used(scene: Scene) -> None:
    """Nobody is asked, and the operator reads why; it is not held against the instance, which workers may reach all the same."""
    made = config(of='models: {m: {instances: [{url: "https://a:1"}]%s}}')
    scene.checker.configure(made)
    one = scene.checker.checkups()["m/a:1"]
    one.target = structs.replace(one.target, way=Way(TrustSpec(ca="/none.pem")))
    scene.loop.turn(10)
    assert one.outcome == Outcome("the TLS files for it cannot be used: No such file or directory")
    assert one.checks.verdict == "checking" and not one.under_way and one.due > scene.loop.time()


def test_a_fault_of_our_own_is_not_the_last_check(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once, not held against the instance, and the instance is checked again."""
    real, broken = Clients.of, [True]

    def of(self: Clients, *what: Any) -> Any:
        if broken:
            raise KeyError("what nobody thought of")
        return real(self, *what)

    monkeypatch.setattr(Clients, "of", of)
    scene.checker.configure(config())
    scene.loop.turn(20)
    why = "it could not be checked, by a fault of slmgate (KeyError)"
    assert scene.said == [f"m/a:1: {why}"]
    one = scene.checker.checkups()["m/a:1"]
    assert (one.outcome, one.checks.verdict, one.under_way) == (Outcome(why), "checking", False)
    broken.clear()
    scene.loop.turn(6)
    assert scene.verdicts() == {"m/a:1": "healthy"}


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


def test_what_an_instance_sets_is_not_kept() -> None:
    """Cookies know no port: the next instance on the host would be told, and they would grow for ever."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers={"set-cookie": f"c{len(seen)}=x; Max-Age=9999"})

    async def asks() -> None:
        checker = Checker(lambda _: None, lambda _: None)
        async with make_client(httpx.MockTransport(answer)) as client:
            for port in (1, 1, 2):
                await checker.ask(client, structs.replace(TARGET, url=f"http://a:{port}"))
            assert len(client.cookies) == 0

    asyncio.run(asks())
    assert [request.headers.get("cookie") for request in seen] == [None] * 3


def test_a_name_that_cannot_be_asked(scene: Scene) -> None:
    """An A-label that means nothing passes as a host name: the check fails as others do, and is not the last."""
    scene.checker.configure(config(of='models: {m: {instances: [{url: "http://xn--a:1"}, {url: "http://a:1"}]%s}}'))
    scene.loop.turn(30)
    assert scene.verdicts() == {"m/xn--a:1": "unhealthy", "m/a:1": "healthy"}
    outcome = scene.checker.checkups()["m/xn--a:1"].outcome
    assert outcome == Outcome("GET /v1/models: it could not be asked (InvalidCodepoint)", "broken")
    assert not any(one.under_way for one in scene.checker.checkups().values())


OLLAMA = 'models: {m: {instances: [{url: "http://a:1", engine: ollama}]%s}}'
ABSENT = CheckedOut("m/a:1", "absent", "m is not there: it lists other")


def test_what_it_serves_is_asked_seldom(scene: Scene) -> None:
    """At first sight, and then every minute or so, however often it is checked; sooner where the model was missing."""
    scene.checker.configure(config(", health: {interval: 1s}"))
    scene.loop.turn(2)
    assert len(scene.listed) == 1
    scene.loop.turn(10 * CATALOGUE_SECONDS)
    assert 10 <= len(scene.listed) <= 12
    scene.lists["a"] = ["other"]
    scene.loop.turn(CATALOGUE_SECONDS + 2)
    scene.listed.clear()
    scene.loop.turn(10 * MISSING_SECONDS)
    assert 9 <= len(scene.listed) <= 12


def test_the_model_is_missing(scene: Scene) -> None:
    """An engine that refuses what it has not is not asked for it, until it has it; what others list is only said."""
    scene.lists["a"] = ["other"]
    scene.checker.configure(config(of=OLLAMA))
    scene.loop.turn(9)
    assert scene.verdicts() == {"m/a:1": "healthy"}
    assert scene.told == [Checked(out=(ABSENT,))] * 2, "not even when its checks succeed is it told to be well"
    assert scene.checker.whole() == Checked(out=(ABSENT,))
    assert scene.said == ["m/a:1: m is not there: it lists other; no worker asks it"]
    scene.loop.turn(2 * AGAIN_SECONDS)
    assert scene.told[2:] == [Checked(out=(ABSENT,))] * 2, "it is said again, and only that"
    scene.told.clear()
    scene.lists["a"] = ["other", "more"]
    scene.loop.turn(MISSING_SECONDS + 5)
    assert scene.told[-1].out[0].why == "m is not there: it lists other, more"
    scene.lists["a"] = ["other", "m:latest"]
    scene.loop.turn(MISSING_SECONDS + 5)
    assert scene.told[-1] == Checked(well=("m/a:1",))
    assert scene.said[1:] == ["m/a:1: the model is not missing there any more (listed)"]

    scene.said.clear()
    scene.told.clear()
    scene.lists["a"] = ["other"]
    scene.checker.configure(config())
    scene.loop.turn(9)
    assert scene.said == ["m/a:1: m is not there: it lists other; it is asked all the same"]
    assert not any(one.out for one in scene.told)


def test_it_comes_back_without_its_model(scene: Scene) -> None:
    """It is asked what it serves before anybody is told that it is well."""
    scene.checker.configure(config(of=OLLAMA))
    scene.loop.turn(9)
    scene.answers["a"] = lambda: 503
    scene.loop.turn(9)
    assert scene.verdicts() == {"m/a:1": "unhealthy"}
    scene.told.clear()
    scene.lists["a"] = ["other"]
    scene.answers["a"] = lambda: 200
    scene.loop.turn(9)
    assert scene.verdicts() == {"m/a:1": "healthy"}
    assert scene.told
    assert all(one.out and not one.well for one in scene.told)
    assert scene.told[-1] == Checked(out=(ABSENT,))


def test_a_reload_that_wants_something_else(scene: Scene) -> None:
    """What was said of another name is void at once; a gate that is not to go by it, or not to ask, does not."""
    scene.lists["a"] = ["other"]
    renamed = OLLAMA.replace("ollama", "ollama, upstream_model: other")
    for new in (config(of=renamed), config(", health: {catalogue: show}", OLLAMA), config(", health: {catalogue: off}", OLLAMA)):
        scene.checker.configure(config(of=OLLAMA))
        scene.loop.turn(6)
        assert scene.checker.whole() == Checked(out=(ABSENT,))
        scene.told.clear()
        scene.checker.configure(new)
        scene.loop.turn(1)
        assert scene.told == [Checked(well=("m/a:1",))]
    assert scene.checker.checkups()["m/a:1"].catalogue is None
    scene.checker.configure(config(of=OLLAMA))
    scene.loop.turn(6)
    scene.told.clear()
    scene.checker.configure(config(", health: off", OLLAMA))
    scene.loop.turn(1)
    assert scene.told == [Checked(well=("m/a:1",))], "without checks, nothing is held against it"


def test_a_list_that_comes_too_late(scene: Scene) -> None:
    """For an instance that has left the configuration, or from which something else is wanted by now."""
    scene.checker.configure(config(of=OLLAMA))
    one = scene.checker.checkups()["m/a:1"]
    before = one.target
    assert before.wanted is not None
    absent = catalogue.read(b'{"models": []}', before.wanted)
    assert absent.absent
    scene.checker.configure(config(", health: {catalogue: show}", OLLAMA))
    scene.checker.found(one, before, absent, 1.0)
    assert one.catalogue is None
    scene.checker.configure(config(", health: off", OLLAMA))
    scene.checker.found(one, one.target, absent, 1.0)
    assert one.catalogue is None


def test_a_list_that_cannot_be_asked_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever went wrong, checks go on."""

    async def fails(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(catalogue, "ask", fails)
    scene.checker.configure(config(of=OLLAMA))
    scene.loop.turn(20)
    said = scene.checker.checkups()["m/a:1"].catalogue
    assert said is not None
    assert (said.state, said.text) == ("unknown", "unknown: it could not be asked (RuntimeError)")
    assert len(scene.asked) >= 4
    assert scene.verdicts() == {"m/a:1": "healthy"}


VLLM = 'models: {m: {instances: [{url: "http://a:1", engine: vllm}, {url: "http://b:1", engine: vllm}]%s}}'


def test_where_it_is_not_sure(scene: Scene) -> None:
    """A vLLM that does not list the model may have it all the same: it is passed over only where another instance lists it."""
    scene.lists = {"a": ["other"], "b": ["other"]}
    scene.checker.configure(config(of=VLLM))
    scene.loop.turn(9)
    assert scene.checker.whole() == Checked(well=("m/a:1", "m/b:1"))
    assert sorted(scene.said) == [f"m/{one}:1: m is not there: it lists other; it is asked all the same" for one in "ab"]
    scene.said.clear()
    scene.told.clear()
    scene.lists["b"] = ["m"]
    scene.loop.turn(MISSING_SECONDS + 5)
    assert scene.checker.whole() == Checked(out=(ABSENT,), well=("m/b:1",))
    assert Checked(out=(ABSENT,)) in scene.told
    assert scene.said == [
        "m/a:1: m is not there: it lists other; no worker asks it",
        "m/b:1: the model is not missing there any more (listed)",
    ]
    scene.said.clear()
    scene.told.clear()
    scene.lists["b"] = ["other"]
    scene.loop.turn(CATALOGUE_SECONDS + 5)
    assert scene.checker.whole() == Checked(well=("m/a:1", "m/b:1"))
    assert scene.told[-1] == Checked(well=("m/a:1",))
    assert scene.said == [f"m/{one}:1: m is not there: it lists other; it is asked all the same" for one in "ab"]

    scene.lists["b"] = ["m"]
    scene.loop.turn(MISSING_SECONDS + 5)
    assert scene.checker.whole().out == (ABSENT,)
    alone = VLLM.replace(', {url: "http://b:1", engine: vllm}', "")
    scene.checker.configure(config(of=alone))
    assert scene.checker.whole() == Checked(well=("m/a:1",)), "who listed it is gone"
    scene.checker.configure(config(", health: {catalogue: off}", alone))
    scene.checker.configure(config(", health: off", alone))
    scene.loop.turn(1)
    assert scene.checker.checkups() == {}
