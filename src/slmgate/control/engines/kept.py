"""An engine that runs, or did, as control has hold of it: through its keeper's process and record.

Started here or found after a restart: both are the same to whoever asks. It decides nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from slmgate.control.engines import records
from slmgate.control.engines.plan import Plan


class Held(Protocol):
    """One run of an engine."""

    @property
    def id(self) -> str: ...

    @property
    def port(self) -> int: ...

    def alive(self) -> bool:
        """Whether its keeper lives: as long as that is so, something of it may run."""
        ...

    def pid(self) -> int:
        """Of its first process; 0: not known."""
        ...

    def up(self) -> bool:
        """Whether it was said to be ready."""
        ...

    def stopping(self) -> bool:
        """Whether it is being ended already."""
        ...

    def ended(self) -> str:
        """How it ended, in words. Called once it has: nothing of it is left then."""
        ...

    def ready(self) -> None:
        """Say that it is ready."""
        ...

    def stop(self) -> None:
        """Have it end."""
        ...

    def kill(self) -> None:
        """End it by force, with its keeper."""
        ...

    def on_end(self, call: Callable[[], None]) -> None:
        """Call so once when it has ended, on the event loop."""
        ...


def name_of(id: str) -> str:
    """What an engine's files are called."""
    return blake2b(id.encode(), digest_size=8).hexdigest()


class Kept:
    """A keeper, by its process id."""

    def __init__(self, folder: Path, id: str, pid: int, port: int, child: subprocess.Popen[bytes] | None) -> None:
        """`child`: it is this process's own. Raises OSError where there is no such process."""
        self.id = id
        self.port = port
        self._path = records.record_path(folder, name_of(id))
        self._keeper = pid
        self._child = child
        self._pidfd = os.pidfd_open(pid)
        self._over = False

    def __repr__(self) -> str:
        return f"<Kept {self.id}: {'alive' if self.alive() else 'over'}>"

    def alive(self) -> bool:
        if not self._over:
            if self._child is not None:
                self._over = self._child.poll() is not None
            else:
                try:
                    signal.pidfd_send_signal(self._pidfd, 0)
                except OSError:
                    self._over = True
        return not self._over

    def _record(self) -> dict[str, Any]:
        record = records.read(self._path)
        return record if record.get("keeper") == self._keeper else {}

    def pid(self) -> int:
        return int(self._record().get("pid") or 0)

    def up(self) -> bool:
        return bool(self._record().get("up"))

    def stopping(self) -> bool:
        return bool(self._record().get("stopping"))

    def ended(self) -> str:
        record = self._record()
        if "ended" not in record and record.get("mark"):
            records.sweep(str(record["mark"]))  # the kernel has killed the engine, but not what that had started
        return str(record.get("ended") or "its keeper was killed")

    def _signal(self, number: int) -> None:
        if self.alive():
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, number)

    def ready(self) -> None:
        self._signal(signal.SIGUSR1)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def on_end(self, call: Callable[[], None]) -> None:
        import asyncio  # the only place that knows of a loop

        loop = asyncio.get_running_loop()

        def over() -> None:
            loop.remove_reader(self._pidfd)
            if self._child is not None:
                self._child.wait()  # it has ended
            self._over = True
            os.close(self._pidfd)
            call()

        loop.add_reader(self._pidfd, over)


class Keepers:
    """Starts engines, and finds those that run already."""

    def __init__(self, folder: Path, gate: int) -> None:
        """`gate` is the process id of the supervisor. Raises OSError."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._gate = gate
        records.note_gate(folder, gate)

    def ours(self) -> bool:
        """Whether no other gate has taken the engines over."""
        return records.gate(self._folder) == self._gate

    def shared(self) -> bool:
        """Whether a gate that had them before is still ending its work at them."""
        return records.gate_before(self._folder)

    def launch(self, plan: Plan, port: int, linger: float) -> Kept:
        """Start an engine; how that goes is seen by what is returned. Raises OSError."""
        orders = {
            "id": plan.id,
            "name": name_of(plan.id),
            "folder": str(self._folder),
            "command": plan.command(port),
            "env": plan.environment(port),
            "directory": plan.directory,
            "port": port,
            "stop_within": plan.stop_within,
            "linger": linger,
            "gate": self._gate,
            "output": plan.output,
        }
        child = subprocess.Popen(
            [sys.executable, "-m", "slmgate.control.engines.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # control's own is the access log
            start_new_session=True,
        )
        assert child.stdin is not None
        with contextlib.suppress(OSError):  # it has ended already: that is seen later
            child.stdin.write(json.dumps(orders).encode())
            child.stdin.close()
        return Kept(self._folder, plan.id, child.pid, port, child)

    def find(self) -> list[Kept]:
        """The engines that run already, and remove what is left of those that do not."""
        found: list[Kept] = []
        for name in records.names(self._folder):
            record = records.read(records.record_path(self._folder, name))
            try:
                id, keeper, port, mark = str(record["id"]), int(record["keeper"]), int(record["port"]), str(record["mark"])
            except (KeyError, TypeError, ValueError):
                continue
            if name != name_of(id):
                continue
            if records.is_kept(self._folder, name):
                with contextlib.suppress(OSError):
                    found.append(Kept(self._folder, id, keeper, port, None))
            else:
                records.sweep(mark)
                with contextlib.suppress(OSError):
                    records.record_path(self._folder, name).unlink()
        return found
