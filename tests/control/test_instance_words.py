"""The words for an instance's state, and whether it takes requests, from the fields that the admin API tells."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from slmgate.control.admin.context import InstanceStatus
from slmgate.control.instance_words import state, takes_requests


@pytest.mark.parametrize(
    ("fields", "words", "takes"),
    [
        ({}, "healthy", True),
        ({"state": "checking"}, "checking", True),
        ({"state": "recovering"}, "recovering", True),
        ({"state": "unhealthy", "healthy": False}, "unhealthy", False),
        ({"state": "ejected", "healthy": False, "again": 3.2}, "ejected for 4 s", False),
        ({"state": "half_open", "healthy": False}, "half-open", False),
        ({"state": "unhealthy", "healthy": False, "draining": True, "in_flight": 1}, "draining, 1 in flight", False),
        ({"state": "ejected", "again": 3.2, "source": "removed", "in_flight": 1}, "removed, 1 in flight", False),
        ({"draining": True, "in_flight": 3}, "draining, 3 in flight", False),
        ({"draining": True}, "draining, 0 in flight", False),
        ({"draining": True, "drained": True, "healthy": False}, "drained", False),
        ({"source": "removed", "in_flight": 2}, "removed, 2 in flight", False),
        ({"source": "added"}, "healthy", True),
        ({"process": "stopped"}, "stopped", True),
        ({"process": "starting", "pid": 7}, "starting", True),
        ({"process": "stopping", "pid": 7, "in_flight": 1}, "stopping", True),
        ({"process": "backing_off", "healthy": False, "again": 3.2}, "backing off for 4 s", False),
        ({"process": "up", "pid": 7}, "healthy", True),
        ({"process": "stopped", "draining": True, "drained": True}, "drained", False),
    ],
)
def test_states(fields: dict[str, Any], words: str, takes: bool) -> None:
    row = msgspec.to_builtins(InstanceStatus(id="m/a:1", model="m", **fields))
    assert (state(row), takes_requests(row)) == (words, takes)
