"""PEM texts into an `ssl.SSLContext`, which by itself takes certificates, keys and revocation lists from files only.

They go in over files that exist in memory and have no name, and are gone before the call returns: a key never touches a disk.
Control tries so what the workers then do in the same way. This module knows no listener.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """A path at which `data` can be read for a moment, by this process."""
    fd = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def load_identity(context: ssl.SSLContext, chain: bytes, key: bytes, password: Callable[[], str] | None = None) -> None:
    """Show this certificate, with its key. A second one of another kind of key is shown beside. Raises ssl.SSLError.

    `password` is called where the key is encrypted; None: then it is refused.
    """
    with as_file(chain) as certificate, as_file(key) as secret:
        context.load_cert_chain(certificate, secret, password or "")


def load_trusted(context: ssl.SSLContext, pem: bytes) -> None:
    """Trust these authorities, or believe these revocation lists. Raises ssl.SSLError."""
    with as_file(pem) as path:
        context.load_verify_locations(path)
