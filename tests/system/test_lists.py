"""Files of instances, as another program writes them while the gate serves: no request fails, no stream is cut.

Real processes throughout; the mocks' journals say who was asked. Files are replaced, written in place, taken away and spoiled.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Launch
from tests.system.test_instances import CHECKED, PLAIN, admin, change, named, rows, slmgate
from tests.tools.gate import SECRET, Gate, eventually, get
from tests.tools.load import RATE, Background, Loader
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, ask, chat, request

LOCAL = {"loopback": True, "refresh": "500ms"}


def write(path: Path, *entries: object) -> None:
    """Another file takes the name at once."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(entries) if path.suffix == ".json" else "".join(f"- {json.dumps(each)}\n" for each in entries))
    fresh.replace(path)


def started(launch: Launch, home: Path, *entries: object, **options: Any) -> tuple[Gate, Path]:
    """A gate with one model, whose file has these entries when it starts."""
    file = home / "instances.yaml"
    write(file, *entries)
    return launch({"tiny": {"instances": [{"file": str(file)}]}}, discovery=LOCAL, **options), file


def notes(gate: Gate) -> list[str]:
    found: list[str] = admin(gate, "GET", "/api/v1/status")["notes"]
    return found


def noted(gate: Gate, beginning: str) -> str:
    """The note that begins so."""
    return eventually(lambda: next((note for note in notes(gate) if note.startswith(beginning)), ""), 5, beginning, 0.1)


def test_a_list_that_changes_under_load(launch: Launch, upstream: MockUpstream, second: MockUpstream, tmp_path: Path) -> None:
    """Instances come and go with the list within seconds; streams at one that is gone end whole, a drain is not inherited."""
    gate, file = started(launch, tmp_path, upstream.url, workers=2)
    assert ask(gate.port, PLAIN).status == 200, "what a file lists is there when the gate is"
    loader = Loader(gate.port, SECRET, seed=91)
    with Background(loader.run(RATE, 7)), Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, events=120, rate=20), secret=SECRET))
        assert wire.event()
        write(file, upstream.url, {"url": second.url, "weight": 2})
        eventually(second.journal, 4, "the new instance is asked", 0.1)
        eventually(lambda: rows(gate)[named(second)]["check"] == CHECKED, 5, "the new instance is checked", 0.1)
        change(gate, "drain", named(upstream))
        write(file, second.url)
        eventually(lambda: rows(gate).get(named(upstream), {}).get("source") == "removed", 5, "the old one is gone", 0.1)
        upstream.clear()
        event: bytes | None = b"-"
        while event is not None and b"[DONE]" not in event:
            event = wire.event()
        assert event is not None, "a live stream was cut"
    assert upstream.journal() == [], "a request went to an instance that is not in the list any more"
    assert not loader.bad(), loader.told()
    assert rows(gate)[named(second)]["source"] == "file:instances.yaml"
    write(file, upstream.url, second.url)
    eventually(lambda: named(upstream) in rows(gate), 5, "it is back", 0.1)
    assert not rows(gate)[named(upstream)]["draining"], "whoever has the address now was not drained"
    change(gate, "drain", named(second))
    os.kill(gate.control(), signal.SIGKILL)
    eventually(lambda: get(gate.admin, "/readyz") == 200, 10, "control is back")
    assert [rows(gate)[named(one)]["draining"] for one in (upstream, second)] == [False, True]
    assert "is there because of file:instances.yaml" in change(gate, "remove", named(second))["detail"]


def test_a_list_that_is_spoiled(launch: Launch, upstream: MockUpstream, second: MockUpstream, tmp_path: Path) -> None:
    """Absent, half written, bad: the last good list stays, under load, over control's death and a restart of the gate."""
    gate, file = started(launch, tmp_path, upstream.url, workers=1)
    kept = "; the 1 instances that it had are used on"
    loader = Loader(gate.port, SECRET, seed=92)
    with Background(loader.run(RATE, 12)):
        for spoil, said in (
            (None, f"{file}: there is no such file"),
            ("- http://127.0.0.1:9\n- http://127.", f"{file}:2:1: the last line has no end"),
            ("- {url: http://127.0.0.1:9, wieght: 2}\n", f"{file}:1:29: [0]: unknown option 'wieght' (did you mean weight?)"),
            ("- http://169.254.169.254\n", f"{file}:1:3: [0]: 'http://169.254.169.254' is where no instance may be"),
            (f"- http://127.0.0.1:{gate.port}\n", f"{file}:1:3: [0]: 'http://127.0.0.1:{gate.port}' is the gate itself"),
            ("\0" * 9, f"{file}:"),
        ):
            if spoil is None:
                file.unlink()
            else:
                file.write_text(spoil)
            told = noted(gate, said)
            assert told.endswith(kept)
            assert told in gate.text()
            assert list(rows(gate)) == [named(upstream)]
    assert not loader.bad(), loader.told()
    assert notes(gate)[0] in slmgate(gate, "list")
    assert get(gate.admin, "/readyz") == 200

    os.kill(gate.control(), signal.SIGKILL)
    eventually(lambda: get(gate.admin, "/readyz") == 200, 10, "control is back, and knows the list")
    assert [ask(gate.port, PLAIN).status for _ in range(4)] == [200] * 4
    gate.terminate()
    gate.start()
    assert [ask(gate.port, PLAIN).status for _ in range(4)] == [200] * 4
    assert notes(gate)
    write(file, second.url)
    eventually(lambda: list(rows(gate)) == [named(second)], 5, "a good list is taken", 0.1)
    assert notes(gate) == []
    assert f"{file}: all is well again, 1 instances" in gate.text()


def test_written_in_place(launch: Launch, upstream: MockUpstream, second: MockUpstream, tmp_path: Path) -> None:
    """Bit by bit into the file itself: no half of it is ever in force."""
    gate, file = started(launch, tmp_path, upstream.url, second.url, workers=1)
    loader = Loader(gate.port, SECRET, seed=93)
    seen: set[tuple[str, ...]] = set()
    with Background(loader.run(RATE, 4)):
        for _ in range(5):
            with file.open("w") as out:
                for entry in (second.url, upstream.url):
                    out.write(f"- {entry}\n")
                    out.flush()
                    seen.add(tuple(sorted(rows(gate))))
        eventually(lambda: [one["id"] for one in admin(gate, "GET", "/api/v1/instances")], 3, "it answers")
        seen.add(tuple(sorted(rows(gate))))
    assert not loader.bad(), loader.told()
    assert seen == {tuple(sorted((named(upstream), named(second))))}


def test_beside_the_configuration(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """A relative path counts from the configuration file. A file that is not there keeps no gate from starting, nor a reload
    from being taken; names in it are followed."""
    gate = launch({"tiny": {"instances": [{"file": "sub/instances.json"}]}}, discovery=LOCAL, workers=1, wait=False)
    file = gate.home / "sub" / "instances.json"
    eventually(lambda: get(gate.admin, "/healthz") == 200, 20, "it starts", 0.1)
    assert (get(gate.admin, "/readyz"), rows(gate)) == (503, {})
    assert notes(gate) == [f"{file}: there is no such file; it has no instances"]
    assert admin(gate, "GET", "/readyz")["notes"] == 1, "how much is wrong, but to strangers not what"
    assert ask(gate.port, PLAIN).status == 503
    file.parent.mkdir()
    write(file, upstream.url)
    eventually(lambda: get(gate.admin, "/readyz") == 200, 5, "the file is found", 0.1)
    assert ask(gate.port, PLAIN).status == 200
    assert admin(gate, "POST", "/api/v1/reload") == {"applied": True, "faults": []}
    other = gate.home / "other.json"
    write(other, f"http://localhost:{second.port}")
    gate.write(models={"tiny": {"instances": [{"file": "other.json", "weight": 3}]}})
    eventually(lambda: list(rows(gate)) and named(upstream) not in rows(gate), 5, "the other file is followed", 0.1)
    assert rows(gate)[named(second)]["source"] == "dns:localhost"
    assert [ask(gate.port, PLAIN).status for _ in range(4)] == [200] * 4
    assert second.journal()
    write(other, upstream.url)
    eventually(lambda: list(rows(gate)) == [named(upstream)], 5, "the name is not followed any more", 0.1)
    assert [ask(gate.port, PLAIN).status for _ in range(4)] == [200] * 4


@pytest.mark.parametrize("loopback", [False, True])
def test_this_machine_itself(launch: Launch, upstream: MockUpstream, tmp_path: Path, loopback: bool) -> None:
    """Only where the configuration says so; a name for it is no way around."""
    file = tmp_path / "instances.yaml"
    write(file, upstream.url.replace("127.0.0.1", "localhost"))
    models = {"tiny": {"instances": [{"file": str(file)}]}}
    gate = launch(models, discovery={**LOCAL, "loopback": loopback}, workers=1, wait=False)
    eventually(lambda: get(gate.admin, "/healthz") == 200, 20, "it starts", 0.1)
    if loopback:
        eventually(lambda: ask(gate.port, PLAIN).status == 200, 5, "it is an instance", 0.1)
    else:
        assert rows(gate) == {}
        assert any("none of its addresses may be an instance" in note for note in notes(gate))
        assert ask(gate.port, PLAIN).status == 503
    write(file, upstream.url)
    if loopback:
        eventually(lambda: rows(gate).get(named(upstream), {}).get("source") == "file:instances.yaml", 5, "by its address", 0.1)
    else:
        eventually(lambda: any("is this machine itself" in note for note in notes(gate)), 5, "an address is none either", 0.1)
        assert (rows(gate), upstream.journal()) == ({}, [])
