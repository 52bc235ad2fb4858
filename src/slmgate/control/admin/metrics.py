"""What the route of the metrics does: hands a scraper the text in the form that it takes.

What is told is made in `control/metrics`. Who may read it stands in the table, and in the option that opens it to everybody.
"""

from __future__ import annotations

import asyncio
import gzip
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litestar import Request, Response

    from slmgate.control.admin.context import AdminContext
    from slmgate.control.admin.params import Context

FAST = 1
"""How hard it is compressed: the text repeats itself so much that more would be for nothing."""
PATH = "/metrics"
"""Where it is unless the configuration says otherwise."""


async def metrics(context: Context, request: Request[Any, Any, Any]) -> Response[bytes]:
    """Figures for Prometheus: in OpenMetrics, with examples by trace, for who takes that; else in Prometheus' older text format.

    docs/metrics.md has all of them.
    """
    from litestar import Response

    text, kind = await context.scrape(request.headers.get("accept", ""))
    if not takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(text, headers={"content-type": kind})
    packed = await asyncio.to_thread(gzip.compress, text, FAST)
    return Response(packed, headers={"content-type": kind, "content-encoding": "gzip"})


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding names gzip, and not in order to refuse it (RFC 9110, 12.5.3)."""
    for part in accepted.lower().split(","):
        coding, *parameters = [each.strip(" \t") for each in part.split(";")]
        if coding in ("gzip", "x-gzip"):
            return not any(re.fullmatch(r"q[ \t]*=[ \t]*0(\.0*)?", each) for each in parameters)
    return False


def is_public(context: AdminContext) -> bool:
    """Whether everybody may read them."""
    return context.config is not None and context.config.metrics.public


def path_of(context: AdminContext) -> str:
    """Where they are."""
    return PATH if context.config is None else context.config.metrics.path
