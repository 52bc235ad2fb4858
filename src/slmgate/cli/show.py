"""How commands show data: tables, CSV and JSON, safe for the terminal and the spreadsheet that read them.

Texts in receipts come from clients, so none reaches a terminal with its control characters or a spreadsheet as a
formula. This module knows no command and no API.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from slmgate.control.sheets import csv_rows, csv_text, guarded

__all__ = ["csv_rows", "csv_text", "guarded", "json_text", "table", "visible"]


def json_text(data: Any) -> str:
    """Indented JSON, for people and programs."""
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()


def visible(value: object) -> str:
    """The value as text, with what a terminal would obey or hide replaced; None is empty."""
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(
        character if not unicodedata.category(character).startswith(("C", "Zl", "Zp")) else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[str] = ()) -> None:
    """Print a table, the columns in `numbers` set to the right. Piped, it is as wide as it must be."""
    # imported here, for the commands that show no table
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    right = frozenset(numbers)
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else visible(cell)) for cell in row))
    console = Console(highlight=False) if sys.stdout.isatty() else Console(width=500, highlight=False, color_system=None)
    console.print(made)
