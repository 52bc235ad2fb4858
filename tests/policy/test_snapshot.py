"""The look-ups compiled from a publication, and what a change of keys makes.

What is decided by them is tested beside `identify.py` and `decide.py`, the table of keys beside `keytable.py`.
"""

from __future__ import annotations

import msgspec

from slmgate.policy.keytable import KeyTable
from slmgate.policy.roles import INTERNAL, RoleSpec, TeamSpec
from slmgate.policy.snapshot import MAX_ACCESSES, Snapshot
from slmgate.policy.specs import GateSpec, InstanceSpec, ModelSpec, SnapshotSpec
from slmgate.terms import Bearer, Key, LimitSpec, Refuse

SPEC = SnapshotSpec(
    generation=7,
    gate=GateSpec(max_body=1),
    models=(ModelSpec(name="m", instances=(InstanceSpec(id="m/a", host="a", port=1),)), ModelSpec(name="n", instances=())),
)
ONE = Key(id="1", name="one", digests=((b"a" * 32, None),))


def test_compiled() -> None:
    snapshot = Snapshot(SPEC, KeyTable([ONE]))
    assert (snapshot.generation, snapshot.gate.max_body) == (7, 1)
    assert snapshot.models == {"m": SPEC.models[0], "n": SPEC.models[1]}
    assert snapshot.model_names == ("m", "n")
    assert repr(snapshot) == "<Snapshot 7: 2 models, 1 keys>"


def test_roles_of_a_principal() -> None:
    own, team = RoleSpec(name="own"), RoleSpec(name="team")
    teams = (TeamSpec(name="t", roles=("team", "own", "gone")),)
    snapshot = Snapshot(SnapshotSpec(generation=1, roles=(own, team), teams=teams))
    for named, of_team, roles in [
        (("own",), "t", (own, team)),
        (("own",), None, (own,)),
        (("gone",), "removed", ()),
        ((), "t", (team, own)),
        ((), None, ()),
    ]:
        access = snapshot.access(Key(id="k", name="k", roles=named, team=of_team))
        assert access.roles == roles
        assert snapshot.access(Key(id="other", name="other", roles=named, team=of_team)) is access
    without = Snapshot(SnapshotSpec(generation=1, teams=teams))
    assert without.access(Key(id="k", name="k", roles=("gone",), team="t")).roles == (INTERNAL,)


def test_what_roles_come_to_is_kept_for_so_many_only() -> None:
    snapshot = Snapshot(SnapshotSpec(generation=1, roles=(RoleSpec(name="r"),)))
    first = snapshot.access(Key(id="k", name="k", roles=("r",)))
    for number in range(MAX_ACCESSES):
        snapshot.access(Key(id="k", name="k", roles=("r",), team=f"team-{number}"))
    again = snapshot.access(Key(id="k", name="k", roles=("r",)))
    assert again is not first
    assert again.roles == first.roles


def test_nothing_yet() -> None:
    assert repr(Snapshot(SnapshotSpec(generation=0))) == "<Snapshot 0: 0 models, 0 keys>"


def test_a_change_of_keys_makes_another_of_the_same() -> None:
    snapshot = Snapshot(SPEC, KeyTable([ONE]))
    snapshot.keys.drop(["1"])
    other = snapshot.again(8)
    assert other is not snapshot
    assert (snapshot.generation, other.generation) == (7, 8)
    assert other.models is snapshot.models
    assert other.keys is snapshot.keys


def test_charges_are_asked_anew_only_where_limits_of_keys_have_changed() -> None:
    limit = LimitSpec(name="key.limits[0]", text="1 requests/minute", identity="x", unit="requests", amount=1, seconds=60)
    snapshot = Snapshot(SPEC, KeyTable([ONE]))
    assert not snapshot.charges.any
    snapshot.keys.put([Key(id="2", name="two", digests=((b"b" * 32, None),))])
    assert snapshot.again(8).charges is snapshot.charges
    snapshot.keys.put([Key(id="2", name="two", digests=((b"b" * 32, None),), limits=(limit,))])
    other = snapshot.again(9)
    assert other.charges is not snapshot.charges
    assert other.charges.any
    assert other.again(10).charges is other.charges
    assert Snapshot(SPEC, snapshot.keys).charges.any


def test_tokens_are_the_one_table_of_the_process() -> None:
    known: dict[bytes, tuple[Bearer | Refuse, float]] = {}
    other = Snapshot(SPEC, None, known).again(8)
    known[b"x"] = Bearer(id="i#b", name="b"), 5.0
    assert other.tokens[b"x"] is known[b"x"]


def test_a_hidden_model_may_be_known_by_nobody() -> None:
    models = (SPEC.models[0], msgspec.structs.replace(SPEC.models[1], hidden=True))
    snapshot = Snapshot(msgspec.structs.replace(SPEC, models=models), KeyTable([ONE]))
    access = snapshot.access(ONE)
    assert access.known() == ["m"]
    assert isinstance(refused := access.row("n", "chat"), Refuse) and refused.code == "model_not_found"
    assert set(snapshot.models) == {"m", "n"}, "it serves all the same"
