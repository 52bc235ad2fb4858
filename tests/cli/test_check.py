"""`slmgate check`: exit codes, text and data.

What is a fault is tested with the configuration room.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from slmgate.cli import check
from slmgate.control.config.trust_checks import UNVERIFIED

RIGHT = 'models: {m: {instances: [{url: "http://h:1"}]}}\n'
WRONG = RIGHT + "workers: 0\nbogus: 1\n"


def app() -> typer.Typer:
    made = typer.Typer()
    check.register(made)
    made.callback()(lambda: None)
    return made


def run(tmp_path: Path, text: str, *arguments: str) -> tuple[int, str]:
    path = tmp_path / "slmgate.yaml"
    path.write_text(text)
    result = CliRunner().invoke(app(), ["check", "-c", str(path), *arguments])
    return result.exit_code, result.stdout.replace(str(tmp_path), "DIR")


def test_right(tmp_path: Path) -> None:
    assert run(tmp_path, RIGHT) == (0, "DIR/slmgate.yaml is right: 1 model, 1 instance, 0 declared keys\n")


def test_wrong(tmp_path: Path) -> None:
    code, output = run(tmp_path, WRONG)
    assert code == 1
    assert "DIR/slmgate.yaml:2:10: workers:" in output
    assert output.endswith("\n2 faults\n")


def test_files_of_instances(tmp_path: Path) -> None:
    """They are looked into too; one that is not there may come."""
    text = "models: {m: {instances: [{file: instances.yaml}]}}\n"
    assert run(tmp_path, text) == (0, "DIR/slmgate.yaml is right: 1 model, 1 instance, 0 declared keys\n")
    (tmp_path / "instances.yaml").write_text("- http://10.0.0.5:8000\n")
    assert run(tmp_path, text)[0] == 0
    (tmp_path / "instances.yaml").write_text("- http://10.0.0.5:8000\n- http://169.254.169.254\n")
    code, output = run(tmp_path, text)
    assert (code, "DIR/instances.yaml:2:3: [1]: 'http://169.254.169.254' is where no instance may be" in output) == (1, True)
    code, output = run(tmp_path, text, "--json")
    assert (code, json.loads(output)["faults"][0]["file"]) == (1, "DIR/instances.yaml")


def test_json(tmp_path: Path) -> None:
    code, output = run(tmp_path, RIGHT, "--json")
    assert (code, json.loads(output)) == (0, {"file": "DIR/slmgate.yaml", "ok": True, "faults": [], "warnings": []})
    code, output = run(tmp_path, WRONG, "--json")
    report = json.loads(output)
    assert (code, report["ok"]) == (1, False)
    assert [(fault["line"], fault["column"]) for fault in report["faults"]] == [(2, 10), (3, 1)]


def test_who_is_not_verified_is_said_loudly(tmp_path: Path) -> None:
    text = 'models: {m: {instances: [{url: "https://h:1", tls: {verify: false}}]}}\n'
    path = tmp_path / "slmgate.yaml"
    path.write_text(text)
    result = CliRunner().invoke(app(), ["check", "-c", str(path)])
    assert (result.exit_code, result.stderr) == (0, f"WARNING: m/h:1: {UNVERIFIED}\n")
    code, output = run(tmp_path, text, "--json")
    assert (code, json.loads(output)["warnings"]) == (0, [f"m/h:1: {UNVERIFIED}"])


def test_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["check"], ["check", "-c", "none.yaml"], ["check", "-c", "."], ["check", "--bogus"]):
        result = CliRunner().invoke(app(), arguments)
        assert result.exit_code == 2
    assert "slmgate init" in CliRunner().invoke(app(), ["check"]).stderr


def refuse(path: object, mode: int) -> bool:
    return False


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.yaml", "no such file"), (".", "a directory"), ("x/y.yaml", "no such file"), ("x", "cannot be read")],
)
def test_no_file_that_can_be_read(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x").write_text(RIGHT)
    monkeypatch.setattr("slmgate.cli.check.os.access", refuse)  # the superuser may read all
    text = CliRunner().invoke(app(), ["check", "-c", name])
    assert (text.exit_code, message in text.stderr, text.stdout) == (2, True, "")
    data = CliRunner().invoke(app(), ["check", "-c", name, "--json"])
    report = json.loads(data.stdout)
    assert (data.exit_code, report["ok"], report["file"]) == (2, False, name)
    assert message in report["faults"][0]["problem"]


def test_a_folder_that_may_not_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    need = check.need_file
    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(typer.Exit) as left:
        need(tmp_path / "slmgate.yaml")
    assert left.value.exit_code == 2


def test_the_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slmgate.yaml").write_text(RIGHT)
    assert CliRunner().invoke(app(), ["check"]).stdout.startswith("slmgate.yaml is right")
