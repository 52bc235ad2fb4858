"""What is built from the checkout: the same bytes each time, without a network, and nothing that runs by itself.

A wheel with a `.pth` file or `sitecustomize` runs whenever Python starts, whoever starts it: ours has none, and no script but its
own. What the checkout itself says of its packages is `tests/house/test_supply.py`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.house.tree import ROOT, kept_files

BUILD = """
import socket
def no(*_, **__): raise SystemExit("the build asked for the network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = no
import sys
from hatchling import build
print(build.build_wheel(sys.argv[1]), build.build_sdist(sys.argv[1]))
"""


def built(folder: Path, epoch: int) -> dict[str, bytes]:
    """The wheel and the source archive of a copy of the checkout whose files are all `epoch` old."""
    source, out = folder / "source", folder / "out"
    out.mkdir(parents=True)
    for name in kept_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
        (source / name).chmod((ROOT / name).stat().st_mode)
        os.utime(source / name, (epoch, epoch))
    words = [sys.executable, "-I", "-c", BUILD, str(out)]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    return [built(tmp_path_factory.mktemp(f"build{epoch}"), epoch) for epoch in (1_000_000_000, 1_500_000_000)]


def test_the_same_bytes_each_time(twice: list[dict[str, bytes]]) -> None:
    first, second = ({name: hashlib.sha256(data).hexdigest() for name, data in files.items()} for files in twice)
    assert sorted(name.rpartition(".")[2] for name in first) == ["gz", "whl"]
    assert first == second


def test_the_wheel_holds_the_package_and_nothing_that_runs_by_itself(twice: list[dict[str, bytes]], tmp_path: Path) -> None:
    (name,) = [name for name in twice[0] if name.endswith(".whl")]
    (tmp_path / name).write_bytes(twice[0][name])
    with zipfile.ZipFile(tmp_path / name) as wheel:
        files = wheel.namelist()
        scripts = wheel.read(next(one for one in files if one.endswith("entry_points.txt"))).decode()
    assert scripts.split() == ["[console_scripts]", "slmgate", "=", "slmgate.cli.app:main"]
    odd = [one for one in files if not one.startswith(("slmgate/", "slmgate-"))]
    assert odd == []
    assert [one for one in files if one.endswith((".pth", ".so", ".pyd", ".pyc", ".sh", ".exe"))] == []
    assert [one for one in files if Path(one).stem in ("sitecustomize", "usercustomize", "conftest", "setup")] == []
    assert [one for one in files if ".data/" in one] == []
    assert name.endswith("-py3-none-any.whl")


def test_the_source_archive_holds_what_its_own_tests_need(twice: list[dict[str, bytes]], tmp_path: Path) -> None:
    (name,) = [name for name in twice[0] if name.endswith(".gz")]
    (tmp_path / name).write_bytes(twice[0][name])
    with tarfile.open(tmp_path / name) as archive:
        files = {one.name.partition("/")[2] for one in archive.getmembers()}
    for wanted in (
        "pyproject.toml",
        "constraints.txt",
        "requirements/runtime.txt",
        "deploy/grafana/dashboards.py",
        "fuzz/__main__.py",
        "SECURITY.md",
        "Makefile",
    ):
        assert wanted in files
    assert not [one for one in files if one.endswith((".pth", ".pyc"))]
