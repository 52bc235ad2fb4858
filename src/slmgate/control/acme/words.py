"""What goes wrong with an authority, in words for the operator: what happened, and what to do about it.

What the authority says itself is quoted, without control characters and not at length. It decides only whether the authority was
there at all.
"""

from __future__ import annotations

import requests

from acme import errors, messages
from slmgate.control.acme.timing import Kind
from slmgate.control.config.acme_options import HTTP_01, Acme
from slmgate.control.config.addresses import host_of

QUOTED = 300

_ADVICE = {
    "caa": "a CAA record of the domain names other authorities: add this one there",
    "dns": "see that DNS has the name, and leads it to this gate",
    "dnssec": "see that the domain's DNSSEC is in order",
    "rejectedIdentifier": "this authority gives no certificate for such a name: see tls.acme.domains",
    "unsupportedIdentifier": "this authority gives no certificate for such a name: see tls.acme.domains",
    "rateLimited": "it is asked again when it says so; nothing is to be done, but to start no further gates with fresh state",
    "userActionRequired": "its terms of service have changed: read them, then remove account.json of this authority",
    "externalAccountRequired": "give tls.acme.eab, with what it shows in your account there",
    "invalidContact": "see tls.acme.email",
    "unsupportedContact": "see tls.acme.email",
    "unauthorized": "see that the name leads to this gate and to no other, and that nothing before it answers in its place",
    "incorrectResponse": "see that the name leads to this gate and to no other, and that nothing before it answers in its place",
    "serverInternal": "the fault is there; it is asked again",
}


def told(error: Exception, domain: str, challenge: str, options: Acme) -> tuple[str, Kind]:
    """The fault in words, and its kind."""
    host = host_of(options.directory)
    if isinstance(error, errors.IssuanceError):
        error = error.error
    if isinstance(error, messages.Error):
        code = error.code or "error"
        parts = [each.detail for each in (error, *(error.subproblems or ())) if each.detail]
        said = quoted("; ".join(parts)) or code
        advice = _reach(challenge) if code in ("connection", "tls") else _ADVICE.get(code, "")
        return f"{host} refuses: {said} ({code})" + (f"; {advice}" if advice else ""), "refused"
    if isinstance(error, requests.exceptions.SSLError):
        advice = "give its authority in tls.acme.ca" if options.ca is None else "is tls.acme.ca the right file?"
        return f"the certificate that {host} shows is not trusted; {advice}", "away"
    if isinstance(error, requests.RequestException | OSError):
        return f"{host} cannot be reached ({_short(error)}); it is tried again", "away"
    if isinstance(error, errors.TimeoutError):
        return f"{host} has not made the certificate in time; it is asked again", "refused"
    if isinstance(error, errors.ClientError) and error.args and isinstance(error.args[0], requests.Response):
        return f"{host} answers {error.args[0].status_code} and no ACME; see tls.acme.directory", "away"
    return f"{host} does not speak ACME as it should: {_short(error)}; see tls.acme.directory", "refused"


def quoted(text: str) -> str:
    """What another program said, on one line, safe to show and not too long."""
    shown = "".join(one if one.isprintable() else " " for one in text)
    return shown if len(shown) <= QUOTED else shown[: QUOTED - 3] + "..."


def _reach(challenge: str) -> str:
    port = "port 80 of the name must lead to a listener of this gate without TLS"
    if challenge != HTTP_01:
        port = "port 443 of the name must lead to this listener, and TLS must not end before it"
    return f"{port} (DNS, firewall, port forwarding)"


def _short(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)
    return quoted(text)[:120] or type(cause).__name__
