"""What analytics tell, in words and charts: shares and changes that compare like with like, units, colours with a meaning."""

from __future__ import annotations

from decimal import Decimal

import pytest

from slmgate.control.admin.dashboard import figures
from slmgate.control.admin.dashboard.tables import Cell
from slmgate.control.analytics import Compared, Count, Figures, Latency, Line, Percentiles, Row, Series, Speeds
from tests.tools.page_ask import ask, complaints

QUICK = Percentiles(count=10, p50=40_000, p95=143_000, p99=2_000_000)
SOME = Figures(
    requests=110,
    refused=10,
    errors=5,
    prompt_tokens=700,
    completion_tokens=300,
    costs={"EUR": 1_500_000_000, "USD": 3},
    latency=Latency(first_byte=QUICK, total=QUICK, speed=Speeds(count=9, p50=92.5, p95=60.0, p99=12.0)),
)
HALF = Figures(requests=55, refused=5, errors=5)
SPAN = ask(query={"range": "1h"}).span.range


def told(*points: Figures, by: str = "") -> Series:
    return Series(range=SPAN, by=None, starts=SPAN.steps()[: len(points)], lines=[Line(by, list(points))])


def test_units() -> None:
    assert figures.seconds(SOME, "first_byte") == 0.143
    assert figures.seconds(SOME, "first_byte", "p99") == 2.0
    assert figures.seconds(SOME, "queue") is None and figures.seconds(HALF, "total") is None
    assert (figures.speed(SOME), figures.speed(SOME, "p95"), figures.speed(HALF)) == (92.5, 60.0, None)
    assert figures.cost(SOME, "EUR") == Decimal("1.5") and figures.cost(SOME, "CHF") == 0
    assert figures.money(SOME) == "1.50 EUR + 0.000000003 USD"
    assert figures.money(HALF) == "\N{EN DASH}"
    assert figures.currencies([SOME, HALF]) == ["EUR", "USD"]


def test_tiles() -> None:
    made = {
        tile.id: tile for tile in figures.tiles(Compared(now=SOME, before=HALF), ask(query={"compare": "1"}), told(SOME, HALF))
    }
    assert (made["tile-requests"].figure, made["tile-requests"].change) == ("110", "+100 %")
    assert made["tile-tokens"].note == "700 in, 300 out"
    assert made["tile-cost-EUR"].figure == "1.50 EUR"
    assert (made["tile-errors"].figure, made["tile-errors"].change, made["tile-errors"].tone) == (
        "5 %",
        "\N{MINUS SIGN}50 %",
        "bad",
    )
    assert (made["tile-refused"].figure, made["tile-refused"].note) == ("9.1 %", "10 of 110")
    assert (made["tile-first"].figure, made["tile-first"].note) == ("143 ms", "p50 40 ms")
    assert "<svg" in str(made["tile-requests"].spark)


def test_tiles_of_nothing() -> None:
    for tile in figures.tiles(Compared(now=Figures(), before=Figures()), ask(query={"compare": "1"}), told(Figures())):
        assert tile.change == "" and tile.tone == ""
        assert tile.figure in ("0", "\N{EN DASH}")


@pytest.mark.parametrize(("query", "kept"), [({}, True), ({"compare": "1"}, False)])
def test_no_change_that_nobody_asked_for_or_knows(query: dict[str, str], kept: bool) -> None:
    assert not any(tile.change for tile in figures.tiles(Compared(now=SOME, before=HALF, kept=kept), ask(query=query)))


def test_requests_stand_on_each_other_and_add_up() -> None:
    made = figures.requests_chart(ask(), told(SOME, HALF), told(HALF, SOME, SOME))
    assert [(series.name, list(series.values)) for series in made.series] == [
        ("Answered", [95, 45]),
        ("Failed", [5, 5]),
        ("Refused", [10, 5]),
        ("Before", [55, 110]),
    ]
    assert sum(value or 0 for series in made.series[:3] for value in series.values) == SOME.requests + HALF.requests


def test_the_period_before_may_be_shorter() -> None:
    assert list(figures.tokens_chart(ask(), told(SOME, SOME), told(SOME)).series[-1].values) == [1000, None]


def test_other_charts() -> None:
    assert list(figures.latency_chart(ask(), told(SOME, HALF), "total", "All").series[1].values) == [0.143, None]
    assert list(figures.speed_chart(ask(), told(SOME, HALF), told(SOME)).series[2].values) == [92.5, None]
    assert list(figures.cost_chart(ask(), told(SOME), "EUR").series[0].values) == [1.5]
    lines = figures.lines_chart(ask(), told(SOME, by="i1"), "By instance", "x")
    assert [series.name for series in lines.series] == ["i1"]
    for chart in (lines, figures.speed_chart(ask(), told(SOME))):
        assert complaints(str(chart.svg())) == []


def test_rankings() -> None:
    counts = [Count(f"reason_{number}", 10 - number) for number in range(10)]
    made = figures.counted(counts, "r", "Refused", "warn")
    assert [bar.name for bar in made.bars][:2] == ["reason 0", "reason 1"]
    assert (len(made.bars), made.rest) == (8, "And 3 for other reasons.")
    rows = [Row(name="a/b", figures=SOME, share=1.0), Row(name="", figures=HALF, share=0.1)]
    top = figures.top(rows, ask(), "clients", "t", "Top", "9 in all.")
    assert [(bar.name, bar.href) for bar in top.bars] == [("a/b", "/clients/a~1b"), ("(nobody)", "")]
    assert [bar.value for bar in figures.split(SOME, "s", "Where").bars] == [0.0] * 5


def test_rows() -> None:
    row = Row(name="bot", figures=SOME, share=1.0, spark=[1, 2])
    cells = figures.cells(row, "/clients/bot")
    keys = [column.key for column in figures.columns("Client", [SOME])]
    assert set(keys) - {"cost_CHF"} <= set(cells)
    assert cells["cost_EUR"] == Decimal("1.5")
    assert [key for key in keys if key.startswith("cost")] == ["cost_EUR", "cost_USD"]
    assert "total" not in [column.key for column in figures.columns("Model", [], latency=False)]
    assert figures.cells(Row(name="", figures=Figures(), share=0.0), "/x")["errors"] is None


def test_nobody_has_no_page() -> None:
    """A link with no name in it would lead back to the list."""
    row = Row(name="", figures=SOME, share=1.0)
    cell = figures.cells(row, "/clients/")["name"]
    assert isinstance(cell, Cell) and (cell.href, cell.text) == ("", "(nobody)")
    (bar,) = figures.top([row], ask(), "clients", "t", "Top").bars
    assert (bar.href, bar.name) == ("", "(nobody)")


def test_what_is_carried_now() -> None:
    assert figures.flight_tile([{"in_flight": 3, "waiting": 1}, {"in_flight": 4, "waiting": 0}]).figure == "7"
