"""How much of a model's work may be tried again, so that instances that die are not stormed by those who ask once more.

Retries may be a share of the requests of the last seconds, or of those under way where these are more; a few are always allowed,
or a quiet gate could never try again. It knows no request, no instance and no clock: counts and `now` are arguments.
"""

from __future__ import annotations

HALF = 5.0
"""Seconds of half the time that is looked back on: requests and retries count for one to two of these."""
FLOOR = 10
"""Retries in that time that are allowed however few the requests are."""


class Budget:
    """One model's retries in one worker. `share` is how many there may be for each request; 0: none at all."""

    __slots__ = ("_before", "_retries", "_retries_before", "_since", "_start", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self._since = 0.0  # when the half under way began
        self._start = 0  # the count of requests then
        self._retries = 0  # since then
        # of the half before
        self._before = 0
        self._retries_before = 0

    def __repr__(self) -> str:
        return f"<Budget {self.share:g}: {self._retries + self._retries_before} retries>"

    def look(self, requests: int, now: float) -> None:
        """Called now and then, with the count of all requests so far: what is older than two halves counts no more."""
        if now - self._since < HALF:
            return
        self._before, self._retries_before = requests - self._start, self._retries
        self._since, self._start, self._retries = now, requests, 0

    def take(self, requests: int, live: int, now: float) -> bool:
        """Whether one more may be tried again, which then counts. `live`: how many requests are under way."""
        self.look(requests, now)
        lately = max(requests - self._start + self._before, live)
        most = max(FLOOR, int(lately * self.share)) if self.share else 0
        if self._retries + self._retries_before >= most:
            return False
        self._retries += 1
        return True

    def spend(self) -> None:
        """One was tried again that could not be refused."""
        self._retries += 1
