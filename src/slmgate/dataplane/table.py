"""The shared limit table: what was used of each limit, in a memory-mapped file that all workers of this machine count in.

One kernel lock (`fcntl`) around each change makes "is there room in all of them, then take" one step for every worker; the kernel
gives it back when a worker dies. What a dying worker left half done is undone by the next who enters, from notes made before the
change. What it held for its requests stands in a list of its own, which its successor settles. The file outlives the
gate: quotas go on after a restart, and rolling windows go on as if the time between had not passed.
It knows cells, amounts and meters, no request, key or message. Arithmetic is `policy/limiting.py`'s.

A hold is one request's, or a share: what a worker took of some limits at once, to give it to many requests without coming here
for each (`share.py`). What a share holds is apart from what was used, does not grow old, and is charged as it comes to be known.

The file, in 8-byte words of this machine: a header, one page of notes for each worker, an index (hash of an identity -> cell),
cells of 8 words, rings of `RING` words for those that count slices, and the workers' holds. Space is taken from the disk before
it is used (`posix_fallocate`): a full disk shows as a refusal, never as a fault in the middle of a change.
Length: one format and the six operations on it, which are only right together.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from slmgate.dataplane.claims import MARKS, MAX_WORKERS, Claims
from slmgate.link.orders import LIMITS_FORMAT
from slmgate.policy.limiting import (
    BUCKET,
    CALENDAR,
    CONCURRENT,
    NEVER,
    RING,
    SECOND,
    SLICES,
    SLIDING,
    Meter,
    bucket_wait,
    drained,
    outdated,
    slice_at,
    sliding_wait,
)
from slmgate.policy.room import Short

MAX_LIMITS = 17
"""How many limits one request may come under."""
MAX_HOLDS = 10_240
"""How many requests of one worker may be under limits at once."""

_MAGIC = int.from_bytes(LIMITS_FORMAT, "little")
_WORD = 8
_PAGE = 4096
_STEP = 1 << 20
"""Bytes that are taken from the disk at a time."""

# words of the header
_FORMAT, _DIRTY, _CELLS, _RINGS, _BASE, _LATEST, _BOOT, _HAND = range(8)
_MARKS = 8  # `MARKS` words: see `claims.py`
# Words of a cell. `HELD`: what shares hold, and of a bucket what live requests have reserved: it does not grow old. `UNTIL`: the
# time after which what it says means nothing any more.
_ID, _ID2, TOTAL, AT, REST, HELD, _KIND, _UNTIL = range(8)
_CELL = 8
_WAY = 0xFF
_RING_SHIFT = 8  # `_KIND` has the way to count in its lowest byte, and the number of the cell's ring above
# words of a hold, and of each limit in it: cell, its id, place, amount, what of it is kept if the worker dies, and what settling
# has to know: the period (of a share's calendar: where it began), and a bucket's rate or the end of a calendar's period
_LIVE, _COUNT, _SHARED = 0, 1, 2
_HOLD, _HOLD_HEAD, _HOLD_ROW = 200, 8, 7
_HOLD_KEPT = 4
"""Which word of a row."""
# of a share: what its requests have come to, in requests, prompt tokens, completion tokens, and microseconds of an instance; and
# behind its rows, for each limit, what it charges for one of each
_CAME_TO, MEASURES = 4, 4
_HOLD_RATES = _HOLD_HEAD + MAX_LIMITS * _HOLD_ROW
# words of a worker's notes, and of each cell in them: cell, total, at, rest, held, place in the rings + 1, what stood there
_NOTED, _NOTED_HOLD, _NOTED_LIVE, _NOTED_BEFORE = 0, 1, 2, 3
_NOTES_HEAD, _NOTES_ROW = 4, 7
_RESERVED = -1
"""As a limit's place in a hold: the amount is held, and charged when it is settled."""
_PART = 16
"""The part of what is left of a limit that all workers' shares may hold together beside what their requests need."""
_HOUR = 3600 * SECOND
_MOST = 1 << 62
"""No more than this is ever charged: what an instance says it did has no bound, and a word has one."""

_LOOKS = 4096
"""At so many cells is looked for one that may be used again."""
_PAUSE = SECOND // 50
"""How long after a look that found none the next one is: it takes milliseconds, in which nobody else can count."""

_MAX_CELLS = 1 << 19
_MAX_RINGS = 1 << 17
_INDEX = 1 << 20
_GONE = 0xFFFFFFFF
"""An entry of the index that stands for no cell, and that those behind it are looked for past. Older versions left them."""
_REINDEXING = -1
"""In place of the dirty worker's number: the index is being made anew."""

_NOTES_AT = _PAGE
_INDEX_AT = _NOTES_AT + MAX_WORKERS * _PAGE
_CELLS_AT = _INDEX_AT + _INDEX * 4
_RINGS_AT = _CELLS_AT + _MAX_CELLS * _CELL * _WORD
_HOLDS_AT = -(-(_RINGS_AT + _MAX_RINGS * RING * _WORD) // _PAGE) * _PAGE
_HOLDS_SIZE = MAX_HOLDS * _HOLD * _WORD
_SIZE = _HOLDS_AT + MAX_WORKERS * _HOLDS_SIZE

_read_cell = Struct(f"={_CELL}q").unpack_from
_write_cell = Struct(f"={_CELL - TOTAL}q").pack_into  # without the identity
_WORDS = tuple(Struct(f"={count}q") for count in range(_HOLD + 1))
_LOCK, _UNLOCK = fcntl.LOCK_EX, fcntl.LOCK_UN
_lock = fcntl.lockf
_clock = time.monotonic_ns


class TableFull(Exception):
    """There is no room for another limit, hold or byte: no work that has to be counted can be taken now."""


class Spot:
    """Where a meter counts for one subject: its cell, as long as the cell has this identity."""

    __slots__ = ("at", "id", "id2", "meter")

    def __init__(self, meter: Meter, subject: str) -> None:
        digest = blake2b(f"{meter.spec.identity}\0{subject}".encode(), digest_size=16).digest()
        self.meter = meter
        self.id = int.from_bytes(digest[:8], "little", signed=True)
        self.id2 = int.from_bytes(digest[8:], "little", signed=True)
        self.at = 0
        """The word at which the cell begins; 0: not looked for yet."""


class Held(NamedTuple):
    """What was taken: the number of the hold; how much is left of each limit, and the microseconds until it is whole again."""

    number: int
    left: list[int]
    reset: list[int]


class Part(NamedTuple):
    """One limit of a share: what is to be charged of it and kept for live requests, and how much more is wished.

    `group`: limits of one group are given the same. With less than `least` the share would be of no use. `rates`: what is charged
    for one of each measure.
    """

    spot: Spot
    group: int
    rates: tuple[int, int, int, int]
    charge: int
    keep: int
    wish: int
    least: int


class Shared(NamedTuple):
    """A share: the number of its hold (-1: it holds nothing), and of each limit what was given beside what was kept, how much is
    left for others, and the microseconds until it is whole again.
    """

    number: int
    given: list[int]
    left: list[int]
    reset: list[int]


class Table:
    """One worker's hand on the table."""

    def __init__(self, path: Path, slot: int, workers: int) -> None:
        """`slot` of `workers`; another one where a living worker has it. Who is alone in the table keeps the lock, until `tend`
        finds that another waits for it: then no change needs a system call.

        Raises OSError when the file cannot be had, or its first parts find no room on the disk.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._workers = workers
        self._locked = True
        self._claims = Claims(self._fd)
        self._claims.lock()
        try:
            self._open(slot)
            self._settle_the_dead(self._slot)
            for other in range(MAX_WORKERS):
                begun = any(os.pread(self._fd, 2 * _WORD, _HOLDS_AT + other * _HOLDS_SIZE))
                if begun and other != self._slot and self._claims.is_left(other):
                    self._settle_the_dead(other)
            self._locked = workers > 1 or not self._claims.alone()
        finally:
            if self._locked:
                self._claims.unlock()

    def _open(self, wanted: int) -> None:
        if os.pread(self._fd, _WORD, 0) != _MAGIC.to_bytes(_WORD, sys.byteorder):
            os.ftruncate(self._fd, 0)  # new, or of another format: what it counted cannot be read
        if os.fstat(self._fd).st_size < _SIZE:
            os.ftruncate(self._fd, _SIZE)
            os.posix_fallocate(self._fd, 0, _CELLS_AT)
        self._map = mmap.mmap(self._fd, _HOLDS_AT)
        whole = memoryview(self._map)
        self._header = whole[:_PAGE].cast("q")
        self._notes = whole[_NOTES_AT:_INDEX_AT].cast("q")
        self._index = whole[_INDEX_AT:_CELLS_AT].cast("I")
        self.cells = whole[_CELLS_AT:_RINGS_AT].cast("q")
        self._rings = whole[_RINGS_AT : _RINGS_AT + _MAX_RINGS * RING * _WORD].cast("q")
        header = self._header
        if header[_FORMAT] != _MAGIC:
            header[_CELLS] = header[_RINGS] = 1  # number 0 stands for none
            header[_FORMAT] = _MAGIC
        self._areas: dict[int, memoryview] = {}
        self._keep_time()
        if header[_DIRTY]:
            self._undo()
        if _GONE.to_bytes(4, sys.byteorder) in self._map[_INDEX_AT:_CELLS_AT]:
            self._reindex([cell for cell in self._index.tolist() if cell not in (0, _GONE)])
        self._ready = {_CELLS: 0, _RINGS: 0}  # how many have their bytes on the disk
        self._next_look = {False: 0, True: 0}  # for a cell to be used again: without a ring, and with one
        self._free: list[int] = []
        self._handed_out = 0
        self._claims.begin(header[_MARKS : _MARKS + MARKS])
        self._slot = self._claims.claim(wanted, self._workers)
        self._notes_at = _NOTES_AT + self._slot * _PAGE
        self._area = self._holds_of(self._slot)

    def _keep_time(self) -> None:
        """Go on with the table's time where it stopped, if the machine's clock began anew since."""
        header = self._header
        boot = int.from_bytes(blake2b(Path("/proc/sys/kernel/random/boot_id").read_bytes(), digest_size=7).digest(), "little")
        if header[_BOOT] != boot:
            header[_BASE] = header[_LATEST] - _clock() // 1000
            header[_BOOT] = boot
        self._base = header[_BASE]

    def tend(self) -> None:
        """Called several times a second: make way for others, and settle what workers that have died since have left."""
        if not self._locked and self._claims.is_waited_for():
            self._locked = True
            self._claims.unlock()
        if any(map(self._claims.is_left, self._claims.marked())):
            if self._locked:
                _lock(self._fd, _LOCK, 1)
            try:
                if self._header[_DIRTY]:
                    self._undo()
                for slot in filter(self._claims.is_left, self._claims.marked()):
                    self._settle_the_dead(slot)
            finally:
                if self._locked:
                    _lock(self._fd, _UNLOCK, 1)

    def close(self) -> None:
        self._claims.close()
        for view in (*self._areas.values(), self._header, self._notes, self._index, self.cells, self._rings):
            view.release()
        os.close(self._fd)

    def now(self) -> int:
        """Microseconds of the table's own clock, which only goes forward."""
        return _clock() // 1000 + self._base

    # -- the five things that are done to limits

    def take(self, spots: Sequence[Spot], wants: Sequence[int], kept: Sequence[int], second: float) -> Held | Short:
        """Take `wants[n]` of the limit at `spots[n]`, of all of them or of none; a `Short` names the first without room.

        `kept` is the part that stays taken if this worker dies. `second` is the wall clock's, for calendars.
        Raises TableFull. Nothing is changed then, nor by a `Short`.
        """
        if self._locked:
            _lock(self._fd, _LOCK, 1)
        try:
            header, cells = self._header, self.cells
            if header[_DIRTY]:
                self._undo()
            header[_LATEST] = now = _clock() // 1000 + self._base
            number = self._free_hold()
            mapped, rings = self._map, self._rings
            count = len(spots)
            notes: list[int] = [count, number + 1, 0, 0]
            rows: list[int] = [1, count, 0, 0, 0, 0, 0, 0]
            changes: list[tuple[int, int, int, int, int, int, int, int]] = []
            lefts: list[int] = []
            resets: list[int] = []
            short: Short | None = None
            for which, spot in enumerate(spots):
                at = spot.at
                found = _read_cell(mapped, _CELLS_AT + at * _WORD)
                if found[0] != spot.id or found[1] != spot.id2:
                    at = self._locate(spot, now)
                    found = _read_cell(mapped, _CELLS_AT + at * _WORD)
                _, _, total, last, rest, reserved, kind, _ = found
                meter, want = spot.meter, wants[which]
                way, period = meter.kind, meter.period
                amount = meter.amount if not meter.temporary else meter.amount_at(second)
                used, place, drain, after = total, 0, rest, reserved
                ringed = before = more = began = reset = 0
                if way == SLIDING:
                    base = (kind >> _RING_SHIFT) * RING
                    began = place = now * SLICES // period
                    if place > last and used:
                        used -= outdated(rings, base, last, place)
                    ringed = base + place % RING + 1
                    before = rings[ringed - 1]
                    reset = period
                    used += want
                    left = amount - used - after
                elif way == CALENDAR:
                    began, more = meter.period_at(second)
                    if began > last:
                        used = 0
                    elif began < last:  # a clock put back opens no quota anew
                        began, more = meter.period_at(last)
                    place = began
                    reset = max(SECOND, -int((second - more) * SECOND // 1))
                    used += want
                    left = amount - used - after
                elif way == BUCKET:
                    more = meter.rate
                    used, drain = drained(used, rest, now - last, more, period) if used else (0, 0)
                    began = now
                    if meter.final:
                        place = now
                        used += want
                    else:
                        place = _RESERVED
                        after += want
                    left = amount - used - after
                    reset = bucket_wait(drain, more, period, used + after)
                else:
                    used += want
                    left = amount - used - after
                if left < 0:
                    wait = self._wait(meter, kind, last, now, drain, reset, amount - want, left)
                    if meter.temporary and wait < NEVER and (falls := meter.falls(second, wait)):
                        wait = self._wait(meter, kind, last, now, drain, reset, amount - want - falls, left - falls)
                    if short is None or wait > short.wait:
                        short = Short(which, amount, left + want, wait)
                    continue
                notes += (at, total, last, rest, reserved, ringed, before)
                rows += (at, spot.id, place, want, kept[which], period, more)
                changes.append((at, used, began, drain, after, kind, now + reset, ringed))
                lefts.append(left)
                resets.append(reset)
            if short is not None:
                return short
            # From here on nothing is decided. Notes first, then that there are notes, then the change.
            _WORDS[len(notes)].pack_into(mapped, self._notes_at, *notes)
            header[_DIRTY] = self._slot + 1
            for (at, used, began, drain, after, kind, until, ringed), want in zip(changes, wants, strict=True):
                if ringed:
                    if began > cells[at + AT]:
                        self._expire(at, began)
                    rings[ringed - 1] += want
                _write_cell(mapped, _CELLS_AT + (at + TOTAL) * _WORD, used, began, drain, after, kind, until)
            _WORDS[len(rows)].pack_into(self._area, number * _HOLD * _WORD, *rows)
            header[_DIRTY] = 0
            self._free.pop()
            return Held(number, lefts, resets)
        finally:
            if self._locked:
                _lock(self._fd, _UNLOCK, 1)

    def settle(self, number: int, came_to: Sequence[int], second: float) -> None:
        """The hold is over: the limit that was taken n-th is charged `came_to[n]` in the end. Gives the hold's number back.

        `second` is the wall clock's.
        """
        if self._locked:
            _lock(self._fd, _LOCK, 1)
        try:
            if self._header[_DIRTY]:
                self._undo()
            self._settle(self._slot, self._area, number, came_to, second)
            self._free.append(number)
        finally:
            if self._locked:
                _lock(self._fd, _UNLOCK, 1)

    def note(self, number: int, kept: Sequence[int]) -> None:
        """`kept[n]` of the n-th limit stays taken if this worker dies: nobody else looks at a living worker's holds."""
        area, at = self._area, number * _HOLD + _HOLD_HEAD + _HOLD_KEPT
        for amount in kept:
            area[at] = min(amount, _MOST)
            at += _HOLD_ROW

    def measures(self, number: int) -> memoryview:
        """What a share's requests have come to, to be counted up by their worker: it is charged even if the worker dies now.

        Of those it has charged already, they are to be taken off again after each `share`.
        """
        begin = number * _HOLD + _CAME_TO
        return self._area[begin : begin + MEASURES]

    def share(self, before: int, parts: Sequence[Part], came_to: Sequence[int], second: float) -> Shared:
        """Charge and go on with the share whose hold is `before`, or begin one (-1), and give it more if there is plenty.

        What is kept stays held even where the limit has less. `came_to` are the measures of live requests. `second` is the wall
        clock's. Raises TableFull: nothing is changed then.
        """
        if self._locked:
            _lock(self._fd, _LOCK, 1)
        try:
            header = self._header
            if header[_DIRTY]:
                self._undo()
            header[_LATEST] = now = _clock() // 1000 + self._base
            number = self._free_hold()
            area, held_before = self._area, self._shared_before(before, len(parts))
            notes: list[int] = [len(parts), number + 1, 0, before + 1]
            rows: list[int] = [1, len(parts), 1, 0, *came_to]
            rates: list[int] = []
            changes: list[list[int]] = []
            lefts: list[int] = []
            resets: list[int] = []
            given: dict[int, int] = {}
            useful = True
            for part, (cell_before, id_before, _, want_before, _, period_before, _) in zip(parts, held_before, strict=True):
                spot, meter, charge = part.spot, part.spot.meter, part.charge
                at = spot.at
                found = _read_cell(self._map, _CELLS_AT + at * _WORD)
                if found[0] != spot.id or found[1] != spot.id2:
                    at = self._locate(spot, now)
                    found = _read_cell(self._map, _CELLS_AT + at * _WORD)
                _, _, total, last, rest, held, kind, _ = found
                ours = at == cell_before and spot.id == id_before
                used, began, drain = total, last, rest
                after = held - want_before if ours else held
                period, more, ringed, old, reset = meter.period, meter.rate, 0, 0, 0
                if meter.kind == SLIDING:
                    base = (kind >> _RING_SHIFT) * RING
                    began = max(last, slice_at(now, period))
                    if began > last:
                        used -= outdated(self._rings, base, last, began)
                    ringed = base + began % RING + 1
                    old = self._rings[ringed - 1]
                    reset = period
                elif meter.kind == CALENDAR:
                    began, more = meter.period_at(second)
                    if began > last:
                        used = 0
                    elif began < last:
                        began, more = meter.period_at(last)
                    if ours and period_before < began:
                        charge = 0  # it was taken of a period that is over
                    period = began
                    reset = max(SECOND, -int((second - more) * SECOND // 1))
                elif meter.kind == BUCKET:
                    used, drain = drained(used, rest, now - last, more, period) if used else (0, 0)
                    began = now
                charge = min(charge, _MOST - used)
                used += charge
                left = meter.amount_at(second) - used - after - part.keep
                give = min(part.wish, max(0, left) // (_PART * self._workers))
                useful = useful and give >= part.least
                given[part.group] = min(give, given.get(part.group, give))
                if meter.kind == BUCKET:
                    reset = bucket_wait(drain, more, period, used + after + part.keep)
                notes += (at, total, last, rest, held, ringed, old)
                rows += (at, spot.id, _RESERVED, part.keep, 0, period, more)
                rates += part.rates
                changes.append([at, used, began, drain, after + part.keep, kind, now + reset, ringed, charge])
                lefts.append(left)
                resets.append(reset)
            gives = [given[part.group] if useful else 0 for part in parts]
            for index, give in enumerate(gives):
                rows[_HOLD_HEAD + index * _HOLD_ROW + 3] += give
                changes[index][4] += give
                lefts[index] -= give
            needed = any(gives) or any(came_to) or any(part.keep for part in parts)
            rows[_LIVE] = int(needed)
            # From here on nothing is decided. Notes first, then that there are notes, then the change.
            _WORDS[len(notes)].pack_into(self._map, self._notes_at, *notes)
            header[_DIRTY] = self._slot + 1
            self._write(changes)
            _WORDS[len(rates)].pack_into(area, (number * _HOLD + _HOLD_RATES) * _WORD, *rates)
            _WORDS[len(rows)].pack_into(area, number * _HOLD * _WORD, *rows)
            if before >= 0:
                area[before * _HOLD + _LIVE] = 0
            header[_DIRTY] = 0
            if needed:
                self._free.pop()
            if before >= 0:
                self._free.append(before)
            return Shared(number if needed else -1, gives, lefts, resets)
        finally:
            if self._locked:
                _lock(self._fd, _UNLOCK, 1)

    def _shared_before(self, number: int, count: int) -> Sequence[tuple[int, ...]]:
        """The rows of a share's hold; of none, rows that stand for none."""
        if number < 0:
            return [(0,) * _HOLD_ROW] * count
        words = _WORDS[count * _HOLD_ROW].unpack_from(self._area, (number * _HOLD + _HOLD_HEAD) * _WORD)
        return [words[row : row + _HOLD_ROW] for row in range(0, len(words), _HOLD_ROW)]

    def look(self, spots: Sequence[Spot], second: float) -> list[tuple[int, int]]:
        """What is used of each limit, and its amount, without taking anything (a cell that does not exist is not made)."""
        if self._locked:
            _lock(self._fd, _LOCK, 1)
        try:
            if self._header[_DIRTY]:
                self._undo()
            now = self.now()
            return [(self._used(spot, now, second), spot.meter.amount_at(second)) for spot in spots]
        finally:
            if self._locked:
                _lock(self._fd, _UNLOCK, 1)

    def _used(self, spot: Spot, now: int, second: float) -> int:
        cells = self.cells
        found = self._find(spot.id, spot.id2)[0]
        if found == 0:
            return 0
        at = found * _CELL
        total, last, held = cells[at + TOTAL], cells[at + AT], cells[at + HELD]
        meter = spot.meter
        if meter.kind == SLIDING:
            current = slice_at(now, meter.period)
            base = (cells[at + _KIND] >> _RING_SHIFT) * RING
            total -= outdated(self._rings, base, last, current) if current > last else 0
        elif meter.kind == CALENDAR:
            total = 0 if meter.period_at(second)[0] > last else total
        elif meter.kind == BUCKET:
            total = drained(total, cells[at + REST], now - last, meter.rate, meter.period)[0]
        return total + held

    # -- inside the lock

    def _wait(self, meter: Meter, kind: int, last: int, now: int, drain: int, reset: int, spare: int, left: int) -> int:
        """Microseconds until there is room for the `-left` that are too many; `spare` is what an empty cell would have left."""
        way, period = meter.kind, meter.period
        if spare < 0:
            return NEVER
        if way == SLIDING:
            # at the latest when what shares hold has left it, if that were charged now
            out = sliding_wait(self._rings, (kind >> _RING_SHIFT) * RING, last, now, period, -left)
            return min(out, -(-period * RING // SLICES))
        if way == CALENDAR:
            return reset
        return bucket_wait(drain, meter.rate, period, -left) if way == BUCKET else SECOND  # if what is reserved were charged now

    def _expire(self, at: int, place: int) -> None:
        """Empty the slices of the ring that come to stand for others now."""
        cells, rings = self.cells, self._rings
        base, last = (cells[at + _KIND] >> _RING_SHIFT) * RING, cells[at + AT]
        if place - last >= RING:
            for offset in range(base, base + RING):
                rings[offset] = 0
        else:
            for number in range(last + 1, place + 1):
                rings[base + number % RING] = 0

    def _settle(self, slot: int, area: memoryview, number: int, came_to: Sequence[int] | None, second: float) -> None:
        """Settle a hold; `came_to` None: as its worker's death leaves it."""
        mapped, rings, header = self._map, self._rings, self._header
        now = _clock() // 1000 + self._base
        hold = number * _HOLD
        words = _WORDS[area[hold + _COUNT] * _HOLD_ROW].unpack_from(area, (hold + _HOLD_HEAD) * _WORD)
        notes: list[int] = [0, number + 1, 1, 0]
        changes: list[tuple[int, int, int, int, int, int, int, int, int]] = []
        if came_to is None and area[hold + _SHARED]:
            came_to = self._shared_came_to(area, hold)
        for row in range(0, len(words), _HOLD_ROW):
            at, id, place, want, kept, period, end = words[row : row + _HOLD_ROW]
            charge = kept if came_to is None else came_to[row // _HOLD_ROW]
            more = charge - want
            if more == 0 and place != _RESERVED:
                continue
            found, _, total, last, rest, held, kind, until = _read_cell(mapped, _CELLS_AT + at * _WORD)
            if found != id:
                continue
            used, drain, after = total, rest, held
            way, ringed, before, began = kind & _WAY, 0, 0, last
            reserved = place == _RESERVED
            if reserved:
                after -= want
                more = charge
            if way == SLIDING:
                base = (kind >> _RING_SHIFT) * RING
                if more > 0 or reserved:
                    began = place = max(last, slice_at(now, period))  # what was missed is owed from now on
                    if began > last:
                        used -= outdated(rings, base, last, began)
                if place <= last - RING:
                    continue  # it has left the window since
                ringed = base + place % RING + 1
                before = rings[ringed - 1]
                more = min(more, _MOST - used)
                used += more
            elif way == CALENDAR:
                if reserved:
                    used += more if period >= last else 0  # of a period that is over, it is no more
                elif place == last and second < end:
                    used += more
                elif more > 0:  # of a period that is over: owed in the next
                    used = more if place == last else used + more
                    began = max(last, end)
                else:
                    continue
            elif way == BUCKET:
                used, drain = drained(used, rest, now - last, end, period) if used else (0, 0)
                began = now
                if reserved:
                    used += more
                else:  # what has drained since cannot be given back: others have taken the room
                    used -= max(0, -more - (now - place) * end // period)
            else:
                used += more
            notes += (at, total, last, rest, held, ringed, before)
            changes.append((at, min(max(0, used), _MOST), began, drain, after, kind, until, ringed, more))
        notes[_NOTED] = len(changes)
        _WORDS[len(notes)].pack_into(mapped, _NOTES_AT + slot * _PAGE, *notes)
        header[_DIRTY] = slot + 1
        self._write(changes)
        area[hold + _LIVE] = 0
        header[_DIRTY] = 0

    def _write(self, changes: Sequence[Sequence[int]]) -> None:
        cells, rings = self.cells, self._rings
        for at, used, began, drain, after, kind, until, ringed, more in changes:
            if ringed:
                if began > cells[at + AT]:
                    self._expire(at, began)
                rings[ringed - 1] += more
            _write_cell(self._map, _CELLS_AT + (at + TOTAL) * _WORD, used, began, drain, after, kind, until)

    def _shared_came_to(self, area: memoryview, hold: int) -> list[int]:
        """What a share is charged of each limit, by what its worker noted."""
        measures = [min(max(0, one), _MOST) for one in area[hold + _CAME_TO : hold + _CAME_TO + MEASURES]]
        rates = area[hold + _HOLD_RATES : hold + _HOLD_RATES + area[hold + _COUNT] * MEASURES]
        return [
            min(_MOST, sum(rate * one for rate, one in zip(rates[begin : begin + MEASURES], measures, strict=True)))
            for begin in range(0, len(rates), MEASURES)
        ]

    def _undo(self) -> None:
        """Put back what a worker that died in the middle of a change had begun to write."""
        header, cells, rings = self._header, self.cells, self._rings
        if header[_DIRTY] == _REINDEXING:
            self._reindex([cell for cell in range(1, header[_CELLS]) if cells[cell * _CELL] or cells[cell * _CELL + 1]])
            return
        slot = header[_DIRTY] - 1
        notes = self._notes[slot * _PAGE // _WORD : (slot + 1) * _PAGE // _WORD]
        for row in range(_NOTES_HEAD, _NOTES_HEAD + notes[_NOTED] * _NOTES_ROW, _NOTES_ROW):
            at, total, last, rest, held, ringed, value = notes[row : row + _NOTES_ROW]
            cells[at + AT], cells[at + REST], cells[at + HELD] = last, rest, held
            if ringed:
                rings[ringed - 1] = value
                base = (cells[at + _KIND] >> _RING_SHIFT) * RING
                # slices that were being emptied had left the window anyway
                total = sum(rings[base : base + RING])
            cells[at + TOTAL] = total
        if notes[_NOTED_HOLD]:
            self._holds_of(slot)[(notes[_NOTED_HOLD] - 1) * _HOLD + _LIVE] = notes[_NOTED_LIVE]
        if notes[_NOTED_BEFORE]:
            self._holds_of(slot)[(notes[_NOTED_BEFORE] - 1) * _HOLD + _LIVE] = 1
        header[_DIRTY] = 0

    def _settle_the_dead(self, slot: int) -> None:
        """End the holds of those that had this slot before, whatever killed them."""
        area = self._holds_of(slot)
        for number in range(MAX_HOLDS):
            begin = number * _HOLD
            if area[begin + _COUNT] == 0:
                break  # holds are handed out from the first on: behind this one there never was any
            if area[begin + _LIVE]:
                self._settle(slot, area, number, None, time.time())
        if slot != self._slot:
            self._claims.settled(slot)

    def _holds_of(self, slot: int) -> memoryview:
        area = self._areas.get(slot)
        if area is None:
            mapped = mmap.mmap(self._fd, _HOLDS_SIZE, offset=_HOLDS_AT + slot * _HOLDS_SIZE)
            area = self._areas[slot] = memoryview(mapped).cast("q")
        return area

    def _free_hold(self) -> int:
        """The number of a free hold, which stays the last of the free ones until it is taken."""
        if not self._free:
            first, some = self._handed_out, min(512, MAX_HOLDS - self._handed_out)
            if some <= 0:
                raise TableFull("all places for requests under limits are taken")
            begin = _HOLDS_AT + self._slot * _HOLDS_SIZE + first * _HOLD * _WORD
            self._allocate(begin, some * _HOLD * _WORD)
            self._handed_out += some
            self._free = list(range(first + some - 1, first - 1, -1))
        return self._free[-1]

    def _allocate(self, begin: int, size: int) -> None:
        try:
            os.posix_fallocate(self._fd, begin, size)
        except OSError as error:
            raise TableFull(f"the disk has no room for what was used of limits: {error.strerror}") from error

    # -- cells

    def _find(self, id: int, id2: int) -> tuple[int, int]:
        """The cell of an identity (0: there is none), and the place in the index where it stands or could be put."""
        cells, index = self.cells, self._index
        place = id % _INDEX
        free = -1
        for _ in range(_INDEX):
            cell = index[place]
            if cell == 0:
                return 0, place if free < 0 else free
            if cell == _GONE:
                free = place if free < 0 else free
            elif cells[cell * _CELL] == id and cells[cell * _CELL + 1] == id2:
                return cell, place
            place = (place + 1) % _INDEX
        return 0, free

    def _drop(self, place: int) -> None:
        """Take an entry out of the index, and move those behind it up that would not be found past a gap.

        Nothing is left in its place, so that looking stays short however many come and go. Who dies in between leaves an entry
        twice, which is found all the same.
        """
        cells, index, after = self.cells, self._index, place
        while cell := index[after := (after + 1) % _INDEX]:
            if cell == _GONE:
                continue
            if (after - cells[cell * _CELL]) % _INDEX >= (after - place) % _INDEX:  # its own place is not behind the gap
                index[place] = cell
                place = after
        index[place] = 0

    def _reindex(self, found: Sequence[int]) -> None:
        """Make the index anew, of these cells."""
        self._header[_DIRTY] = _REINDEXING
        self._map[_INDEX_AT:_CELLS_AT] = bytes(_CELLS_AT - _INDEX_AT)
        for cell in found:
            place = self.cells[cell * _CELL] % _INDEX
            while self._index[place]:
                place = (place + 1) % _INDEX
            self._index[place] = cell
        self._header[_DIRTY] = 0

    def _locate(self, spot: Spot, now: int) -> int:
        """The word at which the spot's cell begins; a cell is made for it where there is none. Raises TableFull."""
        cell, _ = self._find(spot.id, spot.id2)
        if cell == 0:
            cell = self._new_cell(spot, now)
            self._index[self._find(spot.id, spot.id2)[1]] = cell  # looked for again: entries may have moved up
        spot.at = cell * _CELL
        return spot.at

    def _new_cell(self, spot: Spot, now: int) -> int:
        """A cell that is nobody's: a new one, or one whose use means nothing any more. It counts from nothing."""
        cells, header = self.cells, self._header
        sliding = spot.meter.kind == SLIDING
        cell = header[_CELLS]
        ring = 0
        if cell < _MAX_CELLS and (not sliding or header[_RINGS] < _MAX_RINGS):
            self._make_ready(_CELLS, cell, _CELLS_AT, _CELL * _WORD, _MAX_CELLS)
            if sliding:
                ring = header[_RINGS]
                self._make_ready(_RINGS, ring, _RINGS_AT, RING * _WORD, _MAX_RINGS)
                header[_RINGS] = ring + 1
            header[_CELLS] = cell + 1
        else:
            cell = self._reclaim(now, sliding)
            ring = cells[cell * _CELL + _KIND] >> _RING_SHIFT
        at = cell * _CELL
        if ring:
            for offset in range(ring * RING, ring * RING + RING):
                self._rings[offset] = 0
        kind = ring << _RING_SHIFT | spot.meter.kind
        for word, value in ((TOTAL, 0), (REST, 0), (HELD, 0), (_KIND, kind), (_UNTIL, now + _HOUR)):
            cells[at + word] = value
        cells[at + AT] = slice_at(now, spot.meter.period) if sliding else 0
        cells[at + 1] = spot.id2
        cells[at] = spot.id
        return cell

    def _make_ready(self, what: int, number: int, begin: int, size: int, most: int) -> None:
        """Have the bytes of this cell or ring on the disk before they are written."""
        if number >= self._ready[what]:
            first = number * size // _STEP * _STEP
            self._allocate(begin + first, min(_STEP + size, most * size - first))
            self._ready[what] = (first + _STEP) // size

    def _reclaim(self, now: int, sliding: bool) -> int:
        """A cell whose use means nothing any more, taken from whose it was. Raises TableFull where a long look finds none."""
        cells, header = self.cells, self._header
        for _ in range(_LOOKS if now >= self._next_look[sliding] else 0):
            cell = header[_HAND] = header[_HAND] % (header[_CELLS] - 1) + 1
            at = cell * _CELL
            kind = cells[at + _KIND]
            in_use = cells[at + HELD] or (kind & _WAY == CONCURRENT and cells[at + TOTAL])
            if cells[at + _UNTIL] < now and not in_use and (kind >> _RING_SHIFT or not sliding):
                found, place = self._find(cells[at], cells[at + 1])
                if found:
                    self._drop(place)
                return cell
        if now >= self._next_look[sliding]:
            self._next_look[sliding] = now + _PAUSE
        raise TableFull("the table of limits has no room for one more")
