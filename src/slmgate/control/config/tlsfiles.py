"""What is wrong with the TLS files that a configuration names: looked for when it is loaded, not when the gate starts.

OpenSSL is asked the same that the workers will ask it, and its answer put into words. This module knows no YAML and keeps
nothing of what it read; no message holds a byte of a file.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 1024 * 1024


class FileFault(NamedTuple):
    """`option` is the one of its section whose file is at fault."""

    option: str
    problem: str
    hint: str


class _PasswordAskedError(Exception):
    """Raised into OpenSSL when it asks for the password of a key."""


def certificate_fault(cert: Path, key: Path) -> FileFault | None:
    """What is wrong with a certificate of the gate and its key; None: nothing."""
    certificates, secret = _read("cert", cert), _read("key", key)
    for read in (certificates, secret):
        if isinstance(read, FileFault):
            return read
    assert isinstance(certificates, bytes) and isinstance(secret, bytes)
    if b"-----BEGIN CERTIFICATE-----" not in certificates:
        return FileFault("cert", "holds no certificate", "it must be a PEM file: -----BEGIN CERTIFICATE-----")
    if b"PRIVATE KEY-----" not in secret:
        return FileFault("key", "holds no private key", "it must be a PEM file: -----BEGIN PRIVATE KEY-----")

    def password() -> str:
        raise _PasswordAskedError

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password)
    except _PasswordAskedError:
        hint = "take the password off, and let nobody but slmgate read the file: openssl pkey -in OLD -out NEW"
        return FileFault("key", "is encrypted", hint)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return FileFault("key", "is not the key of its certificate", "give the key that the certificate was made for")
        return FileFault("cert", f"or its key is not accepted{_why(error)}", "let `openssl x509 -text -in FILE` show it")
    return None


def authorities_fault(client_ca: Path) -> FileFault | None:
    """What is wrong with a file of authorities; None: nothing."""
    read = _read("client_ca", client_ca)
    if isinstance(read, FileFault):
        return read
    hint = "it must be a PEM file with the certificates of authorities: -----BEGIN CERTIFICATE-----"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError:
        return FileFault("client_ca", "holds no certificate that can be read", hint)
    if not context.cert_store_stats()["x509"]:
        return FileFault("client_ca", "holds no certificate", hint)
    return None


def _read(option: str, path: Path) -> bytes | FileFault:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return FileFault(option, f"cannot be read: {error.strerror}", f"slmgate looks for it at {path}")
    if len(data) > MAX_BYTES:
        return FileFault(option, f"is larger than {MAX_BYTES // 1024 // 1024} MiB", "is it the right file?")
    return data


def _why(error: ssl.SSLError) -> str:
    return f" by OpenSSL: {error.reason.replace('_', ' ').lower()}" if error.reason else ""
