"""Answers to challenges: exact paths alone, and in handshakes only for who offers acme-tls/1; all others get what they always do.

Handshakes go through memory, in pieces too; no socket is opened.
"""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trustme
from cryptography import x509

from slmgate.dataplane.challenges import ACME_TLS, PREFIX, Pending, is_answered
from slmgate.link.messages import Challenges

CA = trustme.CA()
NAME, OTHER = "gate.example.com", "other.example.com"


def pem(*names: str) -> bytes:
    made = CA.issue_cert(*names)
    return b"".join(one.bytes() for one in made.cert_chain_pems) + made.private_key_pem.bytes()


ANSWER = Challenges(7, {}, {NAME: pem(NAME, "answer.test")})
NOTHING = Challenges(8)
_OFFER = b"\0\x10\0\x0d\0\x0b\x0aacme-tls/1"
_HELLO = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\xc0\x2b" + b"\1\0" + b"\0\x15" + _OFFER + b"\0\0\xff\xff"
OFFERS_AND_BREAKS = b"\x16\x03\x01\0" + bytes((len(_HELLO) + 4,)) + b"\1\0\0" + bytes((len(_HELLO),)) + _HELLO
"""A ClientHello that offers acme-tls/1 and then breaks off: OpenSSL hands it out, and refuses it before it comes to any name."""


@pytest.fixture
def listener() -> ssl.SSLContext:
    """How a listener speaks: one certificate, HTTP/1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    CA.issue_cert(NAME, OTHER).configure_cert(context)
    return context


class Handshake:
    """One between a client of OpenSSL and `context`, with what came of it."""

    def __init__(self, context: ssl.SSLContext, *offered: str, name: str | None = NAME, piece: int = 10_000) -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.load_verify_locations(cadata=CA.cert_pem.bytes().decode())
        if offered:
            client.set_alpn_protocols(list(offered))
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        sent, received = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(down, up, server_hostname=name)
        self.server = context.wrap_bio(received, sent, server_side=True)
        done = False
        for _ in range(2000):
            done = self._turn(self.client)
            while data := up.read(piece):
                received.write(data)
                done = self._turn(self.server) and done
            down.write(sent.read())
            if done:
                break
        assert done, "no handshake"
        der = self.client.getpeercert(binary_form=True)
        assert der is not None
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.shown = set(names.get_values_for_type(x509.DNSName))
        self.spoken = self.client.selected_alpn_protocol()

    @staticmethod
    def _turn(side: ssl.SSLObject) -> bool:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def get_extra_info(self, name: str) -> Any:
        """As the transport of the server's side."""
        return self.server if name == "ssl_object" else None


def is_the_answer(made: Handshake) -> bool:
    answered = "answer.test" in made.shown
    assert (made.spoken == ACME_TLS) is answered
    assert is_answered(made) is answered  # type: ignore[arg-type]  # stands for a transport
    return answered


def test_a_token_is_answered_at_its_path_and_nowhere_else() -> None:
    pending = Pending()
    assert pending.text(f"{PREFIX}tok") is None
    pending.take(Challenges(1, {"tok": "tok.print"}), [])
    assert pending.text(f"{PREFIX}tok") == b"tok.print"
    for path in (
        PREFIX,
        f"{PREFIX}tok/",
        f"{PREFIX}TOK",
        f"{PREFIX}to",
        f"{PREFIX}tok?x",
        f"/{PREFIX}tok",
        "/tok",
        f"{PREFIX}%74ok",
    ):
        assert pending.text(path) is None
    pending.take(NOTHING, [])
    assert pending.text(f"{PREFIX}tok") is None and not pending.ever


def test_who_offers_the_protocol_is_shown_the_answer_and_nobody_else(listener: ssl.SSLContext) -> None:
    pending = Pending()
    assert not is_the_answer(Handshake(listener, ACME_TLS)), "nothing is pending"
    pending.take(ANSWER, [listener])
    assert is_the_answer(Handshake(listener, ACME_TLS))
    assert is_the_answer(Handshake(listener, "http/1.1", ACME_TLS)), "beside others as well"
    assert is_the_answer(Handshake(listener, ACME_TLS, name=NAME.upper()))
    assert not is_the_answer(Handshake(listener))
    assert not is_the_answer(Handshake(listener, ACME_TLS, name=OTHER)), "another name"
    assert not is_the_answer(Handshake(listener, ACME_TLS, name=None)), "no name"
    usual = Handshake(listener, "h2", "http/1.1")
    assert not is_the_answer(usual) and usual.spoken == "http/1.1"
    assert pending.ever
    pending.take(NOTHING, [listener])
    assert not is_the_answer(Handshake(listener, ACME_TLS)) and pending.ever
    assert listener.sni_callback is None


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_a_client_hello_in_pieces(listener: ssl.SSLContext, piece: int) -> None:
    pending = Pending()
    pending.take(ANSWER, [listener])
    assert is_the_answer(Handshake(listener, ACME_TLS, piece=piece))
    assert not is_the_answer(Handshake(listener, "http/1.1", piece=piece))


def test_the_choice_by_name_goes_on_beside_it(listener: ssl.SSLContext) -> None:
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(OTHER, "second.test").configure_cert(other)

    def chosen(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        if name == OTHER:
            connection.context = other

    listener.sni_callback = chosen
    pending = Pending()
    pending.take(ANSWER, [listener])
    assert "second.test" in Handshake(listener, name=OTHER).shown
    assert "second.test" in Handshake(listener, ACME_TLS, name=OTHER).shown
    assert is_the_answer(Handshake(listener, ACME_TLS))
    pending.take(NOTHING, [listener])
    assert listener.sni_callback is chosen


def test_contexts_that_come_while_something_is_pending_look_too(listener: ssl.SSLContext) -> None:
    pending = Pending()
    pending.take(ANSWER, [])
    assert not is_the_answer(Handshake(listener, ACME_TLS))
    pending.dress([listener])
    pending.dress([listener])
    assert is_the_answer(Handshake(listener, ACME_TLS))
    pending.dress([])
    assert not is_the_answer(Handshake(listener, ACME_TLS))


def test_a_handshake_that_began_before_is_not_taken_for_one_that_offers(listener: ssl.SSLContext) -> None:
    """Its own ClientHello was not looked at, and what another one offered is that one's alone."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    up, received, sent = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    early = client.wrap_bio(ssl.MemoryBIO(), up, server_hostname=NAME)
    server = listener.wrap_bio(received, sent, server_side=True)
    pending = Pending()
    pending.take(ANSWER, [listener])
    broken = listener.wrap_bio(other := ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    other.write(OFFERS_AND_BREAKS)
    with pytest.raises(ssl.SSLError):
        broken.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        early.do_handshake()
    received.write(up.read())
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    assert server.context is listener


def test_rubbish_in_place_of_a_handshake(listener: ssl.SSLContext) -> None:
    pending = Pending()
    pending.take(ANSWER, [listener])
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", bytes(64)):
        received = ssl.MemoryBIO()
        server = listener.wrap_bio(received, ssl.MemoryBIO(), server_side=True)
        received.write(data)
        with pytest.raises(ssl.SSLError):
            server.do_handshake()
    assert is_the_answer(Handshake(listener, ACME_TLS))


def test_a_certificate_that_cannot_be_used_is_refused(listener: ssl.SSLContext) -> None:
    pending = Pending()
    with pytest.raises(ssl.SSLError):
        pending.take(Challenges(1, {}, {NAME: b"rubbish"}), [listener])
    assert "0 certificates" in repr(pending)


def test_a_connection_without_tls_is_none_of_them() -> None:
    class Plain:
        def get_extra_info(self, _: str) -> None:
            return None

    assert not is_answered(Plain())  # type: ignore[arg-type]  # stands for a transport


def test_a_listener_that_requires_certificates_keeps_the_authority_out(listener: ssl.SSLContext) -> None:
    """Which is a fault of the configuration (`acme_checks.py`): what is required was chosen before a name was heard."""
    listener.verify_mode = ssl.CERT_REQUIRED
    listener.maximum_version = ssl.TLSVersion.TLSv1_2
    Pending().take(ANSWER, [listener])
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        Handshake(listener, ACME_TLS)
