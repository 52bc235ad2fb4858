"""What key holders are told, from a store with others' figures beside: their own alone; and how they get new secrets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slmgate.control.config import Config, load_text
from slmgate.control.keyring import Keyring
from slmgate.control.me.answers import BETWEEN, MAX_SECRETS, OTHER, Facts, Figures, Refused, Usage, rotate
from slmgate.link.messages import Mine
from slmgate.policy.billing import cost, price_text
from slmgate.policy.limits import Price
from slmgate.stores.records import Batch, KeyRecord
from slmgate.stores.sql import SqlStore, open_store
from slmgate.terms import Key, Receipt
from tests.tools.journal_writer import make_receipt

DECLARED = "sk-declared-0123456789abcdef"
CONFIG = f"""\
models:
  m: {{instances: [{{url: "http://127.0.0.1:1"}}], limits: [500 concurrent]}}
  deep: {{instances: [{{url: "http://127.0.0.1:2"}}]}}
  canary: {{instances: [{{url: "http://127.0.0.1:3"}}], hidden: true}}
roles:
  user: {{models: [m], endpoints: ["*"], limits: [60 requests/minute]}}
teams:
  acme: {{roles: [user], plan: gold, limits: [{{limit: 200 requests/minute, per: team}}]}}
  other: {{roles: [user], plan: gold}}
plans:
  gold:
    {{currency: EUR, timezone: Europe/Berlin, prices: {{m: {{prompt: 0.10/1M, completion: 0.30/1M}}}}, included: 1M tokens/month}}
keys: [{{name: main, team: acme, hash: "sha256:{hashlib.sha256(DECLARED.encode()).hexdigest()}"}}]
me: {{enabled: true, overlap: 2d}}
"""
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PRICE = Price(100, 300)


class Scene:
    """Two keys of a team, one of another, and one of the first one's name that was revoked before; and what they did."""

    def __init__(self, home: Path) -> None:
        self.now = NOW - timedelta(days=30)
        self.store: SqlStore = open_store(home / "ledger")
        self.keyring = Keyring(self.store, lambda: self.now)
        self.past, _ = self.keyring.create("ann", "acme")
        self.keyring.revoke("ann")
        self.ann, self.secret = self.keyring.create("ann", "acme")
        self.bob, self.bobs = self.keyring.create("bob", "acme")
        self.eve, _ = self.keyring.create("eve", "other")
        self.now = NOW
        self.config = self.configured()

    def configured(self, **me: str) -> Config:
        words = "".join(f", {name}: {value}" for name, value in me.items())
        return load_text(CONFIG.replace("overlap: 2d", f"overlap: 2d{words}")).unwrap()

    def figures(self, **me: str) -> Figures:
        return Figures(self.configured(**me), self.store, self.keyring)

    def did(self, record: KeyRecord, id: str, **fields: Any) -> Receipt:
        """A request of this key, in the ledger."""
        given = {"time": NOW - timedelta(hours=1), "model": "m", "prompt_tokens": 10, "completion_tokens": 5, **fields}
        made = make_receipt(id, key=record.id, principal=record.name, team=record.team, plan="gold", **given)
        made = msgspec.structs.replace(
            made, price=price_text("EUR", PRICE), cost=cost(made.prompt_tokens, made.completion_tokens, PRICE)
        )
        self.store.write(Batch(receipts=[made]))
        return made

    def key(self, secret: str | None = None) -> Key:
        return self.figures().holder(self.ann.id, digest(secret or self.secret))


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()


# -- who it is


def test_the_secret_opens_its_key_and_no_other(scene: Scene) -> None:
    figures = scene.figures()
    assert figures.holder(scene.ann.id, digest(scene.secret)).name == "ann"
    forged = [
        (scene.bob.id, digest(scene.secret)),  # another's id
        (scene.ann.id, digest(scene.bobs)),
        (scene.ann.id, b""),
        (scene.past.id, digest(scene.secret)),  # revoked
        ("ann", digest(scene.secret)),  # its name in place of its id
        ("declared:ann", digest(scene.secret)),
        ("declared:main", digest(scene.secret)),
        ("anonymous", digest(scene.secret)),
        ("https://id#ann", digest(scene.secret)),
        ("", digest(scene.secret)),
    ]
    for id, shown in forged:
        with pytest.raises(Refused) as no:
            figures.holder(id, shown)
        assert no.value.refuse.code == "invalid_api_key", id


def test_a_declared_key(scene: Scene) -> None:
    key = scene.figures().holder("declared:main", digest(DECLARED))
    facts = scene.figures().facts(key, digest(DECLARED))
    assert (facts.declared, facts.secrets, facts.rotates, facts.created) == (True, [], False, None)
    assert "declared in the gate's configuration" in facts.why_not


@pytest.mark.parametrize("ends", ["disabled", "revoked", "expired", "secret over"])
def test_a_key_that_opens_nothing_any_more(scene: Scene, ends: str) -> None:
    if ends == "disabled":
        scene.keyring.disable("ann")
    elif ends == "revoked":
        scene.keyring.revoke("ann")
    elif ends == "expired":
        scene.keyring.edit("ann", {"expires": NOW + timedelta(hours=1)})
        scene.key()
        scene.now += timedelta(hours=1)
    else:
        scene.keyring.rotate("ann", timedelta(hours=1))
        scene.key()
        scene.now += timedelta(hours=1)
    with pytest.raises(Refused):
        scene.key()


def test_its_facts(scene: Scene) -> None:
    scene.keyring.edit("ann", {"expires": NOW + timedelta(days=9), "owner": "the boss", "tags": ("watched",)})
    facts = scene.figures().facts(scene.key(), digest(scene.secret))
    assert (facts.name, facts.team, facts.roles, facts.models) == ("ann", "acme", ("user",), ("m",))
    assert facts.expires == NOW + timedelta(days=9) and facts.rotates and facts.why_not == "" and facts.overlap == 172_800
    assert [(one.this, one.until) for one in facts.secrets] == [(True, None)]
    assert not {"owner", "tags", "networks"} & set(Facts.__struct_fields__)  # what operators note is theirs
    assert b"boss" not in msgspec.json.encode(facts) and b"deep" not in msgspec.json.encode(facts)


# -- figures


def usage(scene: Scene) -> Usage:
    return scene.figures().usage(scene.key())


def test_nothing_yet(scene: Scene) -> None:
    told = usage(scene)
    assert (told.today.requests, told.month.requests, told.models, told.days, told.month.cost) == (0, 0, [], [], {})


def test_its_own_and_nobody_elses(scene: Scene) -> None:
    scene.did(scene.ann, "a1")
    scene.did(scene.ann, "a2", time=NOW - timedelta(days=2), prompt_tokens=1_000_000)
    scene.did(scene.ann, "a3", time=NOW - timedelta(days=30))  # last month
    none = {"prompt_tokens": 0, "completion_tokens": 0}
    scene.did(scene.ann, "a4", verdict="refuse", status=429, reason="rate_limit_exceeded", ended="refused", **none)
    for number, other in enumerate((scene.past, scene.bob, scene.eve)):  # of the same name, of the same team, of another
        scene.did(other, f"o{number}", prompt_tokens=777, model="deep")
    told = usage(scene)
    assert (told.today.requests, told.today.refused, told.today.prompt_tokens) == (2, 1, 10)
    assert (told.month.requests, told.month.prompt_tokens, told.month.completion_tokens) == (3, 1_000_010, 10)
    assert [(day.day, day.requests) for day in told.days] == [("2026-11-18", 1), ("2026-11-20", 2)]
    assert [one.model for one in told.models] == ["m"]
    assert told.month.cost == {"EUR": "0.100004"}
    assert b"777" not in msgspec.json.encode(told)


def test_models_that_it_may_not_know_of_have_no_name(scene: Scene) -> None:
    """A canary that served, and whatever it asked for in vain."""
    scene.did(scene.ann, "a1", model="canary")
    scene.did(scene.ann, "a2", model="deep", verdict="refuse", status=404, reason="model_not_found", ended="refused")
    scene.did(scene.ann, "a3", prompt_tokens=0, completion_tokens=0)
    told = usage(scene)
    assert [(one.model, one.requests) for one in told.models] == [(OTHER, 2), ("m", 1)]
    month = scene.figures().statement(scene.key())
    assert {one.model for one in month.models} == {OTHER, "m"}


def limits(scene: Scene, used: dict[str, int], **me: str) -> list[tuple[Any, ...]]:
    figures, key = scene.figures(**me), scene.key()
    seats = figures.seats(key, "192.0.2.7")
    found = [(used.get(seat.counted.spec.text, 0), seat.counted.spec.amount) for seat in seats]
    told = figures.limits(key, "192.0.2.7", seats, found)
    return sorted((one.limit, one.whose, one.used, one.left, one.any_left) for one in told.limits)


def test_limits_tell_what_is_its_own(scene: Scene) -> None:
    used = {"60 requests/minute": 59, "200 requests/minute": 150, "500 concurrent": 500}
    assert limits(scene, used) == [
        ("200 requests/minute", "team", None, None, True),
        ("500 concurrent", "shared", None, None, False),
        ("60 requests/minute", "you", 59, 1, True),
    ]
    assert limits(scene, used, team="true")[0] == ("200 requests/minute", "team", 150, 50, True)
    assert limits(scene, used, team="true")[1][2:4] == (None, None)  # of everybody nothing is told, whatever is set


def test_the_month_of_its_own(scene: Scene) -> None:
    scene.did(scene.ann, "a1", prompt_tokens=1_000_000)
    scene.did(scene.ann, "a0", time=datetime(2026, 10, 31, 23, 30, tzinfo=UTC))  # in Berlin, November has begun
    scene.did(scene.bob, "b1", prompt_tokens=7_000_000)
    month = scene.figures().statement(scene.key())
    assert month.plan is not None and (month.plan.name, month.plan.included) == ("gold", "1M tokens/month")
    assert (month.month, month.own.requests, month.own.cost) == ("2026-11", 2, {"EUR": "0.100004"})
    assert month.statement is None
    whole = scene.figures(team="true").statement(scene.key()).statement
    assert whole is not None and (whole.team, whole.requests) == ("acme", 3)


def test_without_a_plan_or_a_team(scene: Scene) -> None:
    lone, secret = scene.keyring.create("lone", roles=("user",))
    for me in ({}, {"team": "true"}):
        figures = scene.figures(**me)
        month = figures.statement(figures.holder(lone.id, digest(secret)))
        assert (month.team, month.plan, month.statement, month.own.requests) == (None, None, None, 0)


def test_a_statement_of_what_retention_has_deleted_is_none(scene: Scene) -> None:
    scene.did(scene.ann, "a1", time=NOW - timedelta(days=15))
    scene.store.forget("receipts", datetime(2026, 11, 19, tzinfo=UTC), 1000)
    month = scene.figures(team="true").statement(scene.key())
    assert month.statement is None and month.own.requests == 1  # the sums are kept for longer


# -- a new secret


def turned(scene: Scene, secret: str, body: bytes = b"", **me: str) -> str:
    figures = scene.figures(**me)
    question = Mine(1, scene.ann.id, digest(secret), "rotate", body, "192.0.2.7")
    made = rotate(figures, figures.holder(scene.ann.id, digest(secret)), question)
    assert made.old_until >= scene.now
    return made.secret


def refused(scene: Scene, secret: str, body: bytes = b"", **me: str) -> tuple[str, str]:
    before = scene.store.key(scene.ann.id)
    with pytest.raises(Refused) as no:
        turned(scene, secret, body, **me)
    assert scene.store.key(scene.ann.id) == before
    return no.value.refuse.code, no.value.refuse.message


def test_a_new_secret_and_the_old_one_for_a_while(scene: Scene) -> None:
    new = turned(scene, scene.secret, b'{"overlap":"1h"}')
    assert new != scene.secret
    scene.key(new)
    scene.key(scene.secret)
    facts = scene.figures().facts(scene.key(new), digest(new))
    assert [(one.this, one.until) for one in facts.secrets] == [(False, NOW + timedelta(hours=1)), (True, None)]
    scene.now += timedelta(hours=1)
    scene.key(new)
    with pytest.raises(Refused):
        scene.key(scene.secret)


@pytest.mark.parametrize(("body", "hours"), [(b"", 24), (b"{}", 24), (b'{"overlap":"0s"}', 0), (b'{"overlap":"48h"}', 48)])
def test_how_long_the_old_one_goes_on(scene: Scene, body: bytes, hours: int) -> None:
    turned(scene, scene.secret, body)
    record = scene.store.key(scene.ann.id)
    assert record is not None
    old = [one.until for one in record.secrets[:-1]]
    assert old == ([NOW + timedelta(hours=hours)] if hours else [])


@pytest.mark.parametrize(
    "body",
    [b"x", b"\xff", b"[]", b'"1h"', b'{"overlap":1}', b'{"overlap":"soon"}', b'{"overlap":"-1h"}', b'{"overlap":"3d"}',
     b'{"key":"bob"}'],
)  # fmt: skip
def test_what_cannot_be_meant(scene: Scene, body: bytes) -> None:
    code, message = refused(scene, scene.secret, body)
    assert code == "invalid_request" and len(message) > 20


def test_it_is_audited_as_the_keys_own(scene: Scene) -> None:
    turned(scene, scene.secret)
    newest = scene.store.audit(1)[0]
    assert (newest.actor, newest.action, newest.target, newest.address) == ("key:ann", "key.rotate", scene.ann.id, "192.0.2.7")
    assert scene.secret not in str(newest)


def test_who_has_an_old_secret_gets_no_new_one(scene: Scene) -> None:
    turned(scene, scene.secret)
    scene.now += BETWEEN
    code, message = refused(scene, scene.secret)
    assert code == "permission_denied" and "replaced already" in message


def test_not_again_at_once(scene: Scene) -> None:
    new = turned(scene, scene.secret)
    assert refused(scene, new)[0] == "rate_limit_exceeded"
    scene.now += BETWEEN - timedelta(seconds=1)
    assert refused(scene, new)[0] == "rate_limit_exceeded"
    scene.now += timedelta(seconds=1)
    turned(scene, new)


def test_so_many_secrets_at_once(scene: Scene) -> None:
    secret = scene.secret
    for _ in range(MAX_SECRETS - 1):
        secret = turned(scene, secret)
        scene.now += BETWEEN
    assert "5 secrets of this key work still" in refused(scene, secret)[1]
    scene.now += timedelta(hours=24)
    turned(scene, secret)


def test_where_holders_may_not(scene: Scene) -> None:
    assert "only the operator" in refused(scene, scene.secret, rotate="false")[1]
    assert not scene.figures(rotate="false").facts(scene.key(), digest(scene.secret)).rotates


def test_a_declared_key_is_changed_where_it_stands(scene: Scene) -> None:
    figures = scene.figures()
    with pytest.raises(Refused) as no:
        rotate(figures, figures.holder("declared:main", digest(DECLARED)), Mine(1, "declared:main", digest(DECLARED), "rotate"))
    assert no.value.refuse.code == "permission_denied" and "declared" in no.value.refuse.message


def test_a_key_that_is_revoked_in_this_moment(scene: Scene) -> None:
    figures, key = scene.figures(), scene.key()
    question = Mine(1, scene.ann.id, digest(scene.secret), "rotate")
    record = figures.record(key)
    scene.keyring.revoke("ann")
    figures.record = lambda key: record  # type: ignore[method-assign]  # as it was read
    with pytest.raises(Refused) as no:
        rotate(figures, key, question)
    assert no.value.refuse.code == "invalid_api_key"
