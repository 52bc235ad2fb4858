"""Requests that no row of the table knows: health checks, OPTIONS, wrong methods, paths that do not exist, and challenges (ACME).

Answered before any credential is looked at, since nothing here depends on who asks; but for what key holders ask about
themselves, which goes on in `mine.py`. It knows no dialect but through the exchange's own refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmgate.dataplane.account import SHOWN_PATH
from slmgate.dataplane.mine import answer_holder, is_mine
from slmgate.dialects import PATHS
from slmgate.terms import Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange

HEALTH_PATHS = ("/healthz", "/readyz")
_PLAIN = b"text/plain"
_BYTES = b"application/octet-stream"


def answer_elsewhere(exchange: Exchange, method: str) -> None:
    """Answer a request whose method and path are in no row. `method`: as asked, GET for HEAD."""
    path = exchange.head.path
    if exchange.worker.snapshot.gate.me and is_mine(path):
        answer_holder(exchange, method)
        return
    allowed = ("GET",) if path in HEALTH_PATHS else PATHS.get(path, ())
    text = None
    if not allowed and (text := exchange.worker.challenges.text(path)) is not None:
        allowed = ("GET",)
    if path == "*" and method == "OPTIONS":
        allowed = ("GET", "POST")
    if not allowed:
        exchange.refuse(Refuse("not_found", f"There is nothing at {path[:SHOWN_PATH]}."))
    elif method == "OPTIONS":
        exchange.recorded = False
        exchange.answer_self(204, b"", _allow(allowed))
    elif method not in allowed:
        exchange.refuse(Refuse("method_not_allowed", f"{path} takes {' and '.join(allowed)}, not {method}."), _allow(allowed))
    elif text is not None:
        exchange.recorded = False
        exchange.answer_self(200, text, content_type=_BYTES)
    else:
        exchange.recorded = False
        if path == "/healthz" or exchange.worker.ready():
            exchange.answer_self(200, b"ok\n", content_type=_PLAIN)
        else:
            exchange.answer_self(503, b"not ready\n", b"retry-after: 1\r\n", content_type=_PLAIN)


def answer_elsewhere_with(exchange: Exchange, body: bytes) -> None:
    """The body of a request that `answer_elsewhere` let go on: only key holders' questions have one that is looked at."""
    exchange.worker.holders.ask(exchange, body)


def _allow(methods: tuple[str, ...]) -> bytes:
    """The `allow` header line for a path that takes these methods (RFC 9110 section 10.2.1)."""
    return b"allow: %b\r\n" % ", ".join((*methods, *(("HEAD",) if "GET" in methods else ()), "OPTIONS")).encode()
