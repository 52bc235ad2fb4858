"""The tour as a user takes it: `slmgate demo` with the real model, the real gate and the official client.

It reads what the tour prints and looks for processes left behind; how the steps work is the tour's own affair.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.tools.gate import ROOT

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]  # more than a part of the tour may take: it says which one was late
SECONDS = 300
"""Loading the model alone took more than a minute on a machine that was busy otherwise."""


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """The tour in a process whose temporary files lie below `home`, so that all that it starts can be told by that name."""
    env = {**os.environ, "TMPDIR": str(home), "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "slmgate", "demo", *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_the_tour_shows_everything_and_leaves_nothing(tmp_path: Path) -> None:
    tour = start(tmp_path)
    text, _ = tour.communicate(timeout=SECONDS)
    assert tour.returncode == 0, text
    spoken = re.search(r"^assistant  (.+)$", text, re.MULTILINE)
    assert spoken, text
    assert len(spoken[1].split()) > 3, text
    assert re.search(r"a wrong key: 401 invalid_api_key\n +\S", text), text
    assert re.search(r"an unknown model: 404 model_not_found\n +\S", text), text
    for name in ("prompt_tokens", "completion_tokens"):
        counted = re.search(rf"{name} +(\d+) +(\d+) +equal", text)
        assert counted, text
        assert int(counted[1]) == int(counted[2]) > 0
    usage = text.partition("Usage, as")[2]
    assert re.search(r"^\(no key\) +1 +1 ", usage, re.MULTILINE), text
    assert re.search(r"^demo +gpt-oss-120b +1 +1 ", usage, re.MULTILINE), text
    assert re.search(r"^demo +smollm2 +1 +0 ", usage, re.MULTILINE), text
    assert "sk-slm-" in text
    assert re.search(
        r"^the dashboard, for you +http://127\.0\.0\.1:\d+/ +\(sign in as demo, with the password \S+\)$", text, re.MULTILINE
    )
    assert "\x1b" not in text, "colours are for terminals"
    assert list(tmp_path.iterdir()) == [], "the tour leaves files behind"


def test_a_tour_that_is_told_to_stop_ends_its_processes(tmp_path: Path) -> None:
    with start(tmp_path, "--stay") as tour:
        assert tour.stdout is not None
        end = time.monotonic() + SECONDS
        for line in tour.stdout:
            if "until you press Ctrl-C" in line:
                break
            assert time.monotonic() < end
        started = children(tour)
        assert len(started) >= 3, "the engine, the supervisor and its children run"
        tour.send_signal(signal.SIGTERM)
        assert tour.wait(SECONDS) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(started, timeout=5)
    assert alive == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_part_is_named_with_its_command(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['xllamacpp'] = None; from slmgate.cli.app import main; main(['demo'])"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", blocked], env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert "pip install 'slmgate[demo]'" in done.stderr
    assert "Traceback" not in done.stderr
