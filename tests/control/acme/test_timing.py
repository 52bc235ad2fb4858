"""When certificates are renewed and failed tries made again: bounds, growth, what the authority asks for, and odd clocks."""

from __future__ import annotations

import msgspec
import pytest

from slmgate.control.acme.timing import (
    AWAY_FIRST,
    AWAY_LAST,
    HOUR,
    LONGEST_WAIT,
    REFUSED_FIRST,
    REFUSED_LAST,
    TRIES_AN_HOUR,
    Kind,
    Tries,
    renew_at,
)

NOW = 1_800_000_000.0


def test_renewed_at_two_thirds_of_the_lifetime() -> None:
    day = 86_400.0
    at = renew_at("a.example.com", NOW, NOW + 90 * day)
    assert NOW + 60 * day <= at <= NOW + 63 * day


def test_names_are_renewed_at_different_times_and_each_at_the_same() -> None:
    times = {renew_at(f"{number}.example.com", NOW, NOW + 90 * 86_400.0) for number in range(50)}
    assert len(times) == 50 and max(times) - min(times) > 86_400.0
    assert renew_at("a", NOW, NOW + 600) == renew_at("a", NOW, NOW + 600)


def test_a_certificate_that_ends_before_it_begins_is_renewed_at_once() -> None:
    assert renew_at("a", NOW, NOW - 5) == NOW


@pytest.mark.parametrize(("kind", "first", "last"), [("refused", REFUSED_FIRST, REFUSED_LAST), ("away", AWAY_FIRST, AWAY_LAST)])
def test_pauses_double_up_to_the_last(kind: Kind, first: float, last: float) -> None:
    tries, now, pauses = Tries(), NOW, []
    for _ in range(40):
        tries = tries.begun(now).failed(now, kind, "no", None)
        pauses.append(tries.not_before - now)
        now = tries.not_before
    assert pauses[:3] == [first, 2 * first, 4 * first] and pauses[-1] == last == max(pauses)


@pytest.mark.parametrize(
    ("asked", "pause"),
    [
        (None, REFUSED_FIRST),
        (0.0, REFUSED_FIRST),
        (1.0, REFUSED_FIRST),
        (7200.0, 7200.0),
        (10**9, LONGEST_WAIT),
        (-5.0, REFUSED_FIRST),
    ],
)
def test_what_the_authority_asks_for_is_honoured_and_never_shortens_a_pause(asked: float | None, pause: float) -> None:
    tries = Tries().begun(NOW).failed(NOW, "refused", "rate limited", asked)
    assert tries.next_try(0.0, NOW) == NOW + pause


def test_no_more_orders_an_hour_than_are_allowed_whatever_becomes_of_them() -> None:
    tries, made, now = Tries(), [], NOW
    while now < NOW + 3 * HOUR:
        at = tries.next_try(0.0, now)
        if at <= now:
            made.append(now)
            tries = tries.begun(now).succeeded(now)  # each time it goes well, and is wanted again at once
        now = max(at, now + 1.0)
    for start in made:
        assert sum(start <= at < start + HOUR for at in made) <= TRIES_AN_HOUR
    assert len(made) >= 3 * TRIES_AN_HOUR


def test_orders_that_were_begun_count_also_when_nobody_told_how_they_ended() -> None:
    tries = Tries()
    for number in range(TRIES_AN_HOUR):
        assert tries.next_try(0.0, NOW + number) <= NOW + number
        tries = msgspec.json.decode(msgspec.json.encode(tries.begun(NOW + number)), type=Tries)  # the process was killed
    assert tries.next_try(0.0, NOW + 9) == NOW + HOUR


def test_an_authority_that_was_away_has_taken_no_order() -> None:
    tries = Tries()
    for number in range(20):
        tries = tries.begun(NOW + number).failed(NOW + number, "away", "not there", None)
    assert tries.orders == () and tries.away == 20
    assert tries.begun(NOW).failed(NOW, "refused", "no", None).away == 0


def test_success_ends_a_row_of_failures() -> None:
    tries = Tries().begun(NOW).failed(NOW, "refused", "no", None).begun(NOW + 200).succeeded(NOW + 200)
    assert (tries.refused, tries.error, tries.not_before) == (0, "", 0.0)


def test_what_is_wanted_later_is_not_tried_before() -> None:
    assert Tries().next_try(NOW + 500, NOW) == NOW + 500


def test_a_pause_from_a_clock_that_was_wrong_is_forgiven() -> None:
    tries = Tries(not_before=NOW + 10 * LONGEST_WAIT, orders=(NOW + 10 * LONGEST_WAIT,) * TRIES_AN_HOUR)
    assert tries.next_try(0.0, NOW) == NOW
