"""A command's program is looked for where it will be; what faults of commands look like is among the golden files."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.config import ConfigFault, load_text
from slmgate.control.config.engine_checks import program


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def faults(instance: str, base: Path, path: Path | None = None) -> tuple[ConfigFault, ...]:
    return load_text(f"models: {{m: {{instances: [{instance}]}}}}", base_dir=base, env={"PATH": str(path or base)}).faults


def test_where_a_program_is_looked_for(tmp_path: Path) -> None:
    there = executable(tmp_path / "bin/llama")
    plain = tmp_path / "bin/notes"
    plain.touch()
    env = {"PATH": str(tmp_path / "bin")}
    assert program("llama", Path("/"), env) == str(there)
    assert program("bin/llama", tmp_path, env) == program(str(there), Path("/"), {}) == str(there)
    for name in ("notes", "none", "bin/llama"):
        assert program(name, Path("/"), env) is None
    for name in ("bin/notes", "bin/none", "bin/"):
        assert program(name, tmp_path, env) is None


@pytest.mark.parametrize(
    ("instance", "problem", "hint"),
    [
        ('{command: [llama, "{port}"]}', "", ""),
        ("{command: [llama], port: 9000}", "", ""),
        ('{command: [llama], environment: {HOST: "127.0.0.1:{port}"}}', "", ""),
        ('{command: [./run, "{port}"], directory: sub}', "", ""),
        ("{command: [llama]}", "the command is told no port", "write {port} where it takes one, or give its port"),
        ('{command: [lama, "{port}"]}', "there is no program 'lama' in the PATH", "write its whole path"),
        ('{command: [./run, "{port}"]}', "run' is not there", "relative paths count from directory"),
        ('{command: [./sub, "{port}"]}', "sub' is not a program that may be run", "relative paths count"),
        ('{command: [./plain, "{port}"]}', "plain' is not a program that may be run", "chmod +x"),
        ('{command: [llama, "{port}"], directory: none}', "there is no directory", "make it"),
        ('{url: "http://a:1", idle: 5s}', "idle is never looked at", "an instance with a command"),
        ('{command: ["", "{port}"]}', "first word is empty", "write the program"),
    ],
)
def test_one_command(tmp_path: Path, instance: str, problem: str, hint: str) -> None:
    executable(tmp_path / "llama")
    executable(tmp_path / "sub/run")
    (tmp_path / "plain").touch()
    found = faults(instance, tmp_path)
    if not problem:
        assert found == ()
        return
    (fault,) = found
    assert problem in fault.problem and hint in fault.hint and fault.line == 1


def test_a_port_belongs_to_one(tmp_path: Path) -> None:
    executable(tmp_path / "llama")
    one, other = "{command: [llama, a], port: 9000}", "{command: [llama, b], port: 9000}"
    (fault,) = faults(f"{one}, {other}", tmp_path)
    assert fault.problem == "9000 is another command's port already"
    assert faults(f"{one}, {{dns: a.example, port: 9000}}", tmp_path) == ()


def test_of_a_command_with_a_bad_word_only_that_is_said(tmp_path: Path) -> None:
    (fault,) = faults('{command: [nowhere, "${env:NONE}"]}', tmp_path)
    assert "NONE" in fault.problem
