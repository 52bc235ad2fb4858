"""The keeper of one engine: a small process that starts it, reads what it prints, ends it, and never leaves it behind.

It is started by control and outlives it, so that a new control process finds the engine as it is. It ends its engine when it is
told to (SIGTERM), and when the gate is gone; the engine ends with it when it is killed itself. Its orders come on standard input,
since they may hold secrets. It knows no request, and of slmgate only where records lie and how lines are told: it is to be small.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from slmgate.control.engines import records
from slmgate.control.engines.lines import Lines

TAKEN = 3
"""Exit code: another keeper has this engine."""
STEP = 0.25
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ATOMIC = 4096
"""Bytes that a pipe which can be written to takes without making one wait (pipe(7))."""


def _dies_with(parent: int) -> None:
    """In the engine's process, before it is the engine: end when the keeper does, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class Keeper:
    """`run` returns when the engine has ended, with all that it started."""

    def __init__(self, orders: dict[str, Any]) -> None:
        """`orders`: `id`, `name` (of its files), `folder`, `command`, `env`, `directory`, `port`, `stop_within`, `linger`
        (seconds that it outlives its gate), `gate` (the supervisor's process id), `output`."""
        self._orders = orders
        self._folder = Path(orders["folder"])
        self._path = records.record_path(self._folder, orders["name"])
        self._mark = secrets.token_hex(8)
        self._record: dict[str, Any] = {
            "id": orders["id"],
            "keeper": os.getpid(),
            "pid": 0,
            "port": orders["port"],
            "mark": self._mark,
            "up": False,
            "stopping": False,
        }
        self._lines = Lines()
        self._tells = orders["output"] != "none"
        self._asked_to_stop = False
        self._stop_by = 0.0  # when it is killed; 0: it is not being ended
        self._gone_at = 0.0  # when the gate was seen to be gone; 0: it is there
        self._gate = int(orders["gate"])
        self._gate_born = records.born(self._gate)

    def run(self) -> int:
        """Until the engine has ended. The exit code."""
        before = records.read(self._path).get("mark")
        if isinstance(before, str) and before:
            records.sweep(before)  # its keeper was killed
        records.write(self._path, self._record)
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        wake, wake_end = os.pipe()
        for end in (wake, wake_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # the wake-up byte tells which; ignored ones the engine would ignore as well
        output, output_end = os.pipe()
        os.set_blocking(output, False)
        me = os.getpid()
        try:
            engine = subprocess.Popen(
                self._orders["command"],
                cwd=self._orders["directory"],
                env={**self._orders["env"], records.MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=output_end,
                stderr=output_end,
                start_new_session=True,
                preexec_fn=lambda: _dies_with(me),
            )
        except OSError as error:
            self._note(ended=f"it cannot be started: {error.strerror}")
            return 1
        os.close(output_end)
        self._note(pid=engine.pid)
        try:
            code = self._watch(engine, wake, output)
        finally:
            if engine.returncode is None:
                _signal_group(engine.pid, signal.SIGKILL)
                engine.wait()
            self._end_the_rest()
        self._read(output)
        self._say(self._lines.close())
        self._note(ended="it was stopped" if self._stop_by else _told(code))
        return 0

    # -- while it runs

    def _watch(self, engine: subprocess.Popen[bytes], wake: int, output: int) -> int:
        """Returns its exit code, once it has ended."""
        pidfd = os.pidfd_open(engine.pid)
        poll = select.poll()
        for one in (pidfd, wake, output):
            poll.register(one, select.POLLIN)
        while True:
            ready = {one for one, _ in poll.poll(STEP * 1000)}
            if wake in ready:  # first: what it prints after it was said to be ready is not told
                self._signalled(os.read(wake, 64))
            if output in ready and not self._read(output):
                poll.unregister(output)
            if pidfd in ready:  # its group ends with it, killed before it is waited for: until then the id is its own
                _signal_group(engine.pid, signal.SIGKILL)
                return engine.wait()
            self._look(engine.pid, time.monotonic())

    def _signalled(self, numbers: bytes) -> None:
        if signal.SIGUSR1 in numbers and not self._record["up"]:
            self._tells = self._orders["output"] == "all"
            self._note(up=True)
        if signal.SIGTERM in numbers:
            self._asked_to_stop = True

    def _look(self, pid: int, now: float) -> None:
        """End it when that was asked for, or when the gate is gone and none has taken its place; kill it when it does not end."""
        if records.born(self._gate) == self._gate_born:
            self._gone_at = 0.0
        else:
            other = records.gate(self._folder)
            if other:
                self._gate, self._gate_born, self._gone_at = other, records.born(other), 0.0
            else:
                self._gone_at = self._gone_at or now
        gone = self._gone_at and now - self._gone_at >= self._orders["linger"]
        if not self._stop_by and (self._asked_to_stop or gone):
            self._stop_by = now + self._orders["stop_within"]
            self._note(stopping=True)
            _signal_group(pid, signal.SIGTERM)
        elif self._stop_by and now >= self._stop_by:
            _signal_group(pid, signal.SIGKILL)

    def _end_the_rest(self) -> None:
        """End what has left the engine's process group."""
        records.sweep(self._mark)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    # -- what is told

    def _read(self, output: int) -> bool:
        """Take what it has printed. False: that was the end."""
        try:
            data = os.read(output, 65536)
        except BlockingIOError:
            return True
        if self._tells:
            self._say(self._lines.feed(data, time.monotonic()))
        return bool(data)

    def _say(self, lines: list[str]) -> None:
        """To the gate's log, unless whoever reads that is behind: an engine must not wait for it."""
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        for line in lines:
            if not poll.poll(0):
                return
            with contextlib.suppress(OSError):
                os.write(2, f"slmgate: {self._orders['id']}: {line}".encode()[: _ATOMIC - 1] + b"\n")

    def _note(self, **changes: Any) -> None:
        self._record |= changes
        with contextlib.suppress(OSError):  # a full disk: the engine is worth more than its record
            records.write(self._path, self._record)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _told(code: int) -> str:
    """How it ended, in words."""
    if code >= 0:
        return f"it ended with code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"


def main() -> int:
    """Entry of `python -m slmgate.control.engines.keeper`; the orders come on standard input, as JSON."""
    orders = json.loads(sys.stdin.buffer.read())
    lock = records.take_lock(Path(orders["folder"]), orders["name"])
    return TAKEN if lock is None else Keeper(orders).run()


if __name__ == "__main__":
    sys.exit(main())
