"""Commands as processes, beside a real gate where that matters: pipes, broken files, other people's servers, no file at all.

What each command prints is tested in tests/cli; here is what only a process, a pipe or a socket shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slmgate.stores.records import Batch
from slmgate.stores.sql import open_store
from tests.system.conftest import Launch
from tests.tools.gate import ROOT, Gate, eventually, free_port, get, model
from tests.tools.journal_writer import make_receipt
from tests.tools.parent import die_with_parent
from tests.tools.upstream import MockUpstream

ENV = {name: value for name, value in os.environ.items() if name != "SLMGATE_ADMIN_KEY"} | {"PYTHONPATH": str(ROOT / "src")}
COMMAND = [sys.executable, "-m", "slmgate"]


def slmgate(home: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=home, env=ENV | env, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("words", ["logs --limit 1000", "logs --json --limit 1000", "db export", "db export --format csv"])
def test_a_reader_that_leaves_is_no_failure(words: str, tmp_path: Path) -> None:
    (tmp_path / "slmgate-data").mkdir()
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    store.write(Batch(receipts=[make_receipt(f"r{number}") for number in range(3000)]))
    store.close()
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *words.split()], cwd=tmp_path, env=ENV, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 0


def test_a_reader_that_never_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [*COMMAND, "config", "sample"], cwd=tmp_path, env=ENV, stdout=writing, stderr=subprocess.PIPE, timeout=30
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_key_is_revoked_while_the_file_is_broken(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    gate: Gate = launch({"tiny": model(upstream.url)}, workers=1)
    for name in ("one", "two"):
        assert slmgate(gate.home, "keys", "create", "--name", name).returncode == 0
    gate.file.write_text(gate.file.read_text() + "bogus: 1\nmodels: [\n")
    revoked = slmgate(gate.home, "keys", "revoke", "one")
    assert (revoked.returncode, "revoked" in revoked.stdout) == (0, True), revoked.stderr
    assert "last-good.yaml" in revoked.stderr
    secret = (gate.state / "admin.key").read_text().strip()
    address = f"http://127.0.0.1:{gate.admin}"
    revoked = slmgate(tmp_path, "keys", "revoke", "two", "--admin", address, SLMGATE_ADMIN_KEY=secret)
    assert (revoked.returncode, revoked.stderr) == (0, "")
    again = slmgate(tmp_path, "keys", "enable", "two", "--admin", address, SLMGATE_ADMIN_KEY=secret)
    assert (again.returncode, "cannot be undone" in again.stderr) == (1, True)


def test_something_else_answers(launch: Launch, upstream: MockUpstream) -> None:
    gate: Gate = launch({"tiny": model(upstream.url)}, workers=1)
    other = upstream.url
    no_key = slmgate(gate.home, "keys", "list", "--admin", other)
    assert (no_key.returncode, "SLMGATE_ADMIN_KEY" in no_key.stderr) == (2, True)
    own = slmgate(gate.home, "keys", "list", "--admin", f"http://127.0.0.1:{gate.admin}")
    assert (own.returncode, own.stderr) == (0, "")
    for words in (("keys", "list"), ("usage",), ("logs",), ("instances", "list"), ("keys", "create", "--name", "x")):
        ended = slmgate(gate.home, *words, "--admin", other, SLMGATE_ADMIN_KEY="sk-slm-admin-mine")
        assert (ended.returncode, ended.stdout) == (3, "")
        assert ended.stderr == f"slmgate: what answers at {other} is not a slmgate admin API\n"


@pytest.fixture
def without_file(tmp_path: Path, upstream: MockUpstream) -> Iterator[tuple[int, int]]:
    port, admin = free_port(), free_port()
    words = ["serve", "--upstream", upstream.url, "--model", "m", "--engine", "openai", "--state-dir", "elsewhere"]
    words += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    with (tmp_path / "gate.log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, *words], cwd=tmp_path, env=ENV, stdout=log, stderr=log, preexec_fn=die_with_parent)
        try:
            eventually(lambda: get(port, "/readyz") == 200, 15, "the gate is ready")
            yield port, admin
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_serving_without_a_file(without_file: tuple[int, int], tmp_path: Path) -> None:
    _, admin = without_file
    line = f"admin listening on http://127.0.0.1:{admin}\n"
    eventually(lambda: line in (tmp_path / "gate.log").read_text(), 5, "the admin address is told")
    assert not (tmp_path / "slmgate-data").exists()
    secret = (tmp_path / "elsewhere" / "admin.key").read_text().strip()
    listed = slmgate(tmp_path, "instances", "list", "--admin", f"http://127.0.0.1:{admin}", SLMGATE_ADMIN_KEY=secret)
    assert (listed.returncode, bool({"checking", "healthy"} & set(listed.stdout.split()))) == (0, True)


def test_commands_find_a_gate_without_a_file(tmp_path: Path, upstream: MockUpstream) -> None:
    """Beside its state directory, whatever admin address it was given."""
    port, admin = free_port(), free_port()
    words = ["serve", "--upstream", upstream.url, "--model", "m", "--engine", "openai"]
    words += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    with (tmp_path / "gate.log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, *words], cwd=tmp_path, env=ENV, stdout=log, stderr=log, preexec_fn=die_with_parent)
        try:
            eventually(lambda: get(port, "/readyz") == 200 and get(admin, "/readyz") == 200, 15, "the gate is ready")
            made = slmgate(tmp_path, "keys", "create", "--name", "mine")
            assert made.returncode == 0, made.stderr
            listed = slmgate(tmp_path, "instances", "list")
            assert (listed.returncode, bool({"checking", "healthy"} & set(listed.stdout.split()))) == (0, True), listed.stderr
        finally:
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--upstream http://127.0.0.1:9 --engine bogus", "there is no engine 'bogus'"),
        ("--upstream bogus", "'bogus' has no scheme"),
        ("--upstream http://127.0.0.1:9 --listen 8080", "'8080' has no host"),
        ("--upstream http://127.0.0.1:9 --admin http://x", "'http://x' is not an address"),
        ("--listen :8080", "go with --upstream"),
        ("--upstream http://127.0.0.1:9 -c slmgate.yaml", "not both"),
        ("-c none.yaml", "there is no such file"),
        ("-c .", "this is a directory"),
        ("", "slmgate init"),
    ],
)
def test_misuse_of_serve(words: str, message: str, tmp_path: Path) -> None:
    ended = slmgate(tmp_path, "serve", *words.split(), COLUMNS="200")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "slmgate check" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_commands_without_a_gate_are_quick(tmp_path: Path) -> None:
    slmgate(tmp_path, "keys", "list")  # the first makes the store
    before = os.times()
    began = time.monotonic()
    assert slmgate(tmp_path, "keys", "list").returncode == 0
    used = os.times().children_user - before.children_user
    assert used < 1.5, f"{used:.2f} s of the processor in {time.monotonic() - began:.2f} s"
