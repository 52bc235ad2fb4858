"""The options of a model's versions: which of its requests another model serves in its place.

Rows of the option table like those of `options.py`, apart since they are read together. How requests are told apart is not
known here.
"""

from __future__ import annotations

from typing import Annotated

from slmgate.control.config.auth_options import NAME
from slmgate.control.config.kinds import Percent, Text
from slmgate.control.config.table import Option, Section

VERSION = Text(
    pattern=r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}",
    described="a letter or digit, then letters, digits and . _ : / @ + -, at most 128 in all",
)
"""The name of a model, as in `options.MODEL_NAME`."""
PRINCIPAL = Text(pattern=r"[^\x00-\x1f\x7f]{1,512}", described="at most 512 characters, none of them a control character")


class Canary(Section, frozen=True, kw_only=True):
    """Another version of the model, which serves some of its requests; docs/operations.md says what holds for them."""

    model: Annotated[
        str,
        Option("The model that serves them, by the name that it has here; see `hidden`.", VERSION, example="smollm2-next"),
    ]
    share: Annotated[float, Option("How much of the requests it serves, or of those who ask.", Percent(high=100))] = 0.0
    by: Annotated[
        str,
        Option(
            "What the share is of: `principal`, so that each caller stays with one version; `request`; or the values of a header "
            "of the request (its caller, where it is missing), so that a conversation stays with one.",
            Text(
                pattern=r"principal|request|header [A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}",
                described="principal, request, or header and its name",
            ),
            example="header x-session-id",
        ),
    ] = "principal"
    principals: Annotated[
        tuple[str, ...],
        Option("Who is always served by it: the names or ids that receipts show.", PRINCIPAL, example="[acme-bot]"),
    ] = ()
    teams: Annotated[tuple[str, ...], Option("Teams whose members always are.", NAME)] = ()
    roles: Annotated[tuple[str, ...], Option("Roles, own or of a team, whose holders always are.", NAME)] = ()
