"""Writes the generated pages of docs/ and examples/: the options of the configuration and the commands of slmgate.

`python docs/generate.py` writes them, `--check` only compares and fails where one is out of date. It knows no option and
no command: the option table and the application tell.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HEAD = """\
# Commands

<!-- Made from the commands themselves by `make docs`; change their help, not this page. -->

`slmgate serve` owns the state; the other commands talk to its admin API or, where they say so, open the files themselves.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | the answer is no, or it went wrong: the message says what |
| 2 | the command was misused |
| 3 | the gate cannot be reached |

"""


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())


def _blocks(command: Any, path: str) -> Iterator[str]:
    """The section of one command, and those of its own commands. `command` is a command of click, as Typer makes them."""
    own = getattr(command, "commands", None)
    if own:
        if path != "slmgate":
            yield f"## `{path}`\n\n{_plain(command.help)}\n\n"
        for name, inner in own.items():
            yield from _blocks(inner, f"{path} {name}")
        return
    yield f"{'##' if path.count(' ') == 1 else '###'} `{path}`\n\n{_plain(command.help)}\n\n"
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            rows.append(f"| `{parameter.name.upper()}` | {_plain(getattr(parameter, 'help', ''))} |")
        else:
            flags = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
            rows.append(f"| {flags} | {_plain(parameter.help)} |")
    if rows:
        yield "| | |\n| --- | --- |\n" + "\n".join(rows) + "\n\n"


def commands_page() -> str:
    """The text of `docs/commands.md`."""
    from typer.main import get_command

    from slmgate.cli import app

    return HEAD + "".join(_blocks(get_command(app.build(["--help"])), "slmgate")).rstrip() + "\n"


def write(root: Path) -> None:
    """Write every generated file below `root`."""
    from slmgate.control.config import docs

    (root / "docs").mkdir(parents=True, exist_ok=True)
    docs.write(root)
    (root / "docs" / "commands.md").write_text(commands_page(), encoding="utf-8")


def stale(root: Path) -> list[str]:
    """Generated files whose copy below `root` is missing or different."""
    with tempfile.TemporaryDirectory() as fresh:
        write(Path(fresh))
        made = [path.relative_to(fresh) for path in sorted(Path(fresh).rglob("*")) if path.is_file()]
        return [
            path.as_posix()
            for path in made
            if not (root / path).exists() or (root / path).read_bytes() != (Path(fresh) / path).read_bytes()
        ]


def main() -> int:
    os.environ["COLUMNS"] = "100"  # no page depends on the width of somebody's terminal
    if "--check" not in sys.argv[1:]:
        write(ROOT)
        return 0
    found = stale(ROOT)
    for path in found:
        print(f"{path} is out of date: run `make docs`")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
