"""What `slmgate top` shows, from answers as the admin API gives them: a quiet gate, a busy one, and what is wrong first."""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.cli.top_figures import HEADS, NUMBERS, TABLES, by_column, picture

STATUS: dict[str, Any] = {"draining": False, "workers": [{"ready": True}], "faults": [], "ledger_lag": 0.1}
MODEL: dict[str, Any] = {"model": "tiny", "ready": True, "in_flight": 3, "queued": 2}
INSTANCE: dict[str, Any] = {"id": "http://10.0.0.5:8000", "model": "tiny", "in_flight": 3, "state": "healthy", "draining": False}
REQUEST: dict[str, Any] = {
    "id": "r1",
    "client": "ada",
    "model": "tiny",
    "instance": "http://10.0.0.5:8000",
    "endpoint": "chat",
    "state": "streaming",
    "position": None,
    "seconds": 1.25,
    "stream": True,
    "tokens": 1234,
    "address": "192.0.2.7",
}
QUIET: dict[str, Any] = {
    "total": 0,
    "requests": [],
    "clients": [],
    "models": [{**MODEL, "in_flight": 0, "queued": 0}],
    "instances": [],
}
BUSY: dict[str, Any] = {
    "total": 5,
    "requests": [
        REQUEST,
        {**REQUEST, "id": "r2", "client": None, "state": "queued", "position": 3, "stream": False, "instance": None},
    ],
    "clients": [{"client": "ada", "in_flight": 4, "queued": 1}, {"client": "", "in_flight": 1, "queued": 1}],
    "models": [MODEL],
    "instances": [INSTANCE, {**INSTANCE, "id": "http://10.0.0.6:8000", "in_flight": 1, "draining": True}],
}
NOTHING: dict[str, Any] = {"rows": []}


def used(client: str | None, model: str, requests: int, tokens: int, refused: int = 0, errors: int = 0) -> dict[str, Any]:
    return {
        "group": {"client": client, "model": model},
        "requests": requests,
        "total_tokens": tokens,
        "refused": refused,
        "errors": errors,
    }


USED = {
    "rows": [
        used("ada", "tiny", 90, 6000, 1),
        used("ada", "other", 10, 0),
        used("bob", "tiny", 20, 60, errors=2),
        used(None, "", 1, 0, 1),
    ]
}
TOOK = {
    "rows": [
        {"name": "tiny", "figures": {"latency": {"first_byte": {"p50": 45_000, "p95": 1_250_000}, "speed": {"p50": 1234.5}}}}
    ]
}


def test_a_quiet_gate() -> None:
    found = picture(QUIET, NOTHING, NOTHING, STATUS)
    assert found.head == "ready  0.0 requests/s  0 tokens/s  0 under way  0 queued  0 refused, 0 failed in a minute"
    assert found.rows == {
        "requests": [],
        "clients": [],
        "models": [("tiny", ("tiny", "ready", *["0"] * 6, "-", "-", "-"))],
        "instances": [],
    }


def test_a_busy_gate() -> None:
    found = picture(BUSY, USED, TOOK, STATUS)
    assert found.head == "ready  2.0 requests/s  101 tokens/s  5 under way  2 queued  2 refused, 2 failed in a minute"
    assert found.rows["requests"] == [
        ("r1", ("ada", "tiny", "streaming", "1.2 s", "1,234", "http://10.0.0.5:8000", "chat", "192.0.2.7")),
        ("r2", ("-", "tiny", "queued, 3.", "1.2 s", "-", "-", "chat", "192.0.2.7")),
    ]
    assert found.rows["clients"] == [
        ("ada", ("ada", "4", "1", "100", "6,000", "1", "0")),
        ("(no key)", ("(no key)", "1", "1", "1", "0", "1", "0")),
        ("bob", ("bob", "0", "0", "20", "60", "0", "2")),
    ]
    assert found.rows["models"] == [
        ("tiny", ("tiny", "ready", "3", "2", "110", "6,060", "1", "2", "45 ms", "1.25 s", "1,234")),
    ]
    assert found.rows["instances"] == [
        ("http://10.0.0.5:8000", ("http://10.0.0.5:8000", "tiny", "healthy", "3", "75%")),
        ("http://10.0.0.6:8000", ("http://10.0.0.6:8000", "tiny", "draining", "1", "25%")),
    ]
    for name in TABLES:
        assert all(len(cells) == len(HEADS[name]) for _, cells in found.rows[name])
    assert {head for heads in HEADS.values() for head in heads} > NUMBERS


@pytest.mark.parametrize(
    ("status", "models", "said"),
    [
        ({"draining": True}, [MODEL], "draining"),
        ({"workers": [{"ready": False}]}, [MODEL], "no worker"),
        ({}, [MODEL, {**MODEL, "model": "big", "ready": False}], "no instance: big"),
        ({"faults": ["x"]}, [MODEL], "configuration refused"),
        ({"ledger_lag": 61.0}, [MODEL], "ledger behind"),
        ({"ledger_lag": None}, [MODEL], "ledger behind"),
    ],
)
def test_what_is_wrong_comes_first(status: dict[str, Any], models: list[dict[str, Any]], said: str) -> None:
    assert picture({**QUIET, "models": models}, NOTHING, NOTHING, {**STATUS, **status}).head.startswith(f"{said}  ")


def test_rows_are_sorted_by_what_their_cells_mean() -> None:
    cells = ["9 ms", "1.20 s", "-", "130 ms", "2"]
    rows = [(cell, (cell,)) for cell in cells]
    assert [key for key, _ in by_column(rows, 0)] == ["2", "1.20 s", "130 ms", "9 ms", "-"]
    rows = [(cell, (cell,)) for cell in ("1,000", "20", "75%", "b", "a")]
    assert [key for key, _ in by_column(rows, 0)] == ["1,000", "75%", "20", "a", "b"]
