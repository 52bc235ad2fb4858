"""Keeps the tests a mirror of the source: each source file its test file, each test file its source.

The mapping and the table of reasons are in `mirror.py`; what the tests cover is `own_coverage.py`'s affair.
"""

from __future__ import annotations

import pytest

from tests.house.mirror import IN_SYSTEM, NOT_MIRRORED, WHOLE, mirror_rule, mirrored
from tests.house.tree import ROOT, Source, python_files, report

CODE = "def f():\n    return 1\n"


def test_every_source_file_has_its_test_file() -> None:
    tests = {source.path for source in python_files("tests")}
    found = [complaint for source in python_files("src") for complaint in mirror_rule(source, tests, IN_SYSTEM)]
    assert not found, report(found)


def test_every_test_file_has_its_source_file() -> None:
    wanted = {mirrored(source.path) for source in python_files("src")}
    found = [
        source.path
        for source in python_files("tests")
        if source.path.split("/")[-1].startswith("test_")
        and not source.path.startswith(NOT_MIRRORED)
        and source.path not in wanted | WHOLE.keys()
    ]
    assert not found, report(found)


def test_the_table_of_reasons_names_files_that_exist() -> None:
    assert [path for path in IN_SYSTEM if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("path", "test"),
    [
        ("src/slmgate/terms.py", "tests/test_terms.py"),
        ("src/slmgate/policy/decide.py", "tests/policy/test_decide.py"),
        ("src/slmgate/dialects/__init__.py", "tests/dialects/test_init.py"),
        ("src/slmgate/control/config/options.py", "tests/control/config/test_options.py"),
    ],
)
def test_the_mirrored_place(path: str, test: str) -> None:
    assert mirrored(path) == test


@pytest.mark.parametrize(
    ("path", "text", "tests", "elsewhere"),
    [
        ("src/slmgate/policy/decide.py", CODE, set(), {}),
        ("src/slmgate/policy/decide.py", CODE, {"tests/test_decide.py"}, {}),
        ("src/slmgate/policy/decide.py", CODE, set(), {"src/slmgate/policy/decide.py": "it is hard"}),
        ("src/slmgate/dataplane/pool.py", CODE, {"tests/dataplane/test_pool.py"}, {"src/slmgate/dataplane/pool.py": "stale"}),
    ],
)
def test_a_hole_in_the_mirror_is_seen(path: str, text: str, tests: set[str], elsewhere: dict[str, str]) -> None:
    assert list(mirror_rule(Source(path, text), tests, elsewhere))


@pytest.mark.parametrize(
    ("path", "text", "tests", "elsewhere"),
    [
        ("src/slmgate/policy/decide.py", CODE, {"tests/policy/test_decide.py"}, {}),
        ("src/slmgate/policy/__init__.py", '"""Words. More words."""\n', set(), {}),
        ("src/slmgate/link/messages.py", "class A(Protocol):\n    x: int = 1\n    def f(self) -> int: ...\n", set(), {}),
        ("src/slmgate/dataplane/worker.py", CODE, set(), {"src/slmgate/dataplane/worker.py": "a process"}),
    ],
)
def test_a_whole_mirror_passes(path: str, text: str, tests: set[str], elsewhere: dict[str, str]) -> None:
    assert list(mirror_rule(Source(path, text), tests, elsewhere)) == []
