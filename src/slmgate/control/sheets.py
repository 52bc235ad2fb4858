"""Rows as CSV that is safe for the spreadsheet that reads it: whoever asks for a CSV, command or API, gets it from here.

Texts in receipts come from clients, so none reaches a spreadsheet as a formula. This module knows no table of ours.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

# with the full-width forms, which some spreadsheets take for the same
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV (RFC 4180, with bare line feeds). A text that a spreadsheet would compute is quoted with an apostrophe."""
    return csv_rows([columns]) + csv_rows(rows)


def csv_rows(rows: Iterable[Sequence[object]]) -> str:
    """More rows of the same."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([guarded(cell) for cell in row] for row in rows)
    return out.getvalue()


def guarded(cell: object) -> object:
    """The cell so that no spreadsheet takes it for a formula; numbers and empty cells stay what they are."""
    if cell is None:
        return ""
    if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA_STARTS):
        return "'" + cell
    return cell
