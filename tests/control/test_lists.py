"""Files of instances followed on a turned clock: lists change as files do, and stay when one is absent, half written or bad."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slmgate.control import lists as module
from slmgate.control.config import Config, compile_snapshot, load_text
from slmgate.control.config.instance_list import Read
from slmgate.control.lists import LOOK_SECONDS, RESTLESS, Lists, list_faults
from tests.tools.fakes import Clock, FakeLoop

TEXT = """
models:
  m:
    instances:
      - {file: a.yaml, engine: vllm, weight: 3}
      - {url: "http://10.0.0.9:8000"}
discovery: {max_addresses: 3}
"""


class Scene:
    """Lists over files in a directory of the test's own; what is said, and how often anybody is told."""

    def __init__(self, home: Path) -> None:
        self.loop = FakeLoop(Clock())
        self.home = home
        self.file = home / "a.yaml"
        self.said: list[str] = []
        self.changes = 0
        self.lists = self.opened()
        self.life = self.loop.create_task(self.lists.run())

    def opened(self) -> Lists:
        async def here(work: Callable[..., Any], *given: Any) -> Any:
            return work(*given)

        made = Lists(self.home / "listed.json", lambda text: self.said.append(text.replace(str(self.home), "DIR")), here)
        made.on_change = self.changed
        return made

    def changed(self) -> None:
        self.changes += 1

    def config(self, text: str = TEXT) -> Config:
        return load_text(text, base_dir=self.home).unwrap()

    def follow(self, text: str = TEXT) -> None:
        async def follow() -> None:
            await self.lists.prepare(self.config(text), 2.0)
            self.lists.configure(self.config(text))

        self.loop.run_until_complete(follow())
        self.loop.settle()

    def write(self, text: str | bytes) -> None:
        """As programs do that know how: another file takes the name."""
        fresh = self.home / "fresh"
        fresh.write_bytes(text if isinstance(text, bytes) else text.encode())
        fresh.replace(self.file)

    def wait(self) -> None:
        self.loop.turn(4 * LOOK_SECONDS)

    def ids(self, text: str = TEXT) -> list[str]:
        found = compile_snapshot(self.lists.expand(self.config(text)), 1)
        return [one.id.removeprefix("m/") for model in found.models for one in model.instances]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.loop.shut()
    assert not made.loop.failures


OWN = "10.0.0.9:8000"
KEPT = "the 1 instances that it had are used on"


def test_instances_come_and_go_as_the_file_says(scene: Scene) -> None:
    scene.write("- http://10.0.0.1:1\n- {url: http://10.0.0.2:1, weight: 5, engine: ollama}\n")
    scene.follow()
    assert scene.ids() == [OWN, "10.0.0.1:1", "10.0.0.2:1"]
    _, _, one, two = scene.lists.expand(scene.config()).models["m"].instances
    assert (one.engine, one.weight, one.file, two.engine, two.weight) == ("vllm", 3, None, "ollama", 5)
    assert [scene.lists.source(f"m/{id}") for id in scene.ids()] == [None, "file:a.yaml", "file:a.yaml"]
    assert repr(scene.lists) == f"<Lists: {scene.file} 2>"
    changes = scene.changes
    scene.wait()
    assert scene.changes == changes, "nothing changed"
    scene.write("- http://10.0.0.2:1\n- http://10.0.0.3:1\n")
    scene.wait()
    assert scene.changes == changes + 1
    assert scene.ids() == [OWN, "10.0.0.2:1", "10.0.0.3:1"]
    scene.write("[]")
    scene.wait()
    assert scene.ids() == [OWN]
    assert (scene.said, scene.lists.troubles) == ([], [])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "DIR/a.yaml: there is no such file"),
        ("", "DIR/a.yaml:1:1: the file is empty (write - http://10.0.0.5:8000, or [] for none)"),
        ("- http://10.0.0.1:1\n- http://10.", "DIR/a.yaml:2:1: the last line has no end (is it being written? "),
        (b"\xff\n", "DIR/a.yaml: it is not UTF-8 text: byte 0xff"),
        ("- http://169.254.169.254\n", "DIR/a.yaml:1:3: [0]: 'http://169.254.169.254' is where no instance may be"),
        ("- {url: x, weight: no}\n", "DIR/a.yaml:1:9: [0].url: 'x' has no scheme"),
    ],
)
def test_the_last_good_list_stays(scene: Scene, text: str | bytes | None, why: str) -> None:
    scene.write("- http://10.0.0.1:1\n")
    scene.follow()
    if text is None:
        scene.file.unlink()
    else:
        scene.write(text)
    scene.wait()
    assert scene.ids() == [OWN, "10.0.0.1:1"]
    (said,) = scene.said
    assert said.startswith(why)
    assert said.endswith(f"; {KEPT}")
    assert [trouble.replace(str(scene.home), "DIR") for trouble in scene.lists.troubles] == [said]
    scene.wait()
    assert len(scene.said) == 1, "it is said once"

    other = scene.opened()  # the next control process
    scene.life.cancel()
    scene.lists = other
    scene.life = scene.loop.create_task(other.run())
    changes = scene.changes
    scene.follow()
    assert scene.changes == changes + 1, "whoever publishes is told what it knows from before"
    assert scene.ids() == [OWN, "10.0.0.1:1"]
    assert scene.said[1:] == [said]
    scene.write("- http://10.0.0.2:1\n")
    scene.wait()
    assert scene.ids() == [OWN, "10.0.0.2:1"]
    assert scene.said[2:] == ["DIR/a.yaml: all is well again, 1 instances"]
    assert scene.lists.troubles == []


def test_a_file_that_comes_later(scene: Scene) -> None:
    scene.follow()
    assert scene.ids() == [OWN]
    assert scene.said == ["DIR/a.yaml: there is no such file; it has no instances"]
    scene.write("- http://10.0.0.1:1\n")
    scene.wait()
    assert scene.ids() == [OWN, "10.0.0.1:1"]


def test_several_faults_are_counted(scene: Scene) -> None:
    scene.write("- {url: x, weight: no}\n- y\n")
    scene.follow()
    (said,) = scene.said
    assert said.startswith("DIR/a.yaml:1:9: [0].url: 'x' has no scheme (write http:// or https:// in front) and 2 more; ")


def test_half_written(scene: Scene) -> None:
    """A writer who writes into the file itself: what it has so far would be a list too, and is not taken for one."""
    scene.write("- http://10.0.0.1:1\n- http://10.0.0.2:1\n")
    scene.follow()
    parts = ["- http://10.0.0.3:1\n", "- http://10.0.0.4:1\n", "- http://10.0.0.5:1\n"]
    with scene.file.open("w") as file:
        for part in parts:
            file.write(part)
            file.flush()
            scene.loop.turn(LOOK_SECONDS)
            assert scene.ids() == [OWN, "10.0.0.1:1", "10.0.0.2:1"]
    scene.wait()
    assert scene.ids() == [OWN, "10.0.0.3:1", "10.0.0.4:1", "10.0.0.5:1"]
    assert scene.said == []


def test_a_file_that_never_stands_still(scene: Scene) -> None:
    """It is read now and then all the same; not while it is being written."""
    scene.write("- http://10.0.0.1:1\n")
    scene.follow()
    for number in range(RESTLESS + 2):
        scene.write(f"- http://10.0.1.{number}:1\n")
        scene.loop.turn(LOOK_SECONDS)
    assert scene.ids() == [OWN, f"10.0.1.{RESTLESS}:1"]


def test_written_while_it_is_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.write("- http://10.0.0.1:1\n")
    reads = 0

    def restless(_: Path) -> Read | None:
        nonlocal reads
        reads += 1
        return None

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_file", restless)
        scene.follow()
    assert reads == 3
    assert scene.said == ["DIR/a.yaml: it is being written; it has no instances"]
    scene.write("- http://10.0.0.2:1\n")
    scene.wait()
    assert scene.ids() == [OWN, "10.0.0.2:1"]


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_no_more_than_may_be(scene: Scene, count: int) -> None:
    """Of more, those that were there first stay."""
    scene.write("".join(f"- http://10.0.0.{n}:1\n" for n in range(count)) or "[]")
    scene.follow()
    assert scene.ids() == [OWN, *(f"10.0.0.{n}:1" for n in range(min(count, 3)))]
    told = ["DIR/a.yaml: 4 instances, of which 3 are used (max_addresses)"]
    assert scene.said == (told if count > 3 else [])
    if count == 3:
        scene.write("".join(f"- http://10.0.0.{n}:1\n" for n in (7, 2, 1, 8)))
        scene.wait()
        assert scene.ids() == [OWN, "10.0.0.1:1", "10.0.0.2:1", "10.0.0.7:1"]
        assert scene.said == told


def test_rules_that_change(scene: Scene) -> None:
    """What was allowed is not any more, and the other way round; nothing is used meanwhile that may not be."""
    allowing = TEXT.replace("{max", "{loopback: true, max")
    scene.write("- http://127.0.0.1:1\n- http://10.0.0.1:1\n")
    scene.follow(allowing)
    assert scene.ids(allowing) == [OWN, "127.0.0.1:1", "10.0.0.1:1"]
    assert scene.ids() == [OWN, "10.0.0.1:1"]
    scene.follow()
    assert "is this machine itself" in scene.said[-1]
    assert scene.ids() == [OWN, "10.0.0.1:1"]
    scene.follow(allowing)
    assert scene.ids(allowing) == [OWN, "127.0.0.1:1", "10.0.0.1:1"]
    gate = allowing + 'listen: [{address: "10.0.0.1:1"}]\n'
    scene.follow(gate)
    assert "is the gate itself" in scene.said[-1]
    assert scene.ids(gate) == [OWN, "127.0.0.1:1"]


def test_names_and_what_is_there_already(scene: Scene) -> None:
    """A name in a list becomes one that discovery follows; what stands in the configuration itself stands there."""
    scene.write(f"- http://vllm.svc:8000\n- https://secure.svc\n- http://{OWN}\n")
    scene.follow()
    made = scene.lists.listed(scene.config()).models["m"].instances
    assert [(one.dns, one.port, one.weight) for one in made if one.dns] == [("vllm.svc", 8000, 3)]
    assert scene.ids() == [OWN, "secure.svc:443"]
    assert scene.lists.source(f"m/{OWN}") is None


BOTH = """
models:
  m: {instances: [{file: a.yaml}]}
  n: {instances: [{file: a.yaml, weight: 2}, {file: b.yaml}]}
"""


def test_which_files(scene: Scene) -> None:
    """Of several models and files; what is not named any more is not followed, and forgotten."""
    scene.write("- http://10.0.0.1:1\n")
    (scene.home / "b.yaml").write_text("- http://10.0.0.2:1\n")
    scene.follow(BOTH)
    assert scene.ids(BOTH) == ["10.0.0.1:1", "n/10.0.0.1:1", "n/10.0.0.2:1"]
    assert (scene.home / "listed.json").stat().st_mode & 0o777 == 0o600
    scene.follow()
    assert b"b.yaml" not in (scene.home / "listed.json").read_bytes()
    assert scene.ids() == [OWN, "10.0.0.1:1"]
    scene.follow('models: {m: {instances: [{url: "http://10.0.0.9:8000"}]}}')
    assert repr(scene.lists) == "<Lists: no files>"
    assert (scene.home / "listed.json").read_bytes() == b"{}"
    scene.wait()
    assert scene.said == []


def test_one_that_is_followed_no_more_while_it_is_read(scene: Scene) -> None:
    scene.write("- http://10.0.0.1:1\n")
    scene.follow()
    one = scene.lists._files[scene.file]
    scene.write("- http://10.0.0.2:1\n")
    scene.lists.configure(scene.config('models: {m: {instances: [{url: "http://10.0.0.9:8000"}]}}'))
    changes = scene.changes
    scene.loop.run_until_complete(scene.lists._read(one))
    scene.loop.settle()
    assert (scene.changes, [str(entry.url) for entry in one.entries]) == (changes, ["http://10.0.0.1:1"])


def test_rules_that_change_while_it_is_read(scene: Scene) -> None:
    """What was read by the old ones does not count; it is read again."""
    scene.write("- http://127.0.0.1:1\n")
    allowing = scene.config(TEXT.replace("{max", "{loopback: true, max"))
    turn, inner = [lambda: scene.lists.configure(allowing)], scene.lists._aside

    async def aside(work: Callable[..., Any], *given: Any) -> Any:
        told = await inner(work, *given)
        if turn:
            turn.pop()()
        return told

    scene.lists._aside = aside
    scene.loop.run_until_complete(scene.lists.prepare(scene.config(), 2.0))
    assert scene.said == []
    scene.wait()
    assert scene.ids(TEXT.replace("{max", "{loopback: true, max")) == [OWN, "127.0.0.1:1"]


@pytest.mark.parametrize("kept", [b"", b"[1]", b"{", b'{"\xff": 1}', b'{"DIR/a.yaml": "- http://169.254.169.254\\n"}'])
def test_what_is_kept_may_be_bad_itself(scene: Scene, kept: bytes) -> None:
    (scene.home / "listed.json").write_bytes(kept.replace(b"DIR", str(scene.home).encode()))
    scene.lists = scene.opened()
    scene.follow()
    assert scene.ids() == [OWN]


def test_a_state_directory_that_cannot_be_written(scene: Scene) -> None:
    (scene.home / "listed.new").mkdir()
    scene.write("- http://10.0.0.1:1\n")
    scene.follow()
    assert scene.ids() == [OWN, "10.0.0.1:1"]


def test_a_look_that_fails_is_not_the_last(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.write("- http://10.0.0.1:1\n")
    scene.follow()

    def fails(_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(module, "stamps", fails)
        scene.loop.turn(LOOK_SECONDS)
    assert scene.said == ["files of instances could not be looked at (RuntimeError)"]
    scene.write("- http://10.0.0.2:1\n")
    scene.wait()
    assert scene.ids() == [OWN, "10.0.0.2:1"]


def test_what_slmgate_check_finds(scene: Scene) -> None:
    assert list_faults(scene.config()) == (), "one that is not there may come"
    scene.write("- http://10.0.0.1:1\n")
    assert list_faults(scene.config()) == ()
    scene.write("- x\n- y\n")
    assert [fault.line for fault in list_faults(scene.config())] == [1, 2]
    scene.file.unlink()
    os.mkfifo(scene.file)
    (fault,) = list_faults(scene.config())
    assert str(fault).replace(str(scene.home), "DIR") == "DIR/a.yaml: it is not a regular file"
