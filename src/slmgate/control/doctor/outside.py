"""The doctor's checks from outside: what a stranger gets who asks the gate's addresses for what is not for strangers.

It shows no credential, and asks only what changes nothing. What is asked for, and what is right, stands in tables.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from slmgate.control.config.addresses import Origin
from slmgate.control.doctor.facts import LONGEST, within
from slmgate.control.doctor.findings import Finding, ok

TIMEOUT = 3.0
MOST = 64 * 1024
ADMIN_PATHS = ("/api/v1/status", "/api/v1/keys", "/api/v1/audit", "/api/openapi.json", "/metrics", "/login", "/debug")
ENGINE_PATHS = (
    ("GET", "/slots"),
    ("GET", "/props"),
    ("GET", "/lora-adapters"),
    ("GET", "/api/ps"),
    ("GET", "/api/version"),
    ("GET", "/info"),
    ("GET", "/server_info"),
    ("GET", "/get_model_info"),
    ("GET", "/version"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
)
WORK = ("/v1/models", "/api/tags")
SOFTWARE = re.compile(
    r"(?i)\b(?:slmgate|llama\.?cpp|vllm|ollama|sglang|uvicorn|hypercorn|nginx|envoy|python|werkzeug)\b(?:[/ ]?v?\d[\w.]*)?"
)
TELLING = ("server", "via", "x-powered-by", "x-served-by", "x-backend", "x-upstream")


class Reply(NamedTuple):
    """What a stranger was answered. `fields` have lower-case names."""

    status: int
    fields: Mapping[str, str]
    body: bytes


def look(origin: Origin) -> list[Finding]:
    """Every check of one address of the gate; one finding that says so, where nothing answers."""
    where = str(origin)
    first = ask(origin, "GET", "/v1/models")
    if first is None:
        seen = f"nothing answers at {where}"
        return [Finding("reached", "warn", seen, "is the gate running, and is this its address? Name it with --url")]
    found = [
        *_closed(origin, "admin paths", tuple(("GET", path) for path in ADMIN_PATHS), "let only the gate's own port be public"),
        *_closed(origin, "engine paths", ENGINE_PATHS, "this address does not lead to the gate, but to an engine"),
        *_credential(origin),
        *_headers(where, first),
    ]
    return found + (list(_tls(origin)) if origin.tls else [])


def ask(origin: Origin, method: str, path: str, tls: ssl.SSLContext | None = None) -> Reply | None:
    """One request without any credential; None: no answer of HTTP."""
    try:
        if origin.tls:
            link: http.client.HTTPConnection = http.client.HTTPSConnection(
                origin.host, origin.port, timeout=TIMEOUT, context=tls or _unverified()
            )
        else:
            link = http.client.HTTPConnection(origin.host, origin.port, timeout=TIMEOUT)
        try:
            with within(LONGEST * TIMEOUT):
                link.request(method, path)
                answer = link.getresponse()
                return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read(MOST))
        finally:
            link.close()
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _closed(origin: Origin, check: str, paths: tuple[tuple[str, str], ...], next: str) -> Iterator[Finding]:
    replies = [(path, ask(origin, method, path)) for method, path in paths]
    open_ = [path for path, reply in replies if reply is not None and reply.status < 400]
    if open_:
        yield Finding(check, "bad", f"{origin} answers a stranger at {', '.join(open_)}", next)
    else:
        yield from ok(check, f"{origin} answers a stranger at none of {len(paths)}")


def _credential(origin: Origin) -> Iterator[Finding]:
    open_ = [path for path in WORK if (reply := ask(origin, "GET", path)) is not None and reply.status == 200]
    if open_:
        seen = f"{origin} answers without a credential at {', '.join(open_)}"
        yield Finding("no credential", "warn", seen, "if that is not meant so, take auth.anonymous out of the configuration")
    else:
        yield from ok("no credential", f"{origin} gives nothing to who shows none")


def _headers(where: str, reply: Reply) -> Iterator[Finding]:
    told = [f"{name}: {reply.fields[name]}" for name in TELLING if name in reply.fields]
    told += [found[0] for value in reply.fields.values() if (found := SOFTWARE.search(value)) and value not in str(told)]
    if told:
        seen = f"{where} tells what it runs: {'; '.join(told[:3])}"
        yield Finding("headers", "warn", seen, "what stands before the gate adds it")
    else:
        yield from ok("headers", f"{where} names no software")


def _unverified(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()  # what is asked is which protocols are spoken, and not by whom
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the old versions, which must be offered to be refused
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = version
            context.maximum_version = version
    return context


def _tls(origin: Origin) -> Iterator[Finding]:
    old = [name for name, version in _OLD.items() if _speaks(origin, _unverified(version))]
    if old:
        seen = f"{origin} still speaks {' and '.join(old)}"
        yield Finding("TLS versions", "bad", seen, "let what ends TLS there ask for 1.2 at least")
    else:
        yield from ok("TLS versions", f"{origin} speaks nothing older than TLS 1.2")
    try:
        with within(LONGEST * TIMEOUT), socket.create_connection((origin.host, origin.port), TIMEOUT) as raw:
            ssl.create_default_context().wrap_socket(raw, server_hostname=origin.host).close()
        yield from ok("certificate", f"{origin} shows one that this machine trusts")
    except ssl.SSLCertVerificationError as error:
        seen = f"{origin} shows a certificate that this machine does not trust: {error.verify_message}"
        yield Finding("certificate", "warn", seen, "clients will refuse it too, unless they know its authority")
    except OSError:
        yield Finding("certificate", "warn", f"{origin} could not be asked for its certificate", "try again")


_OLD = {"TLS 1.0": ssl.TLSVersion.TLSv1, "TLS 1.1": ssl.TLSVersion.TLSv1_1}


def _speaks(origin: Origin, context: ssl.SSLContext) -> bool:
    try:
        with within(LONGEST * TIMEOUT), socket.create_connection((origin.host, origin.port), TIMEOUT) as raw:
            context.wrap_socket(raw).close()
    except OSError:
        return False
    return True
