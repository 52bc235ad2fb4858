"""Lines for the operator's log that nobody can forge: one event is one line, of visible characters and of bounded length.

Texts from clients, instances, files and exceptions come here as they are; what a terminal or a reader of logs would obey comes
out as an escape. It knows no event and no logger.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

LONGEST = 4000
"""Characters of one line; the rest is left out."""
MOST = 200
"""Lines of one traceback: its last ones, which say what failed."""
HEAD = "slmgate: "
BELOW = "slmgate| "
"""So begin the lines of a traceback, so that none can look like an event of its own."""


def one_line(text: str) -> str:
    """The text without anything but visible characters and spaces; what is not is escaped as Python does it."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    if cut.isprintable():
        return cut
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cut)


def below(text: str) -> Iterator[str]:
    """The lines of a traceback as they may stand under an event."""
    lines = text.splitlines()
    if len(lines) > MOST:
        yield f"{BELOW}... {len(lines) - MOST} lines"
    yield from (BELOW + one_line(line) for line in lines[-MOST:])


def tell(what: str, trace: str = "") -> None:
    """One line on stderr, with a traceback below it. A full disk under the log, or nobody behind it, is no reason to fail."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("\n".join([HEAD + one_line(what), *below(trace)]) + "\n")
        sys.stderr.flush()
