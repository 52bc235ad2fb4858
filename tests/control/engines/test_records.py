"""Records and locks of engines as files; which processes are of an engine is shown by this one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from slmgate.control.engines import records


def test_one_keeper_at_a_time(tmp_path: Path) -> None:
    assert not records.is_kept(tmp_path, "a")
    lock = records.take_lock(tmp_path, "a")
    assert lock is not None
    assert records.take_lock(tmp_path, "a") is None
    assert records.is_kept(tmp_path, "a") and not records.is_kept(tmp_path, "b")
    os.close(lock)
    assert not records.is_kept(tmp_path, "a")


def test_records(tmp_path: Path) -> None:
    path = records.record_path(tmp_path, "a")
    assert records.read(path) == {} and records.names(tmp_path / "none") == []
    records.write(path, {"pid": 7})
    assert records.read(path) == {"pid": 7}
    assert path.stat().st_mode & 0o777 == 0o600
    records.take_lock(tmp_path, "a")
    records.write(records.record_path(tmp_path, "B"), {})
    assert records.names(tmp_path) == ["B", "a"]
    for text in ("{", "[]", "7"):
        path.write_text(text)
        assert records.read(path) == {}


def test_whose_engines_they_are(tmp_path: Path) -> None:
    assert records.gate(tmp_path) == 0
    records.note_gate(tmp_path, os.getpid())
    assert records.gate(tmp_path) == os.getpid()
    assert records.names(tmp_path) == []
    records.write(tmp_path / records.GATE, {"pid": os.getpid(), "born": 1})  # another one had this number
    assert records.gate(tmp_path) == 0
    records.write(tmp_path / records.GATE, {"pid": "x"})
    assert records.gate(tmp_path) == 0


def test_the_gates_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count for as long as they live, over restarts of control too."""
    alive = {7: 70, 8: 80, 9: 90}
    monkeypatch.setattr(records, "born", lambda pid: alive.get(pid, 0))
    records.note_gate(tmp_path, 7)
    assert not records.gate_before(tmp_path)
    for gate in (8, 8, 9):
        records.note_gate(tmp_path, gate)
        assert records.gate_before(tmp_path) and records.gate(tmp_path) == gate
    del alive[8]
    assert records.gate_before(tmp_path), "the first one is slower"
    alive[7] = 71
    assert not records.gate_before(tmp_path), "another process has its number"
    records.note_gate(tmp_path, 9)
    assert records.read(tmp_path / records.GATE)["before"] == []
    for before in ("x", [7], [[7, 0]], [["7", 71]], None):
        records.write(tmp_path / records.GATE, {"pid": 9, "born": 90, "before": before})
        assert not records.gate_before(tmp_path)


def test_when_a_process_began() -> None:
    assert records.born(os.getpid()) > 0
    assert records.born(2**22 + 1) == 0


def test_one_that_nobody_has_waited_for_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "7 (a) b) {} " + " ".join(map(str, range(4, 30)))
    for state, born in (("S", 22), ("T", 22), ("Z", 0), ("X", 0)):
        monkeypatch.setattr(Path, "read_text", lambda *_, state=state, **__: text.format(state))
        assert records.born(7) == born


def test_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = Path("/proc/self/environ").read_bytes().split(b"\0")
    name, _, value = environ[0].decode(errors="replace").partition("=")
    monkeypatch.setattr(records, "MARK", name)
    there = ["self", str(os.getpid()), "4194305"]
    monkeypatch.setattr(os, "listdir", lambda _: there)
    assert records.marked(value) == [], "not itself, and none that is gone"
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert len(records.marked(value)) == 1
    assert records.marked(value + "x") == []


def test_sweeping_until_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    there, killed = [[7, 8], [9], []], []
    monkeypatch.setattr(records, "marked", lambda _: there.pop(0))
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert records.sweep("mark") == 3
    assert killed == [7, 8, 9]
