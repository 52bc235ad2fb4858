"""Short-lived cookies of a sign-in that is under way, and what is derived from them: form tokens, state, nonce, verifier.

A cookie holds random bits, an end and the page to go to afterwards, under a keyed digest; nothing is kept on this side, so
a flood of begun sign-ins takes no memory. The key lives as long as the process: after a restart, one begins again. It knows
no clock, no cookie's name and no account.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

import msgspec

_PARTS = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9]{1,12})\.([A-Za-z0-9_-]{0,1024})\.([A-Za-z0-9_-]{43})")
_OWN_PATH = re.compile(r"/(?:[A-Za-z0-9_.~%=&?+-][A-Za-z0-9_.~%=&?/+-]{0,500})?")


class Attempt(msgspec.Struct, frozen=True):
    """One sign-in under way. `next` is a path of our own; the rest is derived from the cookie and goes nowhere in it."""

    next: str
    token: str
    """What our own form must bring back."""
    state: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        """RFC 7636, 4.2, method S256."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())


class Flows:
    """Makes such cookies and opens them. `purpose` keeps those of one kind from passing for another."""

    def __init__(self, key: bytes, purpose: str, seconds: float) -> None:
        self._key = hashlib.blake2b(purpose.encode(), key=key, digest_size=32).digest()
        self._seconds = seconds

    def begin(self, next: str, now: float) -> tuple[str, Attempt]:
        """A new cookie's value, and what follows from it."""
        body = f"{_text(secrets.token_bytes(32))}.{int(now + self._seconds)}.{_text(next.encode())}"
        return f"{body}.{self._derive('cookie', body)}", self._attempt(body, next)

    def open(self, cookie: str, now: float) -> Attempt | None:
        """What follows from a cookie that came back; None: it is not ours, was changed, or has run out."""
        parts = _PARTS.fullmatch(cookie)
        if parts is None:
            return None
        body = cookie.rpartition(".")[0]
        if not hmac.compare_digest(parts[4], self._derive("cookie", body)) or int(parts[2]) < now:
            return None
        return self._attempt(body, base64.urlsafe_b64decode(parts[3] + "=" * (-len(parts[3]) % 4)).decode())

    def _attempt(self, body: str, next: str) -> Attempt:
        return Attempt(next, *(self._derive(name, body) for name in ("token", "state", "nonce", "verifier")))

    def _derive(self, what: str, body: str) -> str:
        return _text(hmac.digest(self._key, f"{what} {body}".encode(), "sha256"))


def own_path(text: str | None) -> str:
    """`text` if it is a path of this listener, else `/`: nobody is sent elsewhere after a sign-in."""
    if text is None or not _OWN_PATH.fullmatch(text) or "//" in text:
        return "/"
    return text


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
