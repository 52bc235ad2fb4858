"""Charts: axes from zero to above the most, gaps where nothing is known, the figures of all of it, no style inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from slmgate.control.admin.dashboard.charts import Bar, Chart, Ranking, Series, gauge, runs, sparkline, ticks, time_labels, tone
from tests.tools.page_ask import Found, complaints

START = datetime(2026, 11, 28, tzinfo=UTC)
HOUR = timedelta(hours=1)


def chart(*series: Series, count: int = 3, **more: Any) -> Chart:
    given: dict[str, Any] = {
        "id": "c",
        "title": "Requests",
        "times": [START + HOUR * at for at in range(count)],
        "step": HOUR,
        "series": series,
        "unit": "requests",
        "zone": ZoneInfo("UTC"),
    }
    return Chart(**(given | more))


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, [0, 1]),
        (1, [0, 0.25, 0.5, 0.75, 1]),
        (4, [0, 1, 2, 3, 4]),
        (5, [0, 2, 4, 6]),
        (10, [0, 2.5, 5, 7.5, 10]),
        (99, [0, 25, 50, 75, 100]),
        (101, [0, 50, 100, 150]),
        (0.003, [0, 0.001, 0.002, 0.003]),
        (7e9, [0, 2e9, 4e9, 6e9, 8e9]),
        (-1, [0, 1]),
    ],
)
def test_axes(most: float, expected: list[float]) -> None:
    assert ticks(most) == expected


@pytest.mark.parametrize("most", [0.0007, 0.13, 1.01, 3, 17, 123, 4567, 999_999, 1_000_001])
def test_axes_hold_all_and_not_much_more(most: float) -> None:
    found = ticks(most)
    assert found[0] == 0 and found[-1] >= most * 0.999
    assert found[-1] <= most * 1.67
    assert 3 <= len(found) <= 6


def test_gaps() -> None:
    assert runs([1, None, None, 2, 3, None]) == [[(0, 1)], [(3, 2), (4, 3)]]
    assert runs([None]) == runs([]) == []


def test_lines() -> None:
    made = chart(
        Series("p50", [1, None, 2]), Series("p95", [None, None, None]), Series("before", [1, 1, 1], before=True), unit="seconds"
    )
    svg = str(made.svg())
    assert complaints(svg) == []
    found = Found(svg)
    lines = found.all("polyline")
    assert [line["class"] for line in lines] == ["line before", "line c0", "line c0"]
    assert lines[0]["points"] == "166.67,500 500,500 833.33,500"
    assert lines[1]["points"] == "162.67,500 170.67,500"  # a point alone can be seen
    assert 'class="zero"' in svg
    assert "<title>2026-11-28 00:00\np50: 1 s\np95: \N{EN DASH}\nbefore: 1 s</title>" in svg


def test_bars_stand_on_each_other() -> None:
    made = chart(Series("ok", [2, 0, 4]), Series("refused", [2, None, 0], "warn"), kind="stacked")
    bars = [bar for bar in Found(str(made.svg())).all("rect") if bar["class"].startswith("bar")]
    assert made.top == 4
    assert [(bar["class"], bar["y"], bar["height"]) for bar in bars] == [
        ("bar c0", "500", "500"),
        ("bar c0", "0", "1000"),
        ("bar warn", "0", "500"),
    ]


def test_the_axis_of_bars_holds_the_period_before_too() -> None:
    made = chart(Series("ok", [1, 1, 1]), Series("before", [9, 1, 1], before=True), kind="stacked")
    assert made.top >= 9
    assert "polyline" in str(made.svg())


def test_who_does_not_see_it_is_told() -> None:
    made = chart(Series("ok", [1, 5, 2]), Series("none", [None, None, None]))
    assert made.description == "2026-11-28 00:00 to 2026-11-28 02:00. ok: at most 5 requests, at the end 2 requests."
    assert made.figures[1] == ("2026-11-28 01:00", ["5 requests", "\N{EN DASH}"])
    found = Found(str(made.svg()))
    svg = found.all("svg")[0]
    assert svg["role"] == "img" and svg["aria-labelledby"].split() == ["c-t", "c-d"]
    assert {"c-t", "c-d"} <= set(found.ids)


@pytest.mark.parametrize(
    ("made", "empty"),
    [
        (chart(), True),
        (chart(Series("a", [0, 0, 0])), True),
        (chart(Series("a", [None, None, None])), True),
        (chart(count=0), True),
        (chart(Series("a", [0, 0, 0]), Series("b", [1, 1, 1], before=True)), True),
        (chart(Series("a", [0, 0.1, 0])), False),
    ],
)
def test_nothing_to_show(made: Chart, empty: bool) -> None:
    assert made.empty is empty
    assert complaints(str(made.svg())) == []
    assert made.description


def test_names_from_outside_are_text() -> None:
    evil = '"><script>alert(1)</script>'
    made = chart(Series(evil, [1, 2, 3]), title=evil)
    assert complaints(str(made.svg())) == []
    assert not Found(str(made.svg())).all("script")
    assert "<script" not in str(sparkline([1, 2], evil)) + str(gauge(0.5, evil))


def test_days_are_days_of_the_zone() -> None:
    made = chart(Series("a", [1, 2, 3]), times=[START + timedelta(days=at) for at in range(3)], step=timedelta(days=1))
    assert made.figures[0][0] == "2026-11-28"


@pytest.mark.parametrize(
    ("count", "step", "labels"),
    [
        (0, HOUR, []),
        (1, HOUR, ["00:00"]),
        (24, HOUR, ["00:00", "04:00", "08:00", "12:00", "16:00", "20:00"]),
        (30, timedelta(days=1), ["Nov 28", "Dec 3", "Dec 8", "Dec 13", "Dec 18", "Dec 23"]),
        (4, timedelta(days=1), ["Nov 28", "Nov 29", "Nov 30", "Dec 1"]),
    ],
)
def test_times_below_the_axis(count: int, step: timedelta, labels: list[str]) -> None:
    found = time_labels([START + step * at for at in range(count)], step, ZoneInfo("UTC"))
    assert [label for _, label in found] == labels
    assert all(0 <= at < 1 for at, _ in found)


def test_a_ranking() -> None:
    made = Ranking(id="r", title="Top", bars=[Bar("a", 10, "/clients/a"), Bar("b", 5, tone="bad")], unit="tokens")
    (first, figure, picture), (_, _, second) = made.rows
    assert (first.name, figure, made.empty) == ("a", "10 tokens", False)
    assert 'width="100%"' in picture and 'class="bar bad" width="50%"' in second
    assert Ranking(id="r", title="Top", bars=[], unit="").empty
    assert Ranking(id="r", title="Top", bars=[Bar("a", 0)], unit="").rows[0][2]


def test_sparks_and_gauges() -> None:
    assert 'points="0,23 50,12.5 100,2"' in sparkline([0, 1, 2], "up")
    assert "none" in sparkline([], "nothing") and "none" in sparkline([0, None], "nothing")
    assert complaints(str(sparkline([1.0], "one"))) == []
    for share, expected in ((0.5, "bar c0"), (0.8, "bar warn"), (1.2, "bar bad")):
        assert expected in gauge(share, "x")
    assert 'width="0%"' in gauge(-1, "x") and 'width="100%"' in gauge(9, "x")


def test_colours_come_round() -> None:
    assert tone(Series("a", []), 9) == "c1"
    assert chart(Series("a", [1, 1, 1]), Series("b", [1, 1, 1], "bad")).colour(1) == "bad"
