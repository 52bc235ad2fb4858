"""One certificate from one authority: the whole of an ACME order (RFC 8555), blocking, in a thread of its own.

The border to the libraries `acme` and `josepy`: what they raise is translated here into `NotIssued`, with words for the operator.
Only the host of the configured directory is asked; no redirect is followed, no proxy of the environment used, and answers are
bounded in size and time. It knows no file, and of the gate only who presents its answers to challenges.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import requests
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from msgspec import structs

from acme import challenges, errors, messages
from acme.client import ClientNetwork, ClientV2
from slmgate import __version__
from slmgate.control.acme.files import Account
from slmgate.control.acme.making import challenge_pem, key_pem, leaf_of, new_key, request_pem
from slmgate.control.acme.timing import Kind
from slmgate.control.acme.words import told
from slmgate.control.config.acme_options import HTTP_01, TLS_ALPN_01, Acme

ASK_SECONDS = 20.0
"""For one answer of the authority, from the question to the last byte."""
MAX_ANSWER = 1024 * 1024
PIECE = 64
"""Bytes that are waited for at once: so small that whoever sends them one by one is soon noticed."""
VALIDATION_SECONDS = 60.0
ISSUE_SECONDS = 90.0
LOOK_SECONDS = 0.5
"""Between two looks at what the authority makes of an answer, at first; doubled up to `LONGEST_LOOK`."""
LONGEST_LOOK = 5.0


class NotIssued(Exception):
    """There is no certificate. The text says why and what to do; `retry_after` is what the authority asked for, in seconds."""

    def __init__(self, text: str, kind: Kind = "refused", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.retry_after = retry_after


class Answer(NamedTuple):
    """What the workers are to answer to a challenge: `token` and its text for http-01, a certificate (PEM) for tls-alpn-01."""

    domain: str
    token: str = ""
    text: str = ""
    pem: bytes = b""


class Present(Protocol):
    """Have every worker answer so from now on; None: nothing more. Returns when they do, or after a while."""

    def __call__(self, answer: Answer | None, /) -> None: ...


class Issued(NamedTuple):
    """The certificate with those behind it and its key, in one text, and the account that it was got with."""

    pem: bytes
    account: Account


@challenges.ChallengeResponse.register
class TlsAlpnResponse(challenges.KeyAuthorizationChallengeResponse):
    """That tls-alpn-01 may be asked now (RFC 8737); the library has not got this one any more."""

    typ = TLS_ALPN_01


@challenges.Challenge.register
class TlsAlpn(challenges.KeyAuthorizationChallenge):
    """The challenge tls-alpn-01."""

    response_cls = TlsAlpnResponse
    typ = TLS_ALPN_01

    def validation(self, account_key: JWK, **_: Any) -> str:
        return self.key_authorization(account_key)


class Network(ClientNetwork):
    """The library's network, held to one host, and to bounds. `retry_after` is what the last answer asked for, in seconds."""

    def __init__(self, directory: str, key: JWK, trusted: str | bool) -> None:
        super().__init__(key, alg=ES256, user_agent=f"slmgate/{__version__}")
        self.verify_ssl = trusted  # type: ignore[assignment]  # requests takes a file of authorities as well
        self.session.trust_env = False
        self.session.headers["accept-encoding"] = "identity"
        self._origin = _origin(directory)
        self.retry_after: float | None = None

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        if _origin(url) != self._origin:
            raise errors.ClientError("the authority names an address at another host, which is not asked")
        kwargs["headers"] = {"User-Agent": self.user_agent, **kwargs.get("headers", {})}
        kwargs |= {"verify": self.verify_ssl, "timeout": ASK_SECONDS, "allow_redirects": False, "stream": True}
        until = time.monotonic() + ASK_SECONDS
        with self.session.request(method, url, *args, **kwargs) as response:
            body = bytearray()
            for piece in response.iter_content(PIECE):
                body += piece
                if len(body) > MAX_ANSWER or time.monotonic() > until:
                    raise errors.ClientError("the authority's answer is too long, or takes too long")
            response._content = bytes(body)
        if response.is_redirect:
            raise errors.ClientError("the authority sends elsewhere, which is not followed: give the address of its directory")
        response.encoding = "utf-8"
        self.retry_after = _seconds(response.headers.get("retry-after"))
        return response


class Issuing:
    """Orders at one authority, one at a time."""

    def __init__(self, options: Acme, present: Present, wait: Callable[[float], bool]) -> None:
        """`wait` sleeps so many seconds; True: it is time to give up, since the gate ends."""
        self._options = options
        self._present = present
        self._wait = wait

    def issue(self, domain: str, challenge: str, account: Account | None, keep: Callable[[Account], None]) -> Issued:
        """A certificate for `domain`, checked by `challenge`. Raises NotIssued.

        `keep` is called with an account as soon as there is a new one: it is not to be lost if the order fails.
        """
        account = account or Account(key=key_pem(new_key()).decode())
        key = JWKEC(key=load_pem_private_key(account.key.encode(), None))
        ca = self._options.ca
        network = Network(self._options.directory, key, True if ca is None else str(ca))
        try:
            client = ClientV2(ClientV2.get_directory(self._options.directory, network), network)
            account = self._enter(client, key, account, keep)
            return Issued(self._order(client, key, domain, challenge), account)
        except (
            errors.Error,
            requests.RequestException,
            JoseError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            OSError,
        ) as error:
            text, kind = told(error, domain, challenge, self._options)
            raise NotIssued(text, kind, network.retry_after) from error
        finally:
            network.session.close()

    def _enter(self, client: ClientV2, key: JWK, account: Account, keep: Callable[[Account], None]) -> Account:
        """Be known there: by the account that is stored, or by a new one with its key."""
        options = self._options
        kid = "" if options.eab is None else options.eab.kid
        if account.uri and account.kid == kid:
            known = messages.RegistrationResource(uri=account.uri, body=messages.Registration())
            try:
                client.query_registration(known)
                if account.email != (options.email or ""):
                    client.update_registration(known, messages.Registration.from_data(email=options.email, contact=()))
                    account = structs.replace(account, email=options.email or "")
                    keep(account)
                return account
            except messages.Error as error:
                if error.code != "accountDoesNotExist":
                    raise
                client.net.account = None
        if client.external_account_required() and options.eab is None:
            raise NotIssued(
                f"{options.directory} takes only accounts that are bound to one of yours: "
                "give tls.acme.eab, with what it shows there"
            )
        wanted = messages.NewRegistration.from_data(
            email=options.email,
            terms_of_service_agreed=options.agree_to_terms or None,
            external_account_binding=None
            if options.eab is None
            else messages.ExternalAccountBinding.from_data(
                account_public_key=key.public_key(),
                kid=options.eab.kid,
                hmac_key=str(options.eab.hmac_key),
                directory=client.directory,
            ),
        )
        try:
            uri = client.new_account(wanted).uri
        except errors.ConflictError as conflict:  # the key has an account already
            uri = str(conflict.location)
            client.net.account = messages.RegistrationResource(uri=uri, body=messages.Registration())
        made = Account(key=account.key, uri=uri, email=options.email or "", kid=kid)
        keep(made)
        return made

    def _order(self, client: ClientV2, key: JWK, domain: str, challenge: str) -> bytes:
        secret = new_key()
        order = client.new_order(request_pem(secret, domain))
        try:
            for authorization in order.authorizations:
                if authorization.body.status != messages.STATUS_VALID:
                    self._prove(client, key, authorization, domain, challenge)
        finally:
            self._present(None)
        until = datetime.now() + timedelta(seconds=ISSUE_SECONDS)  # noqa: DTZ005  # what the library compares with
        chain = client.finalize_order(order, until).fullchain_pem
        pem = chain.strip().encode() + b"\n" + key_pem(secret)
        leaf = leaf_of(pem)
        if domain not in leaf.names:
            raise NotIssued(f"the certificate that came from {self._options.directory} is not for {domain}")
        return pem

    def _prove(
        self, client: ClientV2, key: JWK, authorization: messages.AuthorizationResource, domain: str, challenge: str
    ) -> None:
        """Have the authority check one name. Raises NotIssued."""
        offered = {one.chall.typ: one for one in authorization.body.challenges if isinstance(one.chall, _KNOWN)}
        chosen = offered.get(challenge)
        if chosen is None:
            other = " or ".join(sorted(offered)) or "none that slmgate can answer"
            raise NotIssued(f"the authority does not offer {challenge} for {domain}; it offers {other}: see tls.acme.challenges")
        text = chosen.chall.key_authorization(key)
        if challenge == HTTP_01:
            self._present(Answer(domain, token=chosen.chall.encode("token"), text=text))
        else:
            self._present(Answer(domain, pem=challenge_pem(domain, text, time.time())))
        client.answer_challenge(chosen, chosen.chall.response(key))
        until = time.monotonic() + VALIDATION_SECONDS
        pause = LOOK_SECONDS
        while True:
            seen, _ = client.poll(authorization)
            if seen.body.status == messages.STATUS_VALID:
                return
            asked = next((one for one in seen.body.challenges if one.uri == chosen.uri), None)
            found = None if asked is None else asked.error
            if found is not None:  # some say so and let the order stand, for another try that a later order makes as well
                raise found
            if seen.body.status != messages.STATUS_PENDING:
                raise NotIssued(f"the authority does not take {domain} for yours: {seen.body.status.name}")
            if time.monotonic() > until:
                raise NotIssued(f"the authority has not checked {domain} within {VALIDATION_SECONDS:.0f} s; it is asked again")
            if self._wait(min(pause, LONGEST_LOOK)):
                raise NotIssued("the gate ends", "away")
            pause *= 2


_KNOWN = (challenges.HTTP01, TlsAlpn)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, f"{parts.hostname}:{port}"


def _seconds(text: str | None) -> float | None:
    """What Retry-After says, in seconds from now (RFC 9110 section 10.2.3)."""
    if text is None:
        return None
    try:
        return float(text) if text.isdigit() else max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
