"""Who owns a state directory: told by its lock alone."""

from __future__ import annotations

import fcntl
from pathlib import Path

from slmgate.control.state_dir import LOCK_FILE, is_served


def test_served_while_the_lock_is_held(tmp_path: Path) -> None:
    assert not is_served(tmp_path)
    with (tmp_path / LOCK_FILE).open("w") as lock:
        assert not is_served(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_served(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert not is_served(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # asking took nothing away
