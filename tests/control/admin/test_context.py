"""When a gate counts as ready: each condition alone takes it away."""

from __future__ import annotations

import msgspec
import pytest

from slmgate.control.admin.context import GateStatus, ModelStatus, WorkerStatus
from tests.tools.admin_gate import READY


@pytest.mark.parametrize(
    "change",
    [
        {"running": False},
        {"draining": True},
        {"workers": []},
        {"workers": [WorkerStatus(slot=0, pid=1, ready=False)]},
        {"models": [ModelStatus(name="a", ready=True), ModelStatus(name="b", ready=False)]},
    ],
)
def test_ready(change: dict[str, object]) -> None:
    assert READY.ready
    assert not msgspec.structs.replace(READY, **change).ready
    assert not GateStatus().ready


def test_a_hidden_model_takes_it_not_away() -> None:
    models = [ModelStatus(name="a", ready=True), ModelStatus(name="b", ready=False, hidden=True)]
    assert msgspec.structs.replace(READY, models=models).ready
