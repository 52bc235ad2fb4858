"""Tables, CSV and text that cannot harm the terminal or the spreadsheet that shows them."""

from __future__ import annotations

import pytest

from slmgate.cli import show


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"),
        ("é日", "é日"),
        ("a\x1b[31mb", "a\ufffd[31mb"),
        ("a\nb\u202ec", "a\ufffdb\ufffdc"),
        (None, ""),
        (3, "3"),
        ("", ""),
    ],
)
def test_visible(value: object, text: str) -> None:
    assert show.visible(value) == text


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@a", "\t=1", "\r1", " =1", "\uff1d1"])
def test_formulas_are_quoted(cell: str) -> None:
    assert show.guarded(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["a", "a=1", "", -3, 2.5, True])
def test_the_rest_is_not(cell: object) -> None:
    assert show.guarded(cell) == cell


def test_csv() -> None:
    assert show.csv_text(["a", "b"], [["x,y", None], ['"', -1]]) == 'a,b\n"x,y",\n"""",-1\n'


def test_json() -> None:
    assert show.json_text({"a": [1]}) == '{\n  "a": [\n    1\n  ]\n}'


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    show.table(["name", "n"], [["[red]x[/]", 12345], ["\x1b[2J", 1]], ["n"])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line.split() for line in lines] == [["name", "n"], ["[red]x[/]", "12,345"], ["\ufffd[2J", "1"]]
    assert len({len(line) for line in lines}) == 1  # numbers end at the same place
