"""What can be wrong with a configuration, told so that its writer can mend it.

Every fault is a value: loading collects them all. This module knows no option and reads no file; it only says how a
fault looks and how text from a file is shown safely on a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    pass

DOCS_PAGE = "docs/configuration.md"
SHOWN = 60
"""Characters of a wrong value that a message quotes."""


class BadValueError(Exception):
    """A value that an option cannot take. `problem` reads on from the value: `is not a size`.

    `private`: the value may hold a secret, so that neither message nor excerpt may show it.
    Raised by kinds and references, caught in `reading.py` only, which knows where the value stands.
    """

    def __init__(self, problem: str, hint: str = "", private: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.private = private


class ConfigFault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. `line` and `column` count from 1, in characters; 0 means the file as a whole.

    `option` is the path as the file has it (`models.smollm2.instances[0].url`), `doc` the option's sentence and `see`
    its place in the documentation. `excerpt` is the line with secrets struck out, `caret` the offset in it to point at.
    """

    file: str
    line: int
    column: int
    option: str
    problem: str
    hint: str = ""
    doc: str = ""
    see: str = ""
    excerpt: str = ""
    caret: int = 0

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        option = f" {self.option}:" if self.option else ""
        return f"{where}:{option} {self.problem}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(Exception):
    """A configuration cannot be used. For callers who hold no `Loaded`; `faults` says why."""

    def __init__(self, faults: Sequence[ConfigFault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


def anchor(option: str) -> str:
    """The fragment under which documentation viewers find the heading `option` (GitHub's rule for headings)."""
    return re.sub(r"[^a-z0-9_-]", "", option.lower())


def printable(text: str) -> str:
    """`text` with each character that could steer a terminal replaced by one middle dot: columns stay true."""
    return "".join(char if char.isprintable() else "\u00b7" for char in text)


def quote(text: str, shown: int = SHOWN) -> str:
    """A value from a file in quotes, harmless and at most `shown` characters of it."""
    return f"'{printable(text[:shown])}{'…' if len(text) > shown else ''}'"


def quote_path(path: PurePath) -> str:
    """A path in quotes, harmless and whole, as far as a path can be long (Linux: `PATH_MAX`, 4,096 bytes)."""
    return quote(str(path), 4096)
