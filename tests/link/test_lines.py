"""Lines for the log that cannot be forged: whatever the text, one line of visible characters, bounded."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.link.lines import BELOW, HEAD, LONGEST, MOST, below, one_line, tell


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a request failed: é 模型 'x' %s {0}", "a request failed: é 模型 'x' %s {0}"),
        ("a\r\nslmgate: forged", "a\\r\\nslmgate: forged"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x00\x7f\x85\x9b", "\\x00\\x7f\\x85\\x9b"),
        ("a\u2028b\u2029\u202egnp\u2066\ufeff\u00a0", "a\\u2028b\\u2029\\u202egnp\\u2066\\ufeff\\xa0"),
        ("\ud800\U000e0001", "\\ud800\\U000e0001"),
        ("a" * LONGEST, "a" * LONGEST),
        ("a" * (LONGEST + 1), "a" * LONGEST + " ..."),
        ("", ""),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


@given(st.text())
def test_whatever_comes(text: str) -> None:
    line = one_line(text)
    assert line.isprintable() or line == ""
    assert line.encode().splitlines() in ([], [line.encode()])


@pytest.mark.parametrize("count", [0, 1, MOST, MOST + 1])
def test_below(count: int) -> None:
    lines = list(below("x\u2028slmgate: forged\x1b\n" * (count // 2) + "x\n" * (count % 2)))
    assert all(line.startswith(BELOW) and line.isprintable() for line in lines)
    assert len(lines) == min(count, MOST) + (count > MOST)


def test_tell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tell("a\nb", "Traceback:\n  x\nValueError: \x1b\nslmgate: forged")
    assert capsys.readouterr().err == (
        f"{HEAD}a\\nb\n{BELOW}Traceback:\n{BELOW}  x\n{BELOW}ValueError: \\x1b\n{BELOW}slmgate: forged\n"
    )
    monkeypatch.setattr(sys.stderr, "write", lambda _: (_ for _ in ()).throw(OSError(28, "no space")))
    tell("nobody hears this")
