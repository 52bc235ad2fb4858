"""Certificates for the tests of TLS: an authority of the test's own, the gate's certificate and those of clients.

It writes the files that the gate's configuration names, and makes the contexts with which clients connect. It knows nothing of
what the gate makes of them.
"""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

import trustme

from tests.tools.wire import Wire


class Authority:
    """One authority; its files stand in `home`."""

    def __init__(self, home: Path) -> None:
        self.ca = trustme.CA()
        self.home = home
        self.home.mkdir(parents=True, exist_ok=True)
        self.file = home / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def server(self, name: str = "gate", *hosts: str) -> dict[str, str]:
        """An entry of `listen[].tls.certificates`."""
        made = self.ca.issue_cert(*(hosts or ("127.0.0.1", "localhost")))
        cert, key = self.home / f"{name}.pem", self.home / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(key)
        return {"cert": str(cert), "key": str(key)}

    def client(
        self,
        name: str | None,
        *more: str,
        organization: str | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> trustme.LeafCert:
        """A client's certificate with this common name, and with `more` as its alternative names."""
        return self.ca.issue_cert(
            *(more or ("client.test",)),
            common_name=name,
            organization_name=organization,
            not_before=not_before,
            not_after=not_after,
        )

    def context(self, shown: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """How a client connects that trusts this authority, and shows that certificate."""
        context = ssl.create_default_context(cadata=self.file.read_text())
        if shown is not None:
            shown.configure_cert(context)
        return context


class TlsWire(Wire):
    """A raw client over TLS, with `tls` as its socket; `ssl.SSLError` and `ConnectionError` are the test's affair."""

    def __init__(self, port: int, context: ssl.SSLContext, timeout: float = 10.0) -> None:
        super().__init__(port, timeout)
        plain = self.socket
        try:
            self.tls = self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        except OSError:
            plain.close()
            raise

    def __enter__(self) -> TlsWire:
        return self
