"""The generated pages are what the generator makes, and say something about every option.

The examples beside them load.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slmgate.control.config import load
from slmgate.control.config.docs import page, pages, write
from slmgate.control.config.faults import anchor
from slmgate.control.config.options import Config
from slmgate.control.config.table import walk

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_pages_are_up_to_date(name: str) -> None:
    fresh = (ROOT / name).read_text(encoding="utf-8") == pages()[name]
    assert fresh, f"{name} is not what the option table says: run `python -m slmgate.control.config.docs`"


def test_every_option_has_a_sentence_and_a_heading_of_its_own() -> None:
    text = page()
    paths = [path for path, _ in walk(Config)]
    assert len({anchor(path) for path in paths}) == len(paths)
    for path, row in walk(Config):
        assert f"\n### {path}\n" in text
        assert re.fullmatch(r"[A-Z`].*\.", row.option.doc), path


def test_write(tmp_path: Path) -> None:
    write(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(pages())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_load(path: Path) -> None:
    loaded = load(path, {"VLLM_KEY": "secret", "INTROSPECT_SECRET": "secret"})
    assert [str(fault) for fault in loaded.faults] == []
    assert loaded.config is not None


def test_the_smallest_example_has_three_lines() -> None:
    text = (ROOT / "examples" / "smallest.yaml").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if not line.startswith("#")]) == 3
