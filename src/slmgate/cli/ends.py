"""How a command ends when it does not end well: its exit code and one message on stderr.

Exit codes are those of `cli/app.py`. This module knows no command.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from slmgate.cli.show import visible

DONE, NO, USAGE, UNREACHABLE = 0, 1, 2, 3


class CommandFailed(Exception):
    """A command ends here: `code` is its exit code, the message is for the user."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def exits() -> Iterator[None]:
    """A CommandFailed inside ends the command with its message and code; so does a file of the gate that is another user's."""
    try:
        yield
    except CommandFailed as error:
        typer.echo(f"slmgate: {_shown(str(error))}", err=True)
        raise typer.Exit(error.code) from None
    except PermissionError as error:
        typer.echo(f"slmgate: {not_ours(error)}", err=True)
        raise typer.Exit(UNREACHABLE) from None


@contextmanager
def terminated() -> Iterator[None]:
    """SIGTERM and SIGHUP, unless they are ignored (`nohup`), end what is inside as Ctrl-C does: it leaves nothing half made."""
    ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def _shown(message: str) -> str:
    """Its lines are ours, what stands in them may not be: names and answers from elsewhere."""
    return "\n".join(map(visible, message.split("\n")))


def not_ours(error: PermissionError) -> str:
    """What to do about a file of the gate that this user may not use."""
    what = f"{error.filename} may not be used" if error.filename else "the gate's files may not be used"
    return f"{what} by this user; run it as the gate's user, or give --admin and SLMGATE_ADMIN_KEY"
