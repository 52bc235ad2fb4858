"""A row of the admin API's table cannot be built without its permission."""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.control.admin.handlers import healthz
from slmgate.control.admin.routes import ROUTES, Route


def test_no_row_without_a_permission() -> None:
    row: Any = Route
    with pytest.raises(TypeError):
        row("GET", "/x", handler=healthz)
    for wrong in (None, 0, "viewer", healthz):
        with pytest.raises(TypeError, match="Permission"):
            row("GET", "/x", wrong, healthz)


def test_rows_are_told_apart() -> None:
    assert len({(row.method, row.path) for row in ROUTES}) == len(ROUTES)
    assert len({row.handler for row in ROUTES}) == len(ROUTES)
