"""Which instances are held to certain places: those that were added, where their host is a name."""

from __future__ import annotations

from slmgate.control.config import compile_snapshot, load_text
from slmgate.control.config.held import held, holding
from slmgate.policy.specs import HeldSpec

TEXT = """
models:
  m: {instances: [{url: "http://vllm:1"}, {url: "http://10.0.0.5:1"}, {url: "https://other:443"}, {dns: x.test, port: 1}]}
discovery: {networks: [10.0.0.0/8], loopback: true}
"""
CONFIG = load_text(TEXT).unwrap()
WHERE = HeldSpec(loopback=True, networks=("10.0.0.0/8",))


def test_names_that_were_added() -> None:
    assert held(CONFIG, ()) == {}
    assert held(CONFIG, {"m/vllm:1", "m/10.0.0.5:1", "m/gone:1"}) == {"m/vllm:1": WHERE}
    assert held(CONFIG, {"m/other:443"}) == {"m/other:443": WHERE}


def test_the_snapshot_says_it() -> None:
    spec = compile_snapshot(CONFIG, 1)
    assert holding(spec, {}) is spec
    made = {one.id: one.held for one in holding(spec, {"m/vllm:1": WHERE}).models[0].instances}
    assert made == {"m/vllm:1": WHERE, "m/10.0.0.5:1": None, "m/other:443": None}
