"""An OpenID Connect provider: its description and keys, where a browser is sent, what a code is worth, which role that gives.

Both documents are kept for an hour; a token signed by an unknown key has the keys asked for again, at most twice a minute.
It decides who somebody is, not who is let in, and knows no cookie and no page.
"""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec

from slmgate.control.admin.signin.fetch import Fetch, ProviderFailed, may_name
from slmgate.control.admin.signin.flow import Attempt
from slmgate.control.admin.signin.id_token import Expected, UnknownSigner, verify
from slmgate.control.config.admin_options import AdminOidc, AdminRoles
from slmgate.control.identity.claims import find
from slmgate.control.operators import ROLES

KEPT = 3600.0
AGAIN = 30.0
MAX_CODE = 4096
_RETRY = 5.0


class CodeRefused(Exception):
    """The provider does not take the code: used already, run out, or somebody else's. The text is for the log."""


class Description(msgspec.Struct, frozen=True):
    """What is needed of a provider's metadata (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Provider:
    """The provider of one `admin.auth.oidc`."""

    def __init__(self, options: AdminOidc, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self._fetch = fetch or Fetch(options.issuer)
        self._clock = clock
        self._lock = asyncio.Lock()  # of many sign-ins at once, one asks
        self._described: tuple[float, Description] | None = None
        self._keys: tuple[float, object] | None = None
        self._failed: tuple[float, str] | None = None  # a provider that is down is not asked by every browser

    async def describe(self) -> Description:
        """Raises ProviderFailed."""
        async with self._lock:
            now = self._clock()
            if self._described is not None and now - self._described[0] < KEPT:
                return self._described[1]
            if self._failed is not None and now - self._failed[0] < _RETRY:
                raise ProviderFailed(self._failed[1])
            try:
                found = await self._ask_description()
            except ProviderFailed as error:
                self._failed = now, str(error)
                raise
            self._described, self._failed = (now, found), None
            return found

    async def address(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where the browser is sent (OpenID Connect Core 1.0, 3.1.2.1; RFC 7636). Raises ProviderFailed."""
        where = (await self.describe()).authorization_endpoint
        query = {
            "response_type": "code",
            "client_id": self.options.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(dict.fromkeys(["openid", *self.options.scopes])),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return f"{where}{'&' if urlsplit(where).query else '?'}{urlencode(query)}"

    async def redeem(self, code: str, attempt: Attempt, redirect_uri: str) -> dict[str, Any]:
        """The verified claims that a code stands for. Raises CodeRefused, BadToken, ProviderFailed."""
        described = await self.describe()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        client, secret, auth = self.options.client_id, self.options.client_secret, None
        if secret is None:
            form["client_id"] = client
        elif "client_secret_basic" in described.token_endpoint_auth_methods_supported:
            auth = quote_plus(client), quote_plus(str(secret))  # RFC 6749, 2.3.1
        else:
            form |= {"client_id": client, "client_secret": str(secret)}
        status, answer = await self._fetch.json(described.token_endpoint, form, auth)
        if status >= 500:
            raise ProviderFailed(f"the token endpoint answered with {status}")
        if status != 200 or not isinstance(answer, dict):
            said = answer.get("error") if isinstance(answer, dict) else None
            if said in ("invalid_client", "unauthorized_client"):
                raise ProviderFailed("the provider does not take client_id and client_secret")
            raise CodeRefused("the provider does not take the code" + (f": {said}" if said in _SAID else ""))
        return await self._verified(answer.get("id_token"), attempt)

    async def _verified(self, token: object, attempt: Attempt) -> dict[str, Any]:
        expected = Expected(self.options.issuer, self.options.client_id, attempt.nonce, self.options.algorithms)
        try:
            return verify(token, await self._published(KEPT), expected, time.time())
        except UnknownSigner:
            return verify(token, await self._published(AGAIN), expected, time.time())

    async def _published(self, oldest: float) -> object:
        """The provider's keys, not older than `oldest` seconds."""
        described = await self.describe()
        async with self._lock:
            now = self._clock()
            if self._keys is None or now - self._keys[0] >= oldest:
                status, found = await self._fetch.json(described.jwks_uri)
                if status != 200:
                    raise ProviderFailed(f"its keys cannot be had: {status}")
                self._keys = now, found
            return self._keys[1]

    async def _ask_description(self) -> Description:
        issuer = self.options.issuer
        status, found = await self._fetch.json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if status != 200:
            raise ProviderFailed(f"{issuer} has no description: {status}")
        try:
            described = msgspec.convert(found, Description)
        except msgspec.ValidationError as error:
            raise ProviderFailed(f"the description of {issuer} cannot be used: {error}") from None
        if described.issuer != issuer:
            raise ProviderFailed(f"{issuer} calls itself otherwise; write admin.auth.oidc.issuer exactly as it does")
        for url in (described.authorization_endpoint, described.token_endpoint, described.jwks_uri):
            if not may_name(url):
                raise ProviderFailed(f"the description of {issuer} names an address that is not https")
        return described


_SAID = ("invalid_grant", "invalid_request", "invalid_scope", "unsupported_grant_type")


def role_of(claims: Mapping[str, Any], roles: AdminRoles) -> str | None:
    """The highest admin role that the claims come to; None: none."""
    value = find(claims, roles.claim)
    names = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    found = [roles.map[name] for name in names if isinstance(name, str) and name in roles.map]
    return max(found, key=ROLES.__getitem__, default=None)


def name_of(claims: Mapping[str, Any], principal: str) -> str | None:
    """What the audit log calls somebody; None: the claim is no name that can stand in a log."""
    value = find(claims, principal)
    if not isinstance(value, str) or not 1 <= len(value) <= 255 or value != value.strip():
        return None
    return value if all(unicodedata.category(character)[0] not in "CZ" or character == " " for character in value) else None


def error_code(text: str) -> str:
    """An error code of a provider (RFC 6749, 4.1.2.1) if it looks like one."""
    return text if re.fullmatch(r"[a-z_]{1,40}", text) else "unknown"
