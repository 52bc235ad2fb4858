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
  open: {models: ["*"], limits: [60 requests/minute, {limit: 20k tokens/day, per: team}, 0.50 EUR/day, 600 gpu-seconds/day]}
teams: {t: {plan: p}}
plans: {p: {currency: EUR, prices: {m: {completion: 100/1M}}}}
"""


def lines(columns: int, **fields: object) -> list[str]:
    trial = Trial(model="m", at=1_795_510_800.0, **fields)  # type: ignore[arg-type]  # a test's fields
    who = Principal(id="p", name="bad\x1b[2Jname", team="t", roles=("partner", "open"))
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


def test_limits_with_their_figures() -> None:
    used = {"60 requests/minute": 59, "0.50 EUR/day": 0.4, "600 gpu-seconds/day": 600, "7 requests/day": 1}
    wide = lines(120, address="8.8.8.8", parameters={"max_tokens": [2000]}, used=used)
    assert wide[0] == "refused with quota_exceeded by roles.open.limits[2]"
    start = wide.index("limits")
    assert wide[start + 1 : start + 5] == [
        "  ok  roles.open.limits[0]  60 requests/minute   used 59 of 60, takes 1, then 60",
        "  ok  roles.open.limits[1]  20k tokens/day       used 0 of 20,000, takes 2,000, then 2,000",
        "  NO  roles.open.limits[2]  0.50 EUR/day         used 0.4 EUR of 0.5 EUR, takes 0.2 EUR: no room",
        "  NO  roles.open.limits[3]  600 gpu-seconds/day  used 600 of 600, takes 1: no room",
    ]
    assert "note: No limit of this request is called '7 requests/day'." in wide
    narrow = lines(50, address="8.8.8.8", parameters={"max_tokens": [20]}, used={"60 requests/minute": 9})
    assert max(map(len, narrow)) <= 50
    assert "      60 requests/minute: used 9 of 60, takes 1," in narrow
    assert any(line.split() == ["goes", "to", "m/h:1"] for line in narrow)


def test_width(monkeypatch: pytest.MonkeyPatch) -> None:
    assert telling.width() == telling.WIDEST
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("slmgate.cli.telling.sys.stdout.isatty", lambda: True, raising=False)
    assert telling.width() == 60
