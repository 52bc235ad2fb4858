"""References: what they fetch, what they refuse, and that no value is ever in a fault.

The files are made here; the environment is a dictionary.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.references import MAX_FILE, resolve
from slmgate.control.config.stamps import Stamp, changed, stamp

ENV = {"A": "1", "B_2": "two", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "outcome", "found"),
    [
        ("", "", False),
        ("plain $5 {x}", "plain $5 {x}", False),
        ("${env:A}", "1", True),
        ("<${env:A}-${env:B_2}>", "<1-two>", True),
        ("${env:EMPTY}", "", True),
        ("$${env:A}", "${env:A}", False),
        ("$$${env:A}", "$${env:A}", False),
        ("$${x${env:A}", "${x1", True),
    ],
)
def test_environment(text: str, outcome: str, found: bool) -> None:
    assert resolve(text, Path("/nowhere"), ENV, {}) == (outcome, found)


def test_what_was_fetched_is_not_read_again() -> None:
    assert resolve("${env:X}", Path(), {"X": "${env:A}"}, {}).text == "${env:A}"


@pytest.mark.parametrize(
    "text",
    [
        "${",
        "${env:A",
        "${}",
        "${A}",
        "${env}",
        "${env:}",
        "${env:1A}",
        "${env:A B}",
        "${env:NONE}",
        "${file:}",
        "${x:y}",
        "${ENV:A}",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(BadValueError):
        resolve(text, Path("/nowhere"), ENV, {})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b"\n", ""),
        (b"a", "a"),
        (b"a\n", "a"),
        (b"a\r\n", "a"),
        (b"a\n\n", "a\n"),
        (b"a\nb", "a\nb"),
        ("ü\n".encode(), "ü"),
    ],
)
def test_file(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "f").write_bytes(content)
    files: dict[Path, Stamp] = {}
    assert resolve("${file:f}", tmp_path, {}, files) == (text, True)
    assert resolve(f"${{file:{tmp_path}/f}}", Path("/nowhere"), {}, files).text == text
    assert files == {tmp_path / "f": stamp(tmp_path / "f")}


@pytest.mark.parametrize(("size", "right"), [(MAX_FILE, True), (MAX_FILE + 1, False)])
def test_file_size(tmp_path: Path, size: int, right: bool) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    if right:
        assert len(resolve("${file:f}", tmp_path, {}, {}).text) == size
    else:
        with pytest.raises(BadValueError, match="larger than 64 KiB"):
            resolve("${file:f}", tmp_path, {}, {})


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"canary\xff")
    os.mkfifo(tmp_path / "pipe")
    files: dict[Path, Stamp] = {}
    for name in ("none", "binary", "pipe", ".", "a\0b", "x" * 300):
        with pytest.raises(BadValueError) as caught:
            resolve(f"${{file:{name}}}", tmp_path, {}, files)
        assert "canary" not in caught.value.problem + caught.value.hint
    assert not changed(files)
