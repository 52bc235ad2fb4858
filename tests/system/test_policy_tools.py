"""Policy tests, explain and replay on a gate of real processes: what blocks a reload or a start, and a request that really was.

What the commands print is tested in tests/cli; here is what only a running gate and its ledger show.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.system.conftest import Launch
from tests.system.test_commands import slmgate
from tests.tools.gate import ROOT, SECRET, Gate, digest, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ask, request

ROLES: dict[str, Any] = {
    "partner": {"models": ["tiny"], "endpoints": ["chat", "models"], "parameters": {"max_tokens": {"max": 64}}}
}
KEYS = [{"name": "main", "roles": ["partner"], "hash": digest(SECRET)}]
GOOD = (
    "users: {main: {key: main}}\ncases:\n  - {name: a chat, as: main, model: tiny, expect: admit, settings: {max_tokens: 64}}\n"
)
BAD = GOOD + "  - {name: what cannot be, as: main, model: tiny, endpoint: embeddings, expect: admit}\n"


@pytest.fixture
def gate(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> Gate:
    (tmp_path / "policies.test.yaml").write_text(GOOD)
    return launch(
        {"tiny": model(upstream.url)}, workers=1, roles=ROLES, keys=KEYS, policy_tests=[str(tmp_path / "policies.test.yaml")]
    )


def wanting(tokens: int, id: str) -> bytes:
    """A chat that asks for an answer of so many tokens."""
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}).encode()
    return request(body, secret=SECRET, headers=(f"X-Request-Id: {id}",))


def limit(gate: Gate) -> int:
    """What the gate gives a request that sets no length."""
    told = slmgate(gate.home, "explain", "--as", "main", "--model", "tiny", "--json")
    assert told.returncode == 0, told.stderr
    return int(json.loads(told.stdout)["verdict"]["settings"]["max_tokens"])


def test_a_failing_case_blocks_a_reload(gate: Gate, tmp_path: Path) -> None:
    assert limit(gate) == 64
    roles = {"partner": ROLES["partner"] | {"parameters": {"max_tokens": {"max": 32}}}}
    gate.write(roles=roles)
    eventually(lambda: "the policy test 'a chat' fails" in gate.text(), 5, "the failing case is told")
    assert "settings.max_tokens: 64 expected, 32 found" in gate.text()
    assert limit(gate) == 64, "the old configuration stays in force"
    checked = slmgate(gate.home, "check")
    assert (checked.returncode, "the policy test 'a chat' fails" in checked.stdout) == (1, True)
    tests = tmp_path / "policies.test.yaml"
    tests.write_text(GOOD.replace("64", "32"))  # the file of tests is watched, too
    eventually(lambda: limit(gate) == 32, 5, "the configuration is taken once its tests pass", 0.2)
    tests.write_text(BAD)
    eventually(lambda: "what cannot be" in gate.text(), 5, "a test that is changed is run")
    assert limit(gate) == 32


def test_a_failing_case_blocks_a_start(gate: Gate, tmp_path: Path) -> None:
    assert gate.terminate() == 0
    (tmp_path / "policies.test.yaml").write_text(BAD)
    started = slmgate(gate.home, "serve")
    assert started.returncode == 1
    assert "the policy test 'what cannot be' fails: expect: admit expected, permission_denied found" in started.stderr
    assert "not started" in started.stderr


def test_a_past_request_is_explained(gate: Gate) -> None:
    for name, tokens, status in (("short", 20, 200), ("long", 65, 400)):
        assert ask(gate.port, wanting(tokens, name)).status == status
    gate.receipts(["short", "long"])
    told = slmgate(gate.home, "explain", "--request", "long")
    assert told.returncode == 0, told.stderr
    assert "verdict     refuse by roles.partner.parameters.max_tokens.max" in told.stdout
    assert "parameters  max_tokens=65" in told.stdout
    assert "what differs today" not in told.stdout
    past = json.loads(slmgate(gate.home, "explain", "--request", "short", "--json").stdout)
    assert (past["receipt"]["rule"], past["today"]["verdict"]["rule"]) == ("roles.partner", "roles.partner")
    assert past["differs"] == []
    away = slmgate(gate.home, "explain", "--request", "nobody's")
    assert away.returncode == 1
    assert gate.terminate() == 0
    offline = slmgate(gate.home, "explain", "--request", "long")  # no gate runs: the file and the store answer
    assert (offline.returncode, "refuse by roles.partner" in offline.stdout) == (0, True), offline.stderr


def test_a_ledger_is_replayed(gate: Gate) -> None:
    for number in range(6):
        assert ask(gate.port, wanting(10 * (number + 1), f"n{number}")).status == 200
    gate.receipts([f"n{number}" for number in range(6)])
    proposal = gate.config | {"roles": {"partner": ROLES["partner"] | {"parameters": {"max_tokens": {"max": 40}}}}}
    proposal.pop("policy_tests")
    (gate.home / "new.yaml").write_text(yaml.safe_dump(proposal))
    told = slmgate(gate.home, "replay", "--since", "1h", "-c", "new.yaml", "--json")
    assert told.returncode == 1, told.stderr
    report = json.loads(told.stdout)
    assert (report["judged"], report["same"], report["refused"]) == (6, 4, 2)
    assert report["changes"][0]["rule"] == "roles.partner.parameters.max_tokens.max"
    assert slmgate(gate.home, "replay", "--since", "1h", "-c", "slmgate.yaml").returncode == 0
    assert gate.terminate() == 0
    again = slmgate(gate.home, "replay", "--since", "1h", "-c", "new.yaml", "--json")
    assert json.loads(again.stdout)["changes"] == report["changes"]


def test_limits_are_told_as_the_road_counts_them(launch: Launch, upstream: MockUpstream) -> None:
    """What the gate answers where a limit is used up, and what `explain` says with the same use; then the ledger replayed."""
    limits = [{"limit": "2 requests/hour"}, {"limit": "1k tokens/day", "on_excess": "clamp"}]
    roles = {"partner": ROLES["partner"] | {"limits": limits}}
    gate = launch({"tiny": model(upstream.url)}, workers=1, roles=roles, keys=KEYS)
    assert [ask(gate.port, wanting(60, f"n{number}")).status for number in range(2)] == [200, 200]
    refused = ask(gate.port, wanting(60, "n2"))
    row = gate.receipts(["n0", "n1", "n2"])["n2"]
    words = ("explain", "--as", "main", "--model", "tiny", "--param", "max_tokens=60", "--used", "2 requests/hour=2", "--json")
    told = slmgate(gate.home, *words)
    assert told.returncode == 1, told.stderr
    verdict = json.loads(told.stdout)["verdict"]
    assert (refused.status, refused.code) == (429, verdict["code"])
    assert (
        (row["reason"], row["rule"]) == (verdict["code"], verdict["rule"]) == ("rate_limit_exceeded", "roles.partner.limits[0]")
    )
    said = refused.json()["error"]["message"]
    assert said.partition("Try again")[0] == verdict["message"].partition("Try again")[0]
    past = slmgate(gate.home, "explain", "--request", "n2")
    assert "Then it was refused with rate_limit_exceeded by roles.partner.limits[0]" in past.stdout
    proposal = gate.config | {"roles": {"partner": ROLES["partner"] | {"limits": ["1 requests/hour"]}}}
    (gate.home / "new.yaml").write_text(yaml.safe_dump(proposal))
    report = json.loads(slmgate(gate.home, "replay", "--since", "1h", "-c", "new.yaml", "--json").stdout)
    assert (report["judged"], report["limited"], report["same"]) == (3, 1, 2)


def test_what_does_not_answer(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "slmgate", "explain", "--as", "x", "--model", "m", "--admin", "http://127.0.0.1:1"]
    ended = subprocess.run(
        words,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src"), "SLMGATE_ADMIN_KEY": "x"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, "does not answer" in ended.stderr) == (3, True)
