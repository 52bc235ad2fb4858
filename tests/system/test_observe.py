"""`make observe` as a user has it: the real model, a gate, Prometheus over it, and nothing left after Ctrl-C.

It reads what is printed and asks the Prometheus that is named there; what the figures are is for others to test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.tools.gate import ROOT, eventually
from tests.tools.parent import die_with_parent

pytestmark = pytest.mark.timeout(300)
SECONDS = 200
"""Loading the model alone may take long on a machine that is busy otherwise."""


def start(home: Path, said: Path, **env: str) -> subprocess.Popen[bytes]:
    """Temporary files lie below `home`, what is printed in `said`."""
    paths = {"TMPDIR": str(home), "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with said.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.observe"],
            env={**os.environ, **paths, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )


def test_prometheus_has_figures_of_a_gate_that_is_asked_and_nothing_is_left_after_ctrl_c(tmp_path: Path) -> None:
    home, said = tmp_path / "home", tmp_path / "said"
    home.mkdir()
    running = start(home, said)
    started: list[psutil.Process] = []
    try:

        def up() -> bool:
            assert running.poll() is None, said.read_text()
            return "until you press Ctrl-C" in said.read_text()

        eventually(up, SECONDS, "everything runs", 0.2)
        text = said.read_text()
        address = re.search(r"URL (http://\S+),", text)
        assert address, text
        started = psutil.Process(running.pid).children(recursive=True)
        assert len(started) >= 5, "the engine, the supervisor, its children and Prometheus run"

        def served() -> bool:
            asked = {"query": 'sum(slmgate_requests_total{code="200"}) > 0 and on () min(up{job="slmgate"}) == 1'}
            return bool(httpx.get(f"{address[1]}/api/v1/query", params=asked, trust_env=False).json()["data"]["result"])

        eventually(served, 60, "requests were served and counted", 0.5)
        (provisioned,) = home.glob("*/provisioning")
        assert str(provisioned) in text
        assert address[1] in (provisioned / "datasources" / "slmgate.yaml").read_text()
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0, said.read_text()
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait(60)
    _, alive = psutil.wait_procs(started, timeout=5)
    assert alive == []
    assert list(home.iterdir()) == []


def test_without_prometheus_it_says_what_to_install(tmp_path: Path) -> None:
    home, said = tmp_path / "home", tmp_path / "said"
    home.mkdir()
    assert start(home, said, PATH=str(tmp_path)).wait(60) == 1
    assert said.read_text() == "there is no program `prometheus`; on Debian or Ubuntu: apt-get install prometheus\n"
    assert list(home.iterdir()) == []
