"""`slmgate test --find-edges`: what it prints is a file of tests that passes as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tools.command import run

CONFIG = """\
models: {m: {instances: [{url: "http://h:1"}]}, n: {instances: [{url: "http://h:2"}]}}
roles:
  wide: {models: ["*"]}
  narrow:
    models: [m]
    endpoints: [chat, models]
    parameters: {max_tokens: {max: 64}, n: {max: 1}, logprobs: deny}
    networks: [203.0.113.0/24, 203.0.113.128/25]
    hours: "Mon-Fri 22:00-06:00 Europe/Berlin"
    stream: false
    max_body: 64KiB
    max_context: 1000
  lister: {models: [m], endpoints: [models]}
teams: {acme: {roles: [narrow]}, shop: {roles: [narrow, wide]}}
keys: [{name: bot, roles: [narrow], expires: 2027-01-01,
   hash: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slmgate.yaml").write_text(CONFIG)
    return tmp_path


def test_it_can_be_pasted(home: Path) -> None:
    ended = run("test", "--find-edges", "--at", "2026-11-24")
    assert ended.exit_code == 0, ended.output
    assert ended.stdout == run("test", "--find-edges", "--at", "2026-11-24").stdout
    (home / "edges.yaml").write_text(ended.stdout)
    again = run("test", "edges.yaml")
    assert again.exit_code == 0, again.output
    assert len(ended.stdout.splitlines()) > 60
    assert ended.stdout.startswith("# 4 findings\n# never     roles.lister: no team and no declared key has it")


def test_json() -> None:
    found = json.loads(run("test", "--find-edges", "--json").stdout)
    assert {finding["kind"] for finding in found["findings"]} == {"never", "redundant", "shadowed", "widens"}
    assert found["users"]["bot"] == {"key": "bot"}
    assert any(case["expect"] == "invalid_api_key" for case in found["cases"])
    assert any(case.get("models") == ["m"] for case in found["cases"])


def test_a_moment_that_is_none() -> None:
    ended = run("test", "--find-edges", "--at", "noon")
    assert (ended.exit_code, "is not a time" in ended.stderr) == (2, True)
