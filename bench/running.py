"""Starts targets, waits until they answer rightly, and ends every process that was started, whatever happens.

A target counts as running only after it gave the mock instance's own answer and, where it claims to check keys, refused
a wrong one; its streams are measured only after it gave a whole one to its end. This module measures nothing.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bench import machine, wire
from bench.peers.contract import LOOPBACK, MissingError, Place, Target

ROOT = Path(__file__).parent.parent
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Processes:
    """Everything that was started, ended on leaving: SIGTERM, three seconds, then SIGKILL for what is left of each tree."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
        self.stop(self.started)

    def start(self, command: list[str], env: dict[str, str], output: Path, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, so that a Ctrl-C is ours to pass on."""
        with output.open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **env},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=machine.die_with_parent(),
            )
        self.started.append(process)
        return process

    def stop(self, processes: list[subprocess.Popen[bytes]]) -> None:
        """End these processes and all that descend from them, by pid."""
        families = {process.pid: [stat.pid for stat in machine.tree(process.pid)] for process in processes}
        for process in processes:
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + 3
        for process in processes:
            try:
                process.wait(max(0.05, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pid in families[process.pid][1:]:
                # a descendant that outlived its parent: only if it is still of the session that we made for it
                try:
                    if os.getsid(pid) == process.pid:
                        os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self.started = [process for process in self.started if process not in processes]


class Running:
    """A target that answers. `size` is the bytes of its right answer, by which wrong ones are noticed."""

    def __init__(self, name: str, port: int, pid: int, headers: dict[str, str]) -> None:
        self.name = name
        self.port = port
        self.pid = pid
        self.headers = headers
        self.size = 0
        self.streams = True
        self.slow = False
        self.notes: list[str] = []

    @classmethod
    def straight(cls, port: int) -> Running:
        """The mock instance itself, for what a request takes without a proxy; it has no CPU figure, so no pid."""
        return cls("direct", port, 0, {})

    def __repr__(self) -> str:
        return f"<Running {self.name} pid {self.pid} port {self.port}>"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [int(made.getsockname()[1]) for made in sockets]
    for made in sockets:
        made.close()
    return ports


def exchange(port: int, request: bytes, seconds: float = 5.0) -> wire.Answer:
    """Send one request over a connection of its own and read the whole answer; OSError or ValueError when there is none."""
    data = b""
    end = time.monotonic() + seconds
    with socket.create_connection((LOOPBACK, port), timeout=seconds) as link:
        link.sendall(request)
        while True:
            try:
                return wire.parse(data)
            except wire.IncompleteError:
                link.settimeout(max(0.01, end - time.monotonic()))
                more = link.recv(65536)
                if not more:
                    raise ValueError("the connection ended before the answer did") from None
                data += more


class Launch:
    """A target on its way up: made at once for all, so that they start side by side, then waited for one by one."""

    def __init__(self, processes: Processes, target: Target, place: Place) -> None:
        place.directory.mkdir(parents=True, exist_ok=True)
        start = target.start(place)
        self.processes = processes
        self.target = target
        self.output = place.directory / "output.log"
        self.process = processes.start(start.command, start.env, self.output, place.directory)
        self.running = Running(target.name, place.port, self.process.pid, start.headers)
        self.end = time.monotonic() + target.patience

    def wait(self) -> Running:
        """Wait for its right answer; raises `MissingError` with what it said last when that never comes."""
        last = "no answer"
        while time.monotonic() < self.end:
            if self.process.poll() is not None:
                last = f"ended with exit code {self.process.returncode}"
                break
            try:
                _verify(self.running, self.target)
                return self.running
            except (OSError, ValueError) as fault:
                last = str(fault)
                time.sleep(0.1)
        self.processes.stop([self.process])
        text = _COLOUR.sub("", self.output.read_text(errors="replace"))
        words = [line.strip() for line in text.splitlines() if line.strip()]
        raise MissingError(f"did not start: {last}" + (f"; it said: {words[-1][:200]}" if words else ""))


def _verify(running: Running, target: Target) -> None:
    """Raises ValueError with what is wrong with its answers."""
    right = exchange(running.port, wire.request(running.port, wire.body(), extra=running.headers))
    if right.status != 200 or wire.text_of(right.body) != wire.ANSWER:
        raise ValueError(f"a right request got {right.status} {right.body[:120]!r}")
    running.size = right.size
    stream = exchange(running.port, wire.request(running.port, wire.body(stream=True, chunks=3), extra=running.headers))
    stamps = stream.body.count(b"@") // 2
    if stream.status != 200 or stamps != 3 or b"data: [DONE]" not in stream.body:
        running.streams = False
        running.notes = [f"streams not measured: one of 3 events came as {stream.status} with {stamps}, {stream.body[-60:]!r}"]
    if target.checks_key:
        wrong = exchange(running.port, wire.request(running.port, wire.body(), wire.WRONG_SECRET, running.headers))
        if wrong.status == 200:
            raise ValueError("it let a wrong key in")
        if wrong.status not in (401, 403):
            running.notes = [*running.notes, f"refuses a wrong key with {wrong.status}"]


def mock(processes: Processes, directory: Path, rate: float, more: Sequence[str] = ()) -> int:
    """Start the mock instance, on `more` addresses than the common one too; returns its port."""
    (port,) = free_ports(1)
    output = directory / "upstream.log"
    processes.start([sys.executable, "-m", "bench.upstream", str(port), str(rate), *more], {}, output, ROOT)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if exchange(port, wire.request(port, wire.body())).body == wire.answer():
                return port
        except (OSError, ValueError):
            time.sleep(0.05)
    raise RuntimeError(f"the mock instance did not start: {output.read_text(errors='replace')[-300:]}")
