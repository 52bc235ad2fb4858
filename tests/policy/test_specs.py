"""That a publication survives its trip over the link, and that nobody changes what is in force."""

from __future__ import annotations

import msgspec
import pytest

from slmgate.policy.specs import GateSpec, InstanceSpec, ModelSpec, SnapshotSpec

SPEC = SnapshotSpec(
    generation=7,
    gate=GateSpec(max_body=1),
    models=(ModelSpec(name="m", instances=(InstanceSpec(id="m/a", host="a", port=1),)), ModelSpec(name="n", instances=())),
)


def test_a_publication_travels() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(SPEC), type=SnapshotSpec) == SPEC


@pytest.mark.parametrize("spec", [SPEC, SPEC.gate, SPEC.models[0], SPEC.models[0].instances[0]])
def test_nobody_changes_what_is_in_force(spec: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(spec, spec.__struct_fields__[0], None)
