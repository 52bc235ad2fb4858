"""`slmgate doctor`: what it prints, and how it ends. What it looks at is tested in its room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from slmgate.cli import doctor
from slmgate.control.config.addresses import Origin
from slmgate.control.doctor import outside
from slmgate.control.doctor.findings import Finding


def run(*arguments: str) -> Result:
    app = typer.Typer()
    doctor.register(app)
    return CliRunner().invoke(app, list(arguments))


def written(folder: Path, more: str = "") -> str:
    path = folder / "slmgate.yaml"
    path.write_text(f'models: {{m: {{instances: [{{url: "http://127.0.0.1:9", bearer: canary}}]}}}}\n{more}')
    path.chmod(0o600)
    return str(path)


def test_a_gate_that_is_well(tmp_path: Path) -> None:
    result = run("-c", written(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith("0 bad, 0 to look at, ")
    assert not (tmp_path / "slmgate-data").exists(), "it only looks"


def test_a_weak_one(tmp_path: Path) -> None:
    file = written(tmp_path, "admin: {address: ':8081', plain_http: true}\n")
    Path(file).chmod(0o644)
    result = run("-c", file)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line[:5] for line in lines[:4:2]] == ["BAD  ", "BAD  "]
    assert lines[1].startswith("      -> ")
    assert "canary" not in result.stdout
    data = json.loads(run("-c", file, "--json").stdout)
    assert data["verdict"] == "bad"
    assert {one["check"] for one in data["findings"] if one["verdict"] == "bad"} == {"admin side", "secrets in files"}


def test_misused(tmp_path: Path) -> None:
    assert run("-c", str(tmp_path / "none.yaml")).exit_code == 2
    assert run("-c", written(tmp_path), "--url", "http://gate").exit_code == 2
    assert run("--outside", "--url", "gate").exit_code == 2
    assert run("-c", written(tmp_path, "wrong: 1\n")).exit_code == 1


def test_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Origin] = []

    def look(origin: Origin) -> list[Finding]:
        asked.append(origin)
        return [Finding("headers", "warn", "\x1b[31m", "do")]

    monkeypatch.setattr(outside, "look", look)
    file = written(tmp_path, "listen: [{address: '127.0.0.1:8443'}, {address: ':8080', plain_http: true}]\n")
    result = run("-c", file, "--outside")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert asked[0] == Origin("127.0.0.1", 8443)
    assert asked[1].port == 8080
    assert asked[1].host
    assert run("--outside", "--url", "https://gate.example.com").exit_code == 0
    assert asked[-1] == Origin("gate.example.com", 443, True)
