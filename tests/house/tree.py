"""The project's files as the house rules look at them: found once, parsed once, named by their path from the root.

A rule is a function of `Source` that returns complaints; it does not know whether the text came from the checkout or
from a sample in a test, and so each rule can be shown to fail on a bad sample.
"""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
PURE = ("terms", "errors", "policy", "dialects", "http1")
"""The pure floor: no clock, no socket, no task."""


class Source:
    """One Python file: its path from the root (`src/slmgate/terms.py`), text and syntax tree."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def room(self) -> str:
        """The room of a file of the package: `policy`, `terms`, ...; `slmgate` for the package's own `__init__`."""
        parts = PurePosixPath(self.path).parts
        if parts[:2] != ("src", "slmgate"):
            return ""
        name = parts[2].removesuffix(".py")
        return "slmgate" if name == "__init__" else name

    @property
    def module(self) -> str:
        """The dotted name of a file of the package."""
        parts = PurePosixPath(self.path).with_suffix("").parts[1:]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def comments(self) -> list[tuple[int, str]]:
        """Every comment with its line number."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]

    def at(self, line: int, complaint: str) -> str:
        return f"{self.path}:{line}: {complaint}"


Rule = Callable[[Source], Iterable[str]]


@lru_cache
def python_files(folder: str) -> tuple[Source, ...]:
    """All Python files that the repository keeps below `folder` (from the root), in order."""
    return tuple(
        Source(name, (ROOT / name).read_text("utf-8"))
        for name in kept_files()
        if name.startswith(f"{folder}/") and name.endswith(".py")
    )


@lru_cache
def kept_files() -> tuple[str, ...]:
    """Paths of all files that the repository keeps or would keep (not the ignored ones)."""
    found = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if found.returncode == 0:
        names = found.stdout.decode().split("\0")
    else:  # an unpacked source archive: everything that is there
        names = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")]
        names = [name for name in names if not any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))]
    return tuple(sorted(name for name in names if name and (ROOT / name).is_file()))


def complaints(rule: Rule, sources: Iterable[Source]) -> list[str]:
    return [complaint for source in sources for complaint in rule(source)]


def report(found: Iterable[str]) -> str:
    return "\n" + "\n".join(found)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))
