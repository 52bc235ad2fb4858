"""Whom a trusted proxy speaks for: the first in its line of hops who is not trusted himself.

Plain addresses in and out. How hops are written is `http1/forwarded.py`'s affair; that who speaks is trusted was asked before.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from slmgate.policy.networks import Networks, number_of

MOST_HOPS = 32
"""Trusted hops behind one another that are followed. Whoever has more of them has a loop."""


def client_of(proxy: str, hops: Iterable[str | None], trusted: Networks) -> str:
    """The client's address. `hops`: from the nearest to the farthest; None for one that names nobody.

    Trusted ones are followed to whom they name. The last one that is known is the client: the first that is not trusted, or a
    trusted one that names nobody, or the farthest where all are trusted.
    """
    client = proxy
    for hop in islice(hops, MOST_HOPS):
        if hop is None:
            break
        client = hop
        if not trusted.holds(number_of(hop)):
            break
    return client
