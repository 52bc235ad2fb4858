"""The options of a model's versions: which of its requests another model serves in its place, and which are copied to one;
and when a second instance of the model itself is asked.

Rows of the option table like those of `options.py`, apart since they are read together. How requests are told apart is not
known here.
"""

from __future__ import annotations

from typing import Annotated

from slmgate.control.config.auth_options import HOUR, NAME
from slmgate.control.config.kinds import Duration, Percent, Size, Text, Whole
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


class Shadow(Section, frozen=True, kw_only=True):
    """Another model that is sent copies of requests, whose answers are thrown away; docs/operations.md tells of them."""

    model: Annotated[
        str, Option("The model that the copies go to, by the name that it has here.", VERSION, example="smollm2-next")
    ]
    share: Annotated[float, Option("How many of the requests are copied.", Percent(high=100))] = 0.0
    in_flight: Annotated[
        int,
        Option("Copies of each worker that are under way at once; those beyond are not sent.", Whole(low=1, high=100_000)),
    ] = 16
    max_body: Annotated[int, Option("The largest request body that is copied.", Size(low=1, high=1024**3))] = 256 * 1024
    timeout: Annotated[
        float, Option("The longest that a copy may take, whatever time its model allows.", Duration(low=10, high=HOUR))
    ] = 60.0


class Hedge(Section, frozen=True, kw_only=True):
    """Asking a second instance for embeddings that the first one lets wait; the answer that begins first counts."""

    after: Annotated[
        float,
        Option(
            "How long the first instance may take to the first byte of its answer; best a little more than nearly all take.",
            Duration(low=1, high=HOUR),
            example="200ms",
        ),
    ]
