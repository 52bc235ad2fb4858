"""The package's door: the application is made behind it, and commands come through it without the web framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from litestar import Litestar

from slmgate.control.admin import create_app
from tests.tools.admin_gate import AdminGate

HEAVY = ("litestar", "uvicorn", "httpx", "alembic")


def test_it_makes_the_application(tmp_path: Path) -> None:
    gate = AdminGate(tmp_path)
    assert isinstance(create_app(gate), Litestar)
    gate.store.close()


def test_commands_without_a_gate_import_nothing_heavy() -> None:
    code = f"import sys, slmgate.control.admin.local, slmgate.cli.keys; print([name for name in {HEAVY} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
