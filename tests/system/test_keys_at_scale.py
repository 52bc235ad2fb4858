"""A hundred thousand keys: brought in by the command, found on every worker, changed under load, kept when processes die.

`slmgate keys` makes every change, as an operator would. When a change was made is what the audit log says; when it acts is what
clients see that ask again and again on connections of every worker. Processes are ended by pid only.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.conftest import running
from tests.tools.gate import CONTROL, OTHER, ROOT, SECRET, Gate, digest, eventually, get, model
from tests.tools.load import Background, Loader
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ClosedEarlyError, Wire, ask, chat, request

KEYS = 100_000
WORKERS = 3
MOST = 100 * 1024 * 1024
"""Bytes that a worker may take in all with so many keys."""
ROLES: dict[str, Any] = {
    "roles": {"user": {"models": ["*"]}, "embedder": {"models": ["*"], "endpoints": ["embeddings"]}},
    "keys": [{"name": "main", "hash": digest(SECRET), "roles": ["user"]}, {"name": "other", "hash": digest(OTHER)}],
}
SOON = 1.0
"""Seconds within which a change acts on every worker."""


def secret_of(number: int) -> str:
    """As another gateway might have given it."""
    return f"sk-other-gateway-{number:08d}"


def keys_file() -> str:
    rows = io.StringIO()
    write = csv.writer(rows)
    write.writerow(["name", "hash", "owner", "team", "roles", "tags", "networks"])
    for number in range(KEYS):
        hash = "sha256:" + hashlib.sha256(secret_of(number).encode()).hexdigest() if number else ""
        networks = "127.0.0.0/8 ::1" if number % 10 == 1 else ""
        write.writerow(
            [
                f"client-{number:06d}",
                hash,
                f"owner-{number % 1000}@x.example",
                f"team-{number % 100}",
                "user",
                f"lot:{number % 50}",
                networks,
            ]
        )
    return rows.getvalue()


def keys(gate: Gate, *words: str) -> str:
    """`slmgate keys` with these words; returns what it printed."""
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "slmgate", "keys", *words, "-c", str(gate.file)]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def changed_at(gate: Gate) -> float:
    """When the last change of a key was made, in seconds since the epoch."""
    with contextlib.closing(sqlite3.connect(f"file:{gate.state / 'ledger.sqlite3'}?mode=ro", uri=True, timeout=5)) as store:
        return float(store.execute("SELECT time FROM audit ORDER BY id DESC LIMIT 1").fetchone()[0] / 1e6)


@pytest.fixture(scope="module")
def gate(shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    home = tmp_path_factory.mktemp("keys")
    made = Gate(home, {"tiny": model(shared_upstream.url)}, workers=WORKERS, **ROLES)
    running.append(made)
    file = home / "keys.csv"
    file.write_text(keys_file())
    began = time.monotonic()
    printed = keys(made, "import", str(file))
    print(f"{KEYS} keys imported in {time.monotonic() - began:.1f} s")
    assert [line.split(",")[1] for line in printed.splitlines()] == ["name", "client-000000"]
    yield made
    running.remove(made)
    made.stop()


def another_control(gate: Gate, dead: int) -> bool:
    """Whether a control process runs that is not the dead one, and answers."""
    return dead not in gate.pids(CONTROL) and get(gate.admin, "/readyz") == 200


def each_worker(gate: Gate, most: int = 200) -> list[Wire]:
    """A connection to every worker."""
    found: dict[int, Wire] = {}
    for _ in range(most):
        wire = Wire(gate.port)
        port = wire.socket.getsockname()[1]
        owner = eventually(lambda port=port: [pid for pid in gate.workers() if port in gate.ports_of(pid)], 5, "it is let in")[0]  # type: ignore[misc]  # bound here
        if owner in found:
            wire.__exit__()
        else:
            found[owner] = wire
        if len(found) == WORKERS:
            return list(found.values())
    raise AssertionError(f"{len(found)} of {WORKERS} workers let anybody in")


class Watch:
    """Asks with a key on every worker, over and over; `seen` are (when it was asked, the status)."""

    def __init__(self, gate: Gate, secret: str) -> None:
        self._wires = each_worker(gate)
        self._request = request(None, method="GET", path="/v1/models", secret=secret)
        self.seen: list[list[tuple[float, int]]] = [[] for _ in self._wires]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._over.is_set():
            for wire, seen in zip(self._wires, self.seen, strict=True):
                asked = time.time()
                seen.append((asked, wire.ask(self._request).status))
            self._over.wait(0.02)

    def __enter__(self) -> Watch:
        self._thread.start()
        eventually(lambda: all(self.seen), 5, "every worker was asked")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        for wire in self._wires:
            wire.__exit__()

    def now(self) -> set[int]:
        """What the workers say now."""
        return {seen[-1][1] for seen in self.seen}

    def last(self, status: int) -> float:
        """When a worker said so for the last time."""
        return max(when for seen in self.seen for when, said in seen if said == status)


def test_every_key_opens_and_a_worker_stays_small(gate: Gate) -> None:
    wires = each_worker(gate)
    for number in (1, 2, KEYS // 2, KEYS - 1):
        for wire in wires:
            assert wire.ask(request(chat(), secret=secret_of(number))).status == 200
            assert wire.ask(request(chat(), secret=secret_of(KEYS + number))).status == 401
    sizes = [psutil.Process(pid).memory_info().rss / 1024 / 1024 for pid in gate.workers()]
    print("workers take " + ", ".join(f"{size:.0f} MiB" for size in sizes))
    print(f"control takes {psutil.Process(gate.control()).memory_info().rss / 1024 / 1024:.0f} MiB")
    assert max(sizes) * 1024 * 1024 < MOST
    for wire in wires:
        wire.__exit__()


def test_a_key_is_found_among_them(gate: Gate) -> None:
    row = json.loads(keys(gate, "list", "--search", "client-0777", "--team", "team-77", "--json"))["keys"]
    assert [key["name"] for key in row] == ["client-077777"]
    assert [key["declared"] for key in json.loads(keys(gate, "list", "--limit", "3", "--json"))["keys"]] == [True, True, False]
    assert len(json.loads(keys(gate, "list", "--tag", "lot:7", "--limit", "3000", "--json"))["keys"]) == KEYS / 50


def test_when_a_key_was_used_last(gate: Gate) -> None:
    before = datetime.now(UTC)
    assert ask(gate.port, request(chat(), secret=secret_of(42))).status == 200
    used = eventually(lambda: json.loads(keys(gate, "show", "client-000042", "--json"))["used"], 10, "its use is known")
    assert used["address"] == "127.0.0.1"
    assert before.isoformat() <= datetime.fromisoformat(used["time"]).isoformat() <= datetime.now(UTC).isoformat()


CHANGES = {
    "revoke": (("revoke",), 401, 0.0),
    "disable": (("disable",), 401, 0.0),
    "expire": (("edit", "--expires", "1s"), 401, 1.0),
    "rotate": (("rotate",), 401, 0.0),
    "role": (("edit", "--role", "embedder"), 403, 0.0),
    "networks": (("edit", "--network", "192.0.2.0/24"), 403, 0.0),
}


def test_changes_act_on_every_worker_within_a_second(gate: Gate) -> None:
    """Under load, with other keys going on as if nothing were."""
    loader = Loader(gate.port, SECRET, seed=61)
    with Background(loader.run(100, 30, streams=30)):
        for number, (what, (words, status, later)) in enumerate(CHANGES.items(), 100):
            with Watch(gate, secret_of(number)) as watch:
                assert watch.now() == {200}
                keys(gate, words[0], f"client-{number:06d}", *words[1:])
                eventually(lambda watch=watch, status=status: watch.now() == {status}, 3, f"{what} acts")  # type: ignore[misc]  # bound here
            took = watch.last(200) - changed_at(gate) - later
            print(f"{what}: the old answer was last given {took * 1000:.0f} ms after the change")
            assert took < SOON
        with Watch(gate, secret_of(101)) as watch:  # disabled above
            keys(gate, "enable", "client-000101")
            eventually(lambda: watch.now() == {200}, 3, "enabling acts")
        assert watch.last(401) - changed_at(gate) < SOON
    assert not loader.bad(), loader.told()


def test_control_dies_and_nobody_notices_but_who_is_revoked(gate: Gate) -> None:
    """Valid keys are known and revoked ones are not, at every moment; and what is changed afterwards acts at once."""
    keys(gate, "revoke", "client-000200")
    with Watch(gate, secret_of(201)) as valid, Watch(gate, secret_of(202)) as changed, Watch(gate, secret_of(200)) as revoked:
        eventually(lambda: revoked.now() == {401}, 3, "the revoked key is refused")
        since = time.time()
        for _ in range(2):
            pid = gate.control()
            os.kill(pid, signal.SIGKILL)
            eventually(partial(another_control, gate, pid), 30, "another control process answers")
        keys(gate, "revoke", "client-000202")
        eventually(lambda: changed.now() == {401}, 3, "a change acts")
        took = changed.last(200) - changed_at(gate)
        print(f"after a new control process: {took * 1000:.0f} ms")
        assert took < SOON
    assert {status for seen in valid.seen for _, status in seen} == {200}
    assert {status for seen in revoked.seen for when, status in seen if when > since} == {401}
    assert gate.rss() < MOST


def test_a_new_worker_knows_all_keys_before_it_lets_anybody_in(gate: Gate) -> None:
    os.kill(gate.workers()[0], signal.SIGKILL)
    said: set[int] = set()
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        with contextlib.suppress(OSError, ClosedEarlyError):  # the dead worker's own line
            said.add(ask(gate.port, request(None, method="GET", path="/v1/models", secret=secret_of(KEYS - 1))).status)
    assert said == {200}
    assert len(gate.workers()) == WORKERS


def test_out_and_into_another_gate(gate: Gate, shared_upstream: MockUpstream, tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_text(keys(gate, "export"))
    lines = file.read_text().splitlines()
    assert KEYS - 10 < len(lines) < KEYS
    assert secret_of(1) not in file.read_text()
    other = Gate(tmp_path, {"tiny": model(shared_upstream.url)}, workers=1, **ROLES)
    running.append(other)
    try:
        assert keys(other, "import", str(file)) == ""
        last = request(chat(), secret=secret_of(KEYS - 1))
        eventually(lambda: ask(other.port, last).status == 200, SOON, "the last of them acts")
        assert ask(other.port, request(chat(), secret=secret_of(100))).status == 401  # revoked there
        assert ask(other.port, request(chat(), secret=secret_of(105))).status == 403  # not from here
    finally:
        running.remove(other)
        other.stop()
