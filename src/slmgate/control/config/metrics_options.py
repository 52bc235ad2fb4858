"""The rows of the option table under `metrics`: where the figures for Prometheus are, and who may read them.

Part of `options.py` in all but place, under the same rules. Which figures there are is in `control/metrics/families.py`.
"""

from __future__ import annotations

from typing import Annotated

from slmgate.control.config.kinds import Switch, Text, Whole
from slmgate.control.config.table import Option, Section

PATH = Text(
    pattern=r"(?:/[A-Za-z0-9_-]{1,40}){0,4}/metrics[A-Za-z0-9_-]{0,40}",
    described="a path whose last part begins with `metrics`, such as /metrics or /internal/metrics",
)


class Metrics(Section, frozen=True, kw_only=True):
    """Figures for Prometheus, on the admin listener. docs/metrics.md has all of them."""

    path: Annotated[str, Option("Where they are.", PATH, False)] = "/metrics"
    public: Annotated[
        bool,
        Option(
            "Whether they are told without an admin key. They name models, instances, clients and teams, and tell what is used.",
            Switch(),
        ),
    ] = False
    clients: Annotated[
        int,
        Option(
            "How many clients have figures of their own: those that came first. The others are one, named `(other)`.",
            Whole(low=0, high=10_000),
            False,
        ),
    ] = 200
