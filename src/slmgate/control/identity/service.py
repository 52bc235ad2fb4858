"""All identity providers of a gate as the control process has them: tokens in, verdicts out, and what verdicts rest on.

Workers' questions wait in one bounded line and are answered a few at a time, so that a storm of tokens stalls nothing else in
the control process; what has to ask a provider goes on beside the line, bounded as well. It knows no link and no role.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmgate.control.config.auth_options import Auth, Introspection, Oidc
from slmgate.control.identity.jwt import looks_like_jwt, parse
from slmgate.control.identity.outcomes import CannotTell, TokenRefused, UnknownKey, refusal, unavailable
from slmgate.link.messages import Verified
from slmgate.terms import Bearer

if TYPE_CHECKING:
    from slmgate.control.identity.fetching import Fetcher
    from slmgate.control.identity.introspection import Introspector
    from slmgate.control.identity.issuer import Issuer

MAX_LINE = 2000
MAX_ASKING = 256
A_TURN = 8
"""Tokens that are verified before the event loop does something else: about a millisecond."""
KEYS_DIRECTORY = "identity"

Reply = Callable[[Verified], None]


class Identity:
    """`changed` is called when `grounds` are others than before; `say` writes a line for the operator."""

    def __init__(
        self,
        state_dir: Path,
        changed: Callable[[], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        make_fetcher: Callable[[Oidc | Introspection], Fetcher] | None = None,
    ) -> None:
        self._directory = state_dir / KEYS_DIRECTORY
        self._changed = changed
        self._say = say
        self._clock = clock
        self._make_fetcher = make_fetcher or _fetcher
        self._config = Auth()
        self._issuers: dict[str, Issuer] = {}
        self._introspectors: list[Introspector] = []
        self._line: deque[tuple[int, str, Reply]] = deque()
        self._in_line = asyncio.Event()
        # token digest -> its verification that has to ask a provider, shared by all who wait for it
        self._asking: dict[bytes, asyncio.Task[tuple[Bearer, float]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watching: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Identity: {len(self._issuers)} issuers, {len(self._introspectors)} introspectors, {len(self._line)} in line>"

    # -- configuration

    def configure(self, config: Auth) -> None:
        """Verify by this from now on. What did not change keeps its keys and answers."""
        if config == self._config:
            return
        issuers, introspectors = list(self._issuers.values()), self._introspectors
        self._config = config
        self._issuers = {
            one.issuer: next((known for known in issuers if known.config == one), None) or self._new_issuer(one)
            for one in config.oidc
        }
        self._introspectors = [
            next((known for known in introspectors if known.config == one), None) or self._new_introspector(one)
            for one in config.introspection
        ]
        for issuer in issuers:
            if issuer not in self._issuers.values():
                self._spawn(issuer.close())
        for introspector in introspectors:
            if introspector not in self._introspectors:
                self._spawn(introspector.close())
        for watch in self._watching:
            watch.cancel()
        self._watching = [asyncio.get_running_loop().create_task(issuer.run()) for issuer in self._issuers.values()]
        self._changed()

    def _new_introspector(self, config: Introspection) -> Introspector:
        from slmgate.control.identity.introspection import Introspector

        return Introspector(config, self._make_fetcher(config), self._clock)

    def _new_issuer(self, config: Oidc) -> Issuer:
        # Here, as below, and not at the top: cryptography and an HTTP client take a fifth of a second of each start, and gates
        # without a provider need neither.
        from slmgate.control.identity.issuer import Issuer
        from slmgate.control.identity.kept import KeptKeys

        source = f"{config.issuer} {config.jwks_url or ''}"
        kept = KeptKeys(self._directory, source)
        return Issuer(config, self._make_fetcher(config), kept, self._clock, self._changed, self._say)

    def grounds(self) -> tuple[str, ...]:
        """What verdicts may rest on now; one that rests on anything else is void."""
        signed = [ground for issuer in self._issuers.values() for ground in issuer.grounds()]
        return (*signed, *(one.ground for one in self._introspectors))

    # -- tokens

    def ask(self, number: int, token: str, reply: Reply) -> None:
        """Verify a token and call `reply` once, later, with the verdict under `number`."""
        if len(self._line) >= MAX_LINE:
            reply(Verified(number, refuse=unavailable("too many tokens wait to be checked")))
            return
        self._line.append((number, token, reply))
        self._in_line.set()

    async def run(self) -> None:
        """Answer what stands in line, until cancelled."""
        while True:
            await self._in_line.wait()
            for _ in range(min(A_TURN, len(self._line))):
                number, token, reply = self._line.popleft()
                try:
                    self._take(number, token, reply)
                except Exception as error:  # noqa: BLE001  # a fault of our own costs this token a 503; the line must go on
                    self._say(f"a token could not be checked, by a fault of slmgate: {type(error).__name__}")
                    reply(_no(number, CannotTell("a fault of the gate's own")))
            if not self._line:
                self._in_line.clear()
            await asyncio.sleep(0)

    def _take(self, number: int, token: str, reply: Reply) -> None:
        try:
            answered = self._verify(token)
        except (TokenRefused, CannotTell) as why:
            reply(_no(number, why))
            return
        if isinstance(answered, tuple):
            reply(Verified(number, *answered))
            return
        digest = sha256(token.encode()).digest()
        task = self._asking.get(digest)
        if task is None:
            if len(self._asking) >= MAX_ASKING:
                answered.close()
                reply(_no(number, CannotTell("too many questions to providers are under way")))
                return
            task = self._asking[digest] = asyncio.get_running_loop().create_task(answered)
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        else:
            answered.close()
        self._spawn(self._reply_later(number, task, reply))

    async def _reply_later(self, number: int, task: asyncio.Task[tuple[Bearer, float]], reply: Reply) -> None:
        try:
            bearer, until = await asyncio.shield(task)
        except (TokenRefused, CannotTell) as why:
            reply(_no(number, why))
            return
        if bearer.grounds not in self.grounds():
            reply(_no(number, CannotTell("the configuration changed meanwhile")))
            return
        reply(Verified(number, bearer, until))

    def _verify(self, token: str) -> tuple[Bearer, float] | Coroutine[Any, Any, tuple[Bearer, float]]:
        """The verdict at once, or how to come by it; raises TokenRefused or CannotTell."""
        if not looks_like_jwt(token) or not self._issuers:
            if not self._introspectors:
                raise TokenRefused("the token is opaque, and no introspection is configured")
            return self._introspect(token)
        jwt = parse(token)
        name = jwt.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenRefused("the token's issuer is not one of the configured ones")
        try:
            return issuer.verify(jwt)
        except UnknownKey:
            return issuer.verify_with_news(jwt)
        except CannotTell:
            if issuer.fetched:
                raise
            return issuer.verify_with_news(jwt)  # the first fetch is under way, or due

    async def _introspect(self, token: str) -> tuple[Bearer, float]:
        """Ask one provider after the other; the first that knows the token has it."""
        failed: CannotTell | None = None
        refused: TokenRefused | None = None
        for introspector in self._introspectors:
            try:
                return await introspector.verify(token)
            except TokenRefused as why:
                refused = why
            except CannotTell as why:
                failed = why
        raise failed or refused or TokenRefused("no introspection is configured")

    # -- life

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all work and close all connections."""
        going = [*self._watching, *self._tasks, *self._asking.values()]
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        for issuer in self._issuers.values():
            await issuer.close()
        for introspector in self._introspectors:
            await introspector.close()


def _no(number: int, why: TokenRefused | CannotTell) -> Verified:
    return Verified(number, refuse=refusal(why) if isinstance(why, TokenRefused) else unavailable(str(why)))


def _fetcher(config: Oidc | Introspection) -> Fetcher:
    from slmgate.control.identity.fetching import Fetcher

    return Fetcher(config.timeout, config.ca_file)
