"""What the route of the metrics does: hands a scraper the text in the form that it takes.

What is told is made in `control/metrics`. Who may read it stands in the table, and in the option that opens it to everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litestar import Request, Response

    from slmgate.control.admin.context import AdminContext
    from slmgate.control.admin.params import Context

PATH = "/metrics"
"""Where it is unless the configuration says otherwise."""


async def metrics(context: Context, request: Request[Any, Any, Any]) -> Response[bytes]:
    """Figures for Prometheus: in OpenMetrics, with examples by trace, for who takes that; else in Prometheus' older text format.

    docs/metrics.md has all of them.
    """
    from litestar import Response

    text, kind = await context.scrape(request.headers.get("accept", ""))
    return Response(text, headers={"content-type": kind})


def is_public(context: AdminContext) -> bool:
    """Whether everybody may read them."""
    return context.config is not None and context.config.metrics.public


def path_of(context: AdminContext) -> str:
    """Where they are."""
    return PATH if context.config is None else context.config.metrics.path
