"""Verdicts on a terminal: no line wider than it, also of a narrow one, and nothing that would steer it."""

from __future__ import annotations

import click
import pytest

from slmgate.cli import telling
from slmgate.control.config import load_text
from slmgate.control.trials.asked import Trial
from slmgate.control.trials.told import told
from slmgate.terms import Principal

TEXT = """\
models: {m: {instances: [{url: "http://h:1"}]}}
roles:
  partner:
    models: [m]
    networks: [203.0.113.0/24, 198.51.100.0/24, 192.0.2.0/24, 10.0.0.0/8]
    parameters: {max_tokens: {max: 512}}
    hours: "Mon-Fri 08:00-18:00 Europe/Berlin"
  open: {models: ["*"]}
"""


def lines(columns: int, **fields: object) -> list[str]:
    trial = Trial(model="m", at=1_795_510_800.0, **fields)  # type: ignore[arg-type]  # a test's fields
    who = Principal(id="p", name="bad\x1b[2Jname", roles=("partner", "open"))
    return [click.unstyle(line) for line in telling.lines(told(load_text(TEXT).unwrap(), who, trial), columns)]


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    found = lines(columns, address="203.0.113.9", parameters={"max_tokens": [900]})
    assert max(map(len, found)) <= columns
    assert not any("\x1b" in line for line in found)


def test_what_stands_in_it() -> None:
    wide, narrow = "\n".join(lines(120)), "\n".join(lines(50))
    assert "role open, its own: admits" in wide
    assert "role partner, its own: does not admit" in wide
    assert "NO  networks" in wide and "NO  networks" in narrow
    assert "      wants from 203.0.113.0/24" in narrow
    listed = "\n".join(lines(80, endpoint="models"))
    assert "it lists m" in listed and "shows m" in listed


def test_width(monkeypatch: pytest.MonkeyPatch) -> None:
    assert telling.width() == telling.WIDEST
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("slmgate.cli.telling.sys.stdout.isatty", lambda: True, raising=False)
    assert telling.width() == 60
