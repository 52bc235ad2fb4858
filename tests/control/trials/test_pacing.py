"""Limits counted over past requests: each window at its bound, what is charged, and that memory is bounded."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from slmgate.control.config import load_text
from slmgate.control.trials import pacing
from slmgate.control.trials.asked import snapshot_of
from slmgate.control.trials.pacing import Pace
from slmgate.terms import Principal
from tests.tools.journal_writer import NOON, make_receipt

WHO = Principal(id="w", name="w", roles=("r",), team="t")


def pace(limits: str) -> Pace:
    text = f"""
models: {{smollm2: {{instances: [{{url: "http://h:1"}}]}}}}
roles: {{r: {{models: ["*"], limits: [{limits}]}}}}
teams: {{t: {{plan: p}}}}
plans: {{p: {{currency: EUR, prices: {{smollm2: {{completion: 1/1}}}}}}}}
"""
    return Pace(snapshot_of(load_text(text).unwrap()).charges)


def take(made: Pace, seconds: float = 0.0, endpoint: str = "chat", who: Principal = WHO, **fields: Any) -> str:
    """`ok` or the code of a request so many seconds after noon, of 10 tokens of prompt and 20 of answer, half a second long."""
    whole = {"prompt_tokens": 10, "completion_tokens": 20, "total_us": 500_000, "queue_us": 0, "attempts": 1} | fields
    receipt = make_receipt("r", time=NOON + timedelta(seconds=seconds), **whole)
    refuse = made.take(receipt, who, "r", endpoint, {"max_tokens": [50]})
    return "ok" if refuse is None else refuse.code


def test_a_rolling_window() -> None:
    made = pace("2 requests/minute")
    assert [take(made, at) for at in (0, 1, 2, 59, 61.5, 61.6)] == ["ok", "ok", *["rate_limit_exceeded"] * 2, "ok", "ok"]
    assert take(made, 30) == "rate_limit_exceeded", "one that comes late counts as if it had come now"
    assert repr(made) == "<Pace 1 cells>"


def test_a_bucket() -> None:
    made = pace("60 requests/minute burst 2")
    assert [take(made, at) for at in (0, 0, 0, 0.5, 1, 1)] == [
        "ok",
        "ok",
        *["rate_limit_exceeded"] * 2,
        "ok",
        "rate_limit_exceeded",
    ]
    assert [take(made, at) for at in (100, 100, 100)] == ["ok", "ok", "rate_limit_exceeded"]


def test_a_day_of_the_calendar() -> None:
    made = pace("1 requests/day")
    assert [take(made, at) for at in (0, 43_199, 43_200, 43_201)] == ["ok", "quota_exceeded", "ok", "quota_exceeded"]


def test_what_is_under_way() -> None:
    made = pace("1 concurrent")
    assert [take(made, at) for at in (0, 0.4, 0.6)] == ["ok", "rate_limit_exceeded", "ok"]


@pytest.mark.parametrize(
    ("limits", "fields", "codes"),
    [
        ("100 tokens/hour", {}, ["ok", "ok", "rate_limit_exceeded"]),  # 30 and 30; then 60 more have no room
        ("100 tokens/hour", {"attempts": 0}, ["ok", "ok", "ok"]),
        ("59 tokens/hour", {}, ["request_too_large"] * 3),
        ("{limit: 90 tokens/hour, on_excess: clamp}", {}, ["ok", "ok", "ok"]),
        (
            "{limit: 65 tokens/hour, on_excess: clamp}",
            {"completion_tokens": 50},
            ["ok", "rate_limit_exceeded", "rate_limit_exceeded"],
        ),
        ("120 EUR/month", {}, ["ok", "ok", "ok"]),
        ("60 EUR/month", {}, ["ok", "quota_exceeded", "quota_exceeded"]),
        ("1 gpu-seconds/hour", {}, ["ok", "rate_limit_exceeded", "rate_limit_exceeded"]),
        ("20 prompt tokens/hour", {}, ["ok", "ok", "rate_limit_exceeded"]),
    ],
)
def test_what_a_request_counts(limits: str, fields: dict[str, Any], codes: list[str]) -> None:
    made = pace(limits)
    assert [take(made, at, **fields) for at in (0, 1, 2)] == codes


def test_for_whom_it_counts() -> None:
    made = pace("{limit: 1 requests/hour, per: ip}")
    other = Principal(id="x", name="x")
    assert take(made, address="192.0.2.1") == "ok"
    assert take(made, address="192.0.2.2") == "ok"
    assert take(made, address="192.0.2.1", who=other) == "rate_limit_exceeded"
    assert take(pace(""), who=other) == "ok"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "MAX_CELLS", 2)
    monkeypatch.setattr(pacing, "MAX_TARIFFS", 1)
    made = pace("1 requests/hour")
    for number in range(5):
        assert take(made, who=Principal(id=f"w{number}", name="w")) == "ok"
    assert repr(made) == "<Pace 2 cells>"
    long = pace("10k requests/hour")
    for number in range(5000):
        assert take(long, number) == "ok"
    (cell,) = long._cells.values()
    assert len(cell._slices) <= 120
