"""A configuration becomes a snapshot, with declared and stored keys; one digest opens one key.

What a worker makes of a snapshot is tested in `tests/policy`.
"""

from __future__ import annotations

import msgspec
import pytest

from slmgate.control.config import ConfigError, compile_snapshot, instance_id, load_text
from slmgate.policy.snapshot import GateSpec, InstanceSpec, ModelSpec, Snapshot, SnapshotSpec
from slmgate.terms import Key

MINIMAL = 'models: {m: {instances: [{url: "http://h:1"}]}}\n'
FULL = """\
models:
  m:
    balance: weighted
    instances:
      - {url: "https://[::1]", engine: vllm, weight: 3, max_in_flight: 7, upstream_model: "Big/M", bearer: canary}
    retry: {attempts: 1, on: [connect, 429]}
    timeouts: {connect: 1s, first_byte: 2s, idle: 3s}
    queue: {waiting: 4, timeout: 5s}
guard:
  {max_body: 6k, max_header: 7k, max_headers: 8, max_connections: 9, header_timeout: 10s,
   body_timeout: 11s, keep_alive: 12s, send_timeout: 13s}
drain_timeout: 14s
keys: [{name: bot, team: acme, hash: "sha256:%s", expires: 1970-01-02, disabled: true}]
""" % ("0a" * 32)


def test_the_defaults_are_those_of_the_snapshot() -> None:
    """Two tables of defaults would drift apart; this holds them together."""
    spec = compile_snapshot(load_text(MINIMAL).unwrap(), 7, ())
    model = ModelSpec(name="m", instances=(InstanceSpec(id="m/h:1", host="h", port=1),))
    assert spec == SnapshotSpec(generation=7, gate=GateSpec(), models=(model,), keys=())


def test_every_value_arrives() -> None:
    spec = compile_snapshot(load_text(FULL).unwrap(), 1, ())
    instance = InstanceSpec(
        id="m/[::1]:443",
        host="::1",
        port=443,
        tls=True,
        engine="vllm",
        weight=3,
        max_in_flight=7,
        upstream_model="Big/M",
        bearer="canary",
    )
    model = ModelSpec(
        name="m",
        instances=(instance,),
        balance="weighted",
        attempts=1,
        retry_on=("connect", "429"),
        connect_timeout=1,
        first_byte_timeout=2,
        idle_timeout=3,
        queue_waiting=4,
        queue_timeout=5,
    )
    gate = GateSpec(
        max_body=6000,
        max_header=7000,
        max_headers=8,
        max_connections=9,
        header_timeout=10,
        body_timeout=11,
        keep_alive=12,
        send_timeout=13,
        drain_timeout=14,
    )
    key = Key(id="declared:bot", name="bot", team="acme", disabled=True, expires=86400.0, digests=((b"\n" * 32, None),))
    assert spec == SnapshotSpec(generation=1, gate=gate, models=(model,), keys=(key,))


def test_a_snapshot_travels() -> None:
    spec = compile_snapshot(load_text(FULL).unwrap(), 1, ())
    assert msgspec.json.decode(msgspec.json.encode(spec), type=SnapshotSpec) == spec
    assert type(spec.models[0].instances[0].bearer) is str


def test_the_configuration_hides_what_the_snapshot_needs() -> None:
    assert "canary" not in repr(load_text(FULL).unwrap())


def test_declared_and_stored_keys_together() -> None:
    stored = Key(id="abc", name="bot", digests=((b"s" * 32, None), (b"t" * 32, 5.0)))
    spec = compile_snapshot(load_text(FULL).unwrap(), 1, [stored])
    assert [key.id for key in spec.keys] == ["declared:bot", "abc"]
    assert len(Snapshot(spec).keys_by_digest) == 2  # the declared one is disabled: it opens nothing


@pytest.mark.parametrize("digests", [((b"\n" * 32, None),), ((b"s" * 32, None), (b"\n" * 32, 5.0))])
def test_a_digest_opens_one_key(digests: tuple[tuple[bytes, float | None], ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_snapshot(load_text(FULL).unwrap(), 1, [Key(id="abc", name="other", digests=digests)])
    (fault,) = caught.value.faults
    assert "bot (declared:bot)" in fault.problem
    assert "other (abc)" in fault.problem
    assert "0a0a" not in str(fault)


def test_a_digest_twice_in_one_key_is_no_fault() -> None:
    key = Key(id="abc", name="other", digests=((b"s" * 32, None), (b"s" * 32, 5.0)))
    assert compile_snapshot(load_text(MINIMAL).unwrap(), 1, [key]).keys == (key,)


def test_instance_id() -> None:
    config = load_text('models: {a/b: {instances: [{url: "http://[::1]:80"}]}}').unwrap()
    assert instance_id("a/b", config.models["a/b"].instances[0]) == "a/b/[::1]:80"
