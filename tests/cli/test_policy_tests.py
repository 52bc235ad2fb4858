"""`slmgate test`: what passing and failing tests print, as text, JSON and XML, and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from slmgate.cli import policy_tests
from tests.tools.command import run

CONFIG = """\
models: {m: {instances: [{url: "http://h:1"}]}, n: {instances: [{url: "http://h:2"}]}}
roles: {a: {models: [m], parameters: {n: {max: 1}}}}
keys: [{name: bot, roles: [a], hash: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}]
"""
GOOD = "users: {bot: {key: bot}}\ncases:\n  - {as: bot, model: m, expect: admit}\n"
BAD = GOOD + "  - {as: bot, model: n, expect: admit, role: a}\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slmgate.yaml").write_text(CONFIG)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def test_passing() -> None:
    ended = run("test", "good.yaml")
    assert ended.exit_code == 0, ended.output
    assert re.fullmatch(r"1 passed in \d+\.\d\ds\n", ended.stdout)


def test_failing() -> None:
    ended = run("test", "good.yaml", "bad.yaml")
    assert ended.exit_code == 1
    lines = ended.stdout.splitlines()
    assert lines[:5] == [
        "FAILED bad.yaml:4: bot: chat n",
        "  - expect: admit",
        "  + expect: model_not_found",
        "  - role: a",
        "  + role: none",
    ]
    assert "    NO  models  m  had n" in lines
    assert re.fullmatch(r"1 failed, 2 passed in \d+\.\d\ds", lines[-1])


def test_rules_are_told_of_the_first_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_tests, "MAX_TOLD", 1)
    (home / "bad.yaml").write_text(BAD + "  - {as: bot, model: n, expect: admit}\n")
    ended = run("test", "bad.yaml")
    assert (ended.stdout.count("FAILED"), ended.stdout.count("whatever the role")) == (2, 1)


def test_json() -> None:
    report = json.loads(run("test", "bad.yaml", "--json").stdout)
    assert (report["passed"], report["failed"]) == (1, 1)
    good, bad = report["cases"]
    assert (good["explanation"], good["wrong"]) == (None, [])
    assert bad["wrong"][0] == {"option": "expect", "expected": "admit", "got": "model_not_found"}
    assert bad["explanation"]["verdict"]["code"] == "model_not_found"


def test_junit(home: Path) -> None:
    assert run("test", "bad.yaml", "--junit", "out.xml").exit_code == 1
    suite = ElementTree.parse(home / "out.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None and "admit expected" in str(failure.get("message"))
    ended = run("test", "bad.yaml", "--junit", "no/such/out.xml")
    assert (ended.exit_code, "cannot be written" in ended.stderr) == (2, True)


def test_the_configuration_names_them(home: Path) -> None:
    ended = run("test")
    assert (ended.exit_code, "has no policy_tests" in ended.stderr) == (2, True)
    (home / "slmgate.yaml").write_text(CONFIG + "policy_tests: [bad.yaml]\n")
    assert run("test").exit_code == 1
    ended = run("check")
    assert (ended.exit_code, "the policy test 'bot: chat n' fails" in ended.stdout) == (1, True)
    (home / "slmgate.yaml").write_text(CONFIG + "policy_tests: [good.yaml]\n")
    assert run("test").exit_code == run("check").exit_code == 0


def test_files_that_cannot_be_used(home: Path) -> None:
    (home / "odd.yaml").write_text("cases: 3\n")
    ended = run("test", "odd.yaml")
    assert (ended.exit_code, "odd.yaml:1:8" in ended.stderr) == (2, True)
    assert run("test", "none.yaml").exit_code == 2
    assert run("test", "good.yaml", "-c", "none.yaml").exit_code == 2


def test_nobody_has_such_a_key(home: Path) -> None:
    (home / "bad.yaml").write_text("users: {bot: {key: gone}}\ncases: [{as: bot, model: m, expect: admit}]\n")
    ended = run("test", "bad.yaml")
    assert "  + as: the configuration declares no key gone" in ended.stdout
