"""Policy tests run: what a case says that failed, and configurations whose own tests fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.config import load_text
from slmgate.control.trials import running
from slmgate.control.trials.cases import read_text
from slmgate.control.trials.running import Result, failures, load_tested, run

CONFIG = """\
models: {m: {instances: [{url: "http://h:1"}]}, n: {instances: [{url: "http://h:2"}]}}
roles:
  open: {models: ["*"], parameters: {max_tokens: {max: 64}}}
  counted: {models: [m], limits: [60 requests/minute]}
  near: {models: [m], networks: [10.0.0.0/8], hours: "Mon-Sun 08:00-18:00"}
teams: {t: {roles: [near]}}
keys: [{name: bot, roles: [open], hash: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}]
"""
USERS = """\
model: m
users:
  bot: {key: bot}
  gone: {key: gone}
  near: {team: t, address: 10.0.0.1}
  counted: {roles: [counted]}
  far: {roles: [near], at_home: no}
"""


def results(*cases: str) -> list[Result]:
    text = USERS.replace(", at_home: no", "") + "cases:\n" + "".join(f"  - {{{case}}}\n" for case in cases)
    tests = read_text(text, "p.yaml")
    assert tests.faults == ()
    return list(run(load_text(CONFIG).unwrap(), tests))


@pytest.mark.parametrize(
    "case",
    [
        "as: bot, expect: admit",
        "as: bot, expect: admit, role: open, rule: roles.open, settings: {max_tokens: 64}",
        "as: bot, parameters: {max_tokens: 65}, expect: refuse",
        'as: bot, parameters: {max_tokens: 65}, expect: parameter_not_allowed, rule: "*.max"',
        "as: near, model: n, expect: model_not_found",
        "as: near, at: 2026-11-24 08:00 UTC, expect: admit",
        "as: near, at: 2026-11-24 18:00 UTC, expect: permission_denied",
        "as: bot, endpoint: models, expect: admit, models: [n, m]",
        "as: far, address: 9.9.9.9, expect: refuse",
        "as: counted, used: {60 requests/minute: 59}, expect: admit",
        'as: counted, used: {"roles.counted.limits[0]": 60}, expect: rate_limit_exceeded, rule: "roles.counted.*"',
        'as: bot, expect: admit, route: "m/*"',
    ],
)
def test_passing(case: str) -> None:
    (result,) = results(case)
    assert result.passed, result.wrong


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        ("as: bot, expect: refuse", [("expect", "refuse", "admit")]),
        ("as: bot, expect: admit, parameters: {max_tokens: 65}", [("expect", "admit", "parameter_not_allowed")]),
        (
            "as: bot, expect: admit, role: near, rule: x, settings: {max_tokens: 9, n: 1}",
            [
                ("rule", "x", "roles.open"),
                ("role", "near", "open"),
                ("settings.max_tokens", "9", "64"),
                ("settings.n", "1", "not set"),
            ],
        ),
        ("as: bot, endpoint: models, expect: admit, models: []", [("models", "none", "m, n")]),
        ("as: bot, endpoint: chat, expect: admit, models: [m]", [("models", "m", "none")]),
        ("as: near, model: x, expect: model_not_found, rule: y", [("rule", "y", "none")]),
        (
            "as: counted, used: {60 requests/hour: 60}, expect: admit",
            [("used", "60 requests/hour", "no limit that this request comes under")],
        ),
        ("as: counted, used: {60 requests/minute: 60}, expect: admit", [("expect", "admit", "rate_limit_exceeded")]),
        ("as: bot, expect: admit, route: n/*", [("route", "n/*", "m/h:1")]),
        ("as: bot, endpoint: models, expect: admit, route: n/*", [("route", "n/*", "none")]),
        ("as: gone, expect: admit", [("as", "gone", "the configuration declares no key gone")]),
    ],
)
def test_failing(case: str, wrong: list[tuple[str, str, str]]) -> None:
    (result,) = results(case)
    assert list(result.wrong) == wrong


def test_a_verdict_that_hangs_on_what_is_not_said() -> None:
    for case, name in (("as: near, expect: admit", "the time"), ("as: far, expect: refuse", "the address")):
        (result,) = results(case)
        assert f"depends on {name}" in result.wrong[0][2]


def test_names() -> None:
    found = results("as: bot, expect: admit, parameters: {max_tokens: 5}", "as: bot, name: the name, expect: admit")
    assert [result.name for result in found] == ["bot: chat m max_tokens=5", "the name"]
    assert [(result.line, result.option) for result in found] == [(9, "cases[0]"), (10, "cases[1]")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "slmgate.yaml"
    path.write_text(CONFIG + "policy_tests: [p.yaml]\n")
    return path


def test_a_configuration_that_fails_its_tests_has_faults(file: Path) -> None:
    tests = file.parent / "p.yaml"
    loaded = load_tested(file)
    assert "cannot be read" in loaded.faults[0].problem
    tests.write_text("users: {bot: {key: bot}}\ncases:\n  - {as: bot, model: m, expect: admit}\n")
    loaded = load_tested(file)
    assert loaded.faults == ()
    assert loaded.config is not None
    assert loaded.files.keys() == {file, tests}
    tests.write_text("users: {bot: {key: bot}}\ncases:\n  - {as: bot, model: x, expect: admit}\n")
    loaded = load_tested(file)
    assert loaded.config is None
    (fault,) = loaded.faults
    assert (fault.file, fault.line, fault.excerpt.strip()) == (str(tests), 3, "- {as: bot, model: x, expect: admit}")
    assert fault.problem == "the policy test 'bot: chat x' fails: expect: admit expected, model_not_found found"
    tests.write_text("users: 3\n")
    assert load_tested(file).config is None


def test_without_tests_and_with_faults_it_loads_as_ever(file: Path) -> None:
    file.write_text(CONFIG)
    assert load_tested(file).config is not None
    file.write_text("models: 1")
    assert load_tested(file).config is None


def test_what_is_told_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / "p.yaml").write_text(
        "users: {bot: {key: bot}}\ncases:\n" + "  - {as: bot, model: x, expect: admit}\n" * (running.MAX_FAULTS + 5)
    )
    faults = load_tested(file).faults
    assert len(faults) == running.MAX_FAULTS + 1
    assert "more than 20 policy tests fail" in faults[-1].problem
    times = iter((0.0, 0.0, running.BUDGET + 1))
    config = load_text(CONFIG + "policy_tests: [p.yaml]\n", base_dir=file.parent).unwrap()
    assert "take longer than" in list(failures(config, lambda: next(times)))[-1].problem
