"""TLS towards clients, handshakes and all, in memory: what is spoken, whose certificate is taken, what it says.

Sockets and the loop are in tests/system/test_certificates.py.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from slmgate.dataplane.tls import certificate_of, read_certificate, server_context
from slmgate.link.orders import TlsOrders
from tests.tools.authority import Authority

PEER: dict[str, object] = {
    "subject": ((("organizationName", "acme"),), (("commonName", "bot"), ("commonName", "second")), (("emailAddress", "a@b"),)),
    "issuer": ((("commonName", "ca"),),),
    "notAfter": "Jan  2 00:00:00 1970 GMT",
    "subjectAltName": (("DNS", "a.b"), ("DNS", "c.d"), ("URI", "spiffe://a/b"), ("email", "x@y"), ("IP Address", "1.2.3.4")),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def orders(authority: Authority, **options: Any) -> TlsOrders:
    own = authority.server()
    return TlsOrders(certificate=own["cert"], key=own["key"], **options)


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake; raises what either of them says."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    left = [theirs, ours]
    for _ in range(10):
        for end in tuple(left):
            try:
                end.do_handshake()
                left.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not left
    return ours, theirs


class Transport:
    """As much of the loop's transport as is looked at."""

    def __init__(self, end: ssl.SSLObject | None) -> None:
        self.end = end

    def get_extra_info(self, name: str) -> object:
        assert name == "peercert"
        return None if self.end is None else self.end.getpeercert()


def test_what_is_spoken(authority: Authority) -> None:
    client = authority.context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    ours, _ = shaken(server_context(orders(authority)), client)
    assert (ours.version(), ours.selected_alpn_protocol(), ours.compression()) == ("TLSv1.3", "http/1.1", None)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    ours, theirs = shaken(server_context(orders(authority)), client)
    cipher = ours.cipher()
    assert cipher is not None and cipher[0].startswith("ECDHE-")
    assert theirs.session is not None and not theirs.session.has_ticket
    with pytest.raises(ssl.SSLError):
        shaken(server_context(orders(authority, min_version="1.3")), client)


def test_only_forward_secrecy_and_authenticated_encryption(authority: Authority) -> None:
    context = server_context(orders(authority))
    for cipher in context.get_ciphers():
        assert cipher["protocol"] == "TLSv1.3" or (cipher["name"].startswith("ECDHE-") and cipher["aead"]), cipher
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_whose_certificate_is_taken(authority: Authority, tmp_path: Path) -> None:
    bot = authority.context(authority.client("bot"))
    optional = server_context(orders(authority, client_ca=str(authority.file)))
    ours, _ = shaken(optional, bot)
    found = certificate_of(cast(Any, Transport(ours)))
    assert found is not None and found.names["subject_cn"] == ("bot",)
    ours, _ = shaken(optional, authority.context())
    assert certificate_of(cast(Any, Transport(ours))) is None
    required = server_context(orders(authority, client_ca=str(authority.file), client_required=True))
    shaken(required, bot)
    now = datetime.now(UTC)
    old = authority.client("old", not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))
    for shown in (None, Authority(tmp_path).client("bot"), old):
        with pytest.raises(ssl.SSLError):
            shaken(required, authority.context(shown))


def test_who_is_not_asked_shows_none(authority: Authority) -> None:
    ours, _ = shaken(server_context(orders(authority)), authority.context(authority.client("bot")))
    assert certificate_of(cast(Any, Transport(ours))) is None
    assert certificate_of(cast(Any, Transport(None))) is None


def test_what_a_certificate_says() -> None:
    found = read_certificate(PEER)
    assert found.names == {
        "subject_o": ("acme",),
        "subject_cn": ("bot", "second"),
        "subject_email": ("a@b",),
        "san_dns": ("a.b", "c.d"),
        "san_uri": ("spiffe://a/b",),
        "san_email": ("x@y",),
    }
    assert found.until == 86_400
    assert found.issuer != read_certificate(PEER | {"issuer": ((("commonName", "cb"),),)}).issuer
    assert read_certificate({"notAfter": PEER["notAfter"]}).names == {}


def test_files_that_are_gone(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        server_context(TlsOrders(certificate=str(tmp_path / "none.pem"), key=str(tmp_path / "none.key")))
    with pytest.raises(OSError):
        server_context(orders(authority, client_ca=str(tmp_path / "none.pem")))
