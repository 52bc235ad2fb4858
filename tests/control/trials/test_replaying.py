"""Receipts against a proposal: what changes, for whom, by which rule; what could not be judged or known."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from slmgate.control.config import Config, load_text
from slmgate.control.trials import replaying
from slmgate.control.trials.replaying import Judge, Replay, ReplayReport
from slmgate.terms import Principal, Receipt
from tests.tools.journal_writer import NOON, make_receipt


def config(role: str = "models: [smollm2]", keys: str = "") -> Config:
    return load_text(
        f'models: {{smollm2: {{instances: [{{url: "http://h:1"}}]}}}}\nroles: {{a: {{{role}}}}}\n'
        f'keys: [{{name: bot, roles: [a], hash: "sha256:{"0" * 64}"{keys}}}]\n'
    ).unwrap()


def receipt(number: int = 0, /, **fields: object) -> Receipt:
    base = {"key": "declared:bot", "roles": "a", "time": NOON + timedelta(minutes=number), "address": "192.0.2.1"}
    return make_receipt(f"r{number}", **(base | fields))


REFUSED = {"verdict": "refuse", "ended": "refused", "status": 400, "attempts": 0}
STORED = {"k1": Principal(id="k1", name="stored", roles=("a",), networks=("192.0.2.0/24",))}


def replayed(proposed: Config, *receipts: Receipt, against: Config | None = None) -> ReplayReport:
    made = Replay(Judge(proposed, STORED), None if against is None else Judge(against, STORED))
    for one in receipts:
        made.take(one)
    return made.report()


def test_who_would_newly_be_refused() -> None:
    proposal = config("models: [smollm2], parameters: {max_tokens: {max: 9}}")
    long = [receipt(number, parameters="max_tokens=10") for number in (3, 1, 2)]
    report = replayed(proposal, receipt(0, parameters="max_tokens=9"), *long)
    assert (report.receipts, report.judged, report.same, report.refused) == (4, 4, 1, 3)
    (change,) = report.changes
    assert msgspec.structs.asdict(change) == {
        "kind": "refused",
        "client": "bot",
        "model": "smollm2",
        "endpoint": "chat",
        "before": "ok",
        "after": "parameter_not_allowed",
        "rule": "roles.a.parameters.max_tokens.max",
        "count": 3,
        "first": NOON + timedelta(minutes=1),
        "last": NOON + timedelta(minutes=3),
        "example": "r3",
    }


@pytest.mark.parametrize(
    ("proposal", "fields", "kind", "after"),
    [
        (config(), {**REFUSED, "reason": "permission_denied"}, "admitted", "ok"),
        (config("models: [smollm2], endpoints: [embeddings]"), {}, "refused", "permission_denied"),
        (config("models: [smollm2], max_body: 1"), {"bytes_in": 2}, "refused", "request_too_large"),
        (config("models: [smollm2], stream: false"), {"stream": True}, "refused", "parameter_not_allowed"),
        (config("models: [smollm2], networks: [10.0.0.0/8]"), {}, "refused", "permission_denied"),
        (config('models: [smollm2], hours: "00:00-11:00"'), {}, "refused", "permission_denied"),
        (config("models: [smollm2], max_context: 9"), {"parameters": "max_tokens=3"}, "refused", "request_too_large"),
        (config("models: [smollm2], endpoints: [chat]"), {"method": "GET", "path": "/v1/models"}, "refused", "permission_denied"),
        (config(keys=", expires: 2026-11-20"), {}, "refused", "invalid_api_key"),
        (config(), {"key": "declared:gone"}, "refused", "invalid_api_key"),
        (config(), {"key": "k1", "address": "10.0.0.1"}, "refused", "permission_denied"),
        (config(), {"key": "token#7", "roles": "b"}, "refused", "permission_denied"),
        (config(), {**REFUSED, "reason": "permission_denied", "model": "x"}, "reason", "model_not_found"),
    ],
)
def test_changes(proposal: Config, fields: dict[str, object], kind: str, after: str) -> None:
    report = replayed(proposal, receipt(**fields))
    (change,) = report.changes
    assert (change.kind, change.after) == (kind, after)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"key": "k1"},
        {"key": "token#7"},
        {"method": "GET", "path": "/v1/models"},
        {**REFUSED, "reason": "model_not_found", "model": "x"},
    ],
)
def test_what_stays(fields: dict[str, object]) -> None:
    assert replayed(config(), receipt(**fields)).same == 1


def test_who_would_newly_have_no_room_in_a_limit() -> None:
    proposal = config("models: [smollm2], parameters: {max_tokens: {max: 64}}, limits: [2 requests/hour, 1M tokens/day]")
    report = replayed(proposal, *(receipt(number) for number in range(5)), receipt(5, parameters="max_tokens=65"), receipt(90))
    assert (report.judged, report.same, report.refused, report.limited) == (7, 3, 1, 3)
    (refused, limited) = report.changes
    assert (refused.kind, refused.rule) == ("refused", "roles.a.parameters.max_tokens.max")
    assert (limited.kind, limited.after, limited.rule, limited.count) == (
        "limited",
        "rate_limit_exceeded",
        "roles.a.limits[0]",
        3,
    )
    listing = {"method": "GET", "path": "/v1/models"}
    assert replayed(proposal, *(receipt(number, **listing) for number in range(5))).same == 5


def test_who_was_limited_and_would_have_room() -> None:
    """What a request that was refused would have used, nobody knows: it is said, and counts as a request without tokens."""
    was = {**REFUSED, "status": 429, "reason": "rate_limit_exceeded", "prompt_tokens": 0, "completion_tokens": 0}
    report = replayed(config("models: [smollm2], limits: [3 requests/hour]"), *(receipt(number, **was) for number in range(4)))
    assert (report.admitted, report.same) == (3, 1)
    assert report.missing == {"what a request would have used that no instance was asked for: no tokens are counted": 4}
    assert replayed(config(), receipt(**was)).admitted == 1
    wider = replayed(
        config("models: [smollm2], limits: [9 requests/hour]"), receipt(), against=config("models: [smollm2], limits: [0/hour]")
    )
    assert wider.admitted == 1


def test_what_is_not_judged_is_counted() -> None:
    report = replayed(
        config(),
        receipt(key=None),
        receipt(path="/x"),
        receipt(**REFUSED, reason="overloaded"),
        receipt(verdict="none", reason=""),
        receipt(**REFUSED, reason="permission_denied", model=""),
    )
    assert (report.receipts, report.judged) == (5, 0)
    assert report.left_out == {
        "no credential or no endpoint of the gate": 2,
        "ended with overloaded, which roles have no part in": 1,
        "ended with complete, which roles have no part in": 1,
        "ended before the body was read, so that no model is known": 1,
    }


def test_what_is_not_known_is_counted() -> None:
    proposal = config("models: [smollm2], parameters: {temperature: {max: 1}}, max_context: 1000")
    report = replayed(proposal, receipt(), receipt(), receipt(**REFUSED, reason="permission_denied"))
    assert report.missing == {
        "the parameter temperature, which receipts do not keep: it counts as left alone": 3,
        "the prompt's length: the engine's count stands for the gate's estimate": 2,
        "the prompt's length: no instance was asked, so none is known": 1,
    }


def test_against_another_configuration() -> None:
    tight = config("models: [smollm2], endpoints: [embeddings]")
    report = replayed(tight, receipt(), receipt(**REFUSED, reason="overloaded"), against=config())
    assert (report.refused, report.judged) == (2, 2)
    report = replayed(tight, receipt(), against=tight)
    assert report.same == 1
    report = replayed(tight, receipt(**REFUSED, reason="invalid_request", model=""), against=config())
    assert report.judged == 0


def test_the_report_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "MAX_GROUPS", 2)
    tight = config("models: [smollm2], endpoints: [embeddings]")
    receipts = [receipt(number, principal=f"client{number}", key=f"k{number}x", roles="a") for number in range(20)]
    report = replayed(tight, *receipts)
    assert [(change.client, change.count) for change in report.changes] == [("(others)", 18), ("client0", 1), ("client1", 1)]


def test_what_is_remembered_is_bounded_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "MAX_KNOWN", 3)
    proposal = config(
        'models: [smollm2], hours: "00:00-12:01", networks: [192.0.2.0/25], max_body: 9, max_context: 20, '
        "parameters: {max_tokens: {max: 8}}"
    )
    fine = {"bytes_in": 9, "prompt_tokens": 12, "parameters": "max_tokens=8"}
    wrong: list[dict[str, object]] = [
        {"bytes_in": 10},
        {"prompt_tokens": 13},
        {"parameters": "max_tokens=9"},
        {"address": "192.0.2.128"},
        {"time": NOON + timedelta(minutes=1)},
        {"time": NOON + timedelta(seconds=59)},
    ]
    receipts = [receipt(**(fine | changes)) for changes in wrong for _ in range(2)] + [receipt(**fine)]
    report = replayed(proposal, *receipts)
    assert (report.same, report.refused) == (3, 10)


def test_what_another_version_served_is_judged_as_what_was_asked_for() -> None:
    """By its own name nobody may use that version."""
    served = receipt(0, model="smollm2-next", parameters="canary=smollm2 max_tokens=5")
    assert replayed(config(), served).same == 1
    report = replayed(config("models: [smollm2], parameters: {max_tokens: {max: 4}}"), served)
    assert [(one.model, one.after) for one in report.changes] == [("smollm2", "parameter_not_allowed")]


def test_copies_are_left_out() -> None:
    report = replayed(config(), receipt(0, model="next", verdict="shadow"))
    assert (report.judged, report.left_out) == (0, {"a copy of a request, which nobody asked for": 1})
