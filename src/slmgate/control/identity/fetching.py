"""Questions to an identity provider over HTTP: bounded in time and size, to the addresses of the configuration and nowhere else.

No redirect is followed, no proxy of the environment is used, no cookie is kept, and what comes compressed is refused. It knows
nothing of what is asked; whatever goes wrong becomes `CannotTell`, with words for the operator.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from urllib.parse import quote_plus

import httpx

from slmgate.control.config.addresses import WebUrl, host_of, is_loopback
from slmgate.control.config.faults import BadValueError
from slmgate.control.identity.outcomes import CannotTell

MAX_ANSWER = 1024 * 1024
MAX_URL = 1024
CONNECTIONS = 32


def jwks_address(url: object, issuer: str) -> str:
    """The `jwks_uri` of an issuer's discovery document, if the gate may ask there (RFC 8414 section 2); else CannotTell.

    It may be another host of the same provider, by name. An address in figures, or this machine, is only taken where the
    issuer itself is there: else an issuer could point at what lies behind the gate.
    """
    try:
        if not isinstance(url, str) or len(url) > MAX_URL:
            raise BadValueError("is missing or too long")
        WebUrl(path=True).read(url)
    except BadValueError as wrong:
        raise CannotTell(f"the jwks_uri of {issuer} {wrong.problem}") from None
    host, own = host_of(url), host_of(issuer)
    if host != own and (is_loopback(host) or ":" in host or host.replace(".", "").isdigit() or "." not in host):
        raise CannotTell(f"the jwks_uri of {issuer} leads to an address of a private network; give it as jwks_url to allow it")
    if url.startswith("http://") and not issuer.startswith("http://"):
        raise CannotTell(f"the jwks_uri of {issuer} is not encrypted")
    return url


class Fetcher:
    """Asks one provider. `transport` stands for the network in tests."""

    def __init__(self, timeout: float, ca_file: Path | None = None, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._timeout = timeout
        self._ca_file = ca_file
        self._transport = transport
        self._client: httpx.AsyncClient | None = None  # made when it is first needed: loading certificates takes a while
        self._making = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Fetcher {'idle' if self._client is None else 'open'}>"

    async def get(self, url: str) -> bytes:
        """The JSON text at `url`; raises CannotTell."""
        return await self._ask("GET", url)

    async def post(self, url: str, form: Mapping[str, str], user: tuple[str, str] | None = None) -> bytes:
        """The JSON text that answers a form; `user` goes into `Authorization: Basic`, encoded as RFC 6749 section 2.3.1 says."""
        auth = httpx.BasicAuth(quote_plus(user[0]), quote_plus(user[1])) if user is not None else None
        return await self._ask("POST", url, form, auth)

    async def _ask(
        self, method: str, url: str, form: Mapping[str, str] | None = None, auth: httpx.BasicAuth | None = None
    ) -> bytes:
        try:
            async with self._making:
                if self._client is None:
                    self._client = await asyncio.to_thread(self._make_client)
                client = self._client
            async with asyncio.timeout(self._timeout), client.stream(method, url, data=form, auth=auth) as answer:
                return await self._body(answer)
        except TimeoutError:
            raise CannotTell(f"{url} did not answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            raise CannotTell(f"{url} cannot be asked: {type(error).__name__}") from None

    async def _body(self, answer: httpx.Response) -> bytes:
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if answer.status_code != 200:
            raise CannotTell(f"{answer.url} answered {answer.status_code}")
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise CannotTell(f"{answer.url} answered something other than JSON")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise CannotTell(f"{answer.url} answered compressed, unasked")
        body = bytearray()
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > MAX_ANSWER:
                raise CannotTell(f"the answer of {answer.url} is longer than {MAX_ANSWER} bytes")
        return bytes(body)

    def _make_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=self._transport,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            verify=ssl.create_default_context(cafile=self._ca_file) if self._transport is None else True,
            timeout=self._timeout,
            follow_redirects=False,
            trust_env=False,
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "slmgate"},
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=4),
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
