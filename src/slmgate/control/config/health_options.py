"""The options of a model's health: how its instances are checked, and what requests show of them.

Rows of the option table like those of `options.py`, apart since they are read together. How checks are made and what the
figures do is not known here.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from slmgate.control.config.auth_options import HOUR, MINUTE
from slmgate.control.config.kinds import Choice, Duration, Switch, Text, Whole
from slmgate.control.config.table import Option, Section

CHECK_PATH = Text(
    pattern=r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,255}",
    described="a path of a URL: / and what may follow it there, at most 256 characters in all",
)


class Health(Section, frozen=True, kw_only=True):
    """How the gate finds out which instances are fit to be asked; docs/operations.md says what becomes of those that are not."""

    short: ClassVar[dict[str, str]] = {"off": "off"}

    interval: Annotated[
        float,
        Option("How often each instance is checked, by a plain GET, once for the whole gate.", Duration(low=100, high=HOUR)),
    ] = 5.0
    timeout: Annotated[float, Option("How long a check may take.", Duration(low=10, high=MINUTE))] = 2.0
    unhealthy_after: Annotated[
        int, Option("Checks that fail in a row until no worker asks the instance any more.", Whole(low=1, high=100))
    ] = 2
    healthy_after: Annotated[int, Option("Checks that succeed in a row until it is asked again.", Whole(low=1, high=100))] = 2
    path: Annotated[
        str | None,
        Option(
            "What is asked for; only a status of 2xx is good then. Unset: the engine's own path (`/health`; `/api/version` of "
            "Ollama, `/v1/models` where the engine is `openai`), and any status below 500 shows that it is there.",
            CHECK_PATH,
            example="/health",
        ),
    ] = None
    off: Annotated[
        bool, Option("`true`: no checks, requests alone show how instances are; `off` alone says the same.", Switch())
    ] = False
    catalogue: Annotated[
        Literal["route", "show", "off"],
        Option(
            "What the instances' own lists of models are good for. `route`: an instance of the engines ollama and vllm that does "
            "not list the model is passed over, of others it is only shown; `show`: it is only shown; `off`: they are not asked.",
            Choice(values=("route", "show", "off")),
        ),
    ] = "route"
    errors: Annotated[
        int,
        Option(
            "Requests that fail in a row at an instance until a worker passes it over for a while: connections lost, answers "
            "not in time, statuses that are not for the client, but for 500. One that cannot be reached is passed over at "
            "once. 0: only that counts.",
            Whole(low=0, high=1000),
        ),
    ] = 5
    slow_start: Annotated[
        float,
        Option("How long the work of an instance that has come back takes to rise to its share.", Duration(low=0, high=HOUR)),
    ] = 10.0
    panic: Annotated[
        int,
        Option(
            "With more than so many per cent of the model's instances out, those that still answer are asked all the same, so "
            "that the rest are not flooded. 100: never, unless all are out.",
            Whole(low=0, high=100),
        ),
    ] = 50
    outlier: Annotated[
        int | Literal["off"],
        Option(
            "Pass over an instance whose answers begin so many times later than the median of the others, of which there must "
            "be two.",
            Whole(low=2, high=100, words=("off",)),
        ),
    ] = "off"
