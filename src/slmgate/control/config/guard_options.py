"""The rows of the option table under `guard.per_ip`: how much one address may do, and when it is banned.

Part of `options.py` in all but place, under the same rules: frozen records, times in seconds once loaded. This module knows
no YAML and no file; what an address is and how it is counted is `policy/guard.py`'s.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import Duration, Kind, Whole
from slmgate.control.config.limit_words import LimitWords, parse, write
from slmgate.control.config.table import Option, Section

MOST = 10_000_000
"""The largest amount and burst of a rate of addresses: some drain in each microsecond then."""
_RATE = r"[0-9][0-9_]*[kM]?(?: requests?)?/(?:[0-9]+ )?[a-z]+(?: burst [0-9][0-9_]*[kM]?)?"


class Rate(Kind, frozen=True, kw_only=True):
    """How many of something in which time, like `100/second burst 200`; `LimitWords` once read. `like`: an example."""

    label: ClassVar[str] = "rate"
    like: str

    def read(self, text: str) -> LimitWords:
        if not re.fullmatch(_RATE, text):
            raise BadValueError("is not a rate", f"write it like {self.like}")
        rate = parse(text)
        if not rate.seconds:
            raise BadValueError("is counted by the calendar", f"write a second, minute or hour, like {self.like}")
        if max(rate.amount, rate.burst or 0) > MOST or not rate.amount:
            raise BadValueError("is more than this option takes" if rate.amount else "is nothing", f"write 1 to {MOST}")
        return rate

    def form(self, value: LimitWords) -> str:
        return re.sub(" requests?", "", write(value))

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{_RATE})$"}

    def own_values(self) -> str:
        return f"a rate like `{self.like}`; without `burst`, as many at once as its amount"


REQUESTS = Rate(like="100/second burst 200", words=("off",))
NEW_CONNECTIONS = Rate(like="200/second burst 1000")


class FailedAuth(Section, frozen=True, kw_only=True):
    """When an address is banned that tries credentials."""

    limit: Annotated[
        LimitWords | Literal["off"],
        Option(
            "So many wrong credentials an address may show; one more, and it is banned. A request without any is none. `off`: "
            "nobody is banned.",
            Rate(like="10/minute", words=("off",)),
        ),
    ] = LimitWords(unit="requests", amount=10, seconds=60)
    ban: Annotated[
        float,
        Option(
            "How long the first ban lasts. Each further one is twice as long, up to a day; for each day without, one doubling is "
            "forgotten.",
            Duration(low=1000, high=30 * 86_400_000),
        ),
    ] = 900.0


class PerIp(Section, frozen=True, kw_only=True):
    """What each IPv4 address, or each /64 network of IPv6 addresses, may do. The bounds hold for all workers together."""

    requests: Annotated[
        LimitWords | Literal["off"],
        Option("Requests of an address; one too many gets `rate_limit_exceeded`. `off`: as many as it likes.", REQUESTS),
    ] = LimitWords(unit="requests", amount=1000, seconds=1, burst=2000)
    connections: Annotated[
        int | Literal["off"],
        Option(
            "Connections of an address at once; one more is closed. `off`: as many as it likes.",
            Whole(low=1, high=60_000, words=("off",)),
        ),
    ] = 1000
    new_connections: Annotated[
        LimitWords | Literal["off"],
        Option(
            "New connections of an address; one too many is closed. `off`: as many as it likes.",
            Rate(like=NEW_CONNECTIONS.like, words=("off",)),
        ),
    ] = LimitWords(unit="requests", amount=200, seconds=1, burst=1000)
    failed_auth: Annotated[FailedAuth, Option("When an address is banned that tries credentials.")] = FailedAuth()
