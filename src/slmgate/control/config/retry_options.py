"""The options for what may go wrong on the way to an instance: what is tried again, and for how long the gate waits.

Part of the option table of `options.py`, with its conventions: times in seconds, no YAML and no file.
"""

from __future__ import annotations

from typing import Annotated

from slmgate.control.config.auth_options import DAY, MINUTE
from slmgate.control.config.kinds import Choice, Duration, Percent, Whole
from slmgate.control.config.table import Option, Section


class Retry(Section, frozen=True, kw_only=True):
    """Trying another time, only before the first byte of an answer has gone to the client."""

    attempts: Annotated[int, Option("How often a request is tried at most, the first time included.", Whole(low=1, high=10))] = 2
    on: Annotated[
        tuple[str, ...],
        Option(
            "What is worth another try: `connect` (no connection could be made, or it ended before any answer began), `timeout` "
            "(nothing of an answer came within timeouts.first_byte) and any of these HTTP statuses of an instance; 404 is what "
            "engines answer that have not the model.",
            Choice(values=("connect", "timeout", "404", "429", "500", "502", "503", "504")),
        ),
    ] = ("connect", "502", "503")
    budget: Annotated[
        float,
        Option(
            "How many retries there may be in each worker, of its requests for the model in the last 5 to 10 seconds or of those "
            "under way, where these are more; 10 are always allowed. A failure beyond is told at once. `0%`: no retries.",
            Percent(high=900),
        ),
    ] = 0.2


class Timeouts(Section, frozen=True, kw_only=True):
    """How long the gate waits for an instance."""

    connect: Annotated[float, Option("For the connection to be made.", Duration(low=10, high=5 * MINUTE))] = 2.0
    first_byte: Annotated[float, Option("From the request's last byte to the answer's first.", Duration(low=10, high=DAY))] = (
        120.0
    )
    idle: Annotated[float, Option("Between two pieces of an answer.", Duration(low=10, high=DAY))] = 60.0
    total: Annotated[
        float | None,
        Option(
            "For the whole request, from its head to the answer's last byte, in line too; clients may ask for less with "
            "`x-request-timeout`. Unset: no bound.",
            Duration(low=10, high=DAY),
            example="10m",
        ),
    ] = None
