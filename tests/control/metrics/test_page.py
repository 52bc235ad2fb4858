"""docs/metrics.md: that it is up to date is `make docs`' to say; here, that nothing is left out of it."""

from __future__ import annotations

from slmgate.control.metrics.families import BOUNDS, FAMILIES
from slmgate.control.metrics.page import metrics_page


def test_all_is_in_it() -> None:
    page = metrics_page()
    for family in FAMILIES:
        assert page.count(f"| `{family.name}` |") == (2 if family.bounds else 1)
        assert family.help in page
    for label in BOUNDS:
        assert f"| `{label}` |" in page
