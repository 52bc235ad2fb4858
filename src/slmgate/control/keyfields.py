"""What a key's fields can be, and how operators write them: names, tags, networks, times to come and times gone by.

Every check raises `BadKeyInput`, which says what would do. It knows no key, no store and no clock: `now` is always given.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from slmgate.policy.networks import parse_network

DECLARED = "declared:"
"""Ids of keys that are declared in the configuration begin so; ids of stored keys never hold a colon."""
MAX_NAME = 64
MAX_LIST = 64
"""Roles, tags or networks of one key."""

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")  # as the configuration names roles
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=@+-]{0,63}")
_HASH = re.compile(r"[sS][hH][aA]256:([0-9A-Fa-f]{64})")


class BadKeyInput(ValueError):
    """A value that a key cannot have; the message says which and what would do."""


def check_name(value: str, what: str) -> None:
    """Raises BadKeyInput unless `value` can stand in a table, a log line and a header: 1 to 64 visible ones."""
    if not 1 <= len(value) <= MAX_NAME:
        raise BadKeyInput(f"The {what} must have 1 to {MAX_NAME} characters.")
    if value != value.strip():
        raise BadKeyInput(f"The {what} must not begin or end with a space.")
    # Categories C*: control and format characters (which could reverse or hide text), surrogates, unassigned ones;
    # Zl, Zp: separators that some programs take for a new line.
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for character in value):
        raise BadKeyInput(f"The {what} must have visible characters only, no control characters.")


def parse_duration(text: str) -> timedelta:
    """A duration such as 90s, 24h or 30d (units ms s m h d). Raises BadKeyInput."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise BadKeyInput(f"{text!r} is not a duration; write a number and a unit, such as 90s, 24h or 30d.")
    try:
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise BadKeyInput(f"{text!r} is longer than can be counted.") from None


def parse_expiry(text: str, now: datetime) -> datetime | None:
    """When a key ends: `never`, a duration from `now`, a day (its beginning, UTC) or a time of ISO 8601. Raises BadKeyInput."""
    text = text.strip()
    if text == "never":
        return None
    if _DURATION.fullmatch(text):
        try:
            return now + parse_duration(text)
        except OverflowError:
            raise BadKeyInput(f"{text!r} is further away than can be counted; write never.") from None
    return parse_time(text)


def parse_moment(text: str, now: datetime) -> datetime:
    """A time to look back to: a duration before `now` (30d), a day (in UTC) or a time of ISO 8601. Raises BadKeyInput."""
    if _DURATION.fullmatch(text.strip()):
        try:
            return now - parse_duration(text)
        except OverflowError:
            return datetime(1970, 1, 1, tzinfo=UTC)
    return parse_time(text)


def parse_time(text: str) -> datetime:
    """A day or a time of ISO 8601; without a zone it is UTC. Raises BadKeyInput."""
    try:
        time = datetime.fromisoformat(text.strip())
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadKeyInput(
            f"{text!r} is not a time; write a day (2027-01-01), a time (2027-01-01T12:00:00Z) or a duration (30d)."
        ) from None


def check_roles(roles: Iterable[str], known: Collection[str] | None) -> tuple[str, ...]:
    """Names of roles, each once. `known` are those that there are, None where any may be meant. Raises BadKeyInput."""
    found = _listed(roles, "roles")
    for role in found:
        if not _ROLE.fullmatch(role):
            raise BadKeyInput(f"{role!r} is not the name of a role.")
        if known is not None and role not in known:
            there_are = f"there are {', '.join(sorted(known))}" if known else "it has none"
            raise BadKeyInput(f"The configuration has no role {role!r}; {there_are}.")
    return found


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags, each once. Raises BadKeyInput."""
    found = _listed(tags, "tags")
    for tag in found:
        if not _TAG.fullmatch(tag):
            form = f"a letter or digit, then letters, digits and . _ : / = @ + -, at most {MAX_NAME} in all"
            raise BadKeyInput(f"{tag!r} is not a tag: write {form}.")
    return found


def check_networks(networks: Iterable[str]) -> tuple[str, ...]:
    """Networks in CIDR form or single addresses, each once, in their shortest form. Raises BadKeyInput."""
    return _listed(map(_network, networks), "networks")


def _network(text: str) -> str:
    try:
        return str(parse_network(text.strip()))
    except ValueError as wrong:
        if "has host bits set" in str(wrong):
            raise BadKeyInput(f"{text!r} has bits set behind its prefix; write the network's first address.") from None
        raise BadKeyInput(f"{text!r} is not a network; write it like 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32.") from None


def _listed(values: Iterable[str], what: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(values))
    if len(found) > MAX_LIST:
        raise BadKeyInput(f"A key may have {MAX_LIST} {what} at the most.")
    return found


def parse_digest(text: str) -> bytes:
    """The digest that `sha256:` and 64 hex digits stand for. Raises BadKeyInput, without the text: it may be a secret."""
    found = _HASH.fullmatch(text)
    if found is None:
        raise BadKeyInput("The hash is not sha256: and the 64 hex digits of SHA-256 over the secret.")
    return bytes.fromhex(found[1])
