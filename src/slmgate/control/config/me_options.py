"""The rows of the option table under `me`: the page on which holders of keys see their own figures.

Part of `options.py` in all but place, under the same rules: frozen records, times in seconds once loaded. This module knows
no YAML and no file.
"""

from __future__ import annotations

from typing import Annotated

from slmgate.control.config.kinds import Duration, Switch
from slmgate.control.config.table import Option, Section

DAY = 86_400_000
"""Milliseconds, as the bounds of a Duration."""


class Me(Section, frozen=True, kw_only=True):
    """The self-service page of key holders. docs/self-service.md says what it shows."""

    enabled: Annotated[
        bool, Option("Whether the gate answers `/me` at all: a page, and an API for whoever shows an API key.", Switch())
    ] = False
    rotate: Annotated[bool, Option("Whether holders may give their key a new secret.", Switch())] = True
    overlap: Annotated[
        float,
        Option(
            "How long the old secret may go on working at the most when its holder gets a new one.",
            Duration(low=0, high=366 * DAY),
        ),
    ] = 604_800.0
    team: Annotated[
        bool,
        Option(
            "Whether holders also see what their team's keys used together: how far its limits are used, and its statement of "
            "the month.",
            Switch(),
        ),
    ] = False
