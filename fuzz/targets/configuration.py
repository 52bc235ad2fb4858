"""The configuration file: it is read or has faults, never both, and what was read is what another reader of YAML sees.

A configuration that loads is written out and loaded again, and must be the same. Nothing of the machine is read: no file, no
environment but the one given here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from fuzz.target import Target
from slmgate.control.config import load_text
from slmgate.control.config.document import MAX_DEPTH, MAX_NODES, Mapping, Node, Scalar, parse
from slmgate.control.config.show import dump, to_yaml

LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Makes texts, lists and mappings only, and builds them by PyYAML's own composer."""
GOLDEN = Path(__file__).parents[2] / "tests/control/config/golden"
CANARY = "k3pt-canary"
ENV = {"VLLM_KEY": CANARY, "WORKERS": "4", "MANY": "4711", "EMPTY": "", "LINES": "two\nlines", "FLAG": "true"}


def plain(node: Node) -> Any:
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Mapping):
        return {entry.key.text: plain(entry.value) for entry in node.entries}
    return [plain(item) for item in node.items]


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    root, troubles = parse(text)
    if root is not None and not troubles:
        assert root.size <= MAX_NODES
        try:
            other = yaml.load(text.removeprefix("\ufeff"), Loader=LOADER)
        except yaml.composer.ComposerError as twice:
            other = plain(root) if "duplicate anchor" in str(twice) else twice  # YAML 1.2 allows what this reader does not
        assert plain(root) == other, "another reader sees another tree"
    loaded = load_text(text, "slmgate.yaml", GOLDEN / "files", ENV)
    assert (loaded.config is None) == bool(loaded.faults)
    assert (root is None or bool(troubles)) <= bool(loaded.faults), "what is no YAML was read"
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + text.count("\u2029") + 2
    for fault in loaded.faults:
        assert 0 <= fault.line <= lines, fault
        assert CANARY not in str(fault), "a secret in a fault"
        assert all(one.isprintable() or one.isspace() for one in fault.problem[:2000]), fault
    assert load_text(text, "slmgate.yaml", GOLDEN / "files", ENV).faults == loaded.faults
    if loaded.config is not None:
        written = to_yaml(loaded.config)
        again = load_text(written, "slmgate.yaml", GOLDEN / "files", ENV)
        # `***` stands for a secret, and may be too short for one
        if "***" not in written:
            assert again.config is not None, again.faults
            assert dump(again.config) == dump(loaded.config), "written out, it is another"


def seeds() -> Iterable[bytes]:
    for case in sorted(GOLDEN.glob("*.yaml.txt")):
        yield case.read_bytes().partition(b"-" * 40 + b"\n")[0]
    yield b"a: &a [x]\nb: [*a, *a]\n"
    yield b"[" * (MAX_DEPTH + 1)
    yield from (b"a: 1\na: 2", b"a: !!python/object:x y", b"--- a\n--- b", b"&a [*a]", b"? [a]\n: b", b"a:\t1", b"\xff", b"")


TARGET = Target(check, seeds, 4096)
