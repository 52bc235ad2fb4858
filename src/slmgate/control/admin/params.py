"""How the parameters of the handlers reach them: as the web framework is told by their annotations.

Apart from `handlers.py`, so that commands call the handlers without the framework, which takes longer to import than
they take to answer. `NAMES` is what `app.py` resolves the annotations with; nothing here runs.
"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter, SkipValidation

from slmgate.control.admin.context import AdminContext
from slmgate.control.operators import Operator

Context = NamedDependency[SkipValidation[AdminContext]]
Caller = NamedDependency[SkipValidation[Operator]]
Moment = Annotated[str | None, QueryParameter(description="A duration back from now (30d), a day, or a time of ISO 8601; UTC.")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at the most.")]
Cursor = Annotated[int | None, QueryParameter(ge=0, le=2**63 - 1, description="A place in the list, as an answer gave it.")]
Span = Annotated[str | None, QueryParameter(description="A length up to now: 1h, 24h, 7d, 30d, 365d or another; 24h by default.")]
Zone = Annotated[str, QueryParameter(description="The time zone whose days and hours are meant, as in Europe/Berlin.")]
PageNumber = Annotated[int, QueryParameter(ge=1, le=1_000_000, description="Which page; the first is 1.")]
Share = Annotated[float, QueryParameter(ge=0, le=1000, description="The least part of it that is used: 0.8 for 80 %.")]
Status = Annotated[int | None, QueryParameter(ge=0, le=999, description="An HTTP status.")]

NAMES: dict[str, Any] = {
    "Caller": Caller,
    "Context": Context,
    "Cursor": Cursor,
    "FromPath": FromPath,
    "FromQuery": FromQuery,
    "JSONBody": JSONBody,
    "Limit": Limit,
    "Moment": Moment,
    "PageNumber": PageNumber,
    "Response": Response,
    "Share": Share,
    "Span": Span,
    "Status": Status,
    "Zone": Zone,
}
