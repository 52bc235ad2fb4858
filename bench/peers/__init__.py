"""The targets of the benchmark, in the order of the table. What each is and how it starts is in the files beside this.

This package knows nothing of load or figures: it turns a `Place` into a command line.
"""

from __future__ import annotations

from bench.peers import gate, gateways, proxies
from bench.peers.contract import Target


def targets(gate_command: str | None = None) -> list[Target]:
    """All of them, the gate first."""
    return [gate.target(gate_command), gate.relay(), *proxies.TARGETS, *gateways.TARGETS]
