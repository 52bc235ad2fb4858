"""Files of policy tests: what is read from them, tables among it, and the faults that they can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.trials import cases
from slmgate.control.trials.cases import read_tests, read_text

USERS = "users: {bot: {roles: [a]}}\n"


def test_a_whole_file() -> None:
    tests = read_text(
        """\
at: 2026-11-24 09:00 Europe/Berlin
model: m
users:
  bot: {key: acme-bot, address: 203.0.113.9}
  eve: {roles: [a, b], team: t, networks: [10.0.0.0/8]}
cases:
  - as: bot
    name: the first
    parameters: {max_tokens: 5, user: "7"}
    expect: admit
    settings: {max_tokens: 5}
  - {as: eve, endpoint: models, address: "::1", at: 2026-11-24T09:00:00Z, expect: admit, models: []}
""",
        "p.yaml",
    )
    assert tests.faults == ()
    assert tests.content is not None
    first, second = tests.cases
    assert (first.line, first.column, first.option) == (7, 5, "cases[0]")
    assert (first.case.user, first.case.parameters, first.case.expect) == ("bot", {"max_tokens": 5, "user": "7"}, "admit")
    assert (second.line, second.case.models, second.case.at) == (12, (), 1_795_510_800.0)
    assert first.case.models == ("*",)
    assert tests.content.users["eve"].networks == ("10.0.0.0/8",)
    assert tests.content.at == 1_795_507_200.0


def test_tables() -> None:
    tests = read_text(
        USERS
        + """\
cases:
  - endpoint: chat
    columns: [as, model, parameters.max_tokens, parameters.n, expect]
    rows:
      - [bot, m, 1, ~, admit]
      - [bot, m, null, 2, refuse]
  - {as: bot, model: m, expect: admit}
""",
        "p.yaml",
    )
    assert tests.faults == ()
    assert [(placed.line, placed.case.parameters, placed.case.expect) for placed in tests.cases] == [
        (6, {"max_tokens": 1}, "admit"),
        (7, {"n": 2}, "refuse"),
        (8, {}, "admit"),
    ]
    assert tests.cases[0].case.endpoint == "chat"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "the file is empty"),
        ("a: ]", 1, "not YAML"),
        ("[]", 1, "not a mapping"),
        ("users: {}\ncases: []", 1, "the mapping is empty"),
        (USERS + "cases: 3", 2, "not a list"),
        (USERS + "cases:\n  - {as: bot, expect: admit, modell: m}", 3, "unknown option 'modell'"),
        (USERS + "cases:\n  - {as: bot, expect: yes}", 3, "'yes' is not one of the accepted values"),
        (USERS + "cases:\n  - {as: bot}", 3, "expect is missing"),
        (USERS + "cases:\n  - {expect: admit}", 3, "as is missing"),
        (USERS + "cases:\n  - {as: eve, expect: admit}", 3, "there is no user 'eve'"),
        (USERS + "cases:\n  - {as: bot, expect: refuse, role: a}", 3, "only what is admitted has a role"),
        (USERS + "cases:\n  - {as: bot, expect: refuse, route: m/*}", 3, "only what is admitted has a role"),
        (USERS + "cases:\n  - {as: bot, expect: refuse, used: {60 requests/minute: many}}", 3, "'many' is not a number"),
        (USERS + "cases:\n  - {as: bot, expect: refuse, at: noon}", 3, "'noon' is not a time that comes"),
        (USERS + "cases:\n  - {as: bot, expect: refuse, address: here}", 3, "'here' is not an address"),
        (USERS + "cases:\n  - 7", 3, "not a mapping"),
        (USERS + "cases:\n  - {columns: [as, expect]}", 3, "needs columns and rows"),
        (USERS + "cases:\n  - columns: [as, expect]\n    rows:\n      - [bot]", 5, "a row of this table is a list of 2"),
        (USERS + "cases:\n  - columns: [as, [x]]\n    rows:\n      - [bot, admit]", 5, "a row of this table"),
        (USERS + "cases:\n  - columns: [as, expect]\n    rows: [7]", 4, "a row of this table"),
        (USERS + "cases:\n  - columns: [as, expect, cow.n]\n    rows:\n      - [bot, admit, 1]", 5, "unknown option 'cow'"),
        ("users: {bot: {key: k, team: t}}\ncases: [{as: bot, expect: admit}]", 1, "a key has roles, a team"),
    ],
)
def test_faults(text: str, line: int, said: str) -> None:
    tests = read_text(text, "p.yaml")
    assert tests.content is None
    assert tests.cases == ()
    assert any(fault.line == line and said in fault.problem for fault in tests.faults), tests.faults


def test_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "MAX_CASES", 1)
    text = USERS + "cases:\n  - {as: bot, expect: admit}\n"
    assert read_text(text, "p").faults == ()
    assert "more than 1 case" in read_text(text + "  - {as: bot, expect: admit}\n", "p").faults[0].problem


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.yaml"
    assert "cannot be read" in read_tests(path).faults[0].problem
    path.write_bytes(b"\xff")
    assert "not UTF-8" in read_tests(path).faults[0].problem
    path.write_text(USERS + "cases: [{as: bot, expect: admit}]\n")
    assert read_tests(path).content is not None
    monkeypatch.setattr(cases, "MAX_BYTES", 9)
    assert "larger" in read_tests(path).faults[0].problem


def test_kinds_describe_themselves() -> None:
    for kind in (cases.When(), cases.From()):
        assert kind.own_schema() == {"type": "string"}
        assert kind.own_values()
