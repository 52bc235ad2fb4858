"""Claims to a principal: who calls, of which team, with which roles, by the paths and patterns of the configuration.

Claims are what a provider says, and part of it what users wrote about themselves: texts are bounded and clean, and nothing but
the configured map turns a claim into a role. How claims were verified is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmgate.control.config.auth_options import Introspection, Oidc, RoleMap
from slmgate.control.identity.outcomes import TokenRefused
from slmgate.control.identity.strict import texts
from slmgate.policy.roles import matches
from slmgate.terms import Bearer

MAX_NAME = 256
MAX_VALUES = 1000
_BLANK_SEPARATED = ("scope", "scp")
"""Claims that hold several values in one text (RFC 8693 section 4.2)."""


def find(claims: Mapping[str, Any], path: str) -> Any:
    """The value at `path`, or None: the claim of that very name, else the way that its dots lead."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def clean(value: Any, what: str) -> str:
    """A text that may stand in a log, a list and an id; raises TokenRefused."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable() or value != value.strip():
        raise TokenRefused(f"the {what} is missing or not a clean text of at most {MAX_NAME} characters")
    return value


def roles_of(claims: Mapping[str, Any], rules: RoleMap) -> tuple[str, ...]:
    """The roles that `rules` give for these claims, each once, in the order of the map."""
    found: dict[str, None] = {}
    value = find(claims, rules.claim) if rules.claim is not None else None
    if value is not None and rules.claim is not None:
        try:
            values = texts(value, "the claim for roles")
        except ValueError as error:
            raise TokenRefused(str(error)) from None
        if rules.claim.rpartition(".")[2] in _BLANK_SEPARATED:
            values = tuple(word for each in values for word in each.split(" ") if word)
        if len(values) > MAX_VALUES:
            raise TokenRefused(f"the claim for roles has more than {MAX_VALUES} values")
        for pattern, role in rules.map.items():
            if any(matches(pattern, each) for each in values):
                found[role] = None
    return tuple(found) or rules.default


def principal_of(claims: Mapping[str, Any], issuer: str, rules: Oidc | Introspection, grounds: str) -> Bearer:
    """Whose verified claims these are; raises TokenRefused where they do not say it properly."""
    subject = clean(find(claims, rules.principal), "subject")
    team = find(claims, rules.team) if rules.team is not None else None
    return Bearer(
        id=f"{issuer}#{subject}",
        name=subject,
        kind="token",
        team=None if team is None else clean(team, "team"),
        roles=roles_of(claims, rules.roles),
        grounds=grounds,
    )
