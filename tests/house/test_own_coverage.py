"""Shows that the coverage rule sees a hole, and that lines run by another file's tests do not count.

The rule itself is measured by `make test`, which runs `own_coverage.py` before everything else.
"""

from __future__ import annotations

import pytest

from tests.house.own_coverage import missing_lines

OWN = "tests/policy/test_decide.py"


@pytest.mark.parametrize(
    ("contexts", "missing"),
    [
        ({1: [""], 2: [OWN]}, []),
        ({1: [""]}, [2]),
        ({1: [""], 2: ["tests/policy/test_balance.py"]}, [2]),
        ({}, [1, 2]),
    ],
)
def test_lines_that_the_own_test_file_did_not_run(contexts: dict[int, list[str]], missing: list[int]) -> None:
    assert missing_lines([1, 2], contexts, OWN) == missing


def test_a_statement_of_several_lines_is_run_when_one_of_them_is() -> None:
    assert missing_lines([1, 5], {3: [OWN], 7: [OWN]}, OWN) == []
    assert missing_lines([1, 5], {3: [OWN], 4: ["tests/policy/test_balance.py"]}, OWN) == [5]
    assert missing_lines([], {}, OWN) == []
