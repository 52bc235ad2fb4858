"""Opaque tokens: the provider is asked whose each one is (RFC 7662), and its answer serves for a short while.

Answers are kept under the SHA-256 digest of the whole token, so that no two tokens share one. Only `active: true`, the JSON
boolean, lets anybody in. A provider that is slow, away or broken is `CannotTell`, never an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec

from slmgate.control.config.auth_options import Introspection
from slmgate.control.config.show import dump
from slmgate.control.identity.claims import principal_of
from slmgate.control.identity.fetching import Fetcher
from slmgate.control.identity.jwt import check_times
from slmgate.control.identity.outcomes import CannotTell, TokenRefused
from slmgate.control.identity.strict import json_object, texts
from slmgate.terms import Bearer

REFUSED_SECONDS = 2.0
"""How long a no serves."""
MAX_ANSWERS = 10_000

Answer = tuple[Bearer, float] | TokenRefused


class Introspector:
    """One endpoint. `clock` is wall-clock time."""

    def __init__(self, config: Introspection, fetcher: Fetcher, clock: Callable[[], float]) -> None:
        self.config = config
        self._fetcher = fetcher
        self._clock = clock
        secret = sha256(str(config.client_secret).encode()).hexdigest()
        self.ground = sha256(msgspec.json.encode([dump(config), secret])).hexdigest()[:16]
        self._answers: dict[bytes, tuple[Answer, float]] = {}  # digest of a token -> what was said, and until when it serves

    def __repr__(self) -> str:
        return f"<Introspector {self.config.url}: {len(self._answers)} answers>"

    async def verify(self, token: str) -> tuple[Bearer, float]:
        """Whose token it is, and until when that may be relied on; raises TokenRefused or CannotTell."""
        digest, now = sha256(token.encode()).digest(), self._clock()
        known = self._answers.get(digest)
        if known is None or known[1] <= now:
            known = await self._ask(token)
            self._answers.pop(digest, None)
            while len(self._answers) >= MAX_ANSWERS:
                del self._answers[next(iter(self._answers))]  # the oldest
            self._answers[digest] = known
        if isinstance(known[0], TokenRefused):
            raise known[0]
        return known[0]

    async def _ask(self, token: str) -> tuple[Answer, float]:
        config = self.config
        form = {"token": token, "token_type_hint": "access_token"}
        user = None
        if config.client_auth == "basic":
            user = (config.client_id, str(config.client_secret))
        else:
            form |= {"client_id": config.client_id, "client_secret": str(config.client_secret)}
        body = await self._fetcher.post(config.url, form, user)
        now = self._clock()
        try:
            answer = json_object(body)
        except ValueError as error:
            raise CannotTell(f"{config.url} answered what cannot be read: {error}") from None
        try:
            until = min(self._check(answer, now), now + config.cache)
            return (principal_of(answer, config.issuer or config.url, config, self.ground), until), until
        except TokenRefused as refused:
            return refused, now + REFUSED_SECONDS

    def _check(self, answer: dict[str, Any], now: float) -> float:
        config = self.config
        if answer.get("active") is not True:
            raise TokenRefused("the provider says that the token is not active")
        # A provider knows refresh tokens too. The one that says nothing of a token's type may be asked about either.
        kind, use = answer.get("token_type", answer.get("typ")), answer.get("token_use", "access_token")
        if not isinstance(kind, str) or kind.lower() != "bearer" or use not in ("access_token", "access"):
            raise TokenRefused("the provider does not say that it is a bearer's access token (token_type)")
        if "cnf" in answer:
            raise TokenRefused("the token is bound to a key whose possession is not checked here")
        if config.issuer is not None and answer.get("iss", config.issuer) != config.issuer:
            raise TokenRefused("the issuer is another one")
        if config.audience:
            try:
                named = texts(answer.get("aud"), "aud")
            except ValueError as error:
                raise TokenRefused(str(error)) from None
            if not set(named) & set(config.audience):
                raise TokenRefused("the token is for another audience")
        return check_times(answer, config.leeway, now)

    async def close(self) -> None:
        await self._fetcher.close()
