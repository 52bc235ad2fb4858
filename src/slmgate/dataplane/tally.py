"""Counters of one worker that only grow; readers take differences.

It knows nothing of how they are shown, and is read by the worker alone, which sends them up the link.
"""

from __future__ import annotations


class Tally:
    """All counts are since this worker started. `unjournaled`: refusals for which the journal had no room. `shadows`: copies that
    have ended, which are no requests; `shadows_dropped`: those for which there was no room, and which were not sent.

    Of the guard: `turned_away` and `shed` are connections, that were closed at once and because the gate was full; `guarded`
    are requests that got an answer and no receipt, those of strangers in a flood too; `bans` are those made here. `mine` are
    requests of the self-service page, which are none for a model and have no receipt.
    """

    __slots__ = (
        "bans",
        "connections",
        "guarded",
        "mine",
        "refused",
        "requests",
        "shadows",
        "shadows_dropped",
        "shed",
        "turned_away",
        "unjournaled",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.shadows = 0
        self.shadows_dropped = 0
        self.refused = 0
        self.unjournaled = 0
        self.turned_away = 0
        self.guarded = 0
        self.bans = 0
        self.shed = 0
        self.mine = 0
