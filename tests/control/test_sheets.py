"""CSV that no spreadsheet takes for formulas; more cells are tried in tests/cli/test_show.py."""

from __future__ import annotations

from slmgate.control.sheets import csv_rows, csv_text, guarded


def test_csv() -> None:
    assert csv_text(["a", "b"], [["=1+1", 2.5], [None, "x\ny"]]) == 'a,b\n\'=1+1,2.5\n,"x\ny"\n'
    assert csv_rows([]) == ""


def test_what_a_spreadsheet_would_compute_is_quoted() -> None:
    assert guarded(" \uff1dcmd()") == "' \uff1dcmd()"
    assert (guarded("a=1"), guarded(-1), guarded(None)) == ("a=1", -1, "")
