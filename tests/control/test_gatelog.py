"""What loggers write, and what becomes of the access log's lines, whatever stands in them."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.control import gatelog
from slmgate.control.gatelog import OneLine, visible


def test_one_event_is_one_line() -> None:
    record = logging.LogRecord("slmgate", logging.INFO, "", 0, "from %s: %s", ("a\nslmgate: forged", "%d%n{0}\x1b[1m"), None)
    assert OneLine().format(record) == "slmgate: from a\\nslmgate: forged: %d%n{0}\\x1b[1m"


def test_a_traceback_stands_below_it() -> None:
    try:
        raise ValueError("x\r\nslmgate: forged\x1b")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "it failed", (), (type(error), error, error.__traceback__))
    first, *rest = OneLine().format(record).split("\n")
    assert first == "slmgate: it failed"
    assert rest[-2:] == ["slmgate| ValueError: x", "slmgate| slmgate: forged\\x1b"]
    assert all(line.startswith("slmgate| ") and line.isprintable() for line in rest)


def test_all_loggers_write_so(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(logging.Logger, "root", root)
    gatelog.configure()
    assert [type(handler.formatter) for handler in root.handlers] == [OneLine]
    assert logging.getLogger("uvicorn").level == logging.WARNING


@given(st.lists(st.text(), min_size=1))
def test_lines_of_json_say_the_same_and_hide_nothing(texts: list[str]) -> None:
    texts += ["\x7f", "\x85\x9b", "\u200b\u200f", "\u2028\u2029\u202a\u202e", "\u2066\u061c\ufeff", "é模\U0001f600\u2030"]
    lines = b"".join(json.dumps(each, ensure_ascii=False).encode(errors="replace") + b"\n" for each in texts)
    shown = visible(lines)
    assert [json.loads(line) for line in shown.split(b"\n")[:-1]] == [json.loads(line) for line in lines.split(b"\n")[:-1]]
    text = shown.decode()
    assert len(text.splitlines()) == len(texts)
    assert not set(text) & set("\x7f\x85\x9b\u200b\u200f\u2028\u2029\u202a\u202e\u2066\u061c\ufeff")
    assert "é模\U0001f600\u2030" in text
    plain = b'{"a":"\\u0000 \\" x"}\n'
    assert visible(plain) is plain
