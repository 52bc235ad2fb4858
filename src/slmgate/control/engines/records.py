"""What is written down of engines that run: one small file and one lock for each, so that none runs twice and none is forgotten.

A keeper holds the lock for as long as it lives, and writes the record; control reads it, after its own restart too. Every
process of an engine carries its mark in its environment, by which those are found whose keeper was killed. Of the rest of slmgate
it knows nothing and imports nothing: keepers are to be small.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

MARK = "SLMGATE_ENGINE"
"""The variable that each process of an engine has; its value is of one run."""
GATE = "gate"
_ENDED = ("Z", "X", "x")
"""States of a process that is none any more (proc(5))."""
_SWEEPS = 50
_SWEEP_SECONDS = 0.02


def record_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def lock_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def take_lock(folder: Path, name: str) -> int | None:
    """Become the one keeper of this engine; None: there is one. The lock ends with the process. Raises OSError."""
    lock = os.open(lock_path(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def is_kept(folder: Path, name: str) -> bool:
    """Whether a keeper of this engine lives."""
    try:
        lock = os.open(lock_path(folder, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
    return False


def write(path: Path, record: dict[str, Any]) -> None:
    """Replace a record as a whole. Raises OSError."""
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump(record, file)
    fresh.replace(path)


def read(path: Path) -> dict[str, Any]:
    """A record; empty where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def names(folder: Path) -> list[str]:
    """The engines of which there is a record."""
    try:
        return sorted(path.stem for path in folder.iterdir() if path.suffix == ".json")
    except OSError:
        return []


# -- processes


def born(pid: int) -> int:
    """When a process began, in the kernel's count: with its id it is that process and no other. 0: there is none, or it has ended
    and only waits for its parent to see that."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return 0 if words[0] in _ENDED else int(words[19])
    except (OSError, ValueError, IndexError):
        return 0


def note_gate(folder: Path, pid: int) -> None:
    """Whose engines these are from now on: the supervisor with this process id. Raises OSError."""
    noted = read(folder / GATE)
    before = [[noted.get("pid"), noted.get("born")], *_before(noted)]
    write(folder / GATE, {"pid": pid, "born": born(pid), "before": [one for one in before if _lives(one) and one[0] != pid]})


def gate(folder: Path) -> int:
    """The process id of the supervisor whose engines these are; 0: it is gone."""
    noted = read(folder / GATE)
    pid = noted.get("pid")
    return pid if isinstance(pid, int) and _lives([pid, noted.get("born")]) else 0


def gate_before(folder: Path) -> bool:
    """Whether one that had them before is there still: its workers may have requests at them."""
    return any(map(_lives, _before(read(folder / GATE))))


def _before(noted: dict[str, Any]) -> list[Any]:
    before = noted.get("before")
    return before if isinstance(before, list) else []


def _lives(one: Any) -> bool:
    """Whether there is the process that `one` tells of: its id, and when it began."""
    match one:
        case [int(pid), int(since)] if since:
            return born(pid) == since
    return False


def marked(mark: str) -> list[int]:
    """The living processes of one run of an engine."""
    wanted = f"{MARK}={mark}".encode()
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.append(int(entry))
    return found


def sweep(mark: str) -> int:
    """Kill what is left of one run of an engine. Returns how many processes that were."""
    killed: set[int] = set()
    for _ in range(_SWEEPS):  # one may be giving birth to another
        there = marked(mark)
        if not there:
            break
        for pid in there:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(_SWEEP_SECONDS)  # a killed process is not gone at once, and may have had children meanwhile
    return len(killed)
