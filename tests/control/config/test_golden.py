"""The golden files: a configuration, a line of dashes, and what loading it comes to, faults or values.

`golden/*.yaml.txt` are the cases; run this file as a program to write their second halves anew, then read the diff.
What the loader knows about single values is tested beside it, in `test_kinds.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from slmgate.control.config import Config, ConfigFault, load_text
from slmgate.control.config.document import parse, plain_value
from slmgate.control.config.schema import schema
from slmgate.control.config.show import dump, flow

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(GOLDEN.glob("*.yaml.txt"))
DASHES = "-" * 40
CANARY = "s3cret-canary"
ENV = {"VLLM_KEY": CANARY, "WORKERS": "4", "MANY": "4711", "EMPTY": "", "LINES": "two\nlines", "FLAG": "true"}
MINIMAL = 'models: {smollm2: {instances: [{url: "http://127.0.0.1:8000"}]}}'


def split(case: Path) -> tuple[str, str]:
    text, _, outcome = case.read_bytes().decode().partition(f"{DASHES}\n")
    return text, outcome


def outcome(text: str) -> str:
    loaded = load_text(text, "slmgate.yaml", GOLDEN / "files", ENV)
    if loaded.config is None:
        lines = [line for fault in loaded.faults for line in told(fault)]
    else:
        usual = dict(flat(dump(load_text(MINIMAL, base_dir=GOLDEN / "files").unwrap())))
        lines = [f"{path} = {flow(value)}" for path, value in flat(dump(loaded.config)) if usual.get(path) != value]
    return "".join(f"{line}\n" for line in lines).replace(str(GOLDEN), "<golden>")


def told(fault: ConfigFault) -> Iterator[str]:
    yield f"{fault.line}:{fault.column} {fault.option or '-'}: {fault.problem}"
    yield f"    {fault.excerpt}"
    yield f"    {' ' * fault.caret}^"
    yield from (f"  {name}: {value}" for name, value in (("hint", fault.hint), ("see", fault.see)) if value)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flat(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, inner in enumerate(value):
            yield from flat(inner, f"{path}[{i}]")
    else:
        yield path, value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removesuffix(".yaml.txt"))
def test_golden(case: Path) -> None:
    text, expected = split(case)
    assert outcome(text) == expected
    assert "s3cret" not in expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.removesuffix(".yaml.txt"))
def test_what_loads_fits_the_schema(case: Path) -> None:
    """And what does not fit does not load: a wrong case fits only where the schema is known to be looser."""
    text, _ = split(case)
    root, troubles = parse(text)
    fits = root is not None and not troubles and jsonschema.Draft202012Validator(schema()).is_valid(plain_value(root))
    if load_text(text, "slmgate.yaml", GOLDEN / "files", ENV).config is not None:
        assert fits


def test_there_are_many_of_both_kinds() -> None:
    right = [case for case in CASES if isinstance(load_text(split(case)[0], "x", GOLDEN / "files", ENV).config, Config)]
    assert len(CASES) >= 50
    assert len(right) >= 10


if __name__ == "__main__":
    for case in CASES:
        text, _ = split(case)
        case.write_bytes(f"{text}{DASHES}\n{outcome(text)}".encode())
