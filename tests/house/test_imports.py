"""Keeps the import graph of the house: the table is in `imports.py`, this file applies it to the package.

The samples show that the checker sees what it must; they know the rooms by name only.
"""

from __future__ import annotations

import pytest

from tests.house.imports import TABLE, import_rule
from tests.house.tree import ROOT, Source, complaints, python_files, report

BAD = [
    ("policy/decide.py", "import asyncio", "asyncio"),
    ("policy/decide.py", "import os.path", "os"),
    ("policy/decide.py", "from time import monotonic", "time"),
    ("policy/decide.py", "def f():\n    import random", "random"),
    ("policy/decide.py", "from slmgate import dialects", "slmgate.dialects"),
    ("policy/decide.py", "from ..dataplane import pool", "slmgate.dataplane.pool"),
    ("policy/__init__.py", "from ..stores import sql", "slmgate.stores.sql"),
    ("policy/decide.py", "import numpy", "numpy"),
    ("policy/decide.py", "import importlib\nimportlib.import_module('socket')", "socket"),
    ("dialects/openai.py", "from slmgate.policy.snapshot import Snapshot", "slmgate.policy.snapshot"),
    ("http1/heads.py", "import httptools", "httptools"),
    ("http1/heads.py", "import http.client", "http"),
    ("link/channel.py", "from slmgate.policy.decide import decide", "slmgate.policy.decide"),
    ("link/channel.py", "import slmgate.control.process", "slmgate.control.process"),
    ("dataplane/pool.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import slmgate.control", "slmgate.control"),
    ("dataplane/pool.py", "import litestar", "litestar"),
    ("stores/sql.py", "from slmgate.policy.snapshot import Key", "slmgate.policy.snapshot"),
    ("control/process.py", "from slmgate.dataplane import worker", "slmgate.dataplane.worker"),
    ("control/process.py", "from slmgate.cli.app import main", "slmgate.cli.app"),
    ("cli/keys.py", "from slmgate.stores.sql import Ledger", "slmgate.stores.sql"),
    ("attic/old.py", "x = 1", "attic"),
]

GOOD = [
    ("http1/heads.py", "from http import HTTPStatus"),
    ("policy/decide.py", "import math\nfrom slmgate.terms import Key\nfrom .limits import take"),
    ("link/messages.py", "import asyncio\nfrom slmgate.policy.specs import SnapshotSpec"),
    ("link/messages.py", "from slmgate.policy import specs"),
    ("control/process.py", "import litestar\nfrom slmgate.stores import sql\nfrom slmgate import __version__"),
    ("__main__.py", "from slmgate.cli.app import main"),
]


def test_rooms_import_only_what_the_table_allows() -> None:
    found = complaints(import_rule, python_files("src"))
    assert not found, report(found)


def test_every_room_of_the_package_is_in_the_table() -> None:
    rooms = {
        path.stem
        for path in (ROOT / "src/slmgate").iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }
    assert rooms - {"__init__"} <= set(TABLE)


@pytest.mark.parametrize(("path", "text", "culprit"), BAD)
def test_a_forbidden_import_is_seen(path: str, text: str, culprit: str) -> None:
    found = list(import_rule(Source(f"src/slmgate/{path}", text)))
    assert len(found) == 1
    assert culprit in found[0]


@pytest.mark.parametrize(("path", "text"), GOOD)
def test_an_allowed_import_passes(path: str, text: str) -> None:
    assert list(import_rule(Source(f"src/slmgate/{path}", text))) == []
