"""The arithmetic of the benchmark's page: ratios within rounds, added latencies, the table, the aims.

Figures here are made up; what a real run prints is nobody's test.
"""

from __future__ import annotations

import pytest

from bench.report import Page, Row, added, digits, ratio, table


def row(name: str, **samples: list[float | None]) -> Row:
    return Row(name, "does", samples=dict(samples))


def page(*rows: Row) -> Page:
    return Page(list(rows), row("direct", p50_us=[50.0], p99_us=[80.0]), {"cores": "2"}, {})


def test_a_ratio_pairs_figures_of_the_same_round() -> None:
    # the machine was twice as slow in the second round: the ratio does not see it
    found = ratio(row("a", cpu_us=[10.0, 20.0, 12.0]), row("b", cpu_us=[20.0, 40.0, 20.0]), "cpu_us")
    assert found is not None
    assert (found.middle, found.low, found.high, found.rounds) == (0.5, 0.5, 0.6, 3)
    assert str(found) == "0.50 (0.50-0.60)"


@pytest.mark.parametrize(
    ("one", "other"),
    [([None, 1.0], [1.0, None]), ([1.0], []), ([], [1.0]), ([1.0], [0.0])],
)
def test_no_round_with_both_is_no_ratio(one: list[float | None], other: list[float | None]) -> None:
    assert ratio(row("a", cpu_us=one), row("b", cpu_us=other), "cpu_us") is None


def test_a_missing_row_or_figure_is_no_ratio() -> None:
    assert ratio(None, row("b", cpu_us=[1.0]), "cpu_us") is None
    assert ratio(row("a"), row("b", cpu_us=[1.0]), "cpu_us") is None


def test_one_round_has_no_spread_to_show() -> None:
    assert str(ratio(row("a", cpu_us=[3.0]), row("b", cpu_us=[2.0]), "cpu_us")) == "1.50"


def test_rounds_that_were_not_measured_are_kept_as_none() -> None:
    one = row("a")
    one.put(0, {"cpu_us": 1.0})
    one.put(2, {"cpu_us": 3.0, "rps": 9.0})
    assert one.samples == {"cpu_us": [1.0, None, 3.0], "rps": [None, None, 9.0]}
    assert one.middle("cpu_us") == 2.0
    assert one.middle("nothing") is None


def test_added_is_the_median_of_the_differences() -> None:
    assert added(row("a", p50_us=[60.0, 90.0, None]), row("direct", p50_us=[50.0, 60.0, 70.0]), "p50_us") == 20.0
    assert added(row("a"), row("direct", p50_us=[50.0]), "p50_us") is None
    assert added(row("a", p50_us=[1.0]), None, "p50_us") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.00"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.0, "12,345"), (-12.34, "-12.3")],
)
def test_digits(value: float | None, text: str) -> None:
    assert digits(value) == text


def test_a_table_lines_up() -> None:
    assert table(["", "x"], [["long name", "1"], ["b", "1,000"]]).splitlines() == [
        "|           |     x |",
        "|-----------|------:|",
        "| long name |     1 |",
        "| b         | 1,000 |",
    ]


def test_the_page_says_ratios_first_and_whether_the_aims_are_met() -> None:
    text = page(
        row("slmgate", cpu_us=[24.0], rps=[9000.0], p50_us=[70.0], p99_us=[100.0], chunk_us=[12.0]),
        row("nginx", cpu_us=[12.0], chunk_us=[8.0]),
        row("envoy+policies", cpu_us=[48.0]),
    ).text()
    assert (
        "| slmgate        |      1.00 |                - |             0.50 |           24.0 |      9,000 |         20.0 |"
        in text
    )
    assert "slmgate / envoy+policies: 0.50, aim at most 0.6: met" in text
    assert "slmgate / nginx: 1.50, aim at most 1.2: NOT met" in text


def test_a_target_that_could_not_be_had_is_shown_with_its_reason() -> None:
    absent = Row("litellm", "does", reason="not installed yet")
    text = page(row("slmgate", cpu_us=[24.0]), absent).text()
    assert "Not measured:\n- litellm: not installed yet" in text
    assert "| litellm" not in text


def test_the_data_holds_samples_and_ratios() -> None:
    data = page(row("slmgate", cpu_us=[10.0, 30.0]), row("nginx", cpu_us=[20.0, 30.0])).data()
    ratios = data["ratios"]
    assert isinstance(ratios, dict)
    assert ratios["cpu_us over nginx"]["slmgate"] == {"middle": 0.75, "low": 0.5, "high": 1.0, "rounds": 2}
    assert "chunk_us over nginx" not in ratios
