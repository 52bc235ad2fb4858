"""The guard: what the gate knows of the addresses that come to it, and whom it turns away before anything else is done for them.

Each worker has one. An address with connections here is a `Visitor`, which takes some requests at once from the shared table
(`addresses.py`) while there are plenty, and gives them out by itself, so that an ordinary request costs a subtraction. How much
is allowed is `policy/guard.py`'s to say, who calls for whom (a proxy) its caller's. It knows no HTTP, and of connections only
that they come and go.

Exact: never more requests, connections or new connections of an address get through on this node than its limits say. A ban is in
force at once where it was made, and in the other workers within a tick.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from slmgate.dataplane.addresses import (
    ARRIVALS,
    BANNED,
    BANS,
    FAILURES,
    KNOWN,
    MOST_LIVE,
    REQUESTS,
    SEEN,
    SHARED,
    SUBJECT,
    WORDS,
    Addresses,
)
from slmgate.dataplane.tally import Tally
from slmgate.policy.guard import SECOND, GuardSpec, ban, number_of_subject, open_bits, room, shown, subject_of, take, wait
from slmgate.policy.networks import NOWHERE, Networks, number_of
from slmgate.terms import Refuse

AT_ONCE = 64
"""So many requests are taken from the table at once at the most, by a worker for an address."""
REMEMBERED = 4096
"""Addresses without a connection that a worker remembers."""
PLENTY = 1 << 60
RECORDED = 10_000
"""Refusals of strangers that have a receipt, at once; and so many more each second:"""
RECORDED_EACH_SECOND = 20
SIEVED = 3500
"""So many banned addresses are kept out by the kernel: those that were banned, or have knocked, last. Its filter has room for
no more (`sieve.py`); of IPv6 networks that have nothing in common, for a third."""


class Visitor:
    """An address in this worker. `left`: requests that may be begun without asking the table."""

    __slots__ = ("_guard", "address", "counted", "exempt_by", "known", "left", "live", "place", "subject")

    def __init__(self, guard: Guard, address: str, subject: int) -> None:
        self._guard = guard
        self.address = address
        self.subject = subject
        self.place = SHARED
        self.live = 0  # connections
        self.counted = 0  # those of them that stand in its place of the table
        self.left = 0
        self.exempt_by: Networks | None = None  # the networks by which it was last asked whether it is exempt
        self.known = False  # the table has been told that a key was good

    def __repr__(self) -> str:
        return f"<Visitor {self.address}: {self.live} live>"

    def asks(self) -> Refuse | None:
        """A request begins. Not None: it is one too many, or the address is banned."""
        self.left -= 1
        return None if self.left >= 0 else self._guard.more(self)


class Guard:
    """`say` tells the operator, `banish` closes what a visitor has here."""

    def __init__(
        self,
        path: Path | None,
        place: tuple[int, int],
        tally: Tally,
        say: Callable[[str], object],
        banish: Callable[[frozenset[int]], object],
    ) -> None:
        """`place`: which one of how many workers this is."""
        self._path = path
        self._which = place
        self._tally = tally
        self._say = say
        self._banish = banish
        self._spec = GuardSpec()
        self._exempt = Networks(())
        self._table: Addresses | None = None  # opened when anything is to be counted
        self._visitors: dict[str, Visitor | None] = {}  # None: exempt
        self._most_visitors = REMEMBERED
        self._changes = -1  # of the table's bans, when they were read
        self.bans: dict[int, int] = {}  # the newest, and until when each is
        self._knocking: dict[int, int] = {}  # the banned in the order in which they were banned or knocked last
        self._kept_out: list[int] | None = None  # those of them for whom the kernel is to do it; None: that is to be told anew
        self._kept_subjects: frozenset[int] = frozenset()  # the same as subjects
        self._kept_until = 0  # the first of their bans to end
        self._news: dict[str, tuple[int, str]] = {}  # what is to be told: how often, and of whom last
        self._recorded = (float(RECORDED), 0.0)  # how many strangers' refusals may have a receipt, and when that was so
        self._unrecorded = 0  # of them, since that was told

    def __repr__(self) -> str:
        return f"<Guard: {len(self._visitors)} addresses, {len(self.bans)} bans>"

    def update(self, spec: GuardSpec) -> None:
        """Go by `spec` from now on. Who is exempt is asked of each connection when it comes."""
        if spec == self._spec:
            return
        self._spec = spec
        self._exempt = Networks(spec.exempt)
        self._kept_out = None
        if spec.counts and self._table is None:
            try:
                self._table = Addresses(self._path, *self._which)
            except OSError as error:
                self._say(f"the table of addresses cannot be had ({error.strerror}): each worker counts by itself")
                self._table = Addresses(None, 0, 1)
        for visitor in self._visitors.values():
            if visitor is not None:
                visitor.left = 0
        self._visitors = {}

    # -- connections and requests

    def connected(self, address: str) -> Visitor | None:
        """A connection has come from there; None: it is not counted. `TURNED_AWAY`: it is to be closed."""
        if not address:  # it was reset before it was let in; what it had sent is still there to be read, and nobody's
            self._tally.turned_away += 1
            return TURNED_AWAY
        visitor = self.visitor(address)
        if visitor is None:
            return None
        table, spec = self._table, self._spec
        assert table is not None
        now = table.now()
        until = self.bans.get(visitor.subject, 0) if spec.failed_auth is not None else 0
        if until > now:
            return self._turned_away("banned", visitor.subject, until)
        table.lock()
        try:
            at = self._find(table, visitor, now)
            words, place = table.words, visitor.place
            until = words[at + BANNED] if spec.failed_auth is not None else 0
            if until > now:
                why = "banned"
            elif place != SHARED and spec.connections and table.live(place) >= spec.connections:
                why = "connections"
            elif spec.new_connections is not None and room(words[at + ARRIVALS], now, spec.new_connections) < 1:
                why = "new_connections"
            elif spec.all_new_connections is not None and room(table.together(), now, spec.all_new_connections) < 1:
                why = "all_new_connections"
            else:
                if spec.new_connections is not None:
                    words[at + ARRIVALS] = take(words[at + ARRIVALS], now, spec.new_connections)
                if spec.all_new_connections is not None:
                    table.set_together(take(table.together(), now, spec.all_new_connections))
                if place != SHARED and table.own[place] < MOST_LIVE:
                    table.own[place] += 1
                    visitor.counted += 1
                visitor.live += 1
                return visitor
        finally:
            table.unlock()
        return self._turned_away(why, visitor.subject, until)

    def left(self, visitor: Visitor) -> None:
        """A connection that was let in has ended."""
        visitor.live -= 1
        if visitor.counted:
            assert self._table is not None
            visitor.counted -= 1
            self._table.own[visitor.place] -= 1

    def visitor(self, address: str) -> Visitor | None:
        """Who is counted for an address, also one that a trusted proxy says; None: nobody."""
        try:
            return self._visitors[address]
        except KeyError:
            pass
        visitor = None
        if self._spec.counts:
            if len(self._visitors) >= self._most_visitors:
                self._forget()
            number = number_of(address)
            if number != NOWHERE and not self._exempt.holds(number):
                visitor = Visitor(self, address, subject_of(number))
                visitor.exempt_by = self._exempt
            self._visitors[address] = visitor
        return visitor

    def more(self, visitor: Visitor) -> Refuse | None:
        """A request begins, and what was taken for the address is used up: take more. Not None: there is nothing left."""
        visitor.left = 0
        table, rate = self._table, self._spec.requests
        assert table is not None
        table.lock()
        try:
            now = table.now()
            at = self._find(table, visitor, now)
            words = table.words
            until = words[at + BANNED] if self._spec.failed_auth is not None else 0
            if visitor.exempt_by is not self._exempt and self._exempt.holds(number_of(visitor.address)):
                visitor.left = PLENTY  # it came when it was not exempt
                return None
            if until > now:
                seconds = -(-(until - now) // SECOND)
            elif rate is None:
                visitor.left = PLENTY
                return None
            elif (there := room(words[at + REQUESTS], now, rate)) > 0:
                count = max(1, min(AT_ONCE, rate.burst // 16)) if 2 * there > rate.burst else 1
                words[at + REQUESTS] = take(words[at + REQUESTS], now, rate, count)
                visitor.left = count - 1
                return None
            else:
                seconds = -(-wait(words[at + REQUESTS], now, rate) // SECOND)
        finally:
            table.unlock()
        self._tally.guarded += 1
        self._note(_KINDS["requests"], visitor.subject)
        if until > now:
            said = f"Your address is banned for {seconds} s more, since too many API keys that it tried were wrong."
            return Refuse("rate_limit_exceeded", said, rule="guard.per_ip.failed_auth", retry_after=seconds)
        assert rate is not None
        said = f"Your address may make {rate.text}. Try again in {seconds} s."
        return Refuse("rate_limit_exceeded", said, rule="guard.per_ip.requests", retry_after=seconds)

    def failed(self, visitor: Visitor) -> bool:
        """A credential that the address showed was wrong. True: that was one too many, and it is banned now."""
        table, rate = self._table, self._spec.failed_auth
        if table is None or rate is None:
            return False
        table.lock()
        try:
            now = table.now()
            at = self._find(table, visitor, now)
            words = table.words
            if words[at + BANNED] > now:
                return True
            if room(words[at + FAILURES], now, rate) > 0:
                words[at + FAILURES] = take(words[at + FAILURES], now, rate)
                return False
            if visitor.place == SHARED:
                return False
            words[at + BANS], until = ban(words[at + BANS], words[at + BANNED], now, self._spec.ban)
            words[at + BANNED] = until
            words[at + FAILURES] = 0
            table.tell_ban(visitor.subject, until)
        finally:
            table.unlock()
        visitor.left = 0
        self._tally.bans += 1
        self._note(_KINDS["bans"], visitor.subject)
        self._look_at_bans()
        return True

    def knows(self, visitor: Visitor) -> None:
        """A key of the address was good: what the table has of it is kept longer than what it has of strangers."""
        if not visitor.known and (table := self._table) is not None:
            table.lock()
            try:
                at = self._find(table, visitor, table.now())
                if visitor.place != SHARED:
                    table.words[at + KNOWN] = 1
                    visitor.known = True
            finally:
                table.unlock()

    # -- what operators ask

    def banned(self, part: int) -> list[tuple[int, int, int]]:
        """Who is banned, for how many seconds more, and how often they were, in a part of the table of addresses."""
        table = self._table
        if table is None or self._spec.failed_auth is None:
            return []
        now = table.now()
        return [(subject, -(-(until - now) // SECOND), count) for subject, until, count in table.banned(part, now)]

    def lift(self, subject: int) -> tuple[int, int, int] | None:
        """Ban somebody no more: here at once, in the other workers within a tick. What was lifted, as `banned` has it."""
        table = self._table
        if table is None or self._spec.failed_auth is None:
            return None
        table.lock()
        try:
            now = table.now()
            lifted = table.lift(subject, now)
        finally:
            table.unlock()
        if lifted is None:
            return None
        self._look_at_bans()
        _, until, count = lifted
        return subject, -(-(until - now) // SECOND), count

    def records(self, now: float) -> bool:
        """Whether one more refusal that no credential names has a receipt: a flood of them must not fill the ledger."""
        left, before = self._recorded
        left = min(RECORDED, left + (now - before) * RECORDED_EACH_SECOND)
        has = left >= 1
        self._recorded = left - has, now
        if not has:
            self._tally.guarded += 1
            self._unrecorded += 1
        return has

    # -- time

    def tick(self) -> None:
        """Called several times a second: learn of the bans of others."""
        if self._table is not None:
            self._table.tend()
            if self._table.changes != self._changes:
                self._look_at_bans()

    def each_second(self) -> None:
        """Tell what was turned away: a line for each kind at the most."""
        news, self._news = self._news, {}
        for what, (count, who) in news.items():
            self._say(f"{count} {what}, the last from {who}")
        if self._unrecorded:
            self._say(f"{self._unrecorded} requests of strangers were refused and have no receipt: there are too many")
            self._unrecorded = 0

    def kept_out(self) -> list[int]:
        """The banned for whom the kernel is to do it: numbers as of `networks.number_of`, the first of each /64.

        Not those of a /64 in which somebody is exempt: the kernel tells its addresses apart no more than the table does.
        """
        if self._table is None or not self._knocking or self._spec.failed_auth is None:
            return []
        now = self._table.now()
        if self._kept_out is None or now >= self._kept_until:
            self._knocking = {subject: until for subject, until in self._knocking.items() if until > now}
            subjects = list(self._knocking)[-SIEVED:]
            self._kept_subjects = frozenset(subjects)
            self._kept_until = min((self._knocking[subject] for subject in subjects), default=PLENTY)
            numbers = map(number_of_subject, subjects)
            self._kept_out = [one for one in numbers if not self._exempt.meets(one, open_bits(subject_of(one)))]
        return self._kept_out

    # -- what these are made of

    def _turned_away(self, why: str, subject: int, until: int) -> Visitor:
        self._tally.turned_away += 1
        if why == "banned":
            self._knocks(subject, until)
        self._note(_KINDS[why], subject)
        return TURNED_AWAY

    def _find(self, table: Addresses, visitor: Visitor, now: int) -> int:
        """Where the words of a visitor begin. Inside the lock."""
        at = visitor.place * WORDS
        if table.words[at + SUBJECT] != visitor.subject:  # others have its place meanwhile, or it never had one
            lost, visitor.place = visitor.place, table.place(visitor.subject, now)
            at = visitor.place * WORDS
            if visitor.counted:  # it was lost to somebody whose worker did not know yet that connections are counted here
                table.own[lost] -= visitor.counted
                visitor.counted = 0 if visitor.place == SHARED else min(visitor.counted, MOST_LIVE - table.own[visitor.place])
                if visitor.counted:
                    table.own[visitor.place] += visitor.counted
        table.words[at + SEEN] = now
        return at

    def _look_at_bans(self) -> None:
        table = self._table
        assert table is not None
        self._changes = table.changes
        bans = table.bans(table.now())
        fresh = frozenset(subject for subject, until in bans.items() if until > self.bans.get(subject, 0))
        lifted = [subject for subject, until in bans.items() if not until]
        for subject in (*lifted, *(self.bans.keys() - bans.keys())):
            if self._knocking.pop(subject, None) is not None:
                self._kept_out = None
        self.bans = {subject: until for subject, until in bans.items() if until}
        for subject in fresh:
            self._knocks(subject, bans[subject])
        if fresh:
            for visitor in self._visitors.values():
                if visitor is not None and visitor.subject in fresh:
                    visitor.left = 0
            self._banish(fresh)

    def _knocks(self, subject: int, until: int) -> None:
        self._knocking.pop(subject, None)
        self._knocking[subject] = until
        if subject not in self._kept_subjects:
            self._kept_out = None
        elif self._table is not None:  # so the kernel had no room for it, and has for those who came last
            self._kept_until = min(self._kept_until, self._table.now() + SECOND)
        if len(self._knocking) > 2 * SIEVED:
            self._knocking = dict(list(self._knocking.items())[-SIEVED:])

    def _forget(self) -> None:
        """Forget addresses that have no connection here: what is known of them stands in the table."""
        self._visitors = {address: one for address, one in self._visitors.items() if one is not None and one.live}
        self._most_visitors = 2 * len(self._visitors) + REMEMBERED

    def _note(self, what: str, subject: int) -> None:
        count, _ = self._news.get(what, (0, ""))
        self._news[what] = count + 1, shown(subject)


TURNED_AWAY: Final = Visitor(Guard(None, (0, 1), Tally(), str, len), "turned away", 1)
"""In place of a visitor: its connection is to be closed at once."""

_KINDS = {
    "bans": "addresses were banned for too many wrong API keys",
    "banned": "connections from banned addresses were closed",
    "connections": "connections were closed, of addresses that have guard.per_ip.connections already",
    "new_connections": "connections were closed for guard.per_ip.new_connections",
    "all_new_connections": "connections were closed for guard.new_connections",
    "requests": "requests were refused for guard.per_ip",
}
