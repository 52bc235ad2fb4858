"""What every store must do, in one suite: SQLite here, and PostgreSQL when `SLMGATE_TEST_POSTGRES` gives a URL.

A store's own file tests only what is its own. Each test begins with an empty store.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from slmgate.stores import migrations
from slmgate.stores.base import Store
from slmgate.stores.records import (
    USAGE_GROUPS,
    AuditFilter,
    AuditRecord,
    Batch,
    KeyFilter,
    KeyRecord,
    KeySecret,
    KeyUse,
    NameTaken,
    ReceiptFilter,
    SecretTaken,
    UsageRow,
)
from slmgate.terms import Key, LimitSpec
from tests.tools.journal_writer import NOON, make_receipt
from tests.tools.stored import all_keys, all_receipts

DAY = timedelta(days=1)


def change(action: str = "key.create", target: str = "k1") -> AuditRecord:
    return AuditRecord(time=NOON, actor="admin", action=action, target=target, detail={"name": "bot"})


def a_key(id: str = "k1", name: str = "bot", **fields: object) -> KeyRecord:
    return KeyRecord(id=id, name=name, created=NOON, **fields)  # type: ignore[arg-type]  # fields as the test gives them


def write(store: Store, *ids: str, **fields: object) -> None:
    store.write(Batch(receipts=[make_receipt(id, **fields) for id in ids]))


EVERYTHING = {
    "request_id": "mine", "time": datetime(2026, 11, 20, 1, 2, 3, 456789, tzinfo=UTC), "reason": "rate_limit_exceeded",
    "verdict": "refuse", "ended": "refused", "status": 429, "stream": True, "estimated": True, "bytes_in": 1, "bytes_out": 2,
    "queue_us": 3, "first_byte_us": 4, "total_us": 5, "attempts": 0, "address": "2001:db8::1", "worker": 6,
    "key": None, "team": None, "receive_us": 7, "connect_us": 8, "overhead_us": 9, "trace": "0af7651916cd43dd8448eb211c80319c",
}  # fmt: skip


@pytest.mark.parametrize("fields", [{}, EVERYTHING, {"path": "/é\u202e'\";--"}])
def test_a_receipt_comes_back_as_it_was(store: Store, fields: dict[str, object]) -> None:
    write(store, "r1", **fields)
    assert store.receipt("r1") == make_receipt("r1", **fields)


def test_a_receipt_is_written_once(store: Store) -> None:
    write(store, "r1", status=200)
    write(store, "r1", "r2", "r2", status=500)
    assert [(each.id, each.status) for each in all_receipts(store)] == [("r1", 200), ("r2", 500)]


def test_a_receipt_is_found_by_the_clients_name_for_it(store: Store) -> None:
    write(store, "r1", "r2", request_id="mine")
    write(store, "r3")
    assert [found and found.id for found in map(store.receipt, ("mine", "r1", "r3", "none"))] == ["r2", "r1", "r3", None]
    assert [each.receipt.id for each in store.receipts(ReceiptFilter(request_id="mine"), 9)] == ["r2", "r1"]
    assert [each.receipt.id for each in store.receipts(ReceiptFilter(request_id="r3"), 9)] == ["r3"]


@pytest.mark.parametrize("value", [2**63 - 1, 2**63, 10**30, -(10**30)])
def test_a_number_too_large_is_bent(store: Store, value: int) -> None:
    write(store, "r1", completion_tokens=value)
    found = store.receipt("r1")
    assert found is not None
    assert found.completion_tokens == max(1 - 2**63, min(2**63 - 1, value))


def test_a_text_with_nul_is_kept_somehow(store: Store) -> None:
    write(store, "r1", path="/a\0b")
    found = store.receipt("r1")
    assert found is not None
    assert found.path in ("/a\0b", "/a\ufffdb")


def test_positions(store: Store) -> None:
    store.write(Batch(positions={"a": 64, "b": 128}))
    store.write(Batch(positions={"a": 640}, forgotten=["b", "c"]))
    assert store.positions() == {"a": 640}
    store.make_durable()


@pytest.mark.parametrize("asked", [0, 1, 499, 500, 501])
def test_which_ids_are_known(store: Store, asked: int) -> None:
    write(store, "r1", "r498", "r499", "r500")
    write(store, "other", request_id="r2")  # a name that a client gave is no id
    ids = [f"r{number}" for number in range(asked)]
    assert store.known(ids) == {"r1", "r498", "r499", "r500"} & set(ids)


def test_a_batch_of_nothing_but_copies(store: Store) -> None:
    write(store, "r1", verdict="shadow")
    assert [each.id for each in all_receipts(store)] == ["r1"]


def test_an_empty_batch(store: Store) -> None:
    store.write(Batch())
    assert store.positions() == {}
    assert all_receipts(store) == []


def test_paging_meets_every_receipt_once(store: Store) -> None:
    write(store, *(f"r{number}" for number in range(7)))
    down, before = [], None
    while page := store.receipts(ReceiptFilter(), 3, before=before):
        down += [each.receipt.id for each in page]
        before = page[-1].seq
    up, after = [], 0
    while page := store.receipts(ReceiptFilter(), 3, after=after):
        up += [each.receipt.id for each in page]
        after = page[-1].seq
    assert up == [f"r{number}" for number in range(7)]
    assert down == up[::-1]
    first, last = (page := store.receipts(ReceiptFilter(), 7, after=0))[0].seq, page[-1].seq
    between = [store.receipts(ReceiptFilter(), 3, before=last, after=first, oldest_first=way) for way in (True, False, None)]
    assert [[each.receipt.id for each in page] for page in between] == [
        ["r1", "r2", "r3"],
        ["r5", "r4", "r3"],
        ["r1", "r2", "r3"],
    ]


def test_cursors_at_a_time(store: Store) -> None:
    noon = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert store.cursors_at(noon) == (None, None)
    write(store, "late", time=noon + timedelta(hours=1))
    write(store, "early", time=noon)
    late, early = (each.seq for each in store.receipts(ReceiptFilter(), 2, after=0))
    assert store.cursors_at(noon) == (None, early)
    assert store.cursors_at(noon + timedelta(microseconds=1)) == (early, late)
    assert store.cursors_at(noon + timedelta(hours=2)) == (late, None)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (ReceiptFilter(), ["a", "b", "c"]),
        (ReceiptFilter(client="eve"), ["b"]),
        (ReceiptFilter(client="Eve"), []),
        (ReceiptFilter(team="blue"), ["b"]),
        (ReceiptFilter(key="k9"), ["b"]),
        (ReceiptFilter(model="m2"), ["b"]),
        (ReceiptFilter(instance="i2"), ["b"]),
        (ReceiptFilter(endpoint="embeddings"), ["b"]),
        (ReceiptFilter(status=429), ["b"]),
        (ReceiptFilter(verdict="refuse"), ["b"]),
        (ReceiptFilter(reason="full"), ["b"]),
        (ReceiptFilter(ended="refused"), ["b"]),
        (ReceiptFilter(since=NOON + DAY), ["c"]),
        (ReceiptFilter(since=NOON + DAY + timedelta(microseconds=1)), []),
        (ReceiptFilter(until=NOON), []),
        (ReceiptFilter(until=NOON + timedelta(microseconds=1)), ["a", "b"]),
        (ReceiptFilter(status=429, client="bot"), []),
    ],
)
def test_filters(store: Store, which: ReceiptFilter, expected: list[str]) -> None:
    write(store, "a")
    write(
        store, "b", principal="eve", team="blue", key="k9", model="m2", instance="i2", endpoint="embeddings", status=429,
        verdict="refuse", reason="full", ended="refused",
    )  # fmt: skip
    write(store, "c", time=NOON + DAY)
    assert [each.id for each in all_receipts(store, which)] == expected


def row(group: tuple[str, ...], requests: int, refused: int, errors: int, tokens: tuple[int, int, int]) -> UsageRow:
    return UsageRow(
        group=group, requests=requests, refused=refused, errors=errors,
        prompt_tokens=tokens[0], completion_tokens=tokens[1], estimated_tokens=tokens[2],
    )  # fmt: skip


def some_usage(store: Store) -> None:
    write(store, "a", "b")
    write(store, "c", estimated=True, ended="client_left", status=200)
    write(store, "d", status=429, verdict="refuse", ended="refused", principal="eve")
    write(store, "e", status=502, ended="upstream_error", model="m2", completion_tokens=0, time=NOON + 12 * timedelta(hours=1))
    write(store, "f", status=0, ended="unknown", team=None, model="m2", time=NOON + 30 * DAY)


def test_usage_as_a_whole(store: Store) -> None:
    assert store.usage([], ReceiptFilter()) == []
    some_usage(store)
    assert store.usage([], ReceiptFilter()) == [row((), 6, 1, 2, (35, 20, 12))]


def test_usage_by_groups(store: Store) -> None:
    some_usage(store)
    assert store.usage(["client", "model"], ReceiptFilter()) == [
        row(("bot", "m2"), 2, 0, 2, (14, 5, 0)),
        row(("bot", "smollm2"), 3, 0, 0, (21, 15, 12)),
        row(("eve", "smollm2"), 1, 1, 0, (0, 0, 0)),
    ]
    assert [(each.group, each.requests) for each in store.usage(["team"], ReceiptFilter())] == [(("",), 1), (("acme",), 5)]
    assert store.usage(["client"], ReceiptFilter(client="eve"))[0].requests == 1


def test_usage_of_copies_is_apart(store: Store) -> None:
    """Whether it comes from receipts or from their sums."""
    some_usage(store)
    before = store.usage(["model"], ReceiptFilter())
    write(store, "s1", "s2", verdict="shadow", model="next")
    write(store, "s3", verdict="shadow", model="next", status=502, ended="upstream_error", estimated=True)
    shadow = ReceiptFilter(verdict="shadow")
    assert store.usage(["model"], ReceiptFilter()) == before
    assert store.usage(["model"], shadow) == [row(("next",), 3, 0, 1, (21, 15, 12))]
    spans = ReceiptFilter(since=NOON, until=NOON + DAY), ReceiptFilter(since=NOON, until=NOON + DAY, verdict="shadow")
    assert [sum(one.requests for one in store.usage([], which)) for which in spans] == [5, 3]
    assert [found.differences for found in store.verify() if found.differences] == []


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("hour", ["2026-11-20T12:00Z", "2026-11-21T00:00Z", "2026-12-20T12:00Z"]),
        ("day", ["2026-11-20", "2026-11-21", "2026-12-20"]),
        ("month", ["2026-11", "2026-12"]),
    ],
)
def test_usage_by_time(store: Store, by: str, groups: list[str]) -> None:
    some_usage(store)
    found = store.usage([by], ReceiptFilter())
    assert [each.group[0] for each in found] == groups
    assert sum(each.requests for each in found) == 6


def test_usage_by_everything_at_once(store: Store) -> None:
    some_usage(store)
    assert sum(each.requests for each in store.usage(list(USAGE_GROUPS), ReceiptFilter())) == 6


def test_keys(store: Store) -> None:
    first = a_key(
        team="acme",
        roles=("a", "b"),
        expires=NOON + DAY,
        secrets=(KeySecret(b"1" * 32, NOON), KeySecret(b"2" * 32, NOON + DAY, NOON)),
    )
    store.save_keys([first], change())
    store.save_keys([a_key("k2", "other", disabled=True)], change())
    assert all_keys(store) == [first, a_key("k2", "other", disabled=True)]
    second = a_key(secrets=(KeySecret(b"3" * 32, NOON),))
    store.save_keys([second], change("key.rotate"))
    assert all_keys(store)[0] == second


LIMITS = (
    LimitSpec(
        name="key.limits[0]", text="1G EUR/month", identity="i", unit="cost", amount=10**18, calendar="month", zone="Asia/Tokyo",
        first_day=6, per=("principal", "ip"), clamp=True, currency="EUR", raised=10**18 + 1, raised_until=1e9 + 0.25,
    ),
    LimitSpec(name="key.limits[1]", text="4 concurrent", identity="j", unit="concurrent", amount=4),
)  # fmt: skip
FULL = a_key(
    owner="jane", team="acme", roles=("a", "b"), tags=("env:prod",), networks=("10.0.0.0/8", "::1/128"), limits=LIMITS,
    disabled=True,
    expires=NOON + DAY, secrets=(KeySecret(b"1" * 32, NOON), KeySecret(b"2" * 32, NOON + DAY, NOON)),
)  # fmt: skip


def test_a_key_comes_back_as_it_was(store: Store) -> None:
    store.save_keys([FULL], change())
    assert store.key("k1") == store.key("bot") == FULL
    assert store.key("none") is None
    assert list(store.live_keys()) == [
        Key(
            id="k1", name="bot", team="acme", roles=("a", "b"), networks=("10.0.0.0/8", "::1/128"), limits=LIMITS, disabled=True,
            expires=(NOON + DAY).timestamp(), digests=((b"1" * 32, None), (b"2" * 32, NOON.timestamp())),
        )
    ]  # fmt: skip


def test_limits_of_keys(store: Store) -> None:
    """They come and go with a key's record, and keys without any are as they were."""
    secrets = [(KeySecret(b"%032d" % number, NOON),) for number in range(3)]
    store.save_keys(
        [
            a_key("k0", "n0", secrets=secrets[0], limits=LIMITS),
            a_key("k1", "n1", secrets=secrets[1]),
            a_key("k2", "n2", secrets=secrets[2], limits=LIMITS),
        ],
        change(),
    )
    assert [key.limits for key in store.live_keys()] == [LIMITS, (), LIMITS]
    store.save_keys([a_key("k2", "n2", secrets=secrets[2], limits=LIMITS[1:])], change())
    store.save_keys([a_key("k0", "n0", secrets=secrets[0])], change())
    assert [key.limits for key in store.live_keys()] == [(), (), LIMITS[1:]]
    assert [record.limits for record in all_keys(store)] == [(), (), LIMITS[1:]]


def test_a_name_means_the_live_key_or_the_newest(store: Store) -> None:
    old = [a_key(f"k{n}", "bot", revoked=NOON + n * DAY) for n in range(2)]
    store.save_keys(old, change())
    found = store.key("bot")
    assert found is not None and found.id == "k1"
    store.save_keys([a_key("a", "bot"), a_key("bot", "other")], change())
    assert [one and one.id for one in map(store.key, ("bot", "k0", "other"))] == ["bot", "k0", "bot"]  # an id goes first
    assert [key.id for key in store.live_keys()] == []  # neither has a secret


def test_many_keys_all_or_none(store: Store) -> None:
    many = [a_key(f"k{n:04}", f"n{n:04}", secrets=(KeySecret(b"%032d" % n, NOON),)) for n in range(1500)]
    store.save_keys(many, change())
    assert all_keys(store) == many
    assert [key.id for key in store.live_keys()] == [one.id for one in many]
    with pytest.raises(NameTaken, match="with the name of one of these"):
        store.save_keys([a_key("x"), a_key("y", "n0007")], change())
    with pytest.raises(SecretTaken, match="same secret"):
        store.save_keys([a_key("x", secrets=(KeySecret(b"%032d" % 7, NOON),))], change())
    assert all_keys(store) == many
    assert len(store.audit(9)) == 1


def test_what_is_taken(store: Store) -> None:
    stored = [a_key(f"k{n}", f"n{n}", secrets=(KeySecret(b"%032d" % n, NOON),)) for n in range(3)]
    store.save_keys([*stored, a_key("old", "gone", revoked=NOON)], change())
    new = [
        a_key("new", "gone"),
        a_key("k1", "x"),
        a_key("y", "n2"),
        a_key("z", "z", secrets=(KeySecret(b"z" * 32, NOON), KeySecret(b"%032d" % 0, NOON))),
    ]
    assert store.taken(new) == [(1, "id", "k1"), (2, "name", "k2"), (3, "secret", "k0")]
    assert store.taken([]) == []


def test_a_page_of_keys(store: Store) -> None:
    store.save_keys([a_key(f"k{n}", f"n{n}") for n in (4, 2, 0, 3, 1)], change())
    store.save_keys([KeyRecord(id="first", name="first", created=NOON - DAY)], change())
    seen, after = [], None
    while page := store.keys(KeyFilter(), 2, after):
        seen += [key.id for key in page]
        after = page[-1].id
    assert seen == ["first", "k0", "k1", "k2", "k3", "k4"]
    assert store.keys(KeyFilter(), 2, "none") == []


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (KeyFilter(), ["a", "b", "c", "d"]),
        (KeyFilter(owner="jane"), ["a"]),
        (KeyFilter(owner="Jane"), []),
        (KeyFilter(team="acme"), ["a", "b"]),
        (KeyFilter(role="admin"), ["a"]),
        (KeyFilter(role="adm"), []),
        (KeyFilter(tag="env:prod"), ["b"]),
        (KeyFilter(tag="Env:prod"), []),
        (KeyFilter(tag='"'), []),
        (KeyFilter(team="acme", tag="env:prod"), ["b"]),
        (KeyFilter(search="JAN"), ["a"]),
        (KeyFilter(search="cme"), ["a", "b"]),
        (KeyFilter(search="name-c"), ["c"]),
        (KeyFilter(search="%"), []),
        (KeyFilter(search="_"), ["d"]),
        (KeyFilter(state="active", now=NOON), ["a"]),
        (KeyFilter(state="disabled", now=NOON), ["b"]),
        (KeyFilter(state="expired", now=NOON), ["c"]),
        (KeyFilter(state="active", now=NOON - DAY), ["a", "c"]),
        (KeyFilter(state="revoked", now=NOON), ["d"]),
    ],
)
def test_filters_of_keys(store: Store, which: KeyFilter, expected: list[str]) -> None:
    store.save_keys(
        [
            a_key("a", "name-a", owner="jane", team="acme", roles=("user", "admin")),
            a_key("b", "name-b", team="acme", tags=("env:prod", "x"), disabled=True, expires=NOON),
            a_key("c", "name-c", expires=NOON, roles=("superadmin",)),
            a_key("d", "name_d", expires=NOON, revoked=NOON),
        ],
        change(),
    )
    assert [key.id for key in store.keys(which, 9)] == expected


def test_uses_of_keys(store: Store) -> None:
    store.save_keys([a_key(), a_key("k2", "other")], change())
    first = KeyUse(NOON, "192.0.2.1")
    store.write(Batch(used={"k1": first, "declared:x": first}))
    assert (store.key_use("k1"), store.key_use("declared:x"), store.key_use("k2")) == (first, first, None)
    older, newer = KeyUse(NOON - DAY, "::1"), KeyUse(NOON + DAY, "::2")
    store.write(Batch(used={"k1": older, "declared:x": newer}))
    assert (store.key_use("k1"), store.key_use("declared:x")) == (first, newer)
    assert [key.used for key in all_keys(store)] == [first, None]
    found = store.key("k1")
    assert found is not None and found.used == first
    store.save_keys([a_key(team="new")], change())  # a change of the key leaves it alone
    assert store.key_use("k1") == first


def test_many_uses_at_once(store: Store) -> None:
    uses = {f"k{n}": KeyUse(NOON + n * DAY / 1000, f"10.0.0.{n % 256}") for n in range(250)}
    store.write(Batch(used=uses))
    assert {id: store.key_use(id) for id in uses} == uses


def test_a_name_is_taken_until_its_key_is_revoked(store: Store) -> None:
    store.save_keys([a_key("k1", "bot")], change())
    with pytest.raises(NameTaken, match="bot"):
        store.save_keys([a_key("k2", "bot")], change())
    found = all_keys(store)
    assert [each.id for each in found] == ["k1"]
    assert len(store.audit(9)) == 1
    store.save_keys([a_key("k1", "bot", revoked=NOON)], change("key.revoke"))
    store.save_keys([a_key("k2", "bot")], change())
    found = all_keys(store)
    assert [each.id for each in found] == ["k1", "k2"]


def test_the_audit_log(store: Store) -> None:
    for number in range(5):
        store.append_audit(change("reload", f"t{number}"))
    newest = store.audit(2)
    assert [each.target for each in newest] == ["t4", "t3"]
    assert (newest[0].time, newest[0].actor, newest[0].detail) == (NOON, "admin", {"name": "bot"})
    assert [each.target for each in store.audit(9, before=newest[-1].id)] == ["t2", "t1", "t0"]


def test_revision(store: Store) -> None:
    assert store.revision() == migrations.HEAD


def test_filters_of_the_audit_log(store: Store) -> None:
    """Each field as it is, but for an action that ends with a dot, which is a beginning; nothing in a text has a meaning."""
    for at, (actor, action, target) in enumerate(
        (("ann", "key.create", "k1"), ("bob", "key.edit", "k1"), ("ann", "keys_all", "%"))
    ):
        time = NOON + timedelta(hours=at)
        store.append_audit(AuditRecord(time=time, actor=actor, action=action, target=target))
    for which, expected in (
        (AuditFilter(), [3, 2, 1]),
        (AuditFilter(actor="ann"), [3, 1]),
        (AuditFilter(action="key."), [2, 1]),
        (AuditFilter(action="key.edit"), [2]),
        (AuditFilter(action="key"), []),
        (AuditFilter(action="%."), []),
        (AuditFilter(target="%"), [3]),
        (AuditFilter(since=NOON + timedelta(hours=1)), [3, 2]),
        (AuditFilter(until=NOON + timedelta(hours=1)), [1]),
        (AuditFilter(actor="ann", target="k1"), [1]),
    ):
        assert [record.id for record in store.audit(10, None, which)] == expected, which
    assert [record.id for record in store.audit(1, 3, AuditFilter(action="key."))] == [2]


def test_members_of_teams(store: Store) -> None:
    assert store.members() == {}
    live = [a_key(f"k{at}", f"n{at}", team=team) for at, team in enumerate(("acme", "acme", "other", None))]
    store.save_keys([*live, a_key("gone", "gone", team="acme", revoked=NOON)], change())
    assert store.members() == {"acme": 2, "other": 1}


def test_the_audit_log_is_one_chain_whoever_writes(store: Store) -> None:
    def write() -> None:
        for _ in range(15):
            store.append_audit(change())

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.id for row in store.audit(100)] == list(range(60, 0, -1))
    verdict = store.verify_audit()
    assert (verdict.right, verdict.rows, verdict.head) == (True, 60, f"60:{store.audit(1)[0].seal}")
