"""Where principals stand: which limits there are to look at, whose each is, and the figures as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from slmgate.control.config import declared_keys, load_text
from slmgate.control.keylimits import read_limits
from slmgate.control.standing import Seat, Stand, Standing
from slmgate.terms import Key, Principal

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONFIG = """
models:
  tiny: {instances: [{url: "http://10.0.0.1:8000"}], limits: [9 concurrent]}
  big: {instances: [{url: "http://10.0.0.2:8000"}], limits: [{limit: 3 requests/second, per: principal}]}
roles:
  user: {models: ["*"], endpoints: ["*"], limits: [60 requests/minute, {limit: 5 requests/minute, per: [principal, model]}]}
  small: {models: [tiny], limits: [{limit: 7 requests/minute, per: team}, {limit: 1 requests/minute, per: ip}]}
  none: {models: [tiny], deny_models: ["*"]}
teams:
  acme: {roles: [user], plan: gold, limits: [200 requests/minute, 5 EUR/day]}
plans: {gold: {currency: EUR, prices: {tiny: {prompt: 1/1M}}}}
auth: {anonymous: {role: small}}
limits: [1000 requests/minute]
keys:
  - {name: bot, team: acme, limits: [4 concurrent], hash: "sha256:%s"}
""" % ("0" * 64)


@pytest.fixture(scope="module")
def standing() -> Standing:
    return Standing(load_text(CONFIG).unwrap())


def told(seats: object) -> list[str]:
    assert not isinstance(seats, str)
    stands = [Standing(load_text(CONFIG).unwrap(), "2001:db8::1").stand(seat, 0, 1, NOON) for seat in seats]  # type: ignore[attr-defined]  # an iterator of seats
    return [f"{stand.whose}: {stand.limit}" for stand in stands]


def test_what_is_nobodys_alone(standing: Standing) -> None:
    assert told(standing.shared()) == [
        "everybody: 1k requests/minute",
        "everybody: 9 concurrent",
        "team acme: 200 requests/minute",
        "team acme: 5 EUR/day",
        "team acme: 7 requests/minute",
        "anonymous: 7 requests/minute",  # who has no team is a team alone
    ]


def test_of_a_key(standing: Standing) -> None:
    (bot,) = declared_keys(load_text(CONFIG).unwrap()).values()
    alone = [
        "bot: 3 requests/second",
        "bot: 60 requests/minute",
        "bot, model tiny: 5 requests/minute",
        "bot, model big: 5 requests/minute",
        "bot: 4 concurrent",
    ]
    assert told(standing.alone(bot)) == alone
    found = told(standing.all(bot))
    assert sorted(set(found) - set(alone)) == [
        "everybody: 1k requests/minute", "everybody: 9 concurrent", "team acme: 200 requests/minute", "team acme: 5 EUR/day"
    ]  # fmt: skip


def test_of_a_stored_key_that_may_use_one_model(standing: Standing) -> None:
    key = Key(id="k1", name="small", roles=("small",), limits=read_limits(["2 requests/hour"]))
    assert told(standing.alone(key)) == ["small: 7 requests/minute", "small: 2 requests/hour"]
    address = Standing(load_text(CONFIG).unwrap(), "2001:db8::1")
    assert "2001:db8::/64: 1 request/minute" in told(address.all(key))
    assert "2001:db8::/64: 1 request/minute" in told(address.shared())


@pytest.mark.parametrize("roles", [(), ("none",), ("gone",)])
def test_who_may_do_nothing_comes_under_nothing(roles: tuple[str, ...], standing: Standing) -> None:
    assert list(standing.all(Principal(id="k", name="k", roles=roles))) == []


def test_without_roles_in_the_configuration() -> None:
    config = load_text('models: {m: {instances: [{url: "http://10.0.0.1:1"}]}}\nlimits: [{limit: 9/minute, per: role}]').unwrap()
    (seat,) = Standing(config).shared()
    assert Standing(config).stand(seat, 0, 9, NOON).whose == "role internal"


def stand_of(text: str, used: int, amount: int) -> Stand:
    key = Key(id="k1", name="bot", roles=("user",), limits=read_limits([text]))
    standing = Standing(load_text(CONFIG).unwrap())
    seat: Seat = list(standing.all(key))[-1]
    return standing.stand(seat, used, amount, NOON)


@pytest.mark.parametrize(
    ("text", "used", "amount", "figures"),
    [
        ("60 requests/minute", 0, 60, (60, 0, 60, 0.0, None)),
        ("60 requests/minute", 59, 60, (60, 59, 1, 0.9833, NOON.replace(minute=1))),
        ("60 requests/minute", 90, 60, (60, 90, 0, 1.5, NOON.replace(minute=1))),
        ("0 requests/minute", 0, 0, (0, 0, 0, 1.0, None)),
        ("2M tokens/hour", 1_999_999, 2_000_000, (2_000_000, 1_999_999, 1, 0.9999, NOON.replace(hour=13))),
        ("2M tokens/day", 1000, 2_000_000, (2_000_000, 1000, 1_999_000, 0.0005, datetime(2026, 11, 21, tzinfo=UTC))),
        ("1 EUR/day", 250_000_000, 10**9, ("1.00", "0.25", "0.75", 0.25, datetime(2026, 11, 21, tzinfo=UTC))),
        ("600 gpu-seconds/hour", 1_500_000, 600_000_000, (600.0, 1.5, 598.5, 0.0025, NOON.replace(hour=13))),
        ("4 concurrent", 3, 4, (4, 3, 1, 0.75, None)),
        ("60 requests/minute burst 90", 30, 90, (90, 30, 60, 0.3333, NOON.replace(second=30))),
    ],
)
def test_figures(text: str, used: int, amount: int, figures: tuple[object, ...]) -> None:
    stand = stand_of(text, used, amount)
    assert (stand.amount, stand.used, stand.left, stand.share, stand.whole) == figures
    assert (stand.name, stand.limit, stand.whose, stand.principal, stand.client) == ("key.limits[0]", text, "bot", "k1", "bot")
    assert stand.currency == ("EUR" if "EUR" in text else "")


@pytest.mark.parametrize(("day", "raised"), [("2026-11-21", "9 requests/minute"), ("2026-11-20T12:00Z", None)])
def test_a_raise_is_told_while_it_lasts(day: str, raised: str | None) -> None:
    stand = stand_of(f"{{limit: 5 requests/minute, raised: {{to: 9 requests/minute, until: {day}}}}}", 0, 9)
    assert (stand.raised, stand.raised_until is not None) == (raised, raised is not None)
