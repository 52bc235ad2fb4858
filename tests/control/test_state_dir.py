"""Who owns a state directory, told by its lock alone; and the note of where the admin side of a gate without a file listens."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from slmgate.control.state_dir import (
    ADMIN_ADDRESS,
    CONTROL_LOCK,
    LOCK_FILE,
    SALT_KEY,
    changing,
    is_served,
    lock_control,
    make_salt_key,
    note_admin_address,
    noted_admin_address,
    own,
)


def test_served_while_the_lock_is_held(tmp_path: Path) -> None:
    assert not is_served(tmp_path)
    with (tmp_path / LOCK_FILE).open("w") as lock:
        assert not is_served(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_served(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert not is_served(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # asking took nothing away


def test_commands_that_change_the_store_keep_a_gate_from_starting(tmp_path: Path) -> None:
    with changing(tmp_path) as one, changing(tmp_path) as another, (tmp_path / LOCK_FILE).open("r+") as gate:
        assert one and another and not is_served(tmp_path)
        assert not own(gate.fileno(), 0.0)
    assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o600
    with (tmp_path / LOCK_FILE).open("r+") as gate:
        assert own(gate.fileno(), 0.0)
        assert is_served(tmp_path)
        with changing(tmp_path) as alone, (tmp_path / LOCK_FILE).open("r+") as other:
            assert not alone
            assert not own(other.fileno())  # at once: a gate is not waited for


def test_a_gate_waits_for_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = 0

    def wait(_: float) -> None:
        nonlocal ended
        command.__exit__(None, None, None)
        ended += 1

    monkeypatch.setattr("slmgate.control.state_dir.time.sleep", wait)
    command = changing(tmp_path)
    assert command.__enter__()
    with (tmp_path / LOCK_FILE).open("r+") as gate:
        assert own(gate.fileno())
    assert ended == 1


def test_one_control_at_a_time(tmp_path: Path) -> None:
    lock = lock_control(tmp_path)
    assert lock is not None
    assert lock_control(tmp_path) is None
    assert (tmp_path / CONTROL_LOCK).stat().st_mode & 0o777 == 0o600
    os.close(lock)  # as when it dies
    again = lock_control(tmp_path)
    assert again is not None
    os.close(again)


def test_the_note_of_an_address(tmp_path: Path) -> None:
    assert noted_admin_address(tmp_path) is None
    for address in ("127.0.0.1:9000", "[::1]:1"):
        note_admin_address(tmp_path, address)
        assert noted_admin_address(tmp_path) == address
    assert [path.name for path in tmp_path.iterdir()] == [ADMIN_ADDRESS]
    assert (tmp_path / ADMIN_ADDRESS).stat().st_mode & 0o777 == 0o600


def test_the_key_of_the_salts_is_made_once(tmp_path: Path) -> None:
    make_salt_key(tmp_path)
    made = (tmp_path / SALT_KEY).read_bytes()
    assert len(made.strip()) == 48
    assert (tmp_path / SALT_KEY).stat().st_mode & 0o777 == 0o600
    make_salt_key(tmp_path)
    assert (tmp_path / SALT_KEY).read_bytes() == made
    (tmp_path / SALT_KEY).write_bytes(b"")  # cut short by a crash
    make_salt_key(tmp_path)
    assert (tmp_path / SALT_KEY).read_bytes() not in (b"", made)
    assert [path.name for path in tmp_path.iterdir()] == [SALT_KEY]
