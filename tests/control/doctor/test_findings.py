"""Verdicts: which is the worst, and what is shown first."""

from __future__ import annotations

from slmgate.control.doctor.findings import Finding, ok, sorted_by_weight, worst


def test_verdicts() -> None:
    bad, warn = Finding("b", "bad", "x", "do"), Finding("w", "warn", "x", "do")
    assert worst([]) == "ok"
    assert worst(ok("a", "x")) == "ok"
    assert worst([*ok("a", "x"), warn]) == "warn"
    assert worst([warn, bad, *ok("a", "x")]) == "bad"
    assert [one.check for one in sorted_by_weight([*ok("a", "x"), warn, bad, *ok("c", "x")])] == ["b", "w", "a", "c"]
