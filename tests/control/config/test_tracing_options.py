"""The options of `tracing:`: what each takes, and what is said where it does not."""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.compile import compile_snapshot
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.tracing_options import HeaderValue, Share
from slmgate.http1.trace_context import threshold
from slmgate.policy.specs import TracingSpec


@pytest.mark.parametrize(
    ("text", "value", "form"),
    [
        ("0", 0.0, "0"),
        ("1", 1.0, "1"),
        ("1.0", 1.0, "1"),
        ("0.1", 0.1, "0.1"),
        ("0.000001", 1e-6, "0.000001"),
        ("10%", 0.1, "0.1"),
        ("0.5%", 0.005, "0.005"),
        ("100%", 1.0, "1"),
    ],
)
def test_a_share(text: str, value: float, form: str) -> None:
    kind = Share()
    assert kind.take(text, "plain") == value
    assert kind.write(value) == form
    assert kind.take(form, "plain") == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a share"),
        ("all", "is not a share"),
        ("-0.1", "is not a share"),
        (".5", "is not a share"),
        ("1e-3", "is not a share"),
        ("0.1 %", "is not a share"),
        ("10%%", "is not a share"),
        ("nan", "is not a share"),
        ("1.01", "is more than all"),
        ("10", "is more than all"),
        ("101%", "is more than all"),
    ],
)
def test_what_is_none(text: str, problem: str) -> None:
    with pytest.raises(BadValueError) as wrong:
        Share().take(text, "plain")
    assert wrong.value.problem == problem


@pytest.mark.parametrize("text", ["abc", "Bearer abc", "Basic dXNlcjpwYXNz"])
def test_a_headers_value(text: str) -> None:
    assert str(HeaderValue().take(text, "plain")) == text


@pytest.mark.parametrize("text", ["", " abc", "abc ", "Bearer  abc", "a\tb", "a\nb", "a\u00e4"])
def test_what_no_header_can_carry(text: str) -> None:
    with pytest.raises(BadValueError) as wrong:
        HeaderValue().take(text, "plain")
    assert wrong.value.private


def loaded(tracing: str) -> TracingSpec | None:
    text = f'models: {{m: {{instances: [{{url: "http://h:1"}}]}}}}\ntracing: {tracing}\n'
    return compile_snapshot(load_text(text).unwrap(), 1).tracing


def test_what_workers_go_by() -> None:
    assert loaded("{}") is None
    assert loaded("{sample: 0.5}") is None  # there is nobody to tell
    assert loaded("{otlp: 'http://c:4318'}") == TracingSpec(0, trust=True)
    assert loaded("{otlp: 'http://c:4318', sample: 10%, parent: ignore}") == TracingSpec(threshold(0.1), trust=False)
