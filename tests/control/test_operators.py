"""The first admin key: made once, kept from others, checked as a whole."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from slmgate.control.operators import ROLES, AdminKeys, Operator, Permission, create_first_admin_key, read_admin_key


def test_it_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    state = tmp_path / "new" / "state"
    secret = create_first_admin_key(state)
    assert secret is not None
    assert re.fullmatch("sk-slm-admin-[A-Za-z0-9_-]{43}", secret)
    assert create_first_admin_key(state) is None
    assert read_admin_key(state) == secret
    assert [file.name for file in state.iterdir()] == ["admin.key"]
    assert stat.S_IMODE((state / "admin.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_two_makers_at_once_leave_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "admin.key").write_text("the other's\n")
    monkeypatch.setattr("slmgate.control.operators.Path.exists", lambda _: False)
    assert create_first_admin_key(tmp_path) is None
    assert read_admin_key(tmp_path) == "the other's"
    assert len(list(tmp_path.iterdir())) == 1


def test_check(tmp_path: Path) -> None:
    keys = AdminKeys(tmp_path)
    assert keys.check("") is None  # no file: nobody, not everybody
    secret = create_first_admin_key(tmp_path)
    assert secret is not None
    assert keys.check(secret) == Operator("admin", Permission.OWNER)
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), "sk-slm-admin-", "\udcff"):
        assert keys.check(wrong) is None
    (tmp_path / "admin.key").write_text("")
    assert keys.check("") is None


def test_a_new_key_counts_at_once(tmp_path: Path) -> None:
    keys = AdminKeys(tmp_path)
    first = create_first_admin_key(tmp_path)
    (tmp_path / "admin.key").unlink()
    second = create_first_admin_key(tmp_path)
    assert first is not None
    assert second is not None
    assert keys.check(first) is None
    assert keys.check(second) is not None


def test_a_key_that_may_not_be_read_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "admin.key").mkdir()
    with pytest.raises(OSError, match="directory"):
        read_admin_key(tmp_path)
    assert AdminKeys(tmp_path).check("") is None


def test_roles_are_permissions_by_name() -> None:
    assert list(ROLES) == ["viewer", "operator", "owner"]
    assert list(ROLES.values()) == sorted(ROLES.values())


def test_permissions_include_each_other() -> None:
    assert Permission.PUBLIC < Permission.VIEWER < Permission.OPERATOR < Permission.OWNER
