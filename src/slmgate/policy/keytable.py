"""The keys of a gate as the road finds them: by the digest of a secret, in one step, however many there are.

It is kept beside the snapshots and changed in place: a hundred thousand keys do not move because one does. Control holds one and
each worker another, and both are changed by the same calls. It knows no clock, no store and no link; what is put in is believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

import msgspec

from slmgate.terms import Key, LimitSpec

_Shared = TypeVar("_Shared", str, tuple[str, ...], tuple[LimitSpec, ...])

_MOST_SHARED = 10_000
"""Lists of roles, networks or limits that are remembered so that keys share them; with more there is little to share."""


class KeyTable:
    """Keys by digest and by id.

    A row is the key as one of its secrets opens it: without digests, and with the second at which that secret stops to open it.
    A disabled key stopped at the beginning of time: it is refused like one that expired, and its digests stay its own.
    """

    __slots__ = ("_digests", "_missing", "_shared", "by_digest", "limited", "whole")

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        """A table of these keys, whole if there are any; else it is to be filled first: `begin`, `put`, `end`."""
        self.by_digest: dict[bytes, Key] = {}
        # key's id -> its digest, or digests while a rotation overlaps: a tuple for each would be a tenth of the table
        self._digests: dict[str, bytes | tuple[bytes, ...]] = {}
        # between `begin` and `end`: what was here and has not come again
        self._missing: dict[str, bytes | tuple[bytes, ...]] | None = None
        # equal lists become one: what is decoded comes as many copies as there are keys
        self._shared: dict[object, object] = {}
        self.whole = False
        """Whether all keys have come once: before, who is not in here may still be somebody."""
        self.limited = 0
        """Another number whenever the limits of a key have become others; 0: no key ever had any."""
        for key in keys:
            self._put(key)
            self.whole = True

    def __repr__(self) -> str:
        return f"<KeyTable {len(self)} keys{'' if self.whole else ', not whole'}{', renewed' if self.renewed else ''}>"

    def __len__(self) -> int:
        return len(self._digests)

    @property
    def renewed(self) -> bool:
        """Whether the whole table is coming again, and not all of it has."""
        return self._missing is not None

    def begin(self) -> None:
        """All keys come now, by `put`, in parts. Those that are here stay in force until `end` shows that they are gone."""
        self._missing = self._digests.copy()  # a set of them would take ten times as long to make

    def end(self) -> None:
        """All have come: what did not is gone."""
        missing, self._missing = self._missing, None
        if missing:
            self.drop(missing)
        self.whole = True

    def put(self, keys: Iterable[Key]) -> None:
        """Add these keys, or what has become of them. A digest that was another key's is this one's from now on."""
        for key in keys:
            self._put(key)

    def drop(self, ids: Iterable[str]) -> None:
        """These keys are gone, if they were here."""
        for id in ids:
            digests = self._digests.pop(id, ())
            if digests and self.by_digest[_several(digests)[0]].limits:
                self.limited += 1
            self._forget(id, digests)

    def owner(self, digest: bytes) -> str | None:
        """The id of the key whose secret has this digest."""
        row = self.by_digest.get(digest)
        return None if row is None else row.id

    def ids(self) -> list[str]:
        return list(self._digests)

    def keys(self, ids: Iterable[str]) -> tuple[Key, ...]:
        """Those of these keys that are here, as `put` takes them."""
        return tuple(self._whole(_several(self._digests[id])) for id in ids if id in self._digests)

    def _whole(self, digests: tuple[bytes, ...]) -> Key:
        rows = [(digest, self.by_digest[digest]) for digest in digests]
        return msgspec.structs.replace(rows[0][1], expires=None, digests=tuple((digest, row.expires) for digest, row in rows))

    def _put(self, key: Key) -> None:
        id, rows = key.id, key.digests
        digests = rows[0][0] if len(rows) == 1 else tuple([digest for digest, _ in rows])
        before = self._digests.get(id)
        if key.limits != (() if before is None else self.by_digest[_several(before)[0]].limits):
            self.limited += 1
        if before is not None and before != digests:
            kept = _several(digests)
            self._forget(id, tuple([digest for digest in _several(before) if digest not in kept]))
        if not digests:
            self._digests.pop(id, None)
            return
        for digest, until in rows:
            row = self._row(key, until)
            known = self.by_digest.get(digest)
            if known != row:  # else the one that is here stays, and the one that came is let go
                if known is not None and known.id != id:
                    self._lose(known.id, digest)
                self.by_digest[digest] = row
        if before != digests:
            self._digests[id] = digests
        if self._missing is not None:
            self._missing.pop(id, None)

    def _row(self, key: Key, until: float | None) -> Key:
        if key.disabled:
            ends: float | None = 0.0
        elif until is None or key.expires is None:
            ends = key.expires if until is None else until
        else:
            ends = min(until, key.expires)
        return Key(
            id=key.id,
            name=key.name,
            kind=key.kind,
            team=None if key.team is None else self._one(key.team),
            roles=self._one(key.roles),
            networks=self._one(key.networks),
            disabled=key.disabled,
            expires=ends,
            limits=self._one(key.limits) if key.limits else (),
        )

    def _one(self, value: _Shared) -> _Shared:
        """The first value that was equal to this one."""
        if len(self._shared) >= _MOST_SHARED:
            self._shared.clear()
        return cast("_Shared", self._shared.setdefault(value, value))

    def _forget(self, id: str, digests: bytes | tuple[bytes, ...]) -> None:
        """Take rows out, but none that has become another key's."""
        for digest in _several(digests):
            row = self.by_digest.get(digest)
            if row is not None and row.id == id:
                del self.by_digest[digest]

    def _lose(self, id: str, digest: bytes) -> None:
        """A digest goes over to another key."""
        left = tuple(one for one in _several(self._digests.get(id, ())) if one != digest)
        if left:
            self._digests[id] = left[0] if len(left) == 1 else left
        else:
            self._digests.pop(id, None)


def _several(digests: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (digests,) if isinstance(digests, bytes) else digests
