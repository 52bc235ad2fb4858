"""The state machine of an instance's health: a table of what happens and what it comes to, and properties of any history.

What feeds it is `tests/dataplane/test_pool.py`'s affair, the checks that it hears of `tests/control/test_checker.py`'s.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy.health import (
    FAILURES,
    FIRST_EJECTION,
    LEAST_SHARE,
    LONGEST_EJECTION,
    NEVER,
    TRIAL_SECONDS,
    VERDICT_SECONDS,
    Checks,
    Failure,
    Health,
    HealthSpec,
    State,
    outliers,
    passed_over,
)

SPEC = HealthSpec(errors=3, slow_start=10.0)


def after(*events: str, spec: HealthSpec = SPEC, start: float = 100.0) -> tuple[Health, float]:
    """What a history comes to, and when it ended. Words are events; a number lets so many seconds pass."""
    health, now = Health(), start
    for event in events:
        match event:
            case "unreachable" | "silent" | "broken" | "refused" | "slow" | "absent":
                health.failed(event, event, now, now, spec)
            case "old failure":
                health.failed("broken", "old", now - 1000, now, spec)
            case "old answer":
                health.answered(now - 1000, now, spec)
                health.completed(now - 1000)
            case "answer":
                health.answered(now, now, spec)
                health.completed(now)
            case "head":
                health.answered(now, now, spec)
            case "connection":
                health.connected(now, now, spec)
            case "begin":
                health.begin(now)
            case "out":
                health.checked_out("refused", "GET /health answered 503", now)
            case "gone":
                health.checked_out("silent", "no answer", now)
            case "without":
                health.checked_out("absent", "m is not there", now)
            case "well":
                health.checked_well(now, spec)
            case "outlier":
                health.found_slow("late", now)
            case _:
                now += float(event)
                health.tick(now, spec)
    return health, now


EJECTED = ("unreachable",)
TRIED = (*EJECTED, "0.5", "begin")


@pytest.mark.parametrize(
    ("events", "state", "left"),
    [
        ((), "healthy", 0),
        (("refused", "refused"), "healthy", 0),
        (("refused", "refused", "refused"), "ejected", FIRST_EJECTION),
        (("refused", "broken", "silent"), "ejected", FIRST_EJECTION),
        (("refused", "refused", "answer", "refused", "refused"), "healthy", 0),  # in a row
        (("broken", "head", "broken", "head", "broken"), "ejected", FIRST_EJECTION),  # a head alone is no success
        (("unreachable",), "ejected", FIRST_EJECTION),
        (("unreachable", "unreachable", "unreachable"), "ejected", FIRST_EJECTION),  # failures meanwhile are no news
        ((*EJECTED, "0.4", "begin"), "ejected", 0.1),  # asked because nobody else was left: no trial
        (TRIED, "half_open", TRIAL_SECONDS),
        ((*TRIED, "refused"), "ejected", 1.0),
        ((*TRIED, "refused", "1", "begin", "broken"), "ejected", 2.0),
        ((*TRIED, "old failure"), "half_open", TRIAL_SECONDS),
        ((*TRIED, "old answer"), "half_open", TRIAL_SECONDS),
        ((*TRIED, "9.9", "begin"), "half_open", 0.1),  # one at a time
        ((*TRIED, "10", "begin"), "half_open", TRIAL_SECONDS),
        ((*TRIED, "answer"), "recovering", 0),
        ((*TRIED, "head"), "recovering", 0),
        ((*TRIED, "connection"), "recovering", 0),
        (("silent", "silent", "silent", "0.5", "begin", "connection"), "half_open", TRIAL_SECONDS),  # a frozen one connects
        ((*EJECTED, "answer"), "recovering", 0),  # asked because nobody else was left, and it did well
        ((*EJECTED, "old answer"), "ejected", FIRST_EJECTION),
        ((*TRIED, "answer", "9.9"), "recovering", 0),
        ((*TRIED, "answer", "10"), "healthy", 0),
        ((*TRIED, "answer", "refused", "refused"), "recovering", 0),
        ((*TRIED, "answer", "unreachable"), "ejected", 1.0),  # flapping: it goes on doubling
        ((*TRIED, "answer", "10", "unreachable"), "ejected", 1.0),
        ((*TRIED, "answer", "10", "10.1", "unreachable"), "ejected", FIRST_EJECTION),  # forgiven
        (("out",), "unhealthy", NEVER),
        (("out", "begin", "answer", "connection", "unreachable"), "unhealthy", NEVER),  # checks decide
        (("out", "30"), "unhealthy", NEVER),
        (("out", "29", "out", "29"), "unhealthy", NEVER),
        (("out", "30.1"), "ejected", 0),  # nobody has said so for long: requests decide
        (("out", "30.1", "begin"), "half_open", TRIAL_SECONDS),
        (("out", "30.1", "begin", "answer"), "recovering", 0),
        (("out", "well"), "recovering", 0),
        (("well",), "healthy", 0),
        ((*EJECTED, "well"), "ejected", 0),  # it may be tried at once
        ((*EJECTED, "out", "well", "10", "unreachable"), "ejected", FIRST_EJECTION),
        (("outlier",), "ejected", FIRST_EJECTION),
        ((*TRIED, "answer", "outlier"), "recovering", 0),  # it is only warming up
        (("out", "outlier"), "unhealthy", NEVER),
    ],
)
def test_what_a_history_comes_to(events: tuple[str, ...], state: State, left: float) -> None:
    health, now = after(*events)
    assert health.state == state
    assert health.down_until == pytest.approx(now + left if left else health.down_until)
    assert (health.down_until > now) == (left > 0)


@pytest.mark.parametrize(("errors", "state"), [(0, "healthy"), (1, "ejected"), (2, "ejected"), (3, "healthy")])
def test_errors_in_a_row(errors: int, state: State) -> None:
    assert after("refused", "refused", spec=HealthSpec(errors=errors))[0].state == state


def test_the_longest_ejection() -> None:
    health, now = Health(), 100.0
    waits = []
    for _ in range(15):
        health.begin(now)
        health.failed("unreachable", "", now, now, SPEC)
        waits.append(health.down_until - now)
        now = health.down_until
    assert waits[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_EJECTION] and waits[-1] == LONGEST_EJECTION


def test_without_slow_start_it_is_well_at_once() -> None:
    health, now = after(*TRIED, "answer", spec=HealthSpec(slow_start=0.0))
    assert (health.state, health.share(now, HealthSpec(slow_start=0.0))) == ("healthy", 1.0)
    assert health.well()


@pytest.mark.parametrize(("seconds", "share"), [(0, LEAST_SHARE), (1, 0.1), (5, 0.5), (9, 0.9), (10, 1.0), (99, 1.0)])
def test_its_share_rises(seconds: float, share: float) -> None:
    health, now = after(*TRIED, "answer")
    assert health.share(now + seconds, SPEC) == pytest.approx(share)


def test_what_is_said_of_it() -> None:
    assert repr(Health()) == "<Health healthy>"
    assert repr(after("unreachable")[0]) == "<Health ejected: unreachable>"
    assert repr(after("out", "31")[0]) == "<Health ejected: GET /health answered 503; nobody has checked it since>"
    assert not after("refused")[0].well(), "a failure is to be forgotten once it does well"
    assert after("refused", "answer")[0].well()


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ((), "is well"),
        (("unreachable",), "is passed over for 0.5 s: unreachable"),
        (("out",), "is passed over until its checks succeed: GET /health answered 503"),
        (("out", "31"), "is tried again"),
        (TRIED, "is tried again"),
        ((*TRIED, "answer"), "is back, and takes more work bit by bit"),
    ],
)
def test_what_the_operator_is_told(events: tuple[str, ...], told: str) -> None:
    health, now = after(*events)
    assert health.told(now) == told


def test_worse_than_was_thought() -> None:
    """Ejected for its answers, then not even there any more: that counts, the other way round it does not."""
    assert not after("refused", "refused", "refused")[0].gone()
    assert after("refused", "refused", "refused", "unreachable")[0].gone()
    assert after("unreachable", "refused", "refused", "refused")[0].kind == "unreachable"
    assert not after("gone", "out")[0].gone()


HEALTHY, OUT, GONE, BUSY = (), ("out",), ("gone",), ("gone", "1", "old answer")
WITHOUT = ("without", "1", "answer")  # the model is not there: what else it answers is no help


@pytest.mark.parametrize(
    ("histories", "panic", "asked"),
    [
        ([HEALTHY, HEALTHY], 0.5, [True, True]),
        ([OUT, HEALTHY], 0.5, [False, True]),  # half is not more than half
        ([OUT, OUT, HEALTHY], 0.5, [True, True, True]),
        ([OUT, GONE, HEALTHY], 0.5, [True, False, True]),  # where nobody answers, nothing is relieved
        ([GONE, GONE, HEALTHY], 0.5, [False, False, True]),
        ([BUSY, GONE, HEALTHY], 0.5, [True, False, True]),  # too busy for checks, but not for requests
        ([BUSY, HEALTHY, HEALTHY], 0.5, [False, True, True]),
        ([WITHOUT, WITHOUT, HEALTHY], 0.5, [False, False, True]),
        ([WITHOUT, WITHOUT], 0.5, [True, True]),  # unless nobody has it: what they list may be wrong
        ([OUT, HEALTHY, HEALTHY], 0.0, [True, True, True]),
        ([OUT, OUT, HEALTHY], 1.0, [False, False, True]),
        ([OUT, GONE], 1.0, [True, True]),  # all are out: whatever is known of them is worth nothing
        ([GONE], 0.5, [True]),
        ([], 0.5, []),
    ],
)
def test_panic(histories: list[tuple[str, ...]], panic: float, asked: list[bool]) -> None:
    them = [after(*history)[0] for history in histories]
    assert [until <= 100.0 for until in passed_over(them, 100.0, panic)] == asked


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ([], []),
        ([1.0, 9.0], []),  # which of two is the odd one?
        ([1.0, 1.0, 3.1], [2]),
        ([1.0, 1.0, 3.0], []),  # at the factor
        ([1.0, None, 9.0, 1.1], [2]),
        ([1.0, None, 9.0], []),
        ([9.0, 9.0, 1.0], []),
        ([1.0, 1.0, 8.0, 9.0], [3]),  # one at a time
        ([0.001, 0.001, 0.02], []),  # nobody notices
    ],
)
def test_outliers(times: list[float | None], found: list[int]) -> None:
    assert outliers(times, 3.0) == found


@given(
    st.lists(
        st.sampled_from(
            [*FAILURES, "old failure", "old answer", "answer", "head", "connection", "begin", "out", "gone", "well", "outlier"]
        )
        | st.sampled_from(["0.25", "0.5", "3", "11", "31"]),
        max_size=60,
    )
)
def test_any_history(events: list[str]) -> None:
    """It is never lost for ever, never says what it is not, and comes back once it does well."""
    health, now = after(*events)
    assert LEAST_SHARE <= health.share(now, SPEC) <= 1.0
    assert (health.state in ("healthy", "recovering")) == (health.down_until == 0.0 and health.kind is None)
    if health.state == "unhealthy":
        assert health.down_until == NEVER
        now += VERDICT_SECONDS + 0.1
        health.tick(now, SPEC)
    assert health.down_until <= now + LONGEST_EJECTION
    now += LONGEST_EJECTION
    health.begin(now)
    health.answered(now, now, SPEC)
    health.completed(now)
    assert health.down_until == 0.0
    health.tick(now + SPEC.slow_start, SPEC)
    assert health.well()


@pytest.mark.parametrize(
    ("outcomes", "verdict", "doubtful", "changes"),
    [
        ("", "checking", True, 0),
        ("+", "checking", True, 0),
        ("++", "healthy", False, 1),
        ("++-", "healthy", True, 1),
        ("++--", "healthy", True, 1),
        ("++--+", "healthy", False, 1),
        ("++---", "unhealthy", False, 2),
        ("---", "unhealthy", False, 1),
        ("---+", "unhealthy", True, 1),
        ("---+-+", "unhealthy", True, 1),
        ("---++", "healthy", False, 2),
        ("-+--+", "checking", True, 0),
    ],
)
def test_checks(outcomes: str, verdict: str, doubtful: bool, changes: int) -> None:
    checks = Checks()
    changed = [checks.heard(outcome == "+", healthy_after=2, unhealthy_after=3) for outcome in outcomes]
    assert (checks.verdict, checks.doubtful(), sum(changed)) == (verdict, doubtful, changes)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_row_of_checks_may_be_one(kind: Failure) -> None:
    checks = Checks()
    assert checks.heard(False, 1, 1)
    assert checks.heard(True, 1, 1)
    health = Health()
    health.checked_out(kind, "", 1.0)
    assert health.gone() == FAILURES[kind].gone
