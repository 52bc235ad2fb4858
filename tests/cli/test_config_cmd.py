"""`slmgate config show|schema|sample`: what they print loads again, and no secret is in it.

The making of these texts is tested with the configuration room.
"""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner, Result

from slmgate.cli import config_cmd
from slmgate.control.config import load_text
from slmgate.control.config.schema import schema

TEXT = 'models: {m: {instances: [{url: "http://h:1", bearer: canary}]}}\n'


def run(*arguments: str) -> Result:
    app = typer.Typer()
    config_cmd.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["config", *arguments])


def test_show(tmp_path: Path) -> None:
    path = tmp_path / "slmgate.yaml"
    path.write_text(TEXT)
    result = run("show", "-c", str(path))
    assert result.exit_code == 0
    assert "canary" not in result.stdout
    assert load_text(result.stdout).unwrap().models["m"].instances[0].bearer == "***"
    data = json.loads(run("show", "-c", str(path), "--json").stdout)
    assert data["state_dir"] == str(tmp_path / "slmgate-data")


def test_show_a_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "slmgate.yaml"
    path.write_text(TEXT + "bogus: 1")
    result = run("show", "-c", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "bogus" in result.stderr
    assert run("show", "-c", str(tmp_path / "none")).exit_code == 2


def test_schema_and_sample() -> None:
    assert json.loads(run("schema").stdout) == schema()
    assert load_text(run("sample").stdout).config is not None
