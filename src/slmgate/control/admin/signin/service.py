"""Who is let in: by a local account's password or by an OpenID Connect provider, throttled and noted in the audit log.

A refusal is a value with the sentence that whoever signs in may see, the same for everything that a guess could learn from;
what went wrong at a provider goes into the log. It knows no page, no cookie's name and no HTTP but a provider's.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping

import msgspec

from slmgate.control.accounts import Accounts
from slmgate.control.admin.signin.fetch import ProviderFailed
from slmgate.control.admin.signin.flow import Attempt, Flows
from slmgate.control.admin.signin.id_token import BadToken
from slmgate.control.admin.signin.provider import MAX_CODE, CodeRefused, Provider, error_code, name_of, role_of
from slmgate.control.admin.signin.sessions import Sessions, Signed
from slmgate.control.admin.signin.throttle import ACCOUNT, ADDRESS, Throttle, network
from slmgate.control.config.admin_options import Admin, AdminOidc
from slmgate.control.operators import Operator
from slmgate.control.passwords import Busy
from slmgate.stores.records import LedgerUnavailable

FORM_SECONDS = 3600.0
FLOW_SECONDS = 600.0

log = logging.getLogger("slmgate.admin")


class Admitted(msgspec.Struct, frozen=True):
    """The text of the new session's cookie."""

    cookie: str


class Refused(msgspec.Struct, frozen=True):
    """`text` is for whoever signs in. `status`: HTTP's; `wait`: seconds until another try can succeed."""

    status: int
    text: str
    wait: float = 0.0


Outcome = Admitted | Refused

WRONG = Refused(401, "That name and password are not known here.")
BUSY = Refused(503, "Many are signing in right now. Try again in a few seconds.", 5.0)
NO_STORE = Refused(503, "Nobody can be signed in right now; the log of slmgate says why. Try again soon.", 5.0)
NOT_OFFERED = Refused(404, "This gate does not offer that way to sign in.")
STRAY = Refused(400, "This sign-in was not begun in this browser, or it took too long. Begin again.")
NOT_PROVEN = Refused(401, "The provider's answer could not be verified. Begin again; the log of slmgate says what was wrong.")
NO_ROLE = Refused(
    403, "You are signed in at the provider, but none of your names there has a role here. Ask the gate's owner for one."
)
STOPPED = Refused(403, "The provider did not sign you in. Begin again, or ask who runs it.")
PROVIDER_AWAY = Refused(502, "The provider cannot be used right now; the log of slmgate says why.", 5.0)


class SignIn:
    """The sign-in of one admin listener. Belongs to one event loop."""

    def __init__(
        self,
        accounts: Accounts,
        options: Callable[[], Admin],
        clock: Callable[[], float] = time.monotonic,
        make: Callable[[AdminOidc], Provider] = Provider,
    ) -> None:
        """`options` gives those in force; `clock` counts seconds and never goes back."""
        self.options = options
        self.sessions = Sessions(accounts)
        self.forms = Flows(secrets.token_bytes(32), "form", FORM_SECONDS)
        self.flows = Flows(secrets.token_bytes(32), "oidc", FLOW_SECONDS)
        self.clock = clock
        self._accounts = accounts
        self._make = make
        self._provider: Provider | None = None
        self._by_account = Throttle(ACCOUNT, secrets.token_bytes(32))
        self._by_address = Throttle(ADDRESS, secrets.token_bytes(32))

    def provider(self) -> Provider | None:
        """The provider of the options in force, with what is known of it."""
        wanted = self.options().auth.oidc
        if wanted is None:
            self._provider = None
        elif self._provider is None or self._provider.options != wanted:
            self._provider = self._make(wanted)
        return self._provider

    def who(self, cookie: str) -> Operator | None:
        """Who is signed in with this cookie. Reads the store. Raises LedgerUnavailable."""
        return self.sessions.check(cookie, self.options().auth)

    async def with_password(self, name: str, password: str, address: str, before: str) -> Outcome:
        """Sign in with a local account. `before` is the session cookie that the browser has, if any."""
        if not self.options().auth.local:
            return NOT_OFFERED
        now, near = self.clock(), network(address)
        wait = max(self._by_account.wait(name, now), self._by_address.wait(near, now))
        if wait:
            return _slower(wait)
        self._by_account.charge(name, now)
        self._by_address.charge(near, now)
        try:
            account = await asyncio.to_thread(self._accounts.store.account, name)
            if not await self._accounts.passwords.check(password, account.password if account else None):
                await self._failed(f"user:{name}" if account else "unknown", "password", "wrong password or name")
                return WRONG
            assert account is not None  # nobody's password is never right
            self._by_account.forget(name)
            self._by_address.give_back(near)
            if self._accounts.passwords.is_dated(account.password):
                fresh = await asyncio.to_thread(self._accounts.passwords.hash, password)
                await asyncio.to_thread(self._accounts.store.rehash, name, account.password, fresh)
            return await self._start(Signed(f"user:{name}", account.role, account), address, before)
        except Busy:
            self._by_account.give_back(name)
            self._by_address.give_back(near)
            return BUSY
        except LedgerUnavailable as error:
            return _no_store(error)

    async def leave_for_provider(self, attempt: Attempt, redirect_uri: str) -> str | Refused:
        """Where the browser is sent to sign in."""
        provider = self.provider()
        if provider is None:
            return NOT_OFFERED
        try:
            return await provider.address(attempt, redirect_uri)
        except ProviderFailed as error:
            return _away(error)

    async def back_from_provider(
        self, query: Mapping[str, str], attempt: Attempt | None, redirect_uri: str, came: tuple[str, str]
    ) -> Outcome:
        """The browser is back with a code. `attempt` is what its cookie says; `came`: its address and its session cookie."""
        address, before = came
        provider = self.provider()
        if provider is None:
            return NOT_OFFERED
        if attempt is None or not hmac.compare_digest(query.get("state", "").encode(), attempt.state.encode()):
            return STRAY
        near, now = network(address), self.clock()
        if wait := self._by_address.wait(near, now):
            return _slower(wait)  # nor does anybody use us to guess at the provider
        self._by_address.charge(near, now)
        try:
            described = await provider.describe()
            # RFC 9207: an answer that another provider sent
            named = query.get("iss", described.issuer if not described.authorization_response_iss_parameter_supported else "")
            if named != provider.options.issuer:
                return await self._unproven(address, "the answer is another issuer's")
            if "error" in query:
                return await self._unproven(address, f"the provider said {error_code(query['error'])}", STOPPED)
            code = query.get("code", "")
            if not 1 <= len(code) <= MAX_CODE:
                return await self._unproven(address, "no code came")
            claims = await provider.redeem(code, attempt, redirect_uri)
            name = name_of(claims, provider.options.principal)
            if name is None:
                return await self._unproven(address, f"the claim {provider.options.principal} is no name")
            self._by_address.give_back(near)
            role = role_of(claims, provider.options.roles)
            if role is None:
                await self._failed(f"oidc:{name}", "oidc", "no role")
                return NO_ROLE
            return await self._start(Signed(f"oidc:{name}", role), address, before)
        except (CodeRefused, BadToken) as error:
            return await self._unproven(address, str(error))
        except ProviderFailed as error:
            self._by_address.give_back(near)
            return _away(error)
        except LedgerUnavailable as error:
            return _no_store(error)

    async def _start(self, who: Signed, address: str, before: str) -> Outcome:
        cookie = await asyncio.to_thread(self.sessions.start, who, self.options().auth, address, before)
        return WRONG if cookie is None else Admitted(cookie)

    async def _unproven(self, address: str, why: str, answer: Refused = NOT_PROVEN) -> Refused:
        log.warning("a sign-in from %s failed: %s", address, why)
        await self._failed("unknown", "oidc", why)
        return answer

    async def _failed(self, actor: str, how: str, why: str) -> None:
        line = self._accounts.line(actor, "sign-in.failed", "admin", how=how, reason=why)
        await asyncio.to_thread(self._accounts.note, line)


def _slower(wait: float) -> Refused:
    return Refused(429, "Too many tries. Wait before the next one.", wait)


def _no_store(error: LedgerUnavailable) -> Refused:
    log.error("nobody can be signed in: %s", error)
    return NO_STORE


def _away(error: ProviderFailed) -> Refused:
    log.error("admin.auth.oidc cannot be used: %s", error)
    return PROVIDER_AWAY
