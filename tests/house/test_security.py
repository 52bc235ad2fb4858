"""SECURITY.md promises nothing without a test: every path in it is a file, and every test in it a function of that file.

It knows no promise; whether a test shows what it is said to show is read by people.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

import pytest

from tests.house.tree import ROOT, report

SHOWN = re.compile(r"`((?:tests|fuzz)/[\w/]+\.py)(?:::(\w+))?`")


def missing(text: str) -> Iterable[str]:
    """What a page of promises leaves without a test."""
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 2 and cells[0] != "promise" and not cells[0].startswith("---"):
            named = SHOWN.findall(cells[1])
            if not named or SHOWN.sub("", cells[1]).strip(", "):
                yield f"SECURITY.md:{number}: {cells[0][:60]}: name tests, and nothing else"
        for path, test in SHOWN.findall(line):
            if not (ROOT / path).is_file():
                yield f"SECURITY.md:{number}: there is no {path}"
            elif test and test not in functions(path):
                yield f"SECURITY.md:{number}: {path} has no {test}"


def functions(path: str) -> set[str]:
    return {node.name for node in ast.parse((ROOT / path).read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_its_test() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    found = list(missing(text))
    assert not found, report(found)
    assert len(SHOWN.findall(text)) > 60


@pytest.mark.parametrize(
    "line",
    [
        "| A promise | |",
        "| A promise | we are sure |",
        "| A promise | `tests/house/test_security.py`, and care |",
        "| A promise | `tests/house/test_nothing.py` |",
        "| A promise | `tests/house/test_security.py::test_nothing` |",
    ],
)
def test_a_promise_without_a_test_is_seen(line: str) -> None:
    assert list(missing(line))


def test_a_promise_with_its_test_passes() -> None:
    assert list(missing("| promise | shown by |\n| --- | --- |\n| A | `tests/house/test_security.py::missing` |")) == []
