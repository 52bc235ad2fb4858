"""A bound on the whole request, the client's or the model's: in line, before the first byte, within the answer.

That the timer is exact to more than a tick is shown with real processes (`tests/system/test_retries.py`).
"""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.dataplane.deadlines import LONGEST, seconds_of
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import instance, model, request


def bounded(value: str, **body: Any) -> bytes:
    """A request with so much time."""
    return request({"model": "m", **body}, b"X-Request-Timeout: %b\r\n" % value.encode())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1", 1.0),
        (b"2.5", 2.5),
        (b"0.001", 0.001),
        (b"1s", 1.0),
        (b"500ms", 0.5),
        (b"2m", 120.0),
        (b"1.5m", 90.0),
        (b"86400", LONGEST),
        (b"1440m", LONGEST),
        (b"86400001ms", None),
        (b"86400.1", None),
        (b"0", None),
        (b"0ms", None),
        (b"-1", None),
        (b"+1", None),
        (b"", None),
        (b" 1", None),
        (b"1 s", None),
        (b"1\n", None),
        (b".5", None),
        (b"5.", None),
        (b"1e3", None),
        (b"1h", None),
        (b"1S", None),
        (b"1, 1", None),
        (b"inf", None),
        (b"nan", None),
        (b"9999999999", None),
        ("\u0663".encode(), None),
    ],
)
def test_what_is_a_time(value: bytes, seconds: float | None) -> None:
    assert seconds_of(value) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("value", ["0", "soon", "1h", "1, 1"])
def test_a_bad_value_is_told(road: Road, value: str) -> None:
    road.plays(
        r"""
        >> client  bad
        == 400     refused !invalid_request
        << client  400 !invalid_request
        """,
        bad=bounded(value),
    )


def test_a_stranger_is_not_told_of_it(road: Road) -> None:
    road.plays(
        r"""
        >> client  bad
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        """,
        bad=request({"model": "m"}, b"X-Request-Timeout: soon\r\n", key=b"sk-slm-unit-not-a-key-at-all"),
    )


def test_in_time_it_is_as_any_other_and_the_field_stays_here(road: Road) -> None:
    """Twice on one connection: the second time, the head is not read again."""
    for _ in range(2):
        road.plays(
            r"""
            >> client  bounded
            == intent  a
            << a       <chat>
            >> clock   1
            >> a       200 <used>
            == 200     complete a 5+7
            << client  200 | <used>
            """,
            bounded=bounded("2"),
        )
    road.plays(
        r"""
        >> clock   5
        >> client  bounded
        == intent  a
        << a       <chat>
        >> clock   2
        << a       aborted
        == 504     upstream_timeout a !upstream_timeout 4+0~
        << client  504 !upstream_timeout
        """,
        bounded=bounded("2"),
    )
    assert [receipt["rule"] for receipt in road.stage.receipts] == ["roles.internal"] * 2 + ["x-request-timeout"]


def test_before_the_first_byte(open_road: OpenRoad) -> None:
    """The instance is not taken for a bad one, and nobody else is asked."""
    road = open_road(model("a", "b"))
    road.plays(
        r"""
        >> client  bounded
        == intent  a
        << a       <chat>
        >> clock   0.5
        << a       aborted
        == 504     upstream_timeout a !upstream_timeout 4+0~
        << client  504 !upstream_timeout
        """,
        bounded=bounded("500ms"),
    )
    assert road.stage.worker.pools.models["m"].instances[0].down_until == 0.0


def test_while_the_connection_is_opened(open_road: OpenRoad) -> None:
    open_road(model("a", connect_timeout=5.0)).plays(
        r"""
        >> door    a hangs
        >> client  bounded
        >> clock   1
        == 504     upstream_timeout a !upstream_timeout
        << client  504 !upstream_timeout
        >> clock   5
        """,
        bounded=bounded("1"),
    )


def test_in_line_it_leaves_the_line(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    road.plays(
        r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  bounded
        >> clock    1
        == 504      upstream_timeout !upstream_timeout
        << client2  504 !upstream_timeout
        >> a        200 {}
        == 200      complete a 4+1~
        << client   200 | {}
        """,
        bounded=bounded("1"),
    )
    assert not road.stage.worker.pools.models["m"].waiting


def test_within_a_stream(road: Road) -> None:
    road.plays(
        r"""
        >> client  bounded
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> clock   2
        << a       aborted
        == 200     upstream_timeout a !upstream_timeout 8+1~
        << client  broken
        << client  closed
        """.replace("broken", _error("The model did not answer within the 2 s that the request's x-request-timeout allows.")),
        bounded=bounded("2s", stream=True),
    )


def _error(message: str) -> str:
    event = f'data: {{"error":{{"message":"{message}","type":"api_error","param":null,"code":"upstream_timeout"}}}}\\n\\n'
    return f"{len(event) - 2:x}\\r\\n{event}\\r\\n"


def test_within_a_sized_answer(road: Road) -> None:
    road.plays(
        r"""
        >> client  bounded
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 10\r\n\r\n01234
        << client  200 content-type: audio/mpeg content-length: 10 | 01234
        >> clock   1
        << a       aborted
        == 200     upstream_timeout a !upstream_timeout 4+2~
        << client  closed
        """,
        bounded=bounded("1"),
    )


def test_behind_the_end_of_a_stream_the_answer_is_whole(road: Road) -> None:
    road.plays(
        r"""
        >> client  bounded
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> a       chunk <done>
        >> clock   0.1
        << a       aborted
        == 200     complete a 8+1~
        << client  e\r\n<done>\r\n0\r\n\r\n
        """,
        bounded=bounded("100ms", stream=True),
    )


def test_a_body_that_took_all_of_the_time(road: Road) -> None:
    text = bounded("1")
    road.plays(
        r"""
        >> client  head
        >> clock   1
        >> client  body
        == 504     upstream_timeout !upstream_timeout
        << client  504 !upstream_timeout
        """,
        head=text[:-3],
        body=text[-3:],
    )


@pytest.mark.parametrize(
    ("value", "rule"), [("", "models.m.timeouts.total"), ("9", "models.m.timeouts.total"), ("1", "x-request-timeout")]
)
def test_the_models_own_bound_and_the_shorter_of_both(open_road: OpenRoad, value: str, rule: str) -> None:
    """A client can make it less, and never more."""
    road = open_road(model(total_timeout=2.0))
    road.plays(
        f"""
        >> client  bounded
        == intent  a
        << a       <chat>
        >> clock   {1 if value == "1" else 2}
        << a       aborted
        == 504     upstream_timeout a !upstream_timeout 4+0~
        << client  504 !upstream_timeout
        """,
        bounded=bounded(value) if value else request({"model": "m"}),
    )
    assert [receipt["rule"] for receipt in road.stage.receipts] == [rule]


def test_who_waits_for_anothers_answer(road: Road) -> None:
    key = b"Idempotency-Key: k\r\n"
    road.plays(
        r"""
        >> client   keyed
        == intent   a
        << a        <chat>
        >> client2  impatient
        >> clock    1
        == 504      upstream_timeout !upstream_timeout
        << client2  504 !upstream_timeout
        >> a        200 {}
        == 200      complete a 4+1~
        << client   200 | {}
        """,
        keyed=request({"model": "m"}, key),
        impatient=request({"model": "m"}, key + b"X-Request-Timeout: 1\r\n"),
    )


def test_a_fault_of_our_own_costs_one_request(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slmgate.dataplane.deadlines._told", lambda _: 1 // 0)
    monkeypatch.setattr(road.stage.worker, "report_fault", lambda: None)
    road.plays(
        r"""
        >> client  bounded
        == intent  a
        << a       <chat>
        >> clock   1
        << a       aborted
        == 500     gate_failed a !internal_error 4+0~
        << client  500 !internal_error retry-after: 1
        """,
        bounded=bounded("1"),
    )
