"""YAML as nodes: positions, what YAML 1.2 sees in a scalar, and the bounds.

Options play no part here.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.control.config.document import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    Mapping,
    Scalar,
    Sequence,
    Span,
    parse,
    plain_value,
    yaml_type,
)


def test_positions_count_characters() -> None:
    root, troubles = parse('ü: [ä, "ö"]\n')
    assert troubles == []
    assert isinstance(root, Mapping)
    key, value = root.entries[0]
    assert key.span == Span(0, 0, 0, 1)
    assert isinstance(value, Sequence)
    assert [item.span for item in value.items if isinstance(item, Scalar)] == [Span(0, 4, 0, 5), Span(0, 7, 0, 10)]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", "null"),
        ("~", "null"),
        ("NULL", "null"),
        ("true", "boolean"),
        ("False", "boolean"),
        ("tRue", "text"),
        ("on", "text"),
        ("yes", "text"),
        ("no", "text"),
        ("off", "text"),
        ("1", "number"),
        ("-1", "number"),
        ("+0x1", "text"),
        ("0x1F", "number"),
        ("0o17", "number"),
        ("1_000", "text"),
        ("1.5", "number"),
        ("1.", "number"),
        (".5", "number"),
        ("1e3", "number"),
        (".inf", "number"),
        ("-.Inf", "number"),
        (".nan", "number"),
        ("1:30", "text"),
        ("2027-01-01", "text"),
        ("1\n", "text"),
        ("a", "text"),
    ],
)
def test_yaml_1_2_types(text: str, seen: str) -> None:
    assert yaml_type(text) == seen


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            "[1, 0x10, 0o10, 1.5, .inf, true, FALSE, ~, on, '1', 2027-01-01]",
            [1, 16, 8, 1.5, float("inf"), True, False, None, "on", "1", "2027-01-01"],
        ),
        ("{a: {b: []}}", {"a": {"b": []}}),
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    root, _ = parse(text)
    assert root is not None
    assert plain_value(root) == value


@pytest.mark.parametrize(("depth", "right"), [(1, True), (MAX_DEPTH, True), (MAX_DEPTH + 1, False), (100_000, False)])
def test_depth(depth: int, right: bool) -> None:
    root, troubles = parse("[" * depth + "]" * depth)
    assert (root is not None, not troubles) == (right, right)


@pytest.mark.parametrize(("items", "right"), [(0, True), (1, True), (MAX_NODES - 1, True), (MAX_NODES, False)])
def test_nodes(items: int, right: bool) -> None:
    assert (parse(f"[{'x,' * items}]")[0] is not None) == right


def test_aliases_count_as_often_as_they_are_used() -> None:
    thousand = f"- &a [{'x,' * 999}]\n"
    assert parse(thousand + "- *a\n" * 98)[0] is not None
    root, (trouble,) = parse(thousand + "- *a\n" * 100)
    assert root is None
    assert "100,000" in trouble.problem


@pytest.mark.parametrize(("size", "right"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
def test_bytes(size: int, right: bool) -> None:
    assert (parse("#" + "x" * (size - 1))[1] == []) == right


def test_bytes_are_not_characters() -> None:
    (trouble,) = parse("#" + "ü" * (MAX_BYTES // 2))[1]
    assert "larger than 4 MiB" in trouble.problem


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        "a: [",
        "\t- a",
        "'",
        "*a",
        "a: &b [*b]",
        "!!python/object:x {}",
        "%YAML 9.9\n---\na",
        "a\n---\nb",
        "{[a]: b}",
        "\x00",
        "a: \ud800",
        "@",
    ],
)
def test_trouble_is_told(text: str) -> None:
    assert parse(text)[1]


@given(st.text(alphabet="ab:{}[],&*!|>-'\"#%@ \n\t~0\\"))
def test_never_raises(text: str) -> None:
    root, troubles = parse(text)
    if root is not None:
        plain_value(root)
    assert all(trouble.line >= 0 and trouble.column >= 0 and trouble.problem for trouble in troubles)
