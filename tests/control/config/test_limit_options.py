"""The options of a limit, and its words standing for it alone."""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.limit_options import Limit, Words
from slmgate.control.config.limit_words import parse
from slmgate.control.config.show import dump

FILE = """
models:
  m: {instances: [{url: "http://127.0.0.1:9"}]}
limits: [%s]
"""


def limit(text: str) -> Limit:
    return load_text(FILE % text).unwrap().limits[0]


def test_words_alone() -> None:
    assert limit("60 requests/minute") == Limit(limit=parse("60 requests/minute"))


def test_all_of_it() -> None:
    found = limit(
        "{limit: 5k tokens/week, per: [team, model], timezone: Europe/Berlin, week_starts: sunday, on_excess: clamp, "
        "raised: {to: 9k tokens/week, until: 2030-01-01}}"
    )
    assert (found.per, found.timezone, found.week_starts, found.on_excess) == (
        ("team", "model"),
        "Europe/Berlin",
        "sunday",
        "clamp",
    )
    assert found.raised is not None and found.raised.to == parse("9k tokens/week")


def test_one_of_whose_use_is_counted_needs_no_list() -> None:
    assert limit("{limit: 5/minute, per: ip}").per == ("ip",)


def test_written_back_as_it_is_read() -> None:
    assert dump(load_text(FILE % "5 requests/minute, {limit: 5 tokens/day, per: all}").unwrap())["limits"] == [
        "5 requests/minute",
        {
            "limit": "5 tokens/day",
            "per": ["all"],
            "on_excess": "refuse",
        },
    ]


@pytest.mark.parametrize("text", ["{}", "{limit: 5 apples/day}", "{limit: 5/day, per: galaxy}", "{limit: 5/day, timezone: Mars}"])
def test_faults(text: str) -> None:
    loaded = load_text(FILE % text)
    assert loaded.config is None
    assert all(fault.hint for fault in loaded.faults)


def test_the_kind() -> None:
    assert Words().form(parse("5/minute")) == "5 requests/minute"
    assert "in words" in Words().own_values()
    assert Words().own_schema()["type"] == "string"
