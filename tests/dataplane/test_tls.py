"""TLS towards clients, handshakes and all, in memory: what is spoken, whose certificate is taken, what it says.

Sockets and the loop are in tests/system/test_certificates.py.
"""

from __future__ import annotations

import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from slmgate.control.config.tlsfiles import read_identity
from slmgate.dataplane.tls import Front, Fronts, accepting, certificate_of, context_of, read_certificate, server_context
from slmgate.dataplane.worker import _unraisable
from slmgate.link.tls import Identity, Tls, TlsSpec
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


def spec(*identities: Identity, **options: Any) -> TlsSpec:
    return TlsSpec(name="a:1", identities=identities, **options)


def identity(authority: Authority, *hosts: str, kind: trustme.KeyType = trustme.KeyType.ECDSA, name: str = "gate") -> Identity:
    """The gate's certificate for these names, as control finds it."""
    read = read_identity(*map(Path, authority.server(name, *hosts, kind=kind).values()))
    assert isinstance(read, Identity)
    return read


@pytest.fixture(scope="module")
def own(authority: Authority) -> Identity:
    return identity(authority, "localhost")


def made(spec: TlsSpec, ticket_key: bytes = b"") -> ssl.SSLContext:
    return server_context(spec, spec.identities, ticket_key)


def shaken(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = "localhost", session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake and some bytes each way; raises what either of them says."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
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
    ours.write(b"x")
    assert theirs.read() == b"x"  # tickets of TLS 1.3 come with it
    return ours, theirs


def shown(ends: tuple[ssl.SSLObject, ssl.SSLObject]) -> tuple[list[str], str]:
    """For whom the certificate is that was shown, and the kind of its key."""
    der = ends[1].getpeercert(binary_form=True)
    assert der is not None
    leaf = x509.load_der_x509_certificate(der)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    return names, "RSA" if isinstance(leaf.public_key(), rsa.RSAPublicKey) else "ECDSA"


class Transport:
    """As much of the loop's transport as is looked at."""

    def __init__(self, end: ssl.SSLObject | None) -> None:
        self.end = end

    def get_extra_info(self, name: str) -> object:
        assert name == "peercert"
        return None if self.end is None else self.end.getpeercert()


def test_what_is_spoken(authority: Authority, own: Identity) -> None:
    client = authority.context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    ours, _ = shaken(made(spec(own)), client)
    assert (ours.version(), ours.selected_alpn_protocol(), ours.compression()) == ("TLSv1.3", "http/1.1", None)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    ours, _ = shaken(made(spec(own)), client)
    cipher = ours.cipher()
    assert cipher is not None and cipher[0].startswith("ECDHE-")
    with pytest.raises(ssl.SSLError):
        shaken(made(spec(own, min_version="1.3")), client)


def test_only_forward_secrecy_and_authenticated_encryption(own: Identity) -> None:
    context = made(spec(own))
    for cipher in context.get_ciphers():
        assert cipher["protocol"] == "TLSv1.3" or (cipher["name"].startswith("ECDHE-") and cipher["aead"]), cipher
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_whose_certificate_is_taken(authority: Authority, own: Identity, tmp_path: Path) -> None:
    bot = authority.context(authority.client("bot"))
    optional = made(spec(own, client_ca=authority.file.read_bytes()))
    ours, _ = shaken(optional, bot)
    found = certificate_of(cast(Any, Transport(ours)))
    assert found is not None and found.names["subject_cn"] == ("bot",)
    ours, _ = shaken(optional, authority.context())
    assert certificate_of(cast(Any, Transport(ours))) is None
    required = made(spec(own, client_ca=authority.file.read_bytes(), client_required=True))
    shaken(required, bot)
    now = datetime.now(UTC)
    old = authority.client("old", not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))
    for shown in (None, Authority(tmp_path).client("bot"), old):
        with pytest.raises(ssl.SSLError):
            shaken(required, authority.context(shown))


def test_a_name_that_is_none_says_nothing(
    authority: Authority, own: Identity, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Anybody could fill the log with what the ssl module says of it."""
    monkeypatch.setattr(sys, "unraisablehook", _unraisable)
    front = Front(spec(own, identity(authority, "b.example", name="b")))
    up, down, sent, received = (ssl.MemoryBIO() for _ in range(4))
    client = authority.context().wrap_bio(down, up, server_hostname="strange")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    received.write(up.read().replace(b"strange", b"str\xe4nge"))
    with pytest.raises(ssl.SSLError):
        front.context.wrap_bio(received, sent, server_side=True).do_handshake()
    assert sent.read()[:1] == b"\x15", "an alert"
    assert capfd.readouterr().err == ""


def test_who_is_not_asked_shows_none(authority: Authority, own: Identity) -> None:
    ours, _ = shaken(made(spec(own)), authority.context(authority.client("bot")))
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


# --- revocation lists


def test_who_is_revoked_is_refused(authority: Authority, own: Identity) -> None:
    good, bad = authority.client("good"), authority.client("bad")
    options: dict[str, Any] = {"client_ca": authority.file.read_bytes(), "crl": authority.crl(bad).read_bytes()}
    shaken(made(spec(own, **options)), authority.context(good))
    shaken(made(spec(own, **options)), authority.context())
    with pytest.raises(ssl.SSLError):
        shaken(made(spec(own, **options)), authority.context(bad))


def test_a_list_that_has_ended_lets_nobody_in(authority: Authority, own: Identity) -> None:
    """As with nginx; who shows no certificate is let in as before."""
    crl = authority.crl(ends=-timedelta(hours=1)).read_bytes()
    context = made(spec(own, client_ca=authority.file.read_bytes(), crl=crl))
    with pytest.raises(ssl.SSLError):
        shaken(context, authority.context(authority.client("good")))
    shaken(context, authority.context())


# --- resumption


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_ticket_is_good_at_every_worker(authority: Authority, own: Identity, version: ssl.TLSVersion) -> None:
    one, other, strange = (made(spec(own), key) for key in (b"k" * 80, b"k" * 80, b"s" * 80))
    client = authority.context()
    client.minimum_version = client.maximum_version = version
    first = shaken(one, client)
    assert not first[0].session_reused
    session = first[1].session
    assert session is not None and session.has_ticket
    ours, theirs = shaken(other, client, session=session)
    assert ours.session_reused and theirs.session_reused
    ours, _ = shaken(strange, client, session=session)
    assert not ours.session_reused, "a ticket of another key is no ticket, and no failure"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_shows_a_certificate_shows_it_each_time(authority: Authority, own: Identity, version: ssl.TLSVersion) -> None:
    context = made(spec(own, client_ca=authority.file.read_bytes()), b"k" * 80)
    for client in (authority.context(authority.client("bot")), authority.context()):
        client.minimum_version = client.maximum_version = version
        _, theirs = shaken(context, client)
        ours, _ = shaken(context, client, session=theirs.session)
        assert not ours.session_reused


# --- names


@pytest.fixture(scope="module")
def several(authority: Authority) -> list[Identity]:
    rsa_kind, ecdsa = trustme.KeyType.RSA, trustme.KeyType.ECDSA
    return [
        identity(authority, "first.example", kind=ecdsa, name="0"),
        identity(authority, "a.example", "b.example", kind=ecdsa, name="1"),
        identity(authority, "a.example", kind=rsa_kind, name="2"),
        identity(authority, "*.wild.example", "x.wild.example", kind=ecdsa, name="3"),
        identity(authority, "*.wild.example", kind=rsa_kind, name="4"),
        identity(authority, "y.wild.example", kind=ecdsa, name="5"),
    ]


@pytest.mark.parametrize(
    ("name", "ciphers", "expected"),
    [
        ("a.example", "ECDSA", (["a.example", "b.example"], "ECDSA")),
        ("A.EXAMPLE", "RSA", (["a.example"], "RSA")),
        ("b.example", "ECDSA", (["a.example", "b.example"], "ECDSA")),
        ("z.wild.example", "ECDSA", (["*.wild.example", "x.wild.example"], "ECDSA")),
        ("z.wild.example", "RSA", (["*.wild.example"], "RSA")),
        ("x.wild.example", "RSA", (["*.wild.example"], "RSA")),
        ("y.wild.example", "ECDSA", (["y.wild.example"], "ECDSA")),
        ("y.wild.example", "RSA", (["*.wild.example"], "RSA")),
        ("two.labels.wild.example", "ECDSA", (["first.example"], "ECDSA")),
        ("wild.example", "ECDSA", (["first.example"], "ECDSA")),
        ("elsewhere.example", "ECDSA", (["first.example"], "ECDSA")),
        (None, "ECDSA", (["first.example"], "ECDSA")),
    ],
)
def test_which_certificate_is_shown(
    authority: Authority, several: list[Identity], name: str | None, ciphers: str, expected: tuple[list[str], str]
) -> None:
    front = Front(spec(*several))
    client = authority.context()
    client.check_hostname = False
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(f"ECDHE+AESGCM+a{ciphers}")
    assert front.several
    assert shown(shaken(front.context, client, name)) == expected
    client.maximum_version = ssl.TLSVersion.TLSv1_3
    assert shown(shaken(front.context, client, name))[0], "TLS 1.3 chooses too"


def test_both_kinds_for_the_same_names_are_one_context(authority: Authority) -> None:
    kinds = (trustme.KeyType.RSA, trustme.KeyType.ECDSA)
    front = Front(spec(*(identity(authority, "a.example", kind=kind, name=str(kind)) for kind in kinds)))
    assert not front.several and front.context.sni_callback is None
    client = authority.context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    for kind in ("RSA", "ECDSA"):
        client.set_ciphers(f"ECDHE+AESGCM+a{kind}")
        assert shown(shaken(front.context, client, "a.example"))[1] == kind


@pytest.mark.parametrize(
    ("name", "host", "misdirected"),
    [
        ("a.example", "a.example", False),
        ("a.example", "b.example", False),  # the same certificate is for it
        ("b.example", "a.example", False),
        ("a.example", "first.example", True),
        ("first.example", "a.example", True),
        (None, "z.wild.example", True),
        ("z.wild.example", "x.wild.example", False),
        ("z.wild.example", "y.wild.example.", False),  # its wildcard is for it
        ("y.wild.example", "z.wild.example", False),  # by the RSA certificate beside it
        ("a.example", "elsewhere.example", False),  # no certificate here is for it
        ("a.example", "127.0.0.1", False),
        ("a.example", "[::1]", False),
    ],
)
def test_misdirected(authority: Authority, several: list[Identity], name: str | None, host: str, misdirected: bool) -> None:
    front = Front(spec(*several))
    client = authority.context()
    client.check_hostname = False
    ours, _ = shaken(front.context, client, name)
    assert front.is_misdirected(host, ours.context) is misdirected


# --- new orders


def test_only_what_differs_is_built_anew(authority: Authority, own: Identity) -> None:
    fronts = Fronts()
    assert fronts.get("a:1") is None
    one, other = spec(own), msgspec.structs.replace(spec(own), name="b:2", client_ca=authority.file.read_bytes())
    assert fronts.take(Tls((one, other), b"k" * 80))
    a, b = fronts.get("a:1"), fronts.get("b:2")
    assert not fronts.take(Tls((one,), b"k" * 80)), "what is not spoken of goes on"
    assert (fronts.get("a:1"), fronts.get("b:2")) == (a, b)
    assert fronts.take(Tls((msgspec.structs.replace(one, min_version="1.3"), other), b"k" * 80))
    assert fronts.get("a:1") is not a and fronts.get("b:2") is b


def test_a_new_ticket_key_needs_no_new_context(authority: Authority, own: Identity) -> None:
    fronts = Fronts()
    asking = msgspec.structs.replace(spec(own), name="b:2", client_ca=authority.file.read_bytes())
    fronts.take(Tls((spec(own), asking), b"k" * 80))
    front, client = fronts.get("a:1"), authority.context()
    assert front is not None
    session = shaken(front.context, client)[1].session
    assert shaken(front.context, client, session=session)[0].session_reused
    assert not fronts.take(Tls((spec(own), asking), b"n" * 80))
    ours, theirs = shaken(front.context, client, session=session)
    assert not ours.session_reused
    assert shaken(front.context, client, session=theirs.session)[0].session_reused


def test_what_cannot_be_used_changes_nothing(authority: Authority, own: Identity) -> None:
    fronts = Fronts()
    fronts.take(Tls((spec(own),)))
    before = fronts.get("a:1")
    other = identity(authority, "localhost", name="other")
    with pytest.raises(ssl.SSLError):
        fronts.take(Tls((spec(msgspec.structs.replace(own, key=other.key)),)))
    assert fronts.get("a:1") is before


def test_how_connections_are_accepted(own: Identity) -> None:
    assert accepting(None) == {}
    front = Front(spec(own))
    assert context_of(None) is None and context_of(front) is front.context
    assert accepting(front.context)["ssl_handshake_timeout"] == 5
