"""The overview: what the gate does now, and what needs somebody's attention. It reads the gate's status alone."""

from __future__ import annotations

from msgspec.structs import asdict

from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.instance_words import condition


def overview(ask: Ask) -> View:
    """The gate as it is now."""
    now = ask.status
    return View(
        template="overview.html",
        values={"instances": [{**asdict(row), "words": condition(asdict(row))} for row in now.instances]},
        refresh=10,
    )
