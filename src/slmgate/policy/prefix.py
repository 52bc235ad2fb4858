"""Requests whose prompts begin alike go where that beginning was read before, since its engine has it worked out and kept.

A prompt is told by the hashes of its beginnings, at lengths that grow; which instances were last given each is remembered, for a
bounded number of them. The longest beginning that is known decides, as long as its instance has no more than its share of the
work. A beginning that is new has its place on the ring, so that workers, each with a memory of its own, agree on it unasked. What
engines really keep is not known here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from slmgate.policy.balance import Affinity, C, is_open
from slmgate.policy.ring import Ring, point_of

BLOCK = 256
"""Bytes of the shortest beginning that is told; a prompt that is shorter is worth no detour."""
MOST = 1 << 20
"""Bytes of the longest."""
HEAD = 1024
"""Bytes of the beginning that a new prompt has its place on the ring by."""
KEPT = 16_384
"""Beginnings remembered for each model."""
WARM = 4
"""Instances remembered for each of them: a beginning that many ask for is read in several places."""
AT_LEAST = 3
"""Requests in flight that an instance may have for a beginning that it knows, however few there are in all: to wait for those is
shorter than to read all of it anew elsewhere."""


def _ends() -> tuple[int, ...]:
    """Lengths at which beginnings are told: by blocks first, then four from each doubling to the next."""
    ends = [BLOCK * count for count in range(1, 8)]
    step = 2 * BLOCK
    while ends[-1] < MOST:
        ends += (step * count for count in range(4, 8))
        step *= 2
    return tuple(ends)


ENDS = _ends()


def affinity_of(texts: Sequence[str], tenant: bytes = b"") -> Affinity | None:
    """What ties a prompt; None for a short one. `tenant`: who alone finds it, where engines keep what is read apart by that."""
    whole = "\x00".join(texts).encode("utf-8", "surrogatepass")
    size = len(whole)
    if size < BLOCK:
        return None
    blocks: list[int] = []
    start, known = 0, hash(tenant)
    for end in ENDS:
        if end > size:
            break
        known = hash((known, whole[start:end]))  # Python's own: quick, and no client can aim at another's
        blocks.append(known)
        start = end
    return Affinity(point_of(tenant + whole[:HEAD]), tuple(blocks))


class Prefix(Ring[C]):
    """The instances, and what each was given to read. `kept` is another one's memory, of before a reload."""

    by = "prompt"

    def __init__(self, candidates: Sequence[C], kept: dict[int, tuple[str, ...]] | None = None) -> None:
        super().__init__(candidates)
        self.kept: dict[int, tuple[str, ...]] = {} if kept is None else kept  # the oldest first
        self._named = {one.name: one for one in candidates}

    def choose(
        self, now: float, tried: Collection[C] = (), number: int = 0, in_flight: int = 0, affinity: Affinity | None = None
    ) -> C | None:
        if affinity is not None:
            kept, named = self.kept, self._named
            for block in reversed(affinity.blocks):
                names = kept.get(block)
                if names is None:
                    continue
                found: C | None = None
                for name in names:
                    one = named.get(name)
                    if one is None or not is_open(one, now, tried):
                        continue
                    busy = one.busy + one.others
                    if busy < max(AT_LEAST, self.share(one, in_flight)) and (found is None or busy < found.busy + found.others):
                        found = one
                if found is not None:
                    return found
                # it is known where, and those have enough to do: another one learns it, the least busy
                return self.least(now, tried, number)
        return super().choose(now, tried, number, in_flight, affinity)

    def took(self, affinity: Affinity | None, one: C) -> None:
        if affinity is None:
            return
        kept, name = self.kept, one.name
        only = (name,)
        for block in affinity.blocks:
            names = kept.pop(block, None)
            if names is None or names[0] == name:
                kept[block] = names or only
            else:
                kept[block] = (name, *(other for other in names if other != name))[:WARM]
        while len(kept) > KEPT:
            del kept[next(iter(kept))]
