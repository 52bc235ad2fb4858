"""Strict readers of what strangers send: base64url in its one form, JSON objects without doubles, numbers that are numbers.

Lenient readers disagree with one another, and what two of them read differently is how tokens are forged. Nothing here knows
what a token is; all raise ValueError, with a reason that repeats nothing of the input.
"""

from __future__ import annotations

import base64
import json
import re
from math import isfinite
from typing import Any, NoReturn

_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+")
LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999: no time of a token is later."""


def base64url(text: bytes) -> bytes:
    """The bytes that `text` stands for (RFC 4648 section 5, without padding, RFC 7515 section 2); not empty."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise ValueError("a part is not base64url")
    data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text:
        raise ValueError("a part is not in base64url's one form")
    return data


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object, as UTF-8, in which no name stands twice at any depth."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_members, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("JSON is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("JSON is not UTF-8") from None
    except json.JSONDecodeError:
        raise ValueError("JSON is malformed") from None
    if not isinstance(value, dict):
        raise ValueError("JSON is not an object")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one JSON object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError("JSON has no NaN and no Infinity")


def moment(value: Any, name: str) -> float:
    """A NumericDate (RFC 7519 section 2) as seconds since the epoch."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is not a number")
    if (isinstance(value, float) and not isfinite(value)) or not 0 <= value <= LAST_SECOND:
        raise ValueError(f"{name} is not a time")
    return float(value)


def texts(value: Any, name: str) -> tuple[str, ...]:
    """A text, or a list of nothing but texts."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} is neither a text nor a list of texts")
    return tuple(value)
