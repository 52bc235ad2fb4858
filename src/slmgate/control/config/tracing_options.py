"""The options of `tracing:`: where spans go, which requests are recorded, and whether clients' word on that is believed.

Only the table stands here; `compile.py` makes of it what workers go by, and `control/tracing` what is exported.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from slmgate.control.config.addresses import WebUrl
from slmgate.control.config.auth_options import NOTHING
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import Choice, Kind, Location, Password, Secret, Text
from slmgate.control.config.table import Option, Section

_SHARE = r"(?:[0-9]{1,3}(?:\.[0-9]{1,12})?)"
FIELD_NAME = Text(pattern=r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", described="a header's name")
SERVICE = Text(pattern=r"[^\x00-\x1f\x7f]{1,128}", described="at most 128 characters, none of them a control character")


class Share(Kind, frozen=True, kw_only=True):
    """A part of all, as a number from 0 to 1 or in per cent."""

    label: ClassVar[str] = "share"

    def read(self, text: str) -> float:
        digits, sign = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
        if not re.fullmatch(_SHARE, digits):
            raise BadValueError("is not a share", "write a number from 0 to 1, or per cent, like 0.1 or 10%")
        share = float(digits) / sign
        if share > 1:
            raise BadValueError("is more than all", "write a number from 0 to 1, or per cent, like 0.1 or 10%")
        return share

    def form(self, value: float) -> str:
        return f"{value:.12f}".rstrip("0").rstrip(".")

    def own_schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": f"^{_SHARE}%?$"}]}

    def own_values(self) -> str:
        return "a number from 0 to 1, or per cent: `0.1`, `10%`"


class HeaderValue(Password, frozen=True, kw_only=True):
    """The value of a header field, which may be a secret with a word before it, like `Bearer abc`. Never shown."""

    def read(self, text: str) -> Secret:
        words = text.split(" ")
        for word in words:
            super().read(word)
        return Secret(text)

    def own_values(self) -> str:
        return "visible ASCII with single spaces, best fetched with `${env:NAME}` or `${file:PATH}`"


class Tracing(Section, frozen=True, kw_only=True):
    """Traces of requests, sent to an OpenTelemetry collector; docs/tracing.md."""

    otlp: Annotated[
        str | None,
        Option(
            "The collector's URL for OTLP over HTTP; spans go to `/v1/traces` below it. Unset: requests are not traced, and a "
            "client's `traceparent` and `tracestate` pass on to instances as they came.",
            WebUrl(path=True, plain=True),
            example="http://collector:4318",
        ),
    ] = None
    sample: Annotated[
        float,
        Option(
            "How many of the traces that begin here are recorded; chosen by the trace's id, so that whoever goes by the same "
            "rule chooses the same.",
            Share(),
        ),
    ] = 1.0
    parent: Annotated[
        Literal["trust", "ignore"],
        Option(
            "`trust`: a request with a `traceparent` is part of its client's trace, and recorded if the client says that the "
            "trace is. `ignore`: each request begins a trace of its own.",
            Choice(values=("trust", "ignore")),
        ),
    ] = "trust"
    service: Annotated[str, Option("What the gate is called in traces (`service.name`).", SERVICE)] = "slmgate"
    headers: Annotated[
        dict[str, Secret],
        Option("Header fields of each request to the collector, such as its credential.", HeaderValue(), key=FIELD_NAME),
    ] = NOTHING
    ca: Annotated[
        Path | None,
        Option(
            "With https, a file (PEM) of the authorities that the collector must be vouched for by. Unset: those of the system.",
            Location(),
            example="collector-ca.pem",
        ),
    ] = None
