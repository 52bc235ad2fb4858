"""Instances that die, freeze, load and flap, as real processes: who is passed over, how soon, and how soon they are back.

The figures are those of the reliability goals: out within 5 s, back within 10 s of recovery, and no client hears of it as long as
one good instance is left. What states there are and how they follow each other is `tests/policy/test_health.py`'s.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Launch
from tests.system.scenes import plain
from tests.tools.gate import SECRET, Gate, eventually, get, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ask, chat, request

OUT_SECONDS, BACK_SECONDS = 5.0, 10.0
OFTEN: dict[str, Any] = {"interval": "500ms", "timeout": "400ms", "slow_start": "1s"}
QUICK: dict[str, Any] = {"timeouts": {"connect": "1s", "first_byte": "3s", "idle": "3s"}}


@pytest.fixture
def thawed(second: MockUpstream) -> Iterator[MockUpstream]:
    """The second instance, which a test may freeze."""
    yield second
    second.signal(signal.SIGCONT)


def states(gate: Gate) -> dict[str, dict[str, Any]]:
    """What the admin side tells of the instances, by their URLs."""
    secret = (gate.state / "admin.key").read_text().strip()
    link = http.client.HTTPConnection("127.0.0.1", gate.admin, timeout=5)
    try:
        link.request("GET", "/api/v1/instances", headers={"authorization": f"Bearer {secret}"})
        rows = json.loads(link.getresponse().read())
    finally:
        link.close()
    return {f"http://{row['id'].partition('/')[2]}": row for row in rows}


def state(gate: Gate, instance: MockUpstream) -> str:
    return str(states(gate)[instance.url]["state"])


def served(gate: Gate, count: int = 8) -> bool:
    """So many requests, each on a connection of its own, all of them good."""
    for n in range(count):
        answer = ask(gate.port, plain(f"n{n}"))
        assert answer.status == 200, answer
    return True


def test_out_soon_after_it_died_and_back_soon_after_it_rose(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """With the options that a model has when none are given."""
    gate = launch({"tiny": model(upstream.url, second.url, **QUICK)})
    served(gate)
    assert upstream.journal() and second.journal(), "void: one of them had no work"
    second.kill()
    died = time.monotonic()
    eventually(lambda: served(gate, 2) and not states(gate)[second.url]["healthy"], OUT_SECONDS, "it is out", 0.1)
    print(f"out after {time.monotonic() - died:.1f} s")
    time.sleep(1)  # it is away for a while, not for a moment
    second.start()
    rose = time.monotonic()
    eventually(lambda: served(gate, 2) and second.journal(), BACK_SECONDS, "it is used again", 0.1)
    print(f"back after {time.monotonic() - rose:.1f} s")
    assert "it cannot be reached" in gate.text()


def test_one_that_freezes_is_found_by_its_checks(launch: Launch, upstream: MockUpstream, thawed: MockUpstream) -> None:
    """Its kernel still accepts. Nobody is sent there, also not after a reload, and not when control is killed."""
    gate = launch({"tiny": model(upstream.url, thawed.url, **QUICK, health=OFTEN)})
    eventually(lambda: state(gate, thawed) == "healthy", 5, "it was checked")
    thawed.signal(signal.SIGSTOP)
    eventually(lambda: state(gate, thawed) == "unhealthy", OUT_SECONDS, "it is out", 0.1)
    row = states(gate)[thawed.url]
    assert (row["check"], row["healthy"]) == ("GET /v1/models: no answer within 0.4 s", False), row
    assert row["since"] and row["checked"]

    def all_served_at_once() -> None:
        started = time.monotonic()
        served(gate)
        assert time.monotonic() - started < 2, "somebody was sent to the frozen one"

    all_served_at_once()
    gate.write(drain_timeout="20s")
    eventually(lambda: "configuration in force" in gate.text(), 5, "the reload was taken")
    all_served_at_once()
    control = gate.control()
    gate.seen[control].kill()
    all_served_at_once()
    eventually(lambda: gate.pids("slmgate.control.process") not in ([], [control]), 5, "another control process runs")
    all_served_at_once()
    assert f"{thawed.url.partition('//')[2]} is out, no worker asks it: GET /v1/models: no answer" in gate.text()
    thawed.signal(signal.SIGCONT)
    thawed.clear()
    eventually(lambda: served(gate, 2) and thawed.journal(), BACK_SECONDS, "it is used again", 0.1)


def test_one_that_is_still_loading(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """As llama.cpp does: the port answers, and everything there with 503, until the model is loaded."""
    second.default(check=503, status=503)
    gate = launch({"tiny": model(upstream.url, second.url, engine="llamacpp", **QUICK, health=OFTEN)})
    served(gate)  # also while nobody knows of it yet
    eventually(lambda: state(gate, second) == "unhealthy", OUT_SECONDS, "it is out", 0.1)
    assert states(gate)[second.url]["why"] == "GET /health answered 503"
    assert get(gate.admin, "/readyz") == 200, "the other one serves the model"
    second.clear()
    served(gate)
    assert not second.journal(), "somebody was sent to the one that is loading"
    second.default()
    eventually(lambda: served(gate, 2) and second.journal(), BACK_SECONDS, "it is used", 0.1)
    eventually(lambda: state(gate, second) == "healthy", 5, "it has its whole share", 0.1)


def test_checks_that_fail_take_out_one_that_would_answer(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    second.default(check=404)
    gate = launch({"tiny": model(upstream.url, second.url, **QUICK, health={**OFTEN, "path": "/really/ready"})})
    eventually(lambda: state(gate, second) == "unhealthy", OUT_SECONDS, "it is out", 0.1)
    second.clear()
    served(gate)
    assert not second.journal()
    assert len(upstream.journal()) >= 8


def test_all_die_and_come_back(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url, second.url, **QUICK, health=OFTEN)})
    served(gate)
    upstream.kill()
    second.kill()
    eventually(lambda: get(gate.admin, "/readyz") == 503, OUT_SECONDS, "the gate says that it is not ready", 0.1)
    assert ask(gate.port, plain()).status == 502
    upstream.start()
    second.start()
    rose = time.monotonic()
    eventually(lambda: ask(gate.port, plain()).status == 200, 3, "it is served as soon as one answers", 0.1)
    eventually(lambda: get(gate.admin, "/readyz") == 200, BACK_SECONDS, "the gate is ready by itself", 0.1)
    eventually(lambda: served(gate, 4) and upstream.journal() and second.journal(), BACK_SECONDS, "both are used", 0.1)
    print(f"whole again after {time.monotonic() - rose:.1f} s")


def test_one_that_flaps(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """No client hears of it, and it is left alone for longer each time: the gate says so a few times, not at each turn."""
    gate = launch({"tiny": model(upstream.url, second.url, **QUICK, health={"off": True})})
    end = time.monotonic() + 5
    turns = 0
    while time.monotonic() < end:
        second.kill()
        served(gate, 10)
        second.start()
        served(gate, 10)
        turns += 1
    assert turns >= 3, "void: it did not flap"
    lines = [line for line in gate.text().splitlines() if "is passed over for" in line]
    assert 1 <= len(lines) <= 2 * 6, lines


def test_silent_dns_holds_up_nothing_else(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    """Requests to instances whose names have no answer, and their checks, wait for it; no start, reload or other name does."""
    assert os.geteuid() == 0, "this test gives a gate a DNS server of its own: run it as root"
    assert shutil.which("unshare"), "unshare is missing: install the Debian package util-linux"
    resolvers = tmp_path / "resolv.conf"
    resolvers.write_text("nameserver 127.53.0.1\n")
    alone = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolvers))
    lost = {f"lost{number}": model(f"http://i{number}.example.test:80") for number in range(20)}
    named = model(upstream.url.replace("127.0.0.1", "localhost"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.53.0.1", 53))
        gate = launch({"tiny": named, **lost}, workers=1, prefix=alone, wait=False)
        eventually(lambda: get(gate.admin, "/healthz") == 200, 12, "the admin side answers")
        gate.write(drain_timeout="20s")
        eventually(lambda: "configuration in force" in gate.text(), 3, "it is reloaded")
        with ThreadPoolExecutor(12) as pool:
            for number in range(8):
                pool.submit(ask, gate.port, request(chat(model=f"lost{number}"), secret=SECRET))
            time.sleep(0.3)  # until names are asked for: nothing tells when a lookup has begun
            answers = [pool.submit(ask, gate.port, request(chat(), secret=SECRET)) for _ in range(4)]
            assert [one.result().status for one in answers] == [200] * 4, "a name with an answer has it"
        assert silent.recv(512), "names were asked for"
