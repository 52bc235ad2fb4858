"""The look-ups compiled from a publication, and that a publication survives its trip over the link.

What is decided by them is tested beside `identify.py` and `decide.py`.
"""

from __future__ import annotations

from math import inf

import msgspec
import pytest

from slmgate.policy.snapshot import GateSpec, InstanceSpec, ModelSpec, Snapshot, SnapshotSpec
from slmgate.terms import Bearer, Key, Principal, Refuse

SPEC = SnapshotSpec(
    generation=7,
    gate=GateSpec(max_body=1),
    models=(ModelSpec(name="m", instances=(InstanceSpec(id="m/a", host="a", port=1),)), ModelSpec(name="n", instances=())),
    keys=(
        Key(id="1", name="one", digests=((b"a" * 32, None), (b"b" * 32, 5.0))),
        Key(id="2", name="two", expires=9.0, digests=((b"c" * 32, None), (b"d" * 32, 5.0), (b"e" * 32, 50.0))),
        Key(id="3", name="off", disabled=True, digests=((b"f" * 32, None),)),
        Key(id="4", name="none"),
    ),
)


def test_compiled() -> None:
    snapshot = Snapshot(SPEC)
    one, two = SPEC.keys[:2]
    assert (snapshot.generation, snapshot.gate.max_body) == (7, 1)
    assert snapshot.models == {"m": SPEC.models[0], "n": SPEC.models[1]}
    assert snapshot.model_names == ("m", "n")
    assert snapshot.keys_by_digest == {
        b"a" * 32: (one, inf),
        b"b" * 32: (one, 5.0),
        b"c" * 32: (two, 9.0),
        b"d" * 32: (two, 5.0),
        b"e" * 32: (two, 9.0),
    }
    assert repr(snapshot) == "<Snapshot 7: 2 models, 5 digests>"


def test_nothing_yet() -> None:
    assert repr(Snapshot(SnapshotSpec(generation=0))) == "<Snapshot 0: 0 models, 0 digests>"


def test_again_is_the_same_and_another() -> None:
    known: dict[bytes, tuple[Bearer | Refuse, float]] = {}
    snapshot = Snapshot(SPEC, known)
    again = snapshot.again()
    assert again is not snapshot
    assert (again.generation, again.models, again.keys_by_digest) == (7, snapshot.models, snapshot.keys_by_digest)
    known[b"x"] = Bearer(id="i#b", name="b"), 5.0
    assert again.tokens[b"x"] is known[b"x"]


def test_teams_that_are_configured_nowhere_are_one() -> None:
    """A token may name any team it likes: that must not fill a table."""
    snapshot = Snapshot(SPEC)
    first = snapshot.access(Principal(id="1", name="1", team="made-up-1"))
    assert snapshot.access(Principal(id="2", name="2", team="made-up-2")) is first
    assert snapshot.access(Principal(id="3", name="3")) is first


def test_a_publication_travels() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(SPEC), type=SnapshotSpec) == SPEC


@pytest.mark.parametrize("spec", [SPEC, SPEC.gate, SPEC.models[0], SPEC.models[0].instances[0]])
def test_nobody_changes_what_is_in_force(spec: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(spec, spec.__struct_fields__[0], None)
