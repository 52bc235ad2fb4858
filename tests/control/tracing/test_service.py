"""Tracing configured, given receipts and asked what was dropped; the exporter stands in for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.tracing_options import Tracing as Options
from slmgate.control.tracing.export import Items, Target
from slmgate.control.tracing.service import Tracing, envelope_of, target_of
from slmgate.stores.parted import Parted, parted
from tests.control.tracing.test_spans import TRACE, receipt
from tests.tools.otlp import read_spans


class Line:
    """Keeps what it is given."""

    made: list[Line]

    def __init__(self, name: str, target: Target, around: Any) -> None:
        self.name, self.target, self.around = name, target, around
        self.items: Items = []
        self.dropped = 0
        self.closed = False
        Line.made.append(self)

    def put(self, items: Items) -> None:
        self.items += items

    def close(self) -> None:
        self.closed = True
        self.dropped += 1


def tracing() -> Tracing:
    Line.made = []
    return Tracing(Line)  # type: ignore[arg-type]  # it does what an exporter does


def options(text: str) -> Options:
    return load_text(f'models: {{m: {{instances: [{{url: "http://h:1"}}]}}}}\ntracing: {text}\n').unwrap().tracing


def reload(one: Tracing, text: str) -> bool:
    """As control does it."""
    new = one.wants(options(text))
    if new:
        one.configure()
    return new


def some(**settings: Any) -> Parted:
    return parted([receipt(**settings)])


def test_off_it_does_nothing() -> None:
    one = tracing()
    one.take(some())
    assert not reload(one, "{}")
    one.take(some())
    assert (Line.made, one.dropped(), repr(one)) == ([], 0, "<Tracing off>")
    one.close()


def test_receipts_become_spans_under_the_services_name() -> None:
    one = tracing()
    reload(one, "{otlp: 'http://collector:4318', service: gate-1}")
    (line,) = Line.made
    one.take(some(trace=""))
    assert line.items == []
    one.take(some())
    resource, spans = read_spans(line.around(piece for piece, _ in line.items))
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert resource["service.name"] == "gate-1"
    assert {"service.version", "host.name", "telemetry.sdk.name"} <= resource.keys()
    assert (line.name, line.target) == ("spans", Target("http://collector:4318/v1/traces", {}))


def test_a_reload_goes_on_with_what_is_the_same() -> None:
    one = tracing()
    assert reload(one, "{otlp: 'http://a:4318'}")
    assert not reload(one, "{otlp: 'http://a:4318'}")
    Line.made[0].dropped = 2
    assert reload(one, "{otlp: 'http://b:4318'}")
    Line.made[1].dropped = 5
    assert [line.closed for line in Line.made] == [True, False]
    assert one.dropped() == 3 + 5  # no counter goes back
    one.take(some())
    assert (len(Line.made[0].items), len(Line.made[1].items)) == (0, 1)
    reload(one, "{}")
    assert (Line.made[1].closed, one.dropped()) == (True, 9)
    one.close()
    one.close()
    assert one.dropped() == 9


def test_while_one_ends_what_it_dropped_is_counted_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks in that moment must not see a counter go back: it would be counted once more when it is there again."""
    one = tracing()
    asked: list[int] = []

    def close(line: Line) -> None:
        asked.append(one.dropped())
        line.dropped += 1

    monkeypatch.setattr(Line, "close", close)
    reload(one, "{otlp: 'http://a:4318'}")
    Line.made[0].dropped = 7
    reload(one, "{otlp: 'http://b:4318'}")
    Line.made[1].dropped = 2
    one.close()
    assert (asked, one.dropped()) == ([7, 10], 11)


def test_of_two_reloads_the_later_one_counts_whichever_thread_comes_first() -> None:
    one = tracing()
    assert one.wants(options("{otlp: 'http://a:4318'}")) and one.wants(options("{otlp: 'http://b:4318'}"))
    one.configure()  # of the second
    one.configure()  # of the first, which its thread has begun late
    assert [line.target.url for line in Line.made] == ["http://b:4318/v1/traces"]
    assert one.wants(options("{otlp: 'http://c:4318'}")) and one.wants(options("{}"))
    one.configure()
    one.configure()
    assert ([line.closed for line in Line.made], repr(one)) == ([True], "<Tracing off>")
    assert one.wants(options("{otlp: 'http://d:4318'}"))
    one.close()
    one.configure()  # begun before the end
    assert [line.closed for line in Line.made] == [True]


def test_where_to() -> None:
    for url in ("https://collector/base", "https://collector/base/"):
        target = target_of(options(f"{{otlp: '{url}', headers: {{authorization: Bearer abc}}, ca: /etc/ca.pem}}"), "/v1/traces")
        assert target == Target("https://collector/base/v1/traces", {"authorization": "Bearer abc"}, Path("/etc/ca.pem"))
    assert envelope_of(options("{otlp: 'http://a:1'}")).around([])
