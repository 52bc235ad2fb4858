"""A request's time in parts: for every way that one may go, the parts stand one behind the other and are all of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.control.admin.dashboard.timeline import timeline
from slmgate.terms import Receipt
from tests.tools.page_ask import complaints

ADMITTED = {"verdict": "admit", "attempts": 1, "status": 200, "ended": "complete"}


def receipt(**fields: Any) -> Receipt:
    told: dict[str, Any] = {
        "id": "r1", "request_id": "r1", "time": datetime(2026, 11, 28, tzinfo=UTC), "method": "POST", "path": "/v1/completions",
        "status": 429, "verdict": "refuse", "reason": "", "ended": "refused", "principal": "bot",
    }  # fmt: skip
    return Receipt(**told | fields)


def shown(**fields: Any) -> list[tuple[str, int, int]]:
    """Each part with its beginning and its length, in microseconds."""
    return [(part.name, round(part.start * 1e6), round(part.length * 1e6)) for part in timeline(receipt(**fields))]


def test_all_there_is() -> None:
    """Its body came late, it stood in line, a connection was opened, and the answer was a stream."""
    parts = shown(
        **ADMITTED, receive_us=100, queue_us=1000, connect_us=300, overhead_us=60, first_byte_us=5000, total_us=9000, stream=True
    )
    assert parts == [
        ("Reading", 0, 100),
        ("The gate", 100, 60),
        ("In line", 160, 540),
        ("Connecting", 700, 300),
        ("First byte", 1000, 4000),
        ("Stream", 5000, 4000),
    ]


def test_the_usual_request() -> None:
    parts = shown(**ADMITTED, queue_us=40, overhead_us=60, first_byte_us=5000, total_us=5100)
    assert parts == [("The gate", 0, 60), ("First byte", 60, 4940), ("Answer", 5000, 100)]


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"total_us": 90}, [("The gate", 0, 90)]),
        ({"total_us": 90, "receive_us": 50}, [("Reading", 0, 50), ("The gate", 50, 40)]),
        ({"total_us": 90, "queue_us": 70}, [("In line", 0, 70), ("The gate", 70, 20)]),
        (
            {"total_us": 900, "receive_us": 700, "queue_us": 150},
            [("Reading", 0, 700), ("In line", 700, 150), ("The gate", 850, 50)],
        ),
        (
            {
                **ADMITTED,
                "attempts": 2,
                "queue_us": 400,
                "overhead_us": 50,
                "connect_us": 300,
                "first_byte_us": 800,
                "total_us": 900,
            },
            [("The gate", 0, 50), ("In line", 50, 350), ("First byte", 400, 400), ("Answer", 800, 100)],
        ),
        (
            {**ADMITTED, "ended": "client_left", "queue_us": 40, "overhead_us": 50, "total_us": 900},
            [("The gate", 0, 50), ("Waiting", 50, 850)],
        ),
        ({"total_us": 0}, [("The gate", 0, 0)]),
        ({**ADMITTED, "total_us": 0}, [("The gate", 0, 0), ("Waiting", 0, 0)]),
    ],
)
def test_what_came_to_no_answer(fields: dict[str, Any], parts: list[tuple[str, int, int]]) -> None:
    assert shown(**fields) == parts


TIME = st.integers(0, 10**9)


@given(TIME, TIME, TIME, TIME, st.none() | TIME, TIME, st.integers(0, 2))
def test_parts_are_all_of_it(
    receive: int, queue: int, connect: int, overhead: int, first: int | None, total: int, attempts: int
) -> None:
    """Whatever a receipt says: no part is negative, each begins where the one before ended, and the last one with the request."""
    one = receipt(
        receive_us=receive,
        queue_us=queue,
        connect_us=connect,
        overhead_us=overhead,
        first_byte_us=first,
        total_us=total,
        attempts=attempts,
    )
    parts = timeline(one)
    at = 0.0
    for part in parts:
        assert part.length >= 0
        assert part.start == pytest.approx(at, abs=1e-6)
        at = part.start + part.length
        assert complaints(str(part.bar())) == []
    assert at == pytest.approx(total / 1e6, abs=1e-6)
