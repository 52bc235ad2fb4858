"""A page whose commands are real: its files are written, its commands run in order, and what they print stands under them.

A block of `yaml` whose first line is `# NAME` is a file from there on; a block of `console` holds commands after `$ `, each with
its output. `| head -n N` and `echo $?` are understood, nothing else of a shell. `python -m tests.tools.page` writes the outputs
anew. It knows no page's story: what a ledger holds before, the caller says.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.house.tree import ROOT
from tests.tools.command import run
from tests.tools.page_ledger import fill

PAGE = ROOT / "docs" / "policies.md"
_BLOCK = re.compile(r"```(yaml|console)\n(.*?)```\n", re.DOTALL)
_NAME = re.compile(r"# (\S+\.yaml)\n")
_SECONDS = re.compile(r"in \d+\.\d\ds")


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """An empty directory to be in."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        try:
            yield Path(made)
        finally:
            os.chdir(before)


def rewritten(text: str) -> str:
    """The page with the output that its commands have now. Run it in a directory of its own."""
    code = 0

    def block(found: re.Match[str]) -> str:
        nonlocal code
        kind, body = found[1], found[2]
        if kind == "yaml":
            named = _NAME.match(body)  # the first line alone is looked at
            if named is not None:
                Path(named[1]).write_text(body, encoding="utf-8")
            return found[0]
        lines: list[str] = []
        for command in (line[2:] for line in body.splitlines() if line.startswith("$ ")):
            lines.append(f"$ {command}")
            if command == "echo $?":
                lines.append(str(code))
                continue
            code, output = _run(command)
            lines += output
        return f"```console\n{chr(10).join(lines)}\n```\n"

    return _BLOCK.sub(block, text)


def _run(command: str) -> tuple[int, list[str]]:
    command, _, most = command.partition(" | head -n ")
    words = shlex.split(command)
    assert words[0] == "slmgate", command
    ended = run(*words[1:])
    output = [line.rstrip() for line in _SECONDS.sub("in 0.01s", ended.output).splitlines()]
    return ended.exit_code, output[: int(most)] if most else output


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    with home() as directory:
        fill(directory / "slmgate-data")
        fresh = rewritten(text)
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
