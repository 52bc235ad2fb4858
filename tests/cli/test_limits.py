"""`slmgate limits`: what the admin API tells, as a table, CSV and JSON, over several pages, and the answer where no gate runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slmgate.cli import limits
from tests.tools.command import run

NOW = "2026-11-20T12:00:00.250000Z"


def stand(whose: str, limit: str, used: Any, amount: Any, share: float, **more: Any) -> dict[str, Any]:
    left = "0.75" if isinstance(used, str) else amount - used
    plain = {"name": "key.limits[0]", "unit": "requests", "currency": "", "whole": None, "raised": None, "raised_until": None}
    return {"whose": whose, "limit": limit, "used": used, "amount": amount, "left": left, "share": share, **plain, **more}


ALL = [
    stand("everybody", "50 concurrent", 3, 50, 0.06, name="limits[0]", unit="concurrent"),
    stand("=bot", "60 requests/minute", 54, 60, 0.9, whole="2026-11-20T12:01:00Z"),
    stand("rich", "1 EUR/day", "0.25", "1.00", 0.25, unit="cost", currency="EUR", whole="2026-11-21T00:00:00Z"),
    stand("more", "2 requests/hour", 9000, 9000, 1.0, raised="9k requests/hour", raised_until="2027-01-01T00:00:00Z"),
]


class Client:
    """An admin API with these pages."""

    running = True

    def __init__(self, pages: list[list[dict[str, Any]]]) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str, query: dict[str, Any] | None = None) -> object:
        if path == "/api/v1/status":
            return {"running": self.running}
        assert path == "/api/v1/limits" and query is not None
        self.asked.append({name: value for name, value in query.items() if value is not None})
        place = int(query["after"] or 0)
        return {"time": NOW, "limits": self.pages[place], "next": str(place + 1) if place + 1 < len(self.pages) else None}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client([ALL[:2], ALL[2:]])

    @contextmanager
    def session(*_: object) -> Iterator[Client]:
        yield made

    monkeypatch.setattr(limits, "session", session)
    return made


def test_a_table(client: Client) -> None:
    shown = run("limits")
    assert shown.exit_code == 0
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["whose", "where", "limit", "used", "left", "share", "whole", "again"],
        ["everybody", "limits[0]", "50", "concurrent", "3", "47", "6%", "-"],
        ["=bot", "key.limits[0]", "60", "requests/minute", "54", "6", "90%", "in", "60", "s"],
        ["rich", "key.limits[0]", "1", "EUR/day", "0.25", "EUR", "0.75", "EUR", "25%", "2026-11-21", "00:00"],
        [
            *("more", "key.limits[0]", "9k", "requests/hour", "until", "2027-01-01", "00:00,", "then", "2", "requests/hour"),
            *("9,000", "0", "100%", "-"),
        ],
    ]
    assert client.asked == [{"limit": 100}, {"limit": 100, "after": "1"}]


def test_csv(client: Client) -> None:
    assert client.pages
    assert run("limits", "--csv").stdout.splitlines() == [
        "whose,where,limit,unit,amount,used,left,share,whole",
        "everybody,limits[0],50 concurrent,concurrent,50,3,47,0.06,",
        "'=bot,key.limits[0],60 requests/minute,requests,60,54,6,0.9,2026-11-20T12:01:00Z",
        "rich,key.limits[0],1 EUR/day,EUR,1.00,0.25,0.75,0.25,2026-11-21T00:00:00Z",
        "more,key.limits[0],2 requests/hour,requests,9000,9000,0,1.0,",
    ]


def test_json_and_a_bound(client: Client) -> None:
    shown = run("limits", "--json", "--limit", "1", "--key", "bot", "--ip", "10.0.0.7")
    assert json.loads(shown.stdout) == {"time": NOW, "limits": ALL[:1]}
    assert "There are more" in shown.stderr
    assert client.asked == [{"limit": 1, "key": "bot", "address": "10.0.0.7"}]
    assert "more" not in run("limits", "--json", "--limit", "4").stderr


@pytest.mark.parametrize(("near", "share"), [("80%", 0.8), ("80", 0.8), ("99.5 %", 0.995), ("150%", 1.5)])
def test_those_that_are_near(near: str, share: float, client: Client) -> None:
    """All of them are looked at, and the most used ones come first."""
    shown = run("limits", "--near", near, "--json", "--limit", "2")
    assert [one["whose"] for one in json.loads(shown.stdout)["limits"]] == ["more", "=bot"]
    assert client.asked[0] == {"near": share, "limit": 1000}
    assert len(client.asked) == 2


def test_nothing_to_show(client: Client) -> None:
    client.pages = [[]]
    assert run("limits").stdout == "there are no limits\n"
    assert run("limits", "--near", "80%").stdout == "nothing is used to 80%\n"


@pytest.mark.parametrize("words", [("--near", "much"), ("--near", "-5%"), ("--near", ""), ("--csv", "--json"), ("--limit", "0")])
def test_misused(words: tuple[str, ...], client: Client) -> None:
    assert run("limits", *words).exit_code == 2
    assert client.asked == []


def test_no_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("limits")
    assert (ended.exit_code, ended.stdout, "The gate is not running" in ended.stderr) == (3, "", True)
