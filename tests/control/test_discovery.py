"""Names followed on a turned clock: addresses come and go as they are answered, and stay when nothing useful is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from slmgate.control.config import Config, compile_snapshot, load_text
from slmgate.control.config.addresses import Address
from slmgate.control.discovery import LONGEST, SHORTEST, Discovery
from slmgate.control.naming import CannotTell, Found
from tests.tools.fakes import Clock, FakeLoop

TEXT = """
models:
  m:
    instances:
      - {dns: a.example, port: 8000, engine: vllm, weight: 3}
      - {url: "http://10.0.0.9:8000"}
discovery: {refresh: 4s, max_addresses: 3, nameservers: ["192.0.2.53:53"]}
"""
CONFIG = load_text(TEXT).unwrap()


class Scene:
    """A discovery with its name server: what is asked, what it answers (an exception is raised), and who is told."""

    def __init__(self, file: Path) -> None:
        self.loop = FakeLoop(Clock())
        self.said: list[str] = []
        self.asked: list[str] = []
        self.answers: dict[str, Found | Exception] = {}
        self.changes = 0
        self.file = file
        self.discovery = self.opened()

    def opened(self) -> Discovery:
        made = Discovery(self.file, self.said.append, self.ask)
        made.on_change = self.changed
        return made

    def changed(self) -> None:
        self.changes += 1

    async def ask(self, name: str, nameservers: Sequence[Address]) -> Found:
        assert nameservers == (Address("192.0.2.53", 53),)
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def follow(self, config: Config = CONFIG) -> None:
        async def follow() -> None:
            self.discovery.configure(config)

        self.loop.run_until_complete(follow())
        self.loop.settle()

    def ids(self, config: Config = CONFIG) -> list[str]:
        found = compile_snapshot(self.discovery.expand(config), 1)
        return [one.id for model in found.models for one in model.instances]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "discovered.json")
    yield made
    made.loop.shut()


def found(*addresses: str, ttl: float | None = 10, unknown: tuple[int, ...] = ()) -> Found:
    return Found(addresses, ttl, unknown)


def test_addresses_come_and_go_as_their_time_to_live_says(scene: Scene) -> None:
    assert scene.ids() == ["m/10.0.0.9:8000"]
    scene.answers["a.example"] = found("10.0.0.2", "10.0.0.1")
    scene.follow()
    assert scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.1:8000", "m/10.0.0.2:8000"]
    made = scene.discovery.expand(CONFIG).models["m"].instances[2]
    assert (made.engine, made.weight, made.dns, made.port) == ("vllm", 3, None, None)
    assert [scene.discovery.source(id) for id in scene.ids()] == [None, "dns:a.example", "dns:a.example"]
    assert repr(scene.discovery) == "<Discovery: a.example 2>"
    scene.answers["a.example"] = found("10.0.0.0", "10.0.0.2")
    scene.loop.turn(9.5)
    assert len(scene.asked) == 1
    scene.loop.turn(1)
    assert scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.2:8000", "m/10.0.0.0:8000"], "who stays keeps its place"
    assert (scene.changes, scene.said) == (2, [])
    scene.loop.turn(10)
    assert (scene.changes, len(scene.asked)) == (2, 3)


@pytest.mark.parametrize(("ttl", "waits"), [(0, SHORTEST), (1, 1), (7, 7), (None, 4), (LONGEST, LONGEST), (10**9, LONGEST)])
def test_when_it_is_asked_again(scene: Scene, ttl: float | None, waits: float) -> None:
    scene.answers["a.example"] = found("10.0.0.1", ttl=ttl)
    scene.follow()
    scene.loop.turn(waits - 0.5)
    assert len(scene.asked) == 1
    scene.loop.turn(1)
    assert len(scene.asked) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (CannotTell("no DNS server answers for it"), "no DNS server answers for it"),
        (RuntimeError("x"), "it could not be asked for (RuntimeError)"),
        (found("169.254.169.254", "127.0.0.1"), "none of its addresses may be an instance: 169.254.169.254, 127.0.0.1"),
    ],
)
def test_without_a_useful_answer_the_addresses_stay(scene: Scene, answer: Found | Exception, words: str) -> None:
    scene.answers["a.example"] = answer
    scene.follow()
    assert scene.said == [f"a.example: {words}; it has no instances"]
    scene.answers["a.example"] = found("10.0.0.1", "10.0.0.2")
    scene.loop.turn(4.5)
    assert scene.said[1:] == ["a.example: all is well again, 2 addresses"]
    scene.answers["a.example"] = answer
    scene.loop.turn(30)
    assert scene.said[2:] == [f"a.example: {words}; the 2 addresses that it had are used on"], "once, however often it fails"
    assert scene.discovery.troubles == scene.said[2:]
    assert scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.1:8000", "m/10.0.0.2:8000"]
    scene.answers["a.example"] = found("10.0.0.1")
    scene.loop.turn(5)
    assert (scene.discovery.troubles, scene.ids()) == ([], ["m/10.0.0.9:8000", "m/10.0.0.1:8000"])


def test_a_family_that_could_not_be_asked_for_keeps_its_addresses(scene: Scene) -> None:
    scene.answers["a.example"] = found("10.0.0.1", "fd00::1")
    scene.follow()
    scene.answers["a.example"] = found("10.0.0.2", unknown=(6,))
    scene.loop.turn(10.5)
    assert scene.ids() == ["m/10.0.0.9:8000", "m/[fd00::1]:8000", "m/10.0.0.2:8000"]


def test_some_addresses_are_not_used(scene: Scene) -> None:
    scene.answers["a.example"] = found("10.0.0.1", "169.254.169.254")
    scene.follow()
    assert scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.1:8000"]
    assert scene.said == ["a.example: not used, as instances may not be there: 169.254.169.254"]


@pytest.mark.parametrize(("there", "used"), [(2, 2), (3, 3), (4, 3), (300, 3)])
def test_too_many_are_cut(scene: Scene, there: int, used: int) -> None:
    scene.answers["a.example"] = found(*(f"10.1.{n // 250}.{n % 250}" for n in range(there)))
    scene.follow()
    assert len(scene.ids()) == used + 1
    cut = [f"a.example: {there} addresses, of which 3 are used (max_addresses)"]
    assert scene.said == (cut if there > used else [])


def test_those_that_were_there_first_are_not_cut(scene: Scene) -> None:
    scene.answers["a.example"] = found("10.0.0.7", "10.0.0.8")
    scene.follow()
    scene.answers["a.example"] = found("10.0.0.7", "10.0.0.1", "10.0.0.8", "10.0.0.2")
    scene.loop.turn(10.5)
    assert scene.ids()[1:] == ["m/10.0.0.7:8000", "m/10.0.0.8:8000", "m/10.0.0.1:8000"]


def test_loopback_only_if_the_option_says_so(scene: Scene) -> None:
    scene.answers["a.example"] = found("127.0.0.1")
    scene.follow(config := load_text(TEXT.replace("{refresh", "{loopback: true, refresh")).unwrap())
    assert scene.ids(config) == ["m/10.0.0.9:8000", "m/127.0.0.1:8000"]
    scene.follow()  # the option is taken back: asked at once, and nothing else is known
    assert scene.said == ["a.example: none of its addresses may be an instance: 127.0.0.1; it has no instances"]
    assert scene.ids() == ["m/10.0.0.9:8000"], "what may not be an instance any more is none, though nothing else is known"


def test_only_addresses_in_networks_that_are_named(scene: Scene) -> None:
    scene.answers["a.example"] = found("10.0.0.1", "10.1.0.1")
    scene.follow()
    assert scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.1:8000", "m/10.1.0.1:8000"]
    stricter = load_text(TEXT.replace("{refresh", "{networks: [10.1.0.0/16], refresh")).unwrap()
    scene.answers["a.example"] = CannotTell("no DNS server answers for it")
    scene.follow(stricter)
    assert scene.ids(stricter) == ["m/10.0.0.9:8000", "m/10.1.0.1:8000"], "urls of the configuration are not held to it"
    assert scene.said == ["a.example: no DNS server answers for it; the 1 addresses that it had are used on"]
    scene.answers["a.example"] = found("10.0.0.1", "10.1.0.1", "10.1.0.2")
    scene.loop.turn(4.5)
    assert scene.ids(stricter) == ["m/10.0.0.9:8000", "m/10.1.0.1:8000", "m/10.1.0.2:8000"]
    assert scene.said[-1] == "a.example: not used, as instances may not be there: 10.0.0.1"


def test_an_address_of_the_file_is_the_files(scene: Scene) -> None:
    scene.answers["a.example"] = found("10.0.0.9", "10.0.0.1")
    scene.follow()
    assert scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.1:8000"]
    assert scene.discovery.source("m/10.0.0.9:8000") is None
    assert scene.discovery.expand(CONFIG).models["m"].instances[1].weight == 1


def test_names_that_leave_the_configuration_are_followed_no_more(scene: Scene) -> None:
    scene.answers["a.example"] = found("10.0.0.1")
    scene.answers["b.example"] = found("10.0.0.2")
    other = load_text(TEXT.replace("a.example", "b.example")).unwrap()
    scene.follow()
    scene.follow(other)
    assert scene.ids(other) == ["m/10.0.0.9:8000", "m/10.0.0.2:8000"]
    assert scene.ids() == ["m/10.0.0.9:8000"]
    scene.loop.turn(11)
    assert scene.asked == ["a.example", "b.example", "b.example"]


def test_addresses_outlive_the_process(scene: Scene) -> None:
    scene.answers["a.example"] = found("10.0.0.1")
    scene.follow()
    scene.answers["a.example"] = CannotTell("no DNS server answers for it")
    scene.discovery.close()
    scene.discovery = scene.opened()
    assert scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.1:8000"]
    scene.follow()
    assert scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.1:8000"]
    scene.file.write_text("{broken")
    scene.discovery = scene.opened()
    assert scene.ids() == ["m/10.0.0.9:8000"]


def test_a_file_that_cannot_be_written_is_done_without(scene: Scene) -> None:
    scene.discovery.close()
    scene.file = scene.file / "not" / "there"
    scene.discovery = scene.opened()
    scene.answers["a.example"] = found("10.0.0.1")
    scene.follow()
    assert scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.1:8000"]


@pytest.mark.parametrize("answers", [True, False])
def test_a_start_waits_for_the_first_answer_but_not_for_ever(scene: Scene, answers: bool) -> None:
    scene.answers["a.example"] = found("10.0.0.1")
    hangs = scene.loop.create_future()

    async def ask(name: str, servers: Sequence[Address]) -> Found:
        if not answers:
            await hangs
        return await scene.ask(name, servers)

    scene.discovery._ask = ask
    waiting = scene.loop.create_task(scene.discovery.prepare(CONFIG, 2.0))
    scene.loop.settle()
    assert waiting.done() is answers
    scene.loop.turn(2.25)
    assert waiting.done() and len(scene.ids()) == 1 + answers
    again = scene.loop.create_task(scene.discovery.prepare(CONFIG, 2.0))
    scene.loop.settle()
    assert again.done() is answers, "who has addresses is not waited for"


def test_addresses_that_may_not_be_instances_are_none_to_start_with(scene: Scene) -> None:
    scene.answers["a.example"] = found("10.0.0.1")
    scene.follow()
    hangs = scene.loop.create_future()

    async def ask(name: str, servers: Sequence[Address]) -> Found:
        await hangs
        return found("10.1.0.1")

    scene.discovery._ask = ask
    stricter = load_text(TEXT.replace("{refresh", "{networks: [10.1.0.0/16], refresh")).unwrap()
    waiting = scene.loop.create_task(scene.discovery.prepare(stricter, 2.0))
    scene.loop.settle()
    assert not waiting.done() and scene.ids() == ["m/10.0.0.9:8000", "m/10.0.0.1:8000"], "the one in force has what it had"
    hangs.set_result(None)
    scene.loop.settle()
    assert waiting.done() and scene.ids(stricter) == ["m/10.0.0.9:8000", "m/10.1.0.1:8000"]


@pytest.mark.parametrize(
    ("own", "shared", "name"),
    [
        ("on", "{verify: false}", "a.example"),
        ("{server_name: b.example}", "{server_name: c.example}", "b.example"),
        ("on", "{server_name: c.example}", "c.example"),
    ],
)
def test_over_tls_the_name_is_verified_not_the_address(scene: Scene, own: str, shared: str, name: str) -> None:
    scene.answers["a.example"] = Found(("10.0.0.1",), 8.0)
    text = TEXT.replace("weight: 3", f"tls: {own}").replace("discovery:", f"    tls: {shared}\ndiscovery:")
    config = load_text(text).unwrap()
    scene.follow(config)
    spec = compile_snapshot(scene.discovery.expand(config), 1).models[0].instances
    (found,) = [one for one in spec if one.host == "10.0.0.1"]
    assert (found.tls, found.server_name, found.trust) == (True, name, None)


def test_without_a_word_a_name_is_reached_over_plain_http(scene: Scene) -> None:
    scene.answers["a.example"] = Found(("10.0.0.1",), 8.0)
    config = load_text(TEXT.replace("discovery:", "    tls: {server_name: c.example}\ndiscovery:")).unwrap()
    scene.follow(config)
    spec = compile_snapshot(scene.discovery.expand(config), 1).models[0].instances
    assert [(one.tls, one.trust, one.server_name) for one in spec] == [(False, None, "")] * 2
