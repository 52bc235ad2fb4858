"""What is used of limits, told to whoever asks over the link: it looks, takes nothing, and makes no place in the table.

How many are asked for at once is the asker's affair, who knows that clients wait meanwhile. It knows no key and no message of
another kind.
"""

from __future__ import annotations

from slmgate.dataplane.limiter import Limiter
from slmgate.dataplane.table import Spot
from slmgate.link.messages import Look, Looked
from slmgate.policy.limiting import Meter


def looked(limiter: Limiter, asked: Look, second: float) -> Looked:
    """The answer; `second` is the wall clock's."""
    meters = [Meter(spec) for spec in asked.specs]
    found = limiter.look([Spot(meters[number], subject) for number, subject in asked.places], second)
    return Looked(asked.number, None if found is None else tuple(found))
