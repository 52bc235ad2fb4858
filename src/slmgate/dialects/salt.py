"""The salt of an engine's prefix cache in a request's body: vLLM's `cache_salt`.

Requests find in the cache only what was read under the same salt. This module knows where it stands, not whose it is.
"""

from __future__ import annotations

from slmgate.dialects.body import replace, splice
from slmgate.dialects.contract import Route
from slmgate.terms import Ask

FIELD = "cache_salt"
_TAKES = frozenset(("chat", "completions", "responses"))


def salted(route: Route, ask: Ask, body: bytes, salt: str) -> bytes:
    """The body with this salt, where the endpoint has one; one that the client wrote is never left."""
    if route.kind != "json":
        return body
    if FIELD in ask.fields:
        return replace(body, {FIELD: salt})
    if route.dialect.name == "openai" and route.endpoint in _TAKES:
        return splice(body, b'"%b":"%b"' % (FIELD.encode(), salt.encode()))
    return body
