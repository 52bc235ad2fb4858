"""The command `slmgate`: which file holds which command, and what the exit codes mean.

Only the file of the command that is asked for is imported, so that short commands start fast; `--help` imports all.
This file knows the commands' names, not what they do: each file's `register(app)` adds them.

Exit codes: 0 done; 1 the answer is no, or it went wrong; 2 the command was misused; 3 the gate cannot be reached.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmgate import __version__

if TYPE_CHECKING:
    import typer

FILES = {
    "demo": "demo",
    "init": "init",
    "serve": "serve",
    "check": "check",
    "config": "config_cmd",
    "explain": "explain",
    "test": "policy_tests",
    "replay": "replay",
    "keys": "keys",
    "admin": "admin",
    "audit": "audit",
    "limits": "limits",
    "usage": "usage",
    "statement": "statement",
    "top": "top",
    "logs": "logs",
    "instances": "instances",
    "doctor": "doctor",
    "certificates": "certificates",
    "bans": "bans",
    "db": "db",
}
"""Command -> the file of this folder that registers it, in the order of `slmgate --help`."""


def files_for(arguments: Sequence[str]) -> list[str]:
    """The files to import: that of the named command, or all where none is named (`--help`, a slip of the pen)."""
    word = next((argument for argument in arguments if not argument.startswith("-")), "")
    return [FILES[word]] if word in FILES else list(dict.fromkeys(FILES.values()))


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application with the commands that `arguments` can mean."""
    import typer

    app = typer.Typer(
        name="slmgate",
        help="An access proxy for small language models: who may use which model, how much, and an exact account of it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # a traceback of our own failure is for the log, without the values of variables
    )

    @app.callback()
    def _root(
        version: bool = typer.Option(False, "--version", help="Print the version and exit."),  # main() has answered it already
    ) -> None:
        pass

    for name in files_for(arguments):
        importlib.import_module(f"slmgate.cli.{name}").register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; `arguments` are those of the process by default."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["--version"], ["-V"]):
        print(f"slmgate {__version__}")
        sys.exit(0)
    code: int | str | None = 0
    broken = False
    try:
        build(words)(words, prog_name="slmgate")
    except SystemExit as end:  # how commands end; of a broken pipe, the library of commands makes a failure
        broken = isinstance(end.__context__, BrokenPipeError)
        code = 0 if broken else end.code
    except BrokenPipeError:
        broken = True
    try:
        sys.stdout.flush()  # here, where it can still be caught
    except BrokenPipeError:
        broken = True
    if broken:
        # The reader of our output left (`slmgate logs | head`): that is no failure, and Python must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)
