"""Requests that were never sent: their parameters as rules see them, what a verdict needed and did not have."""

from __future__ import annotations

import math
from typing import Any

import pytest

from slmgate.control.config import load_text
from slmgate.control.trials.asked import Trial, TrialFacts, Verdict, as_asked, judge, plain_parameters, snapshot_of
from slmgate.policy.networks import NOWHERE
from slmgate.policy.snapshot import Snapshot
from slmgate.terms import Key, Principal
from tests.tools.journal_writer import make_receipt

TEXT = """
models: {m: {instances: [{url: "http://h:1"}]}, n: {instances: [{url: "http://h:2"}]}}
roles:
  open: {models: ["*"], parameters: {max_tokens: {max: 64}}, priority: 3, weight: 2}
  near: {models: [m], networks: [10.0.0.0/8], max_body: 10, hours: "Mon-Sun 08:00-18:00"}
"""


@pytest.fixture
def snapshot() -> Snapshot:
    return snapshot_of(load_text(TEXT).unwrap())


def who(*roles: str) -> Principal:
    return Principal(id="w", name="w", roles=roles)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({}, {}),
        ({"max_tokens": 9}, {"max_tokens": [9]}),
        ({"max_completion_tokens": 9, "num_predict": -1}, {"max_tokens": [9, math.inf]}),
        ({"n": True}, {"n": [True]}),
        ({"tools": [{}, {}]}, {"tools": [2]}),
        ({"response_format": {"type": "json_schema"}}, {"response_format": ["json_schema"]}),
        ({"response_format": "json_object"}, {"response_format": ["json_object"]}),
        ({"image_url": "http://x"}, {"image_url": ["http://x"]}),
        ({"image_url": ["http://x", "http://y"]}, {"image_url": ["http://x", "http://y"]}),
        ({"image_url": {"url": "http://x"}}, {"image_url": ["http://x"]}),
        ({"temperature": 0.5, "user": "u"}, {"temperature": [0.5], "user": ["u"]}),
        ({"seed": None}, {"seed": []}),
    ],
)
def test_parameters(given: dict[str, Any], plain: dict[str, list[object]]) -> None:
    assert plain_parameters(given) == plain


@pytest.mark.parametrize(
    ("given", "most"), [({}, None), ({"max_tokens": [9]}, 9), ({"max_tokens": [math.inf]}, None), ({"max_tokens": [True, 3]}, 3)]
)
def test_the_ask(given: dict[str, list[Any]], most: int | None) -> None:
    ask = Trial(model="m", stream=True, prompt_tokens=7, parameters=given).ask
    assert (ask.model, ask.stream, ask.prompt_estimate, ask.max_tokens) == ("m", True, 7, most)


def test_what_is_not_given_is_noted() -> None:
    facts = TrialFacts(Trial())
    assert (facts.address, facts.body_size, facts.second(), facts.parameter("n")) == (NOWHERE, 0, 0.0, ())
    assert list(facts.lacking) == ["address", "at"]
    facts = TrialFacts(Trial(address="::1", body_size=3, at=9.0, parameters={"n": [1]}))
    assert (facts.address, facts.body_size, facts.second(), facts.parameter("n")) == (1, 3, 9.0, [1])
    assert not facts.lacking


def test_verdicts(snapshot: Snapshot) -> None:
    admitted = judge(snapshot, who("open"), Trial(model="n"))
    assert admitted == Verdict(
        admitted=True, rule="roles.open", role="open", settings={"max_tokens": 64}, priority=3, weight=2, route=("n/h:2",)
    )
    assert str(admitted) == "admit by roles.open"
    refused = judge(snapshot, who("open"), Trial(model="n", parameters={"max_tokens": [65]}))
    assert (refused.admitted, refused.param) == (False, "max_tokens")
    assert refused.caller == {"code": "parameter_not_allowed", "message": "max_tokens may be at most 64.", "param": "max_tokens"}
    assert admitted.caller == {"code": "ok"}
    assert str(refused) == "parameter_not_allowed by roles.open.parameters.max_tokens.max"
    assert str(judge(snapshot, who("near"), Trial(model="n"))) == "model_not_found"
    listed = judge(snapshot, who("near"), Trial(endpoint="models", address="10.0.0.1", at=36_000.0))
    assert (listed.models, str(listed)) == (("m",), "admit")
    ended = judge(snapshot, Key(id="k", name="k", expires=5.0), Trial(model="m", at=6.0))
    assert str(ended) == "invalid_api_key by keys.k.expires"


def test_only_what_the_verdict_needed_is_lacking(snapshot: Snapshot) -> None:
    assert judge(snapshot, who("near"), Trial(model="m")).lacking == ("address",)
    assert judge(snapshot, who("near"), Trial(model="m", address="10.0.0.1")).lacking == ("at",)
    assert judge(snapshot, who("near"), Trial(model="m", address="10.0.0.1", at=36_000.0)).lacking == ()
    assert judge(snapshot, who("open"), Trial(model="m")).lacking == ()


def test_the_model_by_which_a_request_was_decided() -> None:
    plain = make_receipt("r1", model="n", parameters="model=m max_tokens=4")
    assert as_asked(plain) is plain, "a fallback serves by its own name"
    assert as_asked(make_receipt("r1", model="n", parameters="max_tokens=4 canary=m")).model == "m"
