"""Every file of the pure floor is covered whole by its own test file: run as a program, it measures and says where not.

One run of the pure floor's tests with a coverage context for each test file; a line counts when the file's own tests
ran it, or an import did. It knows which test belongs to which source from `mirror.py`, and starts no server.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from coverage import Coverage, CoverageData

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a program, its folder would be first instead

from tests.house.mirror import has_code, mirrored
from tests.house.tree import PURE, ROOT, python_files


class ContextPerFile:
    """Tells coverage which test file runs. Between tests, and while files are imported, the context is empty."""

    def __init__(self, cover: Coverage) -> None:
        self.cover = cover

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.cover.switch_context(nodeid.partition("::")[0])

    def pytest_runtest_logfinish(self) -> None:
        self.cover.switch_context("")


def missing_lines(statements: Sequence[int], contexts: Mapping[int, Iterable[str]], test: str) -> list[int]:
    """The statements that neither the file's own test file nor an import ran."""
    ends = [*statements[1:], max([*contexts, *statements], default=0) + 1]
    return [
        line
        for line, end in zip(statements, ends, strict=False)
        # the lines up to the next statement are its own: of a long condition, Python may run only those
        if not {"", test} & {context for each in range(line, end) for context in contexts.get(each, ())}
    ]


def main() -> int:
    sources = [source for source in python_files("src") if source.room in PURE and has_code(source)]
    tests = [path for path in sorted({mirrored(source.path) for source in sources}) if (ROOT / path).exists()]
    cover = Coverage(data_file=None, source=[str(ROOT / "src/slmgate")], config_file=str(ROOT / "pyproject.toml"))
    cover.start()
    try:
        result = pytest.main(["-q", "--no-header", *(str(ROOT / path) for path in tests)], plugins=[ContextPerFile(cover)])
    finally:
        cover.stop()
    if result != pytest.ExitCode.OK:
        return int(result)
    data: CoverageData = cover.get_data()
    holes = 0
    for source in sources:
        _, statements, _, _, _ = cover.analysis2(str(ROOT / source.path))
        missing = missing_lines(statements, data.contexts_by_lineno(str(ROOT / source.path)), mirrored(source.path))
        if missing:
            holes += 1
            print(f"{source.path}: {mirrored(source.path)} does not run lines {', '.join(map(str, missing))}")
    if holes:
        print(f"{holes} of {len(sources)} files of the pure floor are not covered whole by their own test file")
        return 1
    print(f"each of the {len(sources)} files of the pure floor is covered whole by its own test file")
    return 0


if __name__ == "__main__":
    sys.exit(main())
