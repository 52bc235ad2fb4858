"""The questions that analytics ask of a store.

Subjects are told by kind (`all`, `model`, `instance`, `client`), the name of the client or model, and the instance. Times are
UTC, the second one exclusive. Nothing here names a driver; `sql_tallies.py` answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from slmgate.stores.rankings import Figure
from slmgate.stores.subjects import Name
from slmgate.stores.tallies import Tally


class TallyStore(Protocol):
    def subjects(self, kind: str, name: str | None = None) -> list[Name]:
        """All that there are of a kind, of this name if one is given, in the order of their names."""
        ...

    def read(self, names: Sequence[Name], cuts: Sequence[datetime]) -> list[list[Tally]]:
        """For each subject its tallies between one time and the next, of all these times."""
        ...

    def counts(self, names: Sequence[Name], cuts: Sequence[datetime]) -> list[list[int]]:
        """For each subject its requests between one time and the next: the same as of `read`, for much less."""
        ...

    def since(self, since: datetime, until: datetime) -> datetime:
        """From when on this time is answered: later than it begins where retention has deleted what was there."""
        ...

    def models_of(self, clients: Sequence[str], since: datetime, until: datetime) -> Mapping[str, Mapping[str, Tally]]:
        """What each of these clients asked of each model: tallies without histograms. Those that asked nothing are left out."""
        ...

    def clients(
        self,
        figure: Figure | None,
        since: datetime,
        until: datetime,
        first: int,
        most: int,
        search: str = "",
        model: str | None = None,
    ) -> tuple[list[str], int]:
        """The names of at most so many clients that asked anything, from the place `first` on, and how many there are in all.

        From the most to the least of this figure, or by name. Of one `model` by requests only. Behind the last one is the last
        page of so many.
        """
        ...

    def prepare(self, since: datetime, until: datetime) -> bool:
        """Make ready what it takes to put all clients in order, of one whole day or month of this time; False: all is ready.

        Nothing has to be: what is not ready is made when it is asked for, which takes a moment for each of them.
        """
        ...
