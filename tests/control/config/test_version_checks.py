"""What is wrong between a model's versions and the other models, at its place in the file; `golden/` has the whole messages."""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text

TEXT = """
models:
  m: {%s, instances: [{url: "http://h:1"}]}
  n: {instances: [{url: "http://h:2"}]}
  secret: {hidden: true, instances: [{url: "http://h:3"}]}
"""
ROLES = 'roles: {tester: {models: ["*"]}}\nteams: {acme: {}}\n'


@pytest.mark.parametrize(
    ("options", "more", "faults"),
    [
        ("canary: {model: n}", "", []),
        ("canary: {model: secret}", "", []),
        ("canary: {model: m}", "", ["models.m.canary.model: 'm' is the model itself"]),
        ("canary: {model: o}", "", ["models.m.canary.model: there is no model 'o'"]),
        ("canary: {model: n, roles: [tester], teams: [acme]}", ROLES, []),
        ("canary: {model: n, roles: [x]}", ROLES, ["models.m.canary.roles: there is no role 'x'"]),
        ("canary: {model: n, roles: [x]}", "", ["models.m.canary.roles: there is no role 'x'"]),
        ("canary: {model: n, teams: [x]}", ROLES, ["models.m.canary.teams: there is no team 'x'"]),
        ("canary: {model: n, teams: [x]}", "", []),
        ("shadow: {model: secret}", "", []),
        ("shadow: {model: m}", "", ["models.m.shadow.model: 'm' is the model itself"]),
        ("shadow: {model: o}", "", ["models.m.shadow.model: there is no model 'o'"]),
        ("fallback: [n]", "", []),
        ("fallback: [secret]", "", ["models.m.fallback: 'secret' is hidden, so that nobody may use it"]),
    ],
)
def test_faults(options: str, more: str, faults: list[str]) -> None:
    assert [f"{one.option}: {one.problem}" for one in load_text(TEXT % options + more).faults] == faults
