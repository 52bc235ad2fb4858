"""The strict readers: one form of base64url, JSON objects without doubles, numbers and texts that are just that."""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.control.identity.strict import LAST_SECOND, base64url, json_object, moment, texts


@pytest.mark.parametrize(("text", "data"), [(b"AA", b"\0"), (b"AAA", b"\0\0"), (b"-_-_", b"\xfb\xff\xbf"), (b"YQ", b"a")])
def test_base64url(text: bytes, data: bytes) -> None:
    assert base64url(text) == data


@pytest.mark.parametrize("text", [b"", b"A", b"AAAAA", b"AA==", b"+/+/", b"YR", b"Y Q", b"YQ\n", b"\xc3\xa4", b"AA.A"])
def test_other_forms_of_base64(text: bytes) -> None:
    with pytest.raises(ValueError, match="part"):
        base64url(text)


def test_an_object() -> None:
    assert json_object('{"a": {"b": [1, "ä"]}, "b": 1.5}'.encode()) == {"a": {"b": [1, "ä"]}, "b": 1.5}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b"null",
        b"{",
        b'{"a": 1} x',
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 1}',
        b'{"x": [{"a": 1, "a": 2}]}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        '\ufeff{"a": 1}'.encode(),
        '{"a": 1}'.encode("utf-16"),
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"1" * 5000 + b"}",
    ],
)
def test_what_is_no_object(data: bytes) -> None:
    with pytest.raises(ValueError):
        json_object(data)


@pytest.mark.parametrize("value", [0, 0.0, 1.5, 1_800_000_000, LAST_SECOND])
def test_a_moment(value: float) -> None:
    assert moment(value, "exp") == value


@pytest.mark.parametrize(
    "value", [None, "1", True, False, -1, -0.1, LAST_SECOND + 1, float("inf"), float("nan"), 10**400, [1], {}]
)
def test_no_moment(value: Any) -> None:
    with pytest.raises(ValueError, match="exp"):
        moment(value, "exp")


@pytest.mark.parametrize(("value", "found"), [("a", ("a",)), ("", ("",)), (["a", "b"], ("a", "b")), ([], ())])
def test_texts(value: Any, found: tuple[str, ...]) -> None:
    assert texts(value, "aud") == found


@pytest.mark.parametrize("value", [None, 1, True, {}, {"a": 1}, ["a", 1], [["a"]], [None]])
def test_no_texts(value: Any) -> None:
    with pytest.raises(ValueError, match="aud"):
        texts(value, "aud")
