"""The overview, as the gate's state is."""

from __future__ import annotations

from slmgate.control.admin.dashboard.overview import overview
from tests.tools.page_ask import ask


def test_it_shows_the_instances() -> None:
    assert [row["words"] for row in overview(ask()).values["instances"]] == ["healthy"]
