"""Would-be requests as somebody writes them: what is taken, and what is refused with a message that helps."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from slmgate.control.trials.told import Who
from slmgate.control.trials.wish import BadTrial, Wish, parse_parameters, parse_used, parse_when


def second(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-24", "2026-11-24T00:00:00+00:00"),
        ("2026-11-24T08:00:00+01:00", "2026-11-24T07:00:00+00:00"),
        ("2026-11-24 08:00 Europe/Berlin", "2026-11-24T07:00:00+00:00"),
        ("2026-11-24T08:00:05 UTC", "2026-11-24T08:00:05+00:00"),
        ("2026-10-25 02:30 Europe/Berlin", "2026-10-25T00:30:00+00:00"),
    ],
)
def test_times(text: str, same: str) -> None:
    assert parse_when(text) == second(same)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("noon", "write 2026-11-24T08:00:00Z"),
        ("2026-11-24 08:00 Europe/Bonn", "no time of a zone"),
        ("2026-11-31 08:00 Europe/Berlin", "no time of a zone"),
        ("2026-03-29 02:30 Europe/Berlin", "never comes"),
    ],
)
def test_no_times(text: str, said: str) -> None:
    with pytest.raises(BadTrial, match=said):
        parse_when(text)


def test_parameters() -> None:
    assert parse_parameters(["max_tokens=900", "n=1.5", "logprobs=true", "user=", "tools=[{}, {}]", "stop='a: b'"]) == {
        "max_tokens": 900,
        "n": 1.5,
        "logprobs": True,
        "user": "",
        "tools": [{}, {}],
        "stop": "a: b",
    }


@pytest.mark.parametrize("pair", ["max_tokens", "=1", "a b=1", "n=[1", "n=a: b: c"])
def test_no_parameters(pair: str) -> None:
    with pytest.raises(BadTrial):
        parse_parameters([pair])


def test_what_is_used() -> None:
    assert parse_used(["60 requests/minute=59", "25 EUR/month=24.99", "roles.a.limits[0]=20k"]) == {
        "60 requests/minute": 59,
        "25 EUR/month": 24.99,
        "roles.a.limits[0]": 20_000,
    }


@pytest.mark.parametrize("pair", ["60 requests/minute", "=1", "60 requests/minute=many", "60 requests/minute="])
def test_what_says_of_no_limit_how_much_is_used(pair: str) -> None:
    with pytest.raises(BadTrial, match="says of no limit"):
        parse_used([pair])


def test_a_wish_is_a_trial() -> None:
    wish = msgspec.convert(
        {"as": "bot", "model": "m", "parameters": {"max_completion_tokens": 9}, "address": "::1", "at": "1970-01-02"}, Wish
    )
    assert wish.who == Who(name="bot")
    trial = wish.trial(5.0)
    assert (trial.model, trial.parameters, trial.address, trial.at) == ("m", {"max_tokens": [9]}, "::1", 86_400.0)
    assert Wish(roles=("a",), team="t", model="m").trial(5.0).at == 5.0
    assert Wish(team="t", endpoint="models").trial(5.0).model == ""


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(model="m"), "Say who asks"),
        (Wish(name="bot", team="t", model="m"), "not both"),
        (Wish(name="bot"), "Name the model"),
        (Wish(name="bot", model="m", endpoint="talk"), "no endpoint 'talk'"),
        (Wish(name="bot", model="m", address="here"), "no address"),
        (Wish(name="bot", model="m", body_size=-1), "body size"),
        (Wish(name="bot", model="m", prompt_tokens=-1), "prompt tokens"),
        (Wish(name="bot", model="m", used={"x": -1}), "nobody can have used -1"),
        (Wish(name="bot", model="m", used={"x": float("inf")}), "nobody can have used inf"),
    ],
)
def test_what_nobody_could_send(wish: Wish, said: str) -> None:
    with pytest.raises(BadTrial, match=said):
        assert (wish.who, wish.trial(0.0)) is None
