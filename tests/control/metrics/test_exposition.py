"""The text for scrapers, read back by the parsers of Prometheus' own library: both formats say the same."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_plain

from slmgate.control.metrics.exposition import Picture, form, told
from slmgate.control.metrics.families import FAMILIES
from slmgate.control.metrics.gauges import Beside, Use, samples
from tests.control.metrics.test_counting import TIMED, TRACE, counted
from tests.control.metrics.test_gauges import STATUS

OPENMETRICS = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5"
ODD = 'a"b\\c\nd\u2028é'


def picture() -> Picture:
    rows = [TIMED | {"trace": TRACE}, TIMED | {"principal": ODD, "stream": True, "price": "EUR 1 1", "cost": 1_500_000_000}]
    counters, histograms = counted(*rows).copied()
    beside = Beside(ledger_up=True, waiting_bytes=0, reloaded_well=True, reloaded_at=1.5, limits=[Use(("l", ODD), 0.5)])
    return Picture(counters, histograms, samples(STATUS, beside))


def read(accept: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], Any]:
    text = told(picture(), accept).decode()
    parse = read_openmetrics if "openmetrics" in form(accept) else read_plain
    return {(one.name, tuple(sorted(one.labels.items()))): one for family in parse(text) for one in family.samples}


def test_both_formats_say_the_same() -> None:
    plain, new = read(""), read(OPENMETRICS)
    assert plain.keys() == new.keys() and len(plain) > 100
    assert all(plain[which].value == one.value for which, one in new.items())
    assert new["slmgate_client_cost_total", (("client", ODD), ("currency", "EUR"))].value == 1.5
    assert new["slmgate_request_duration_seconds_sum", (("endpoint", "chat"), ("model", "smollm2"))].value == 0.122
    assert new["slmgate_limit_used_ratio", (("limit", "l"), ("subject", ODD))].value == 0.5


def test_an_example_is_a_trace() -> None:
    found = read(OPENMETRICS)
    le = (("endpoint", "chat"), ("le", "0.1"), ("model", "smollm2"))
    example = found["slmgate_request_duration_seconds_bucket", le].exemplar
    assert (example.labels, example.value) == ({"trace_id": TRACE}, 0.061)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain; version=0.0.4"),
        ("", "text/plain; version=0.0.4"),
        ("text/html", "text/plain; version=0.0.4"),
    ],
)
def test_the_form_is_the_scrapers_choice(accept: str, kind: str) -> None:
    assert form(accept).startswith(kind)
    assert told(picture(), accept).endswith(b"# EOF\n") == ("openmetrics" in kind)


def test_every_family_is_named() -> None:
    text = told(picture(), "").decode()
    for family in FAMILIES:
        assert f"# TYPE {family.name} {'gauge' if family.kind == 'info' else family.kind}\n" in text
