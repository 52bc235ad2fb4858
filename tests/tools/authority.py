"""Certificates for the tests of TLS: an authority of the test's own, the gate's certificate and those of clients.

It writes the files that the gate's configuration names, and makes the contexts with which clients connect. It knows nothing of
what the gate makes of them.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.tools.wire import Wire


class Authority:
    """One authority; its files stand in `home`."""

    def __init__(self, home: Path) -> None:
        self.ca = trustme.CA()
        self.home = home
        self.home.mkdir(parents=True, exist_ok=True)
        self.file = home / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def server(
        self,
        name: str = "gate",
        *hosts: str,
        kind: trustme.KeyType = trustme.KeyType.ECDSA,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> dict[str, str]:
        """An entry of `listen[].tls.certificates`."""
        names = hosts or ("127.0.0.1", "localhost")
        made = self.ca.issue_cert(*names, key_type=kind, not_before=not_before, not_after=not_after)
        cert, key = self.home / f"{name}.pem", self.home / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(key)
        return {"cert": str(cert), "key": str(key)}

    def crl(self, *revoked: trustme.LeafCert, ends: timedelta = timedelta(days=1), name: str = "clients.crl") -> Path:
        """A revocation list, in a file that is replaced at once."""
        now = datetime.now(UTC)
        own = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        built = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(own.subject)
            .last_update(now - timedelta(days=2))
            .next_update(now + ends)
        )
        for one in revoked:
            serial = serial_of(one.cert_chain_pems[0].bytes())
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - timedelta(hours=1)).build()
            built = built.add_revoked_certificate(entry)
        key = serialization.load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        made = built.sign(key, hashes.SHA256())  # type: ignore[arg-type]  # trustme's authorities have keys that can sign
        fresh = self.home / f"{name}.new"
        fresh.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return fresh.replace(self.home / name)

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


def serial_of(pem: bytes) -> int:
    """The serial number of a certificate (PEM)."""
    return x509.load_pem_x509_certificate(pem).serial_number


class TlsWire(Wire):
    """A raw client over TLS, with `tls` as its socket; `ssl.SSLError` and `ConnectionError` are the test's affair."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        timeout: float = 10.0,
        *,
        name: str | None = "127.0.0.1",
        session: ssl.SSLSession | None = None,
    ) -> None:
        """`name` is whom the client asks for, None: nobody (then its context must check no name)."""
        super().__init__(port, timeout)
        plain = self.socket
        try:
            self.tls = self.socket = context.wrap_socket(plain, server_hostname=name, session=session)
        except OSError:
            plain.close()
            raise

    def __enter__(self) -> TlsWire:
        return self
