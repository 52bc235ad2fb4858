"""The table of keys: what is found by a digest after every kind of change, in whatever order the changes come.

A plain dictionary of keys is the reference for the property test.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy import keytable
from slmgate.policy.keytable import KeyTable
from slmgate.terms import Key

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


def key(id: str, *digests: bytes | tuple[bytes, float | None], **fields: object) -> Key:
    rows = tuple(one if isinstance(one, tuple) else (one, None) for one in digests)
    return msgspec.convert({"id": id, "name": id, "digests": rows, **fields}, Key)


def seen(table: KeyTable) -> dict[bytes, tuple[str, float | None]]:
    """digest -> whose, until when."""
    return {digest: (row.id, row.expires) for digest, row in table.by_digest.items()}


def test_when_each_secret_ends() -> None:
    table = KeyTable(
        [
            key("never", A),
            key("rotated", B, (C, 5.0)),
            key("expires", b"d" * 32, expires=9.0),
            key("both", (b"e" * 32, 5.0), (b"f" * 32, 50.0), expires=9.0),
            key("off", b"g" * 32, disabled=True),
            key("none"),
        ]
    )
    assert seen(table) == {
        A: ("never", None),
        B: ("rotated", None),
        C: ("rotated", 5.0),
        b"d" * 32: ("expires", 9.0),
        b"e" * 32: ("both", 5.0),
        b"f" * 32: ("both", 9.0),
        b"g" * 32: ("off", 0.0),
    }
    assert (len(table), table.whole) == (5, True)
    assert [table.owner(digest) for digest in (A, b"g" * 32, b"z" * 32)] == ["never", "off", None]


def test_a_row_is_all_that_the_road_needs() -> None:
    table = KeyTable([key("k", A, team="t", roles=("r",), networks=("10.0.0.0/8",))])
    assert table.by_digest[A] == Key(id="k", name="k", team="t", roles=("r",), networks=("10.0.0.0/8",))


def test_limits_and_whether_they_have_changed() -> None:
    one, other = ([{"name": "n", "text": t, "identity": "i", "unit": "requests", "amount": 1}] for t in ("a", "b"))
    table = KeyTable([key("k", A), key("j", B)])
    assert table.limited == 0
    table.put([key("k", A, limits=one), key("j", B)])
    assert table.limited == 1
    table.put([key("k", C, (A, 5.0), limits=one)])  # rotated: they are what they were
    assert table.limited == 1
    assert table.by_digest[A].limits is table.by_digest[C].limits
    assert table.keys(["k"]) == (key("k", C, (A, 5.0), limits=one),)
    table.put([key("j", B, limits=one)])
    assert table.by_digest[B].limits is table.by_digest[A].limits  # keys with the same limits share them
    assert table.limited == 2
    table.put([key("j", B, limits=other)])
    table.put([key("j", B)])
    assert table.limited == 4
    table.drop(["j"])
    assert table.limited == 4
    table.drop(["k", "gone"])
    assert table.limited == 5


def test_what_is_sent_on_makes_the_same_table() -> None:
    table = KeyTable([key("one", A), key("two", B, (C, 5.0), expires=9.0), key("off", b"g" * 32, disabled=True)])
    other = KeyTable(table.keys(table.ids()))
    assert seen(other) == seen(table)
    assert table.keys(["gone", "one"]) == (key("one", A),)


def test_changes() -> None:
    table = KeyTable([key("k", A), key("other", B)])
    table.put([key("k", (A, 5.0), C)])  # rotated, with overlap
    assert seen(table) == {A: ("k", 5.0), C: ("k", None), B: ("other", None)}
    table.put([key("k", C)])
    assert seen(table) == {C: ("k", None), B: ("other", None)}
    table.put([key("k")])  # without secrets
    table.drop(["other", "never was"])
    assert (seen(table), len(table)) == ({}, 0)


def test_a_key_that_is_what_it_was_stays_the_same_object() -> None:
    table = KeyTable([key("k", A, roles=("r",))])
    before = table.by_digest[A]
    table.put([key("k", A, roles=("r",))])
    assert table.by_digest[A] is before


def test_a_digest_goes_over_to_another_key() -> None:
    table = KeyTable([key("one", A, B), key("two", C)])
    table.put([key("two", A)])
    assert seen(table) == {A: ("two", None), B: ("one", None)}
    table.put([key("two", A, B)])
    assert table.ids() == ["two"]
    table.drop(["one"])
    assert seen(table) == {A: ("two", None), B: ("two", None)}


def test_equal_lists_are_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fresh(id: str, digest: bytes, role: str) -> Key:
        return msgspec.json.decode(msgspec.json.encode(key(id, digest, roles=(role,), team="t" * 9)), type=Key)

    table = KeyTable([fresh("one", A, "r"), fresh("two", B, "r")])
    assert table.by_digest[A].roles is table.by_digest[B].roles
    assert table.by_digest[A].team is table.by_digest[B].team
    monkeypatch.setattr(keytable, "_MOST_SHARED", 1)  # so many are never remembered for long
    table.put([fresh("three", C, "s")])
    assert table.by_digest[C].roles == ("s",)


def test_all_of_them_anew() -> None:
    """Until the last part is here, what was known stays known; what changes meanwhile is not undone by the end."""
    table = KeyTable([key("stays", A), key("goes", B)])
    table.begin()
    assert (table.renewed, repr(table)) == (True, "<KeyTable 2 keys, renewed>")
    table.put([key("stays", A)])
    table.put([key("new", C)])  # a change, in between
    assert seen(table) == {A: ("stays", None), B: ("goes", None), C: ("new", None)}
    table.drop(["new"])
    table.end()
    assert seen(table) == {A: ("stays", None)}
    assert (table.renewed, table.whole) == (False, True)


def test_the_first_time() -> None:
    table = KeyTable()
    assert repr(table) == "<KeyTable 0 keys, not whole>"
    table.begin()
    table.put([key("one", A)])
    assert not table.whole
    table.begin()  # the link broke: from the start
    table.put([key("two", B)])
    table.end()
    assert (seen(table), table.whole) == ({B: ("two", None)}, True)


@st.composite
def some_keys(draw: st.DrawFn) -> list[Key]:
    """Keys with digests of their own: who would have another's is refused before it comes here."""
    made: list[Key] = []
    for number in draw(st.lists(st.integers(0, 4), max_size=4)):
        own = draw(st.lists(st.integers(0, 2), max_size=3, unique=True))
        digests = tuple((bytes([number, one]) * 16, draw(st.sampled_from([None, 1.0, 5.0]))) for one in own)
        off, expires = draw(st.booleans()), draw(st.none() | st.just(3.0))
        made.append(Key(id=f"k{number}", name="n", digests=digests, disabled=off, expires=expires))
    return made


@given(st.lists(st.tuples(st.sampled_from(["put", "drop", "all"]), some_keys()), max_size=12))
def test_against_a_plain_dictionary(changes: list[tuple[str, list[Key]]]) -> None:
    table, plain = KeyTable(), dict[str, Key]()
    for what, keys in changes:
        if what == "drop":
            table.drop(key.id for key in keys)
            for one in keys:
                plain.pop(one.id, None)
            continue
        if what == "all":
            table.begin()
            plain.clear()
        table.put(keys)
        plain |= {one.id: one for one in keys}
        if what == "all":
            table.end()
    expected = {
        digest: (one.id, 0.0 if one.disabled else min((end for end in (until, one.expires) if end is not None), default=None))
        for one in plain.values()
        for digest, until in one.digests
    }
    assert seen(table) == expected
    assert set(table.ids()) == {one.id for one in plain.values() if one.digests}
