"""Work that never ends: should it fail all the same, by a fault of ours, that is said, and it begins anew.

A task whose exception nobody awaits would end in silence, and with it checks, notices or engines, while all else goes on and
looks well. This module does not know what the work is; what is known outside of one call of it must be good to go on with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

AGAIN_SECONDS = 1.0

log = logging.getLogger("slmgate.control")


async def enduring(work: Callable[[], Awaitable[None]]) -> None:
    """Do the work until it is through, or until cancelled."""
    while True:
        try:
            await work()
        except Exception:  # whatever it was, one failure must not be the last
            log.exception("%s failed, and is begun anew", getattr(work, "__qualname__", work))
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            return
