"""Limits of stored keys as operators write them: what is read, what is refused and in which words, and the way back."""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.limit_options import Limit
from slmgate.control.config.limit_words import parse
from slmgate.control.keyfields import BadKeyInput
from slmgate.control.keylimits import MAX_LIMITS, check_currencies, limit_text, of_options, raised_text, read_limits
from slmgate.terms import LimitSpec

PLANS = """
models: {tiny: {instances: [{url: "http://10.0.0.1:8000"}]}}
plans:
  euros: {currency: EUR, prices: {tiny: {prompt: 1/1M}}}
  dollars: {currency: USD, prices: {tiny: {prompt: 1/1M}}}
teams: {acme: {plan: euros}, other: {plan: dollars}, free: {}}
"""


def one(text: str) -> LimitSpec:
    (found,) = read_limits([text])
    return found


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("60 requests/minute", "60 requests/minute"),
        ("60/minute", "60 requests/minute"),
        ("2000000 tokens/month", "2M tokens/month"),
        ("20k tokens/minute burst 40k", "20k tokens/minute burst 40k"),
        ("4 concurrent", "4 concurrent"),
        ("0.50 EUR/day", "0.50 EUR/day"),
        ("0/minute", "0 requests/minute"),
        ("{limit: 9/minute}", "9 requests/minute"),
        ("{limit: 9/minute, per: all}", "9 requests/minute"),
        ("{limit: 9/minute, per: [principal, model]}", "{limit: 9 requests/minute, per: [model]}"),
        ("{limit: 5k tokens/week, week_starts: sunday}", "{limit: 5k tokens/week, week_starts: sunday}"),
        (
            "{limit: 2M tokens/month, timezone: Europe/Berlin, on_excess: clamp}",
            "{limit: 2M tokens/month, timezone: Europe/Berlin, on_excess: clamp}",
        ),
        (
            "{limit: 1 EUR/day, raised: {to: 2.50 EUR/day, until: 2030-01-01}}",
            "{limit: 1 EUR/day, raised: {to: 2.50 EUR/day, until: 2030-01-01T00:00:00Z}}",
        ),
        (
            '{"limit": "60 requests/minute", "raised": {"to": "600 requests/minute", "until": "2030-01-01T12:00:00+02:00"}}',
            "{limit: 60 requests/minute, raised: {to: 600 requests/minute, until: 2030-01-01T10:00:00Z}}",
        ),
    ],
)
def test_read_and_written_back(given: str, written: str) -> None:
    assert limit_text(one(given)) == written
    assert one(written) == one(given)


def test_what_is_counted() -> None:
    found = one("{limit: 5k tokens/week, timezone: Asia/Tokyo, week_starts: sunday, per: ip, on_excess: clamp}")
    assert (found.unit, found.amount, found.calendar, found.zone, found.first_day) == ("tokens", 5000, "week", "Asia/Tokyo", 6)
    assert (found.per, found.clamp) == (("principal", "ip"), True)  # the key itself is always among them
    raised = one("{limit: 1 concurrent, raised: {to: 9 concurrent, until: 1970-01-02}}")
    assert (raised.amount, raised.raised, raised.raised_until, raised_text(raised)) == (1, 9, 86400.0, "9 concurrent")


def test_keys_with_the_same_limits_share_them() -> None:
    """What use is known by names no key and no amount: another amount goes on with what was used."""
    assert one("60 requests/minute") == one("60/minute")
    assert one("60 requests/minute").identity == one("{limit: 99/minute, raised: {to: 100/minute, until: 2030-01-01}}").identity
    assert one("60 requests/minute").identity != one("60 requests/hour").identity
    assert [limit.name for limit in read_limits(["1/minute", "2/hour"])] == ["key.limits[0]", "key.limits[1]"]


def test_those_of_a_declared_key_are_told_alike() -> None:
    assert [limit_text(spec) for spec in of_options([Limit(limit=parse("60/minute"), per=("ip",))])] == [
        "{limit: 60 requests/minute, per: [ip]}"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "A limit is empty; write 60 requests/minute"),
        ("60", "'60' has no window (write 60 requests/minute or 60 concurrent)"),
        ("60 foo/minute", "'60 foo/minute' has an unknown unit ("),
        ("-1 requests/minute", "'-1 requests/minute' is negative ("),
        ("1.5 requests/minute", "has a fraction, and only money may"),
        ("1_000_000_001G tokens/day", "is more than can be counted"),
        ("60 per minute", "'60 per minute' is not spelled as a limit is (write 60 requests/minute)"),
        ("{limt: 3}", "unknown option 'limt' (did you mean limit?)"),
        ("{limit: 60/minute, limit: 2/hour}", "this name is given twice"),
        ("[60/minute]", "a list is not a mapping of options"),
        ("a: [", "this is not YAML"),
        ("x" * 501, "500 characters"),
        ("${file:/etc/hostname}", "refers to something"),
        ("{limit: 1/minute, timezone: '${env:HOME}'}", "refers to something"),
        ("{limit: 60/minute, on_excess: clamp}", "on_excess: max_tokens does not change 60 requests/minute ("),
        ("{limit: 60/minute, timezone: UTC}", "timezone: 60 requests/minute has no day of the calendar ("),
        ("{limit: 60/minute, per: [all, ip]}", "per: all and others cannot be counted together ("),
        ("{limit: 60/minute, raised: {to: 50/minute, until: 2030-01-01}}", "raised: 50 requests/minute is not more than 60 req"),
        ("{limit: 60/minute, raised: {to: 90/hour, until: 2030-01-01}}", "raised: 90 requests/hour is not of the unit and wind"),
        ("{limit: 60/minute, raised: {to: 90/minute}}", "until is missing"),
        ("{limit: 60/minute, raised: {to: 90/minute, until: soon}}", "raised.until: 'soon' is not a date ("),
    ],
)
def test_refused_as_in_a_configuration(text: str, told: str) -> None:
    with pytest.raises(BadKeyInput) as caught:
        read_limits(["1/minute", text])
    assert told in str(caught.value)


def test_only_so_many() -> None:
    assert len(read_limits(["1/minute"] * MAX_LIMITS)) == MAX_LIMITS
    with pytest.raises(BadKeyInput, match="10 limits at the most"):
        read_limits(["1/minute"] * (MAX_LIMITS + 1))


def test_money_must_count_against_something() -> None:
    config = load_text(PLANS).unwrap()
    euros = read_limits(["60/minute", "1 EUR/day"])
    for team in (None, "acme", "free", "unheard of"):
        check_currencies(euros, team, config)
    check_currencies(euros, "other", None)  # no configuration is known
    with pytest.raises(BadKeyInput, match="1 EUR/day': the plan of this team, dollars, counts in USD"):
        check_currencies(euros, "other", config)
    with pytest.raises(BadKeyInput, match="no plan counts in GBP"):
        check_currencies(read_limits(["1 GBP/day"]), None, config)
