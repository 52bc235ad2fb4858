"""Keys on disk: only their own issuer's, only whole, only for the gate's user."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from slmgate.control.identity.kept import KeptKeys


def test_there_and_back(tmp_path: Path) -> None:
    kept = KeptKeys(tmp_path / "identity", "https://i")
    assert kept.load() is None
    for number in range(2):
        kept.save(b'{"keys": []}', 5.0 + number)
    assert kept.load() == (b'{"keys": []}', 6.0)
    (file,) = (tmp_path / "identity").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert KeptKeys(tmp_path / "identity", "https://i2").load() is None
    assert repr(kept) == "<KeptKeys of https://i>"


def test_what_a_crash_left_is_no_hindrance(tmp_path: Path) -> None:
    kept = KeptKeys(tmp_path, "https://i")
    kept.save(b"{}", 1.0)
    (file,) = tmp_path.iterdir()
    file.with_suffix(".new").write_bytes(b"half")
    kept.save(b"{}", 2.0)
    assert kept.load() == (b"{}", 2.0)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        json.dumps({"source": "https://other", "fetched": 1, "keys": "{}"}),
        json.dumps({"source": "https://i", "fetched": "1", "keys": "{}"}),
        json.dumps({"source": "https://i", "fetched": 1, "keys": {}}),
        json.dumps({"source": "https://i", "fetched": 1}),
    ],
)
def test_a_spoilt_file_is_none(tmp_path: Path, content: str) -> None:
    kept = KeptKeys(tmp_path, "https://i")
    kept.save(b"{}", 1.0)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert kept.load() is None


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    KeptKeys(tmp_path / "file" / "identity", "https://i").save(b"{}", 1.0)
