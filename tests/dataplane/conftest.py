"""The road on fakes for every test of the data plane, and the check that belongs to each: one receipt, nothing held.

A test opens the road with the models and bounds that it needs; what is checked behind it is in `tests/tools/stage.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.road import Road
from tests.tools.stage import Stage

OpenRoad = Callable[..., Road]


@pytest.fixture
def open_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenRoad]:
    stages: list[Stage] = []

    def opened(*models: Any, **settings: Any) -> Road:
        stages.append(Stage(tmp_path / str(len(stages)), monkeypatch, *models, **settings))
        return Road(stages[-1])

    yield opened
    try:
        for stage in stages:
            stage.check()
    finally:
        for stage in stages:
            stage.shut()


@pytest.fixture
def road(open_road: OpenRoad) -> Road:
    """One model `m` with one instance `a`."""
    return open_road()
