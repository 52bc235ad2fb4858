"""The shared limit table: what was used of each limit, in a memory-mapped file that all workers of this machine count in.

One kernel lock (`fcntl`) around each change makes "is there room in all of them, then take" one step for every worker; the kernel
gives it back when a worker dies. What a dying worker left half done is undone by the next who enters, from notes made before the
change. What it held for its requests stands in a list of its own, which its successor settles. The file outlives the
gate: quotas go on after a restart, and rolling windows go on as if the time between had not passed.
It knows cells, amounts and meters, no request, key or message. Arithmetic is `policy/limiting.py`'s.

The file, in 8-byte words of this machine: a header, one page of notes for each worker, an index (hash of an identity -> cell),
cells of 8 words, rings of `RING` words for those that count slices, and the workers' holds. Space is taken from the disk before
it is used (`posix_fallocate`): a full disk shows as a refusal, never as a fault in the middle of a change.
Length: one format and the five operations on it, which are only right together.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import NamedTuple

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

MAX_WORKERS = 128
MAX_LIMITS = 17
"""How many limits one request may come under."""
MAX_HOLDS = 10_240
"""How many requests of one worker may be under limits at once."""

_MAGIC = int.from_bytes(b"SLMLIMT1", "little")
_WORD = 8
_PAGE = 4096
_STEP = 1 << 20
"""Bytes that are taken from the disk at a time."""

# words of the header
_FORMAT, _DIRTY, _CELLS, _RINGS, _BASE, _LATEST, _BOOT, _HAND = range(8)
# Words of a cell. `HELD`: of a bucket, what live requests have reserved, which does not drain. `UNTIL`: the time after which
# what it says means nothing any more.
_ID, _ID2, TOTAL, AT, REST, HELD, _KIND, _UNTIL = range(8)
_CELL = 8
_WAY = 0xFF
_RING_SHIFT = 8  # `_KIND` has the way to count in its lowest byte, and the number of the cell's ring above
# words of a hold, and of each limit in it: cell, its id, place, amount, what of it is kept if the worker dies, and what settling
# has to know: the period, and a bucket's rate or the end of a calendar's period
_LIVE, _COUNT = 0, 1
_HOLD, _HOLD_HEAD, _HOLD_ROW = 128, 4, 7
_HOLD_KEPT = 4
"""Which word of a row."""
# words of a worker's notes, and of each cell in them: cell, total, at, rest, held, place in the rings + 1, what stood there
_NOTED, _NOTED_HOLD, _NOTED_LIVE = 0, 1, 2
_NOTES_HEAD, _NOTES_ROW = 4, 7
_RESERVED = -1
"""As a bucket's place in a hold: the amount is held, and charged when it is settled."""
_HOUR = 3600 * SECOND
_MOST = 1 << 62
"""No more than this is ever charged: what an instance says it did has no bound, and a word has one."""

_MAX_CELLS = 1 << 19
_MAX_RINGS = 1 << 17
_INDEX = 1 << 20
_GONE = 0xFFFFFFFF

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


class Table:
    """One worker's hand on the table."""

    def __init__(self, path: Path, slot: int, workers: int) -> None:
        """`slot` of `workers`: with only one, no lock is needed.

        Raises OSError when the file cannot be had, or its first parts find no room on the disk.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._slot = slot
        self._notes_at = _NOTES_AT + slot * _PAGE
        self._locked = workers > 1
        _lock(self._fd, _LOCK)
        try:
            self._open()
            self._settle_the_dead(slot)
            if slot == 0:
                for other in range(workers, MAX_WORKERS):  # of a time with more workers than now
                    if any(os.pread(self._fd, 2 * _WORD, _HOLDS_AT + other * _HOLDS_SIZE)):
                        self._settle_the_dead(other)
        finally:
            _lock(self._fd, _UNLOCK)

    def _open(self) -> None:
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
        self._ready = {_CELLS: 0, _RINGS: 0}  # how many have their bytes on the disk
        self._free: list[int] = []
        self._handed_out = 0
        self._area = self._holds_of(self._slot)

    def _keep_time(self) -> None:
        """Go on with the table's time where it stopped, if the machine's clock began anew since."""
        header = self._header
        boot = int.from_bytes(blake2b(Path("/proc/sys/kernel/random/boot_id").read_bytes(), digest_size=7).digest(), "little")
        if header[_BOOT] != boot:
            header[_BASE] = header[_LATEST] - _clock() // 1000
            header[_BOOT] = boot
        self._base = header[_BASE]

    def close(self) -> None:
        for view in (*self._areas.values(), self._header, self._notes, self._index, self.cells, self._rings):
            view.release()
        os.close(self._fd)

    def now(self) -> int:
        """Microseconds of the table's own clock, which only goes forward."""
        return _clock() // 1000 + self._base

    # -- the four things that are done to limits

    def take(self, spots: Sequence[Spot], wants: Sequence[int], kept: Sequence[int], second: float) -> Held | Short:
        """Take `wants[n]` of the limit at `spots[n]`, of all of them or of none; a `Short` names the first without room.

        `kept` is the part that stays taken if this worker dies. `second` is the wall clock's, for calendars.
        Raises TableFull. Nothing is changed then, nor by a `Short`.
        """
        if self._locked:
            _lock(self._fd, _LOCK)
        try:
            header, cells = self._header, self.cells
            if header[_DIRTY]:
                self._undo()
            header[_LATEST] = now = _clock() // 1000 + self._base
            number = self._free_hold()
            mapped, rings = self._map, self._rings
            count = len(spots)
            notes: list[int] = [count, number + 1, 0, 0]
            rows: list[int] = [1, count, 0, 0]
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
                used, place, drain, after, wait = total, 0, rest, reserved, SECOND
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
                    left = amount - used
                elif way == CALENDAR:
                    began, more = meter.period_at(second)
                    if began > last:
                        used = 0
                    elif began < last:  # a clock put back opens no quota anew
                        began, more = meter.period_at(last)
                    place = began
                    reset = max(SECOND, -int((second - more) * SECOND // 1))
                    used += want
                    left = amount - used
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
                    left = amount - used
                if left < 0:
                    if want > amount:
                        wait = NEVER
                    elif way == SLIDING:
                        wait = sliding_wait(rings, base, last, now, period, -left)
                    elif way == CALENDAR:
                        wait = reset
                    elif way == BUCKET:
                        wait = bucket_wait(drain, more, period, -left)  # if what is reserved were charged now
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
                _lock(self._fd, _UNLOCK)

    def settle(self, number: int, came_to: Sequence[int], second: float) -> None:
        """The hold is over: the limit that was taken n-th is charged `came_to[n]` in the end. Gives the hold's number back.

        `second` is the wall clock's.
        """
        if self._locked:
            _lock(self._fd, _LOCK)
        try:
            if self._header[_DIRTY]:
                self._undo()
            self._settle(self._slot, self._area, number, came_to, second)
            self._free.append(number)
        finally:
            if self._locked:
                _lock(self._fd, _UNLOCK)

    def note(self, number: int, kept: Sequence[int]) -> None:
        """`kept[n]` of the n-th limit stays taken if this worker dies: nobody else looks at a living worker's holds."""
        area, at = self._area, number * _HOLD + _HOLD_HEAD + _HOLD_KEPT
        for amount in kept:
            area[at] = min(amount, _MOST)
            at += _HOLD_ROW

    def look(self, spots: Sequence[Spot], second: float) -> list[tuple[int, int]]:
        """What is used of each limit, and its amount, without taking anything (a cell that does not exist is not made)."""
        if self._locked:
            _lock(self._fd, _LOCK)
        try:
            if self._header[_DIRTY]:
                self._undo()
            now = self.now()
            return [(self._used(spot, now, second), spot.meter.amount_at(second)) for spot in spots]
        finally:
            if self._locked:
                _lock(self._fd, _UNLOCK)

    def _used(self, spot: Spot, now: int, second: float) -> int:
        cells = self.cells
        found = self._find(spot.id, spot.id2)[0]
        if found == 0:
            return 0
        at = found * _CELL
        total, last = cells[at + TOTAL], cells[at + AT]
        meter = spot.meter
        if meter.kind == SLIDING:
            current = slice_at(now, meter.period)
            base = (cells[at + _KIND] >> _RING_SHIFT) * RING
            return total - outdated(self._rings, base, last, current) if current > last else total
        if meter.kind == CALENDAR:
            return 0 if meter.period_at(second)[0] > last else total
        if meter.kind == BUCKET:
            return drained(total, cells[at + REST], now - last, meter.rate, meter.period)[0] + cells[at + HELD]
        return total

    # -- inside the lock

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
        mapped, rings, header, cells = self._map, self._rings, self._header, self.cells
        now = _clock() // 1000 + self._base
        hold = number * _HOLD
        words = _WORDS[area[hold + _COUNT] * _HOLD_ROW].unpack_from(area, (hold + _HOLD_HEAD) * _WORD)
        notes: list[int] = [0, number + 1, 1, 0]
        changes: list[tuple[int, int, int, int, int, int, int, int, int]] = []
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
            if way == SLIDING:
                base = (kind >> _RING_SHIFT) * RING
                if more > 0:
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
                if place == last and second < end:
                    used += more
                elif more > 0:  # of a period that is over: owed in the next
                    used = more if place == last else used + more
                    began = max(last, end)
                else:
                    continue
            elif way == BUCKET:
                used, drain = drained(used, rest, now - last, end, period) if used else (0, 0)
                began = now
                if place == _RESERVED:
                    used += charge
                    after -= want
                else:  # what has drained since cannot be given back: others have taken the room
                    used -= max(0, -more - (now - place) * end // period)
            else:
                used += more
            notes += (at, total, last, rest, held, ringed, before)
            changes.append((at, min(max(0, used), _MOST), began, drain, after, kind, until, ringed, more))
        notes[_NOTED] = len(changes)
        _WORDS[len(notes)].pack_into(mapped, _NOTES_AT + slot * _PAGE, *notes)
        header[_DIRTY] = slot + 1
        for at, used, began, drain, after, kind, until, ringed, more in changes:
            if ringed:
                if began > cells[at + AT]:
                    self._expire(at, began)
                rings[ringed - 1] += more
            _write_cell(mapped, _CELLS_AT + (at + TOTAL) * _WORD, used, began, drain, after, kind, until)
        area[hold + _LIVE] = 0
        header[_DIRTY] = 0

    def _undo(self) -> None:
        """Put back what a worker that died in the middle of a change had begun to write."""
        header, cells, rings = self._header, self.cells, self._rings
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

    def _locate(self, spot: Spot, now: int) -> int:
        """The word at which the spot's cell begins; a cell is made for it where there is none. Raises TableFull."""
        cell, place = self._find(spot.id, spot.id2)
        if cell == 0:
            cell = self._new_cell(spot, now)
            self._index[place] = cell
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
        for _ in range(4096):
            cell = header[_HAND] = header[_HAND] % (header[_CELLS] - 1) + 1
            at = cell * _CELL
            kind = cells[at + _KIND]
            in_use = cells[at + TOTAL] if kind & _WAY == CONCURRENT else cells[at + HELD]
            if cells[at + _UNTIL] < now and not in_use and (kind >> _RING_SHIFT or not sliding):
                self._index[self._find(cells[at], cells[at + 1])[1]] = _GONE
                return cell
        raise TableFull("the table of limits has no room for one more")
