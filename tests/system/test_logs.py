"""`slmgate logs -f` as a process: through the death of control it shows each receipt once, and it ends when it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.conftest import Launch
from tests.system.test_processes import send
from tests.tools.gate import ROOT, SECRET, Gate, eventually, model
from tests.tools.parent import die_with_parent
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, chat, request


@contextmanager
def logs(gate: Gate, out: int, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, writing to `out`; its stderr is beside the gate's files."""
    command = [sys.executable, "-m", "slmgate", "logs", *words, "-c", str(gate.file)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with (gate.home / "logs.err").open("ab") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=env, cwd=gate.home, preexec_fn=die_with_parent)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def ask(gate: Gate, count: int, headers: tuple[str, ...] = ()) -> None:
    with Wire(gate.port) as wire:
        for _ in range(count):
            assert wire.ask(request(chat(), secret=SECRET, headers=headers)).status == 200


def test_following(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=1, log={"access": "off"})
    ask(gate, 3)
    eventually(lambda: len(gate.rows()) == 3, 10, "the ledger has them")
    out = tmp_path / "out"
    with out.open("wb") as file, logs(gate, file.fileno(), "-f", "--json", "--limit", "2", "--client", "main") as following:
        eventually(lambda: out.read_bytes().count(b"\n") == 2, 30, "the newest two are shown")
        for _ in range(2):
            send(gate.control(), signal.SIGKILL)
            ask(gate, 5)
        eventually(lambda: out.read_bytes().count(b"\n") >= 12, 30, "all that came is shown")
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0
    shown = [json.loads(line)["id"] for line in out.read_bytes().splitlines()]
    assert shown == [row["id"] for row in sorted(gate.rows(), key=lambda row: row["seq"])][1:]
    assert "Aborted" not in (gate.home / "logs.err").read_text()
    # and it ends with whoever reads it, be there anything more to show or not
    read, write = os.pipe()
    with logs(gate, write, "-f") as following:
        os.close(write)
        assert os.read(read, 65536)
        os.close(read)
        assert following.wait(20) == 0
    assert "Traceback" not in (gate.home / "logs.err").read_text()
