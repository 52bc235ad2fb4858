"""The table of addresses: what each has done lately and until when it is banned, in a file of fixed size that all workers share.

A subject (`policy/guard.py`) has one place of 64 bytes in a set of eight. The set is found by a hash whose key is drawn when the
file is made, so that nobody outside can aim at the places of others. Whoever comes new takes a free place, or that of whom it is
best to forget: a stranger before one whose key was good, and the longest unseen first. Places of those who are banned, or have
connections, are never taken. Who finds no place is counted in one that all such share, which is never banned.

Changes are made under the kernel's lock on a byte of the file. How many connections each subject has stands in a row for each
worker, written by it alone; rows of workers that have died are not counted, and their successors begin with zeroes. Newest bans
stand in a ring beside the table, from which workers learn of each other's. It knows no limit, request or connection.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import time
from hashlib import blake2b
from pathlib import Path

from slmgate.dataplane.claims import MARKS, MAX_WORKERS, Claims

SETS = 1 << 15
WAYS = 8
PLACES = SETS * WAYS
SHARED = PLACES
"""The place that those share who find none."""
RING = 4096
"""So many of the newest bans are told to other workers at once; all others they find when the address comes to them."""
PARTS = 16
"""Into which the table is cut for whoever looks at all of it: one is looked at within two milliseconds."""
MOST_LIVE = 0xFFFF
"""Of connections of one subject in one worker."""

WORDS = 8
SUBJECT, SEEN, REQUESTS, ARRIVALS, FAILURES, BANNED, BANS, KNOWN = range(WORDS)
"""Words of a place: when it was last touched; when what was taken of each rate has drained; until when it is banned, and how
often it was; whether its key was good once. Times are nanoseconds of `Addresses.now`."""

_MAGIC = int.from_bytes(b"SLMADDR1", "little")
_WORD, _PAGE = 8, 4096
_FORMAT, _BASE, _LATEST, _BOOT, _CHANGES, _HAND, _SEED, _SEED2, _TOGETHER = range(9)
_MARKS_AT = 16
_RING_AT = _PAGE
_PLACES_AT = _RING_AT + RING * 2 * _WORD
_ROWS_AT = _PLACES_AT + (PLACES + WAYS) * WORDS * _WORD
_ROW = PLACES * 2
_SIZE = _ROWS_AT + MAX_WORKERS * _ROW

_EMPTY = memoryview(bytes(WORDS * _WORD)).cast("Q")
_lock = fcntl.lockf


def _clock() -> int:
    return time.monotonic_ns()


class Addresses:
    """One worker's hand on the table."""

    def __init__(self, path: Path | None, slot: int, workers: int) -> None:
        """`slot` of `workers`; another one where a living worker has it. `path` None: a table of this process's own.

        Raises OSError when the file cannot be had, or finds no room on the disk.
        """
        self._fd = -1
        if path is None:
            self._map = mmap.mmap(-1, _ROWS_AT + _ROW)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            size = os.fstat(self._fd).st_size
            try:
                os.posix_fallocate(self._fd, 0, _ROWS_AT)
                if os.fstat(self._fd).st_size < _SIZE:
                    os.ftruncate(self._fd, _SIZE)
                self._map = mmap.mmap(self._fd, _SIZE)
            except OSError:
                if size < _ROWS_AT:
                    os.ftruncate(self._fd, size)  # what it got of a full disk is of no use
                os.close(self._fd)
                raise
        whole = memoryview(self._map)
        self._header = whole[:_PAGE].cast("q")
        self._ring = whole[_RING_AT:_PLACES_AT].cast("Q")
        self.words = whole[_PLACES_AT:_ROWS_AT].cast("Q")
        """Word `place * WORDS + SEEN`, and so on. To be changed inside the lock only."""
        self._claims = None if path is None else Claims(self._fd)
        self.lock()
        try:
            self._begin(slot, workers)
        finally:
            self.unlock()
        self.tend()

    def __repr__(self) -> str:
        return f"<Addresses: slot {self._slot}, {self.changes} changes of bans>"

    def _begin(self, wanted: int, workers: int) -> None:
        header = self._header
        if header[_FORMAT] != _MAGIC:
            header[_SEED], header[_SEED2] = secrets.randbits(63), secrets.randbits(63)
            header[_FORMAT] = _MAGIC
        self._seed = header[_SEED : _SEED2 + 1].tobytes()
        boot = int.from_bytes(blake2b(Path("/proc/sys/kernel/random/boot_id").read_bytes(), digest_size=7).digest(), "little")
        if header[_BOOT] != boot:  # the machine's clock began anew: go on where the table's had stopped
            header[_BASE] = header[_LATEST] + 1 - _clock()
            header[_BOOT] = boot
        self._base = header[_BASE]
        self._slot = 0
        self._marks = header[_MARKS_AT : _MARKS_AT + MARKS].cast("B")
        self._seen_marks = b""
        if self._claims is not None:
            self._claims.begin(header[_MARKS_AT : _MARKS_AT + MARKS])
            self._slot = self._claims.claim(wanted, workers)
            os.posix_fallocate(self._fd, _ROWS_AT + self._slot * _ROW, _ROW)
        whole = memoryview(self._map)
        start = _ROWS_AT + self._slot * _ROW
        whole[start : start + _ROW] = bytes(_ROW)  # it may be a dead one's
        self.own = whole[start : start + _ROW].cast("H")
        """How many connections each place has in this worker."""
        self._others: list[memoryview] = []
        self._seen_slots: list[int] = []

    def close(self) -> None:
        if self._claims is not None:
            self._claims.close()
            os.close(self._fd)

    # -- time and lock

    def now(self) -> int:
        """Nanoseconds of the table's own clock, which only goes forward, over restarts too."""
        return _clock() + self._base

    def lock(self) -> None:
        if self._fd >= 0:
            _lock(self._fd, fcntl.LOCK_EX, 1)

    def unlock(self) -> None:
        if self._fd >= 0:
            _lock(self._fd, fcntl.LOCK_UN, 1)

    def tend(self) -> None:
        """Called several times a second: take note of the time, and of who else lives and counts connections here."""
        self._header[_LATEST] = self.now()
        if self._claims is None:
            return
        self.lock()
        try:
            slots = self._claims.marked()
            for slot in filter(self._claims.is_left, slots):
                self._claims.settled(slot)
            self._look_around(self._claims)
        finally:
            self.unlock()

    def _look_around(self, claims: Claims) -> None:
        """Learn whose rows count. Inside the lock."""
        self._seen_marks = self._marks.tobytes()
        slots = claims.marked()
        if slots != self._seen_slots:
            self._seen_slots = slots
            whole = memoryview(self._map)
            self._others = [whole[_ROWS_AT + slot * _ROW : _ROWS_AT + (slot + 1) * _ROW].cast("H") for slot in slots]

    # -- places: all of it inside the lock

    def place(self, subject: int, now: int) -> int:
        """The place of a subject; of one that has none, a new one. `SHARED`: there is none for it."""
        first = self._set_of(subject)
        at = first * WORDS
        words = self.words
        subjects = words[at : at + WAYS * WORDS : WORDS].tolist()
        if subject in subjects:
            return first + subjects.index(subject)
        if 0 in subjects:
            way = subjects.index(0)
        else:
            way = self._least(first, now)
            if way < 0:
                return SHARED
        at += way * WORDS
        words[at : at + WORDS] = _EMPTY
        words[at + SEEN] = now
        words[at + SUBJECT] = subject
        return first + way

    def _set_of(self, subject: int) -> int:
        """The first place of the set that a subject may stand in."""
        digest = blake2b(subject.to_bytes(_WORD, "little"), digest_size=4, key=self._seed).digest()
        return int.from_bytes(digest, "little") % SETS * WAYS

    def _least(self, first: int, now: int) -> int:
        """Which way of a full set is to be forgotten; -1: none may be."""
        rows = [self.own, *self._others]
        live = [sum(counts) for counts in zip(*[row[first : first + WAYS].tolist() for row in rows], strict=True)]
        best, least = -1, (2, 0)
        words = self.words
        for way in range(WAYS):
            at = (first + way) * WORDS
            if not live[way] and words[at + BANNED] <= now:
                rank = (words[at + KNOWN], words[at + SEEN])
                if rank < least:
                    best, least = way, rank
        return best

    def live(self, place: int) -> int:
        """How many connections a place has, in all workers; also in one that has begun since the last `tend`. Inside the lock."""
        if self._claims is not None and self._marks != self._seen_marks:
            self._look_around(self._claims)
        count: int = self.own[place] + sum([row[place] for row in self._others])
        return count

    def together(self) -> int:
        """When what all addresses together have taken of new connections will have drained."""
        return self._header[_TOGETHER]

    def set_together(self, at: int) -> None:
        self._header[_TOGETHER] = at

    # -- bans

    def banned(self, part: int, now: int) -> list[tuple[int, int, int]]:
        """Who is banned, until when, and how often they were, in one of `PARTS` parts of the table."""
        first, end = (PLACES * n // PARTS * WORDS for n in (part, part + 1))
        words = self.words
        places = [place for place, until in enumerate(words[first + BANNED : end : WORDS].tolist()) if until > now]
        rows = [words[at : at + WORDS].tolist() for at in (first + place * WORDS for place in places)]
        return [(row[SUBJECT], row[BANNED], row[BANS]) for row in rows]

    def lift(self, subject: int, now: int) -> tuple[int, int, int] | None:
        """Forget what a banned subject has done, and tell all workers. Inside the lock. What it was, as `banned` has it."""
        first = self._set_of(subject)
        words = self.words
        subjects = words[first * WORDS : (first + WAYS) * WORDS : WORDS].tolist()
        at = (first + subjects.index(subject)) * WORDS if subject in subjects else -1
        if at < 0 or words[at + BANNED] <= now:
            return None
        lifted = (subject, words[at + BANNED], words[at + BANS])
        words[at + BANNED] = words[at + BANS] = words[at + FAILURES] = 0
        for place in range(0, 2 * RING, 2):
            if self._ring[place] == subject:
                self._ring[place + 1] = 0
        self.tell_ban(subject, 0)  # others may know of it though it is none of the newest
        return lifted

    @property
    def changes(self) -> int:
        """How many bans were told so far."""
        return self._header[_CHANGES]

    def tell_ban(self, subject: int, until: int) -> None:
        """Have all workers learn of a ban; until 0: that there is none any more. Inside the lock."""
        ring, hand = self._ring, self._header[_HAND] % RING
        ring[2 * hand], ring[2 * hand + 1] = subject, until
        self._header[_HAND] = hand + 1
        self._header[_CHANGES] += 1

    def bans(self, now: int) -> dict[int, int]:
        """The newest bans that are in force, and until when each is; 0: it was lifted."""
        ring = self._ring.tolist()
        bans: dict[int, int] = {}
        for subject, until in zip(ring[::2], ring[1::2], strict=True):
            if until > now and until > bans.get(subject, 0):
                bans[subject] = until
            elif subject and not until:
                bans.setdefault(subject, 0)
        return bans
