"""A would-be request as somebody writes it, on a command line or in a body of the admin API, and the reading of it.

Everything is checked here, with messages that say what would do; it knows no file and asks nobody.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec

from slmgate.control.config.document import parse, plain_value
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import number
from slmgate.control.keyfields import BadKeyInput, parse_time
from slmgate.control.trials.asked import Trial, plain_parameters
from slmgate.control.trials.told import Who
from slmgate.dialects import ENDPOINTS
from slmgate.policy.networks import NOWHERE, number_of
from slmgate.policy.roles import zone_of

_LOCAL = re.compile(r"(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2}(?::\d{2})?) ([A-Za-z][A-Za-z0-9_+/-]{0,63})")


MOST_USED = 1e18


class BadTrial(ValueError):
    """A request that nobody could send; the message says what would do."""


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"name": "as"}):
    """Who asks (`as`: a key by name or id; else `roles` and `team`) for what.

    `at` is a time as `parse_when` takes it, now if absent. `parameters` go by the names that all APIs share, or by an API's own.
    `used` is how much of limits is used before it, by their words or places: nothing where it says nothing.
    """

    name: str | None = None
    roles: tuple[str, ...] = ()
    team: str | None = None
    model: str = ""
    endpoint: str = "chat"
    stream: bool = False
    parameters: dict[str, Any] = {}
    address: str | None = None
    at: str | None = None
    body_size: int | None = None
    prompt_tokens: int | None = None
    used: dict[str, float] = {}

    @property
    def who(self) -> Who:
        """Raises BadTrial where it is not said, or said twice."""
        if self.name is not None and (self.roles or self.team):
            raise BadTrial("A key has its roles and its team already: name it, or give roles and a team, not both.")
        if self.name is None and not self.roles and not self.team:
            raise BadTrial("Say who asks: a key by its name or id, or roles, or a team.")
        return Who(name=self.name, roles=self.roles, team=self.team)

    def trial(self, now: float) -> Trial:
        """The request itself. Raises BadTrial."""
        if self.endpoint not in ENDPOINTS:
            raise BadTrial(f"There is no endpoint {self.endpoint!r}; there are {', '.join(ENDPOINTS)}.")
        if not self.model and self.endpoint != "models":
            raise BadTrial("Name the model that is asked for.")
        if self.address is not None and number_of(self.address) == NOWHERE:
            raise BadTrial(f"{self.address!r} is no address; write it like 203.0.113.9 or 2001:db8::1.")
        for name, size in (("body size", self.body_size), ("number of prompt tokens", self.prompt_tokens)):
            if size is not None and size < 0:
                raise BadTrial(f"The {name} cannot be less than 0.")
        for name, amount in self.used.items():
            if not 0 <= amount <= MOST_USED:
                raise BadTrial(f"Of {name!r} nobody can have used {amount:g}.")
        return Trial(
            model=self.model,
            endpoint=self.endpoint,
            stream=self.stream,
            parameters=plain_parameters(self.parameters),
            address=self.address,
            at=now if self.at is None else parse_when(self.at),
            body_size=self.body_size,
            prompt_tokens=self.prompt_tokens,
            used=self.used,
        )


def parse_when(text: str) -> float:
    """Seconds since the epoch of a time of ISO 8601 (UTC without an offset), or of one by a zone's clock.

    `2026-11-24 07:59 Europe/Berlin`; an hour that comes twice is the first, one that never comes is refused. Raises BadTrial.
    """
    local = _LOCAL.fullmatch(text.strip())
    if local is None:
        try:
            return parse_time(text).timestamp()
        except BadKeyInput:
            hint = "write 2026-11-24T08:00:00Z, or with a zone 2026-11-24 08:00 Europe/Berlin"
            raise BadTrial(f"{text!r} is not a time; {hint}.") from None
    try:
        zone = zone_of(local[3])
        moment = datetime.fromisoformat(f"{local[1]}T{local[2]}").replace(tzinfo=zone)
        second = moment.timestamp()
    except (LookupError, ValueError, OSError, OverflowError):
        raise BadTrial(f"{text!r} is no time of a zone; write it like 2026-11-24 08:00 Europe/Berlin.") from None
    if datetime.fromtimestamp(second, zone).replace(tzinfo=None) != moment.replace(tzinfo=None):
        raise BadTrial(f"{text!r} never comes: the clock of {local[3]} skips that hour. Give another, or one with an offset.")
    return second


def parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """Parameters of a command line, `name=value` each; a value is what YAML sees in it. Raises BadTrial."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
            raise BadTrial(f"{pair!r} is not a parameter; write it like max_tokens=900.")
        node, troubles = parse(text)
        if troubles:
            raise BadTrial(f"the value of {pair!r} cannot be read; put texts with signs in quotes.")
        found[name] = "" if node is None else plain_value(node)
    return found


def parse_used(pairs: list[str]) -> dict[str, float]:
    """How much of limits is used, `LIMIT=AMOUNT` each: `60 requests/minute=59`. Raises BadTrial."""
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.rpartition("=")
        try:
            found[name] = number(text)
        except BadValueError:
            name = ""
        if not name:
            raise BadTrial(f"{pair!r} says of no limit how much is used; write it like '60 requests/minute=59'.")
    return found
