"""A model's other version, as it is written in a file; what it must be to other models is tested beside `version_checks.py`."""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.version_options import Canary, Hedge, Shadow
from slmgate.policy.split import ShadowSpec

TEXT = 'models: {m: {canary: {model: n, %s}, instances: [{url: "http://h:1"}]}, n: {instances: [{url: "http://h:2"}]}}'


def test_what_is_left_out() -> None:
    canary = load_text(TEXT % "share: 0%").unwrap().models["m"].canary
    assert canary == Canary(model="n")
    assert (canary.share, canary.by, canary.principals) == (0.0, "principal", ())


def test_the_bounds_of_copies_are_those_of_the_snapshot() -> None:
    shadow = load_text((TEXT % "share: 0%").replace("canary", "shadow")).unwrap().models["m"].shadow
    assert shadow == Shadow(model="n")
    assert ShadowSpec(model="n") == ShadowSpec(
        model=shadow.model, in_flight=shadow.in_flight, max_body=shadow.max_body, timeout=shadow.timeout
    )


@pytest.mark.parametrize("by", ["principal", "request", "header x-session-id"])
def test_by(by: str) -> None:
    canary = load_text(TEXT % f"by: {by}").unwrap().models["m"].canary
    assert canary is not None and canary.by == by


@pytest.mark.parametrize("wrong", ["by: session", "by: header", "share: 0.1", "share: 101%", "principals: bot", "teams: [1]"])
def test_wrong(wrong: str) -> None:
    (fault,) = load_text(TEXT % wrong).faults
    assert fault.option.startswith(f"models.m.canary.{wrong.partition(':')[0]}")


def test_a_hedge_needs_its_time() -> None:
    text = TEXT.replace("canary: {model: n, %s}", "hedge: {%s}")
    assert load_text(text % "after: 200ms").unwrap().models["m"].hedge == Hedge(after=0.2)
    assert load_text(TEXT % "share: 0%").unwrap().models["m"].hedge is None
    (fault,) = load_text(text % "").faults
    assert fault.option == "models.m.hedge.after"
