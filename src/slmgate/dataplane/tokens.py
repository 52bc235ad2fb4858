"""Access tokens as a worker has them: those that were verified, those that are asked about, and who waits for the verdict.

Verifying is the control process's work (`control/identity`); a worker asks over the link, once for each token however many
requests bear it, and keeps the verdict under the digest of the whole token. It knows no provider and no key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from slmgate.link.messages import Message, Verified, Verify
from slmgate.policy.identify import Unverified
from slmgate.terms import Bearer, Principal, Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.client import ClientConnection

MAX_KNOWN = 20_000
"""Verified tokens that are kept; the one that was verified first goes first."""
MAX_ASKED = 1000
MAX_WAITING = 5000
VERDICT_SECONDS = 2.0
"""How long a request waits for the verdict on its token."""
REFUSED_SECONDS = 1.0
"""How long a no is kept, so that a client that repeats itself does not cost a question each time."""
SWEEP_SECONDS = 10.0

NO_VERDICT = Refuse(
    "identity_unavailable",
    "Access tokens cannot be checked at the moment. Try again soon.",
    retry_after=2,
    rule="auth: the control process gave no verdict in time",
)
_TOO_MANY = Refuse(
    "identity_unavailable",
    "Too many access tokens wait to be checked. Try again soon.",
    retry_after=2,
    rule="auth: too many tokens are asked about",
)


class Asked:
    """One token that control was asked about, and the connections whose requests wait for the verdict."""

    __slots__ = ("since", "unverified", "waiting")

    def __init__(self, unverified: Unverified, since: float) -> None:
        self.unverified = unverified
        self.since = since
        self.waiting: list[ClientConnection] = []

    def __repr__(self) -> str:
        return f"<Asked: {len(self.waiting)} waiting>"


class Tokens:
    """`known` is what snapshots look tokens up in: digest -> whose it is (or why it opens nothing), and until when that holds."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self.known: dict[bytes, tuple[Bearer | Refuse, float]] = {}
        self.grounds: frozenset[str] = frozenset()
        self._asked: dict[int, Asked] = {}
        self._numbers: dict[bytes, int] = {}  # digest -> under which number it is asked about
        self._counter = 0
        self._waiting = 0  # requests; some may have been given up meanwhile
        self._swept = 0.0

    def __repr__(self) -> str:
        return f"<Tokens: {len(self.known)} known, {len(self._asked)} asked>"

    def void(self, principal: Principal | None) -> bool:
        """Whether what a principal's verification rested on does not hold any more."""
        return isinstance(principal, Bearer) and principal.grounds not in self.grounds

    def ask(self, unverified: Unverified, client: ClientConnection) -> Refuse | None:
        """Ask whose token this is; `client.identified` is called with the verdict. Or a refusal: there is no room to wait."""
        number = self._numbers.get(unverified.digest)
        if self._waiting >= MAX_WAITING or (number is None and len(self._asked) >= MAX_ASKED):
            return _TOO_MANY
        if number is None:
            self._counter += 1
            number = self._numbers[unverified.digest] = self._counter
            self._asked[number] = Asked(unverified, time.monotonic())
            self._send(Verify(number, unverified.token))
        self._asked[number].waiting.append(client)
        self._waiting += 1
        return None

    def verified(self, verdict: Verified, now: float) -> None:
        """Control's answer; `now` is wall-clock time. Keeps it, and lets go on who waited for it."""
        asked = self._asked.pop(verdict.number, None)
        if asked is None:
            return  # it came too late: nobody waits any more
        digest = asked.unverified.digest
        del self._numbers[digest]
        self._waiting -= len(asked.waiting)
        row: tuple[Bearer | Refuse, float]
        if verdict.bearer is not None and verdict.bearer.grounds in self.grounds:
            row = verdict.bearer, verdict.until
        else:
            row = verdict.refuse or NO_VERDICT, now + REFUSED_SECONDS
        if row[0] is verdict.bearer or (isinstance(row[0], Refuse) and row[0].code == "invalid_api_key"):
            self._keep(digest, row)
        for client in asked.waiting:
            client.identified(asked.unverified, row if isinstance(row[0], Bearer) else row[0])

    def _keep(self, digest: bytes, row: tuple[Bearer | Refuse, float]) -> None:
        self.known.pop(digest, None)
        if isinstance(row[0], Refuse) and len(self.known) >= MAX_KNOWN // 2:
            return  # whoever invents tokens must not push out those that were verified
        if len(self.known) >= MAX_KNOWN:
            del self.known[next(iter(self.known))]
        self.known[digest] = row

    def rest_on(self, grounds: frozenset[str]) -> bool:
        """These are the grounds from now on. Whether a verdict went with others; what is asked is asked again."""
        void = [digest for digest, (who, _) in self.known.items() if not isinstance(who, Bearer) or who.grounds not in grounds]
        for digest in void:
            del self.known[digest]
        self.grounds = grounds
        for number, asked in self._asked.items():
            self._send(Verify(number, asked.unverified.token))
        return bool(void)

    def sweep(self, now: float, wall: float) -> None:
        """Called about once a second: forget who waited too long, and what does not hold any more."""
        for number, asked in list(self._asked.items()):
            if now - asked.since < VERDICT_SECONDS:
                break  # in the order in which they were asked
            del self._asked[number]
            del self._numbers[asked.unverified.digest]
            self._waiting -= len(asked.waiting)
            for client in asked.waiting:
                client.identified(asked.unverified, NO_VERDICT)
        if now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            for digest in [digest for digest, (_, until) in self.known.items() if until <= wall]:
                del self.known[digest]
