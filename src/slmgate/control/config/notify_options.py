"""The rows of the option table under `notifications`: which webhooks are told of what happens to the gate.

Part of `options.py` in all but place, under the same rules. This module knows no YAML and no file, and sends nothing:
`control/webhooks.py` does.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from slmgate.control.config.addresses import WebUrl
from slmgate.control.config.kinds import Choice, Password, Secret, Whole
from slmgate.control.config.table import Option, Section

Topic = Literal["instance", "model", "certificate", "ban", "limit", "configuration"]
"""The first word of an event's type."""
TOPICS: tuple[Topic, ...] = get_args(Topic)


class Notification(Section, frozen=True, kw_only=True):
    """A webhook that is told of what happens to the gate. docs/notifications.md lists the events and their form."""

    url: Annotated[
        str,
        Option(
            "Where events are sent, as `POST` with a JSON body.", WebUrl(path=True), example="https://ops.example.com/slmgate"
        ),
    ]
    secret: Annotated[
        Secret,
        Option(
            "The secret by which the receiver knows that an event is from this gate: the key of the HMAC in `slmgate-signature`.",
            Password(),
            example="${env:SLMGATE_NOTIFY_SECRET}",
        ),
    ]
    events: Annotated[
        tuple[Topic, ...],
        Option("What it is told of.", Choice(values=TOPICS), at_least=1),
    ] = TOPICS
    limits_at: Annotated[
        tuple[int, ...],
        Option(
            "When `limit` events are sent: at so many percent of a calendar's limit (of a day, a week, a month).",
            Whole(low=1, high=1000),
            at_least=1,
        ),
    ] = (80, 100)
