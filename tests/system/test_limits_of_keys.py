"""Limits of keys that the command line makes, and `slmgate limits`, with the real gate: in force at once, told as they stand."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

import psutil
import pytest

from tests.system.conftest import Launch
from tests.system.test_commands import slmgate
from tests.tools.gate import Gate, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, ask, request

ROLES = {"user": {"models": ["*"], "endpoints": ["*"], "limits": ["100k tokens/day"]}}


def chat(secret: str, **fields: Any) -> bytes:
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, **fields}).encode()
    return request(body, secret=secret, headers=("Content-Type: application/json",))


def call(gate: Gate, secret: str, times: int = 1) -> list[int]:
    """The statuses of so many requests, each on a connection of its own, so that any worker may have it."""
    return [ask(gate.port, chat(secret)).status for _ in range(times)]


def made(gate: Gate, name: str, *options: str) -> str:
    issued = slmgate(gate.home, "keys", "create", "--name", name, "--role", "user", *options)
    assert issued.returncode == 0, issued.stderr
    return issued.stdout.strip()


def stands(gate: Gate, *options: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(whose, words) -> where they stand."""
    told = slmgate(gate.home, "limits", "--json", *options)
    assert told.returncode == 0, told.stderr
    return {(one["whose"], one["limit"]): one for one in json.loads(told.stdout)["limits"]}


@pytest.fixture
def gate(launch: Launch, upstream: MockUpstream) -> Gate:
    return launch({"tiny": model(upstream.url, limits=["50 concurrent"])}, workers=2, roles=ROLES, keys=[])


def test_a_limit_of_a_key_is_in_force_in_every_worker_when_the_command_ends(gate: Gate) -> None:
    secret, free = made(gate, "bot", "--limit", "3 requests/hour"), made(gate, "free")
    assert sorted(call(gate, secret, 12)) == [200] * 3 + [429] * 9
    refused = ask(gate.port, chat(secret))
    assert b"3 requests/hour" in refused.body
    assert refused.header("x-ratelimit-limit-requests") == "3"
    assert call(gate, free, 5) == [200] * 5  # another key has none
    assert slmgate(gate.home, "keys", "edit", "bot", "--limit", "5 requests/hour").returncode == 0
    assert sorted(call(gate, secret, 12)) == [200] * 2 + [429] * 10  # what was used stays used
    rotated = slmgate(gate.home, "keys", "rotate", "bot").stdout.strip()
    assert set(call(gate, rotated, 4)) == {429}
    assert slmgate(gate.home, "keys", "edit", "bot", "--clear", "limits").returncode == 0
    assert call(gate, rotated, 8) == [200] * 8
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    raised = f"{{limit: 1 requests/hour, raised: {{to: 20 requests/hour, until: {soon}}}}}"
    assert slmgate(gate.home, "keys", "edit", "bot", "--limit", raised).returncode == 0
    assert sorted(call(gate, rotated, 20)) == [200] * 15 + [429] * 5  # without a limit for a while nothing was counted


def test_limits_of_keys_outlive_the_gate(gate: Gate) -> None:
    secret = made(gate, "bot", "--limit", "3 requests/hour")
    assert call(gate, secret, 2) == [200, 200]
    gate.terminate()
    gate.start()
    assert sorted(call(gate, secret, 6)) == [200] + [429] * 5


def test_a_bad_limit_is_told_as_the_configuration_would(gate: Gate) -> None:
    refused = slmgate(gate.home, "keys", "create", "--name", "bot", "--limit", "60 per minute")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'60 per minute' is not spelled as a limit is (write 60 requests/minute)" in refused.stderr
    refused = slmgate(gate.home, "keys", "create", "--name", "bot", "--limit", "5 EUR/day")
    assert (refused.returncode, "no plan counts in EUR" in refused.stderr) == (2, True)
    assert "bot" not in slmgate(gate.home, "keys", "list").stdout


def test_where_everybody_stands(gate: Gate, upstream: MockUpstream) -> None:
    secret = made(gate, "bot", "--limit", "10 requests/hour", "--limit", "{limit: 5 requests/hour, per: ip}")
    made(gate, "idle")
    assert call(gate, secret, 4) == [200] * 4
    found = stands(gate)
    assert set(found) == {
        ("everybody", "50 concurrent"), ("bot", "100k tokens/day"), ("bot", "10 requests/hour"), ("idle", "100k tokens/day")
    }  # fmt: skip
    of_bot = found["bot", "10 requests/hour"]
    assert (of_bot["used"], of_bot["left"], of_bot["share"], of_bot["name"]) == (4, 6, 0.4, "key.limits[0]")
    assert of_bot["whole"] is not None
    tokens = found["bot", "100k tokens/day"]
    assert 0 < tokens["used"] == 100_000 - tokens["left"]
    assert (found["idle", "100k tokens/day"]["used"], found["idle", "100k tokens/day"]["whole"]) == (0, None)
    by_address = stands(gate, "--ip", "127.0.0.1", "--key", "bot")
    assert by_address["bot, 127.0.0.1", "5 requests/hour"]["used"] == 4
    assert ("everybody", "50 concurrent") in by_address
    assert list(stands(gate, "--near", "40%", "--ip", "127.0.0.1")) == [
        ("bot, 127.0.0.1", "5 requests/hour"), ("bot", "10 requests/hour")
    ]  # fmt: skip
    shown = slmgate(gate.home, "limits", "--key", "bot").stdout
    assert "whose" in shown and "40%" in shown and "key.limits[0]" in shown
    rows = list(csv.DictReader(io.StringIO(slmgate(gate.home, "limits", "--key", "bot", "--csv").stdout)))
    assert [(row["whose"], row["limit"], row["used"]) for row in rows][-1] == ("bot", "10 requests/hour", "4")
    unknown = slmgate(gate.home, "limits", "--key", "nobody")
    assert (unknown.returncode, "no key 'nobody'" in unknown.stderr) == (1, True)
    # what is under way
    with Wire(gate.port) as wire:
        wire.send(chat(secret, script={"delay": 1.5}))
        time.sleep(0.4)
        assert stands(gate)["everybody", "50 concurrent"]["used"] == 1
        wire.answer()
    assert stands(gate)["everybody", "50 concurrent"]["used"] == 0


def test_a_worker_that_is_stuck_is_not_waited_for(gate: Gate) -> None:
    secret = made(gate, "bot", "--limit", "10 requests/hour")
    assert call(gate, secret, 2) == [200, 200]
    for pid in gate.workers():
        stuck = psutil.Process(pid)
        stuck.suspend()
        try:
            assert stands(gate)["bot", "10 requests/hour"]["used"] == 2
        finally:
            stuck.resume()


def test_without_a_gate(gate: Gate) -> None:
    gate.terminate()
    told = slmgate(gate.home, "limits")
    assert (told.returncode, told.stdout, "The gate is not running" in told.stderr) == (3, "", True)
