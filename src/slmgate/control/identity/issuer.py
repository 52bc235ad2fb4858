"""One OpenID issuer: its keys, fetched ahead and kept, and the verification of its tokens by them.

Keys are fetched every `refresh`, and once more when a token names one that is not known, at most every 30 seconds. While the
provider cannot be asked, the last known keys serve for `keep_keys`. A token is never the reason to ask any other address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256

import msgspec

from slmgate.control.config.auth_options import Oidc
from slmgate.control.config.show import dump
from slmgate.control.identity.claims import principal_of
from slmgate.control.identity.fetching import Fetcher, jwks_address
from slmgate.control.identity.jwt import Jwt, check_claims, check_header
from slmgate.control.identity.kept import KeptKeys
from slmgate.control.identity.keyset import PublicKey, read_keys
from slmgate.control.identity.outcomes import CannotTell, TokenRefused, UnknownKey
from slmgate.control.identity.strict import json_object
from slmgate.terms import Bearer

AGAIN_SECONDS = 30.0
"""Between two fetches for the sake of keys that are not known."""
SOON_SECONDS = 5.0
"""Until the next try, when a fetch failed."""
DISCOVERY_SECONDS = 3600.0
MAX_TRIED = 4
"""Keys that one token is tried against, where it does not say which, or several bear its name."""


class Issuer:
    """`clock` is wall-clock time, `changed` is called when other keys than before are in force."""

    def __init__(
        self,
        config: Oidc,
        fetcher: Fetcher,
        kept: KeptKeys,
        clock: Callable[[], float],
        changed: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.config = config
        self._fetcher = fetcher
        self._kept = kept
        self._clock = clock
        self._changed = changed
        self._say = say
        # What a verification rests on beside the key: any other option makes another ground.
        self._ground = sha256(msgspec.json.encode(dump(config))).hexdigest()[:16]
        self.keys: tuple[PublicKey, ...] = ()
        self.fetched = 0.0  # when the keys were last confirmed by the provider; 0: never
        self._failed = ""  # why the last fetch failed; empty: it did not
        self._jwks_url = config.jwks_url
        self._discovered = 0.0
        self._asked_again = 0.0  # when keys were last fetched because one was not known
        self._fetching: asyncio.Task[None] | None = None
        self._load()

    def __repr__(self) -> str:
        return f"<Issuer {self.config.issuer}: {len(self.keys)} keys{', failing' if self._failed else ''}>"

    def _load(self) -> None:
        held = self._kept.load()
        if held is not None and held[1] <= self._clock():
            try:
                self.keys, self.fetched = read_keys(held[0]), held[1]
            except ValueError:
                return

    def known(self) -> bool:
        """Whether there are keys, and young enough to rely on."""
        return self.fetched > 0 and self._clock() - self.fetched <= self.config.keep_keys + self.config.refresh

    def grounds(self) -> tuple[str, ...]:
        """What verifications may rest on now."""
        return tuple(f"{self._ground}:{key.thumb}" for key in self.keys) if self.known() else ()

    # -- verifying

    def verify(self, token: Jwt) -> tuple[Bearer, float]:
        """Whose token it is and until when it is good; raises TokenRefused, UnknownKey, or CannotTell where no keys are known."""
        config = self.config
        algorithm, kid = check_header(token.header, config.algorithms, config.typ)
        if not self.known():
            raise CannotTell(f"the keys of {config.issuer} are not known: {self._failed or 'not fetched yet'}")
        named = [key for key in self.keys if kid is None or key.kid == kid]
        if kid is not None and not named:
            raise UnknownKey
        for key in [key for key in named if key.may_verify(algorithm)][:MAX_TRIED]:
            if key.verifies(algorithm, token.signed, token.signature):
                until = check_claims(token, config.issuer, config.audience, config.leeway, self._clock())
                return principal_of(token.claims, config.issuer, config, f"{self._ground}:{key.thumb}"), until
        raise TokenRefused("no key of the issuer made this signature")

    async def verify_with_news(self, token: Jwt) -> tuple[Bearer, float]:
        """As `verify`, after a fetch of the keys, if one is due; raises TokenRefused or CannotTell."""
        now = self._clock()
        if self._fetching is not None or now - self._asked_again >= AGAIN_SECONDS or now < self._asked_again:
            if self._fetching is None:
                self._asked_again = now
            await self.fetch()
        try:
            return self.verify(token)
        except UnknownKey:
            if self._failed:
                raise CannotTell(self._failed) from None
            raise TokenRefused("the issuer has no key of that name") from None

    # -- the keys

    async def fetch(self) -> None:
        """Fetch the keys now, or wait for the fetch that is under way. Failure is noted, not raised."""
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        await asyncio.wait([self._fetching])

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fail(f"a fault of the gate's own: {fault!r}")

    async def _fetch(self) -> None:
        before = self.grounds()
        try:
            document = await self._fetcher.get(await self._where())
            try:
                keys = read_keys(document)
            except ValueError as error:
                raise CannotTell(f"the key set is not one: {error}") from None
        except CannotTell as error:
            self._fail(str(error))
            self._discovered = 0.0  # it may have moved
        else:
            if self._failed:
                self._say(f"the keys of {self.config.issuer} can be fetched again")
            self._failed = ""
            self.keys, self.fetched = keys, self._clock()
            self._kept.save(document, self.fetched)
        if self.grounds() != before:
            self._changed()

    def _fail(self, why: str) -> None:
        if not self._failed:
            self._say(f"the keys of {self.config.issuer} cannot be fetched, the last known ones serve on: {why}")
        self._failed = why

    async def _where(self) -> str:
        """The address of the key set, from the configuration or from discovery (OpenID Connect Discovery section 4)."""
        if self.config.jwks_url is not None:
            return self.config.jwks_url
        now = self._clock()
        if self._jwks_url is None or not 0 <= now - self._discovered < DISCOVERY_SECONDS:
            issuer = self.config.issuer
            try:
                document = json_object(await self._fetcher.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration"))
            except ValueError as error:
                raise CannotTell(f"the discovery document is not one: {error}") from None
            if document.get("issuer") != issuer:
                raise CannotTell("the discovery document is another issuer's: write `issuer` letter by letter as it says it")
            self._jwks_url = jwks_address(document.get("jwks_uri"), issuer)
            self._discovered = now
        return self._jwks_url

    async def run(self) -> None:
        """Fetch now and then, until cancelled."""
        while True:
            was_known = self.known()
            await self.fetch()
            if was_known and not self.known():
                self._changed()
            await asyncio.sleep(min(SOON_SECONDS, self.config.refresh) if self._failed else self.config.refresh)

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        await self._fetcher.close()
