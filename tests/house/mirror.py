"""Which test file belongs to which source file, and the few of the moving floor whose tests are real processes.

Tests mirror `src` file for file: `src/slmgate/policy/decide.py` has `tests/policy/test_decide.py`, a package's
`__init__` has `test_init.py`. The table below is for files of the moving floor and the door only; it knows no test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Set
from pathlib import PurePosixPath

from tests.house.tree import PURE, Source

IN_SYSTEM = {
    "src/slmgate/__main__.py": "one call; every system test starts the gate through it",
    "src/slmgate/cli/demo.py": "starts a real model and a real gate: tests/system runs the whole tour",
    "src/slmgate/cli/children.py": "starts and ends processes: tests/system runs the whole tour",
    "src/slmgate/cli/serve.py": "hands over to the supervisor: every system test starts the gate through it",
    "src/slmgate/control/process.py": "a process around the parts that have tests: tests/system kills and freezes it",
    "src/slmgate/control/engines/keeper.py": "a process around another one: tests/system kills and freezes both",
    "src/slmgate/control/engines/kept.py": "holds on to processes: tests/system starts, finds and loses them",
    "src/slmgate/cli/engine.py": "the real model's process: tests/system runs the whole tour",
}
"""Source file -> why its tests are in tests/system. Never a file of the pure floor."""
WHOLE = {
    "tests/control/config/test_golden.py": "golden files: text in, configuration or faults out, through the whole of loading",
    "tests/dataplane/test_guard_on_the_road.py": "limits and bans of addresses, slow requests and a full gate, as clients see it",
    "tests/dataplane/test_health_on_the_road.py": "an instance's health from the ends of requests to the next choice",
    "tests/dataplane/test_table_histories.py": "the limit table under random histories, held against slow counting",
    "tests/dataplane/test_client_ambiguous.py": "a table of malformed and ambiguous requests, cut at every byte",
    "tests/control/admin/test_matrix.py": "every route of the admin listener, for everybody who may knock",
    "tests/dataplane/test_odd_values.py": "the road under odd values in every field, through dialects, policy and records",
    "tests/policy/test_reference.py": "the whole of deciding against a slow reading of the written rule",
}
"""Tests of several source files together -> why. The files have test files of their own beside it."""
NOT_MIRRORED = (
    "tests/house/",
    "tests/bench/",
    "tests/deploy/",
    "tests/fuzz/",
    "tests/system/",
    "tests/contracts/",
    "tests/tools/",
)


def mirrored(path: str) -> str:
    """The test file of a source file."""
    inner = PurePosixPath(path).relative_to("src/slmgate")
    name = "init" if inner.stem == "__init__" else inner.stem.strip("_")
    return (PurePosixPath("tests") / inner.parent / f"test_{name}.py").as_posix()


def _is_stub(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def has_code(source: Source) -> bool:
    """False for files that only name things: records, protocols, constants. Migrations are run by the store's tests."""
    functions = [node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return "/migrations/" not in source.path and not all(_is_stub(line) for function in functions for line in function.body)


def mirror_rule(source: Source, tests: Set[str], elsewhere: dict[str, str]) -> Iterable[str]:
    """Complaints about a source file without its test file, or with a false line in the table."""
    there = mirrored(source.path) in tests
    if source.path in elsewhere:
        if source.room in PURE:
            yield source.at(1, "a file of the pure floor is tested by its own test file, not in tests/system")
        if there:
            yield source.at(1, f"{mirrored(source.path)} exists: take the line out of tests/house/mirror.py")
    elif has_code(source) and not there:
        yield source.at(1, f"its test file {mirrored(source.path)} is missing")
