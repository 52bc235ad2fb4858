"""A short run of every fuzz target, as `make fuzz` makes long ones: the same seed each time, bounded in inputs and in time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.targets import NAMES
from tests.house.tree import ROOT

SECONDS = 4
"""For each of nine targets, two at a time."""


@pytest.mark.timeout(900)
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "fuzz", "--seed", "1", "--seconds", str(SECONDS), "--runs", "20000", "--corpus", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[1:]]
    assert sorted(line[0] for line in lines) == sorted(NAMES)
    assert min(int(line[1].replace(",", "")) for line in lines) > 5, done.stdout
