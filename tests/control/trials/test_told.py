"""Verdicts told whole: whose roles they are, what is not in the configuration; and past requests beside today's verdict."""

from __future__ import annotations

import msgspec
import pytest

from slmgate.control.config import Config, load_text
from slmgate.control.trials.asked import Trial, declared_key
from slmgate.control.trials.told import Past, Told, Who, judged, parameter_in, past, principal_of, told, trial_of
from slmgate.policy.roles import Scalar
from slmgate.terms import Key, Principal, Receipt
from tests.tools.journal_writer import make_receipt

TEXT = """\
models: {smollm2: {instances: [{url: "http://h:1"}]}}
roles:
  own: {models: [smollm2], endpoints: [embeddings]}
  shared: {models: ["*"], parameters: {max_tokens: {max: 64}, temperature: {max: 1}}, max_context: 100}
teams: {acme: {roles: [shared]}}
keys: [{name: bot, team: acme, roles: [own], hash: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}]
"""


@pytest.fixture
def config() -> Config:
    return load_text(TEXT).unwrap()


def key(config: Config, name: str = "bot") -> Key:
    found = declared_key(config, name)
    assert found is not None
    return found


def test_whose_roles_they_are(config: Config) -> None:
    found = told(config, key(config), Trial(model="smollm2"))
    assert [(role.name, role.of, role.admits) for role in found.roles] == [
        ("own", "its own", False),
        ("shared", "of team acme", True),
    ]
    assert found.who.roles == ("own", "shared")
    assert (found.verdict.rule, found.verdict.settings, found.caller) == ("roles.shared", {"max_tokens": 64}, {"code": "ok"})
    assert found.roles[1].settings == {"max_tokens": 64}
    assert found.notes == ()
    assert msgspec.convert(msgspec.to_builtins(found), Told) == found


def test_what_is_not_in_the_configuration(config: Config) -> None:
    stranger = Principal(id="s", name="s", roles=("gone",), team="away")
    found = told(config, stranger, Trial(model="smollm2"))
    assert (found.verdict.code, found.verdict.rule) == ("permission_denied", "roles")
    assert [note.split(" is ")[0] for note in found.notes] == ["The role gone", "The team away"]
    plain = load_text('models: {m: {instances: [{url: "http://h:1"}]}}').unwrap()
    found = told(plain, stranger, Trial(model="m"))
    assert (found.verdict.rule, found.roles[0].of) == ("roles.internal", "its own")
    assert "no roles" in found.notes[0]


@pytest.mark.parametrize(
    ("model", "parameters", "notes"),
    [
        ("smollm2", {}, ["If no instance of smollm2 can serve it, qwen does, admitted by roles.shared.", "third does not"]),
        ("smollm2", {"max_tokens": [65]}, []),
        ("qwen", {}, []),
        ("unknown", {}, []),
    ],
)
def test_who_stands_in(model: str, parameters: dict[str, list[Scalar]], notes: list[str]) -> None:
    others = ', qwen: {instances: [{url: "http://h:2"}]}, third: {instances: [{url: "http://h:3"}]}}'
    text = TEXT.replace("]}}\n", "], fallback: [qwen, third]}" + others + "\n", 1)
    text = text.replace('models: ["*"]', 'models: ["*"], deny_models: [third]')
    config = load_text(text).unwrap()
    found = told(config, key(config), Trial(model=model, parameters=parameters))
    assert [note[: len(start)] for note, start in zip(found.notes, notes, strict=True)] == notes


def test_a_key_that_has_ended(config: Config) -> None:
    ended = msgspec.structs.replace(key(config), expires=5.0)
    found = told(config, ended, Trial(model="smollm2", at=6.0))
    assert (found.verdict.code, found.identity[0].passed) == ("invalid_api_key", False)
    assert found.roles[1].admits


def test_who_is_meant(config: Config) -> None:
    assert principal_of(config, Who(name="bot"), lambda _: None) == key(config)
    assert declared_key(config, "declared:bot") == key(config)
    stored = Key(id="k", name="other")
    assert principal_of(config, Who(name="other"), lambda _: stored) == stored
    assert principal_of(config, Who(name="other"), lambda _: None) is None
    made = principal_of(config, Who(roles=("own",), team="acme"), lambda _: None)
    assert made is not None and (made.roles, made.team) == (("own",), "acme")


def receipt(**fields: object) -> Receipt:
    base = {"key": "declared:bot", "principal": "bot", "roles": "own,shared", "rule": "roles.shared", "address": "192.0.2.1"}
    return make_receipt("r1", **(base | fields))


def test_a_past_request_that_would_end_as_it_did(config: Config) -> None:
    found = past(config, receipt(parameters="max_tokens=5"), key(config))
    assert found.today is not None and found.today.verdict.admitted
    assert found.differs == ()
    assert [text.partition(":")[0] for text in found.unknown] == [
        "the prompt's length as the gate estimated it; the engine's count stands for it.",
        "temperature",
    ]
    assert found.today.request == trial_of(receipt(parameters="max_tokens=5"), "chat")
    assert msgspec.convert(msgspec.to_builtins(found), Past).differs == ()


REFUSED = {"verdict": "refuse", "ended": "refused", "status": 400, "attempts": 0}


@pytest.mark.parametrize(
    ("fields", "state", "differs"),
    [
        ({"parameters": "max_tokens=65"}, "active", ["Then it was admitted by roles.shared; today it would be refused with"]),
        (
            REFUSED | {"reason": "parameter_not_allowed", "rule": "roles.x", "parameters": "max_tokens=9"},
            "active",
            ["Then it was refused by roles.x; today it would be admitted by roles.shared."],
        ),
        (
            REFUSED | {"reason": "model_not_found", "rule": "", "parameters": "max_tokens=65"},
            "active",
            ["Then it was refused with model_not_found; today it would be refused with parameter_not_allowed by"],
        ),
        ({"rule": "roles.old"}, "active", ["Then the rule was roles.old; today it would be roles.shared."]),
        ({"roles": "old"}, "active", ["Its roles were old, and are own,shared."]),
        ({}, "revoked", ["The key is revoked now"]),
        (REFUSED | {"reason": "overloaded"}, "active", ["Then it ended with overloaded, which is not a matter of roles."]),
    ],
)
def test_a_past_request_that_would_end_otherwise(
    config: Config, fields: dict[str, object], state: str, differs: list[str]
) -> None:
    found = past(config, receipt(**fields), key(config), state)
    assert len(found.differs) == len(differs)
    assert all(text.startswith(start) for text, start in zip(found.differs, differs, strict=True)), found.differs


def test_a_past_request_under_limits() -> None:
    """What was used then is not kept: it is said, and a refusal by limits is no matter of roles."""
    limited = load_text(TEXT.replace("max_context: 100", "limits: [5 requests/minute]")).unwrap()
    found = past(limited, receipt(**REFUSED, reason="rate_limit_exceeded", rule="roles.shared.limits[0]"), key(limited))
    assert found.differs == ("Then it was refused with rate_limit_exceeded by roles.shared.limits[0], by what was used then.",)
    assert any("how much of its limits was used then" in text for text in found.unknown)
    assert found.today is not None and [row.rule for row in found.today.verdict.limits] == ["roles.shared.limits[0]"]
    strange = told(limited, key(limited), Trial(model="smollm2", used={"6 requests/minute": 1}))
    assert strange.notes == ("No limit of this request is called '6 requests/minute'.",)
    refused = told(limited, key(limited), Trial(model="smollm2", used={"5 requests/minute": 5}))
    assert refused.caller == {"code": "rate_limit_exceeded", "message": refused.verdict.message}


def test_a_past_request_that_cannot_be_judged(config: Config) -> None:
    assert past(config, receipt(path="/elsewhere"), None).today is None
    assert past(config, receipt(key=None), None).today is None
    unread = past(config, receipt(**REFUSED, reason="permission_denied", rule="roles", model=""), key(config))
    assert (unread.today, unread.unknown) == (None, ("It ended before its body was read, so that no model is known.",))
    unknown = past(config, receipt(key="gone", team=None), None)
    assert "not a key that is known now" in unknown.unknown[0]
    assert unknown.today is not None and unknown.today.who.roles == ("own", "shared")
    assert any(
        "no instance was asked" in text for text in past(config, receipt(**REFUSED, reason="model_not_found"), None).unknown
    )


def test_what_policy_decided_then() -> None:
    assert judged(receipt()) is True
    assert judged(receipt(**REFUSED, reason="permission_denied")) is False
    assert judged(receipt(**REFUSED, reason="request_too_large", rule="roles.x.max_body")) is False
    assert judged(receipt(**REFUSED, reason="request_too_large", rule="")) is None
    assert judged(receipt(verdict="none", reason="client_left")) is None


@pytest.mark.parametrize(
    ("rule", "name"),
    [("roles.a.b.parameters.n.max", "n"), ("models.m.parameters.tools", "tools"), ("roles.a.hours", None)],
)
def test_the_parameter_of_a_rule(rule: str, name: Scalar | None) -> None:
    assert parameter_in(rule) == name


@pytest.mark.parametrize(
    ("canary", "note"),
    [
        ("share: 0%", "next, a version of smollm2, does not serve it: who calls is not among its 0%."),
        ("share: 100%", "next serves it as a version of smollm2: who calls is among its 100%."),
        ("principals: [bot]", "next serves it as a version of smollm2: who calls is named in models.smollm2.canary."),
        ("roles: [own]", "next serves it as a version of smollm2: who calls is named in models.smollm2.canary."),
        ("share: 7%, by: request", "next serves 7% of all requests as a version of smollm2."),
        ("share: 7%, by: header x-s", "next serves 7% of all requests as a version of smollm2, told apart by the header x-s."),
    ],
)
def test_which_version_serves(canary: str, note: str) -> None:
    other = f'], canary: {{model: next, {canary}}}}}, next: {{hidden: true, instances: [{{url: "http://h:2"}}]}}}}\n'
    config = load_text(TEXT.replace("]}}\n", other, 1)).unwrap()
    assert told(config, key(config), Trial(model="smollm2")).notes == (note,)
    itself = told(config, key(config), Trial(model="next"))
    assert not itself.verdict.admitted
    assert itself.notes == ("next is hidden: nobody may ask for it, and it serves in the place of others.",)


def test_a_copy(config: Config) -> None:
    found = past(config, receipt(verdict="shadow", model="next", parameters="shadow=r0"), key(config))
    assert found.today is None and "`shadow` names" in found.unknown[0]
