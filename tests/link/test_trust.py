"""Contexts towards instances, held against servers of every kind by handshakes in memory: who is believed, and the words."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from slmgate.link.trust import NO_HANDSHAKE, Trusts, client_context, why_not
from slmgate.policy.specs import TrustSpec
from tests.tools.authority import Authority

NOW = datetime.now(UTC)
PAST: dict[str, Any] = {"not_before": NOW - timedelta(days=9), "not_after": NOW - timedelta(days=2)}
FUTURE: dict[str, Any] = {"not_before": NOW + timedelta(days=2), "not_after": NOW + timedelta(days=9)}
HOST = "vllm.test"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


def server(shown: trustme.LeafCert, client_ca: Authority | None = None, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.configure_cert(context)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        client_ca.ca.configure_trust(context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is the point that these versions are old
        for name, value in options.items():
            setattr(context, name, value)
    if "maximum_version" in options:
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


class Ends:
    """Both ends of a connection in memory. `shake` raises what the client's end raises."""

    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext, name: str = HOST) -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(down, up, server_hostname=name)
        self.server = server.wrap_bio(up, down, server_side=True)

    def shake(self) -> None:
        left: dict[str, Callable[[], Any]] = {"client": self.client.do_handshake, "server": self.server.do_handshake}
        for _ in range(10):
            for who in list(left):
                try:
                    left[who]()
                    del left[who]
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    if who == "client":
                        raise
                    del left[who]  # its alert is on the way
        if not left:
            self.client.read(1)  # with TLS 1.3 the refusal of a client's certificate comes after its end of the handshake


def refused(spec: TrustSpec, by: ssl.SSLContext, name: str = HOST) -> str | None:
    """In which words a server is not believed; None: it is."""
    try:
        Ends(client_context(spec), by, name).shake()
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLError as error:
        return why_not(error, name)
    return "it said something"


def test_by_default_the_system_is_believed_and_nobody_else(authority: Authority) -> None:
    context = client_context(TrustSpec())
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    assert not context.hostname_checks_common_name
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert refused(TrustSpec(), server(authority.ca.issue_cert(HOST))) == "its certificate is from an unknown authority"


@pytest.mark.parametrize("name", [HOST, "10.0.0.5"])
def test_an_authority_of_ones_own(authority: Authority, name: str) -> None:
    assert refused(TrustSpec(ca=str(authority.file)), server(authority.ca.issue_cert(HOST, "10.0.0.5")), name) is None


def test_who_is_not_believed(authority: Authority, stranger: Authority) -> None:
    spec = TrustSpec(ca=str(authority.file))
    issue = authority.ca.issue_cert
    assert refused(spec, server(stranger.ca.issue_cert(HOST))) == "its certificate is from an unknown authority"
    assert refused(spec, server(issue(HOST, **PAST))) == "its certificate has expired"
    assert refused(spec, server(issue(HOST, **FUTURE))) == "its certificate is not valid yet"
    assert refused(spec, server(issue("other.test"))) == f"its certificate is not for {HOST}"
    assert refused(spec, server(issue(HOST)), "10.0.0.5") == "its certificate is not for 10.0.0.5"
    assert refused(spec, server(issue("other.test", common_name=HOST))) == f"its certificate is not for {HOST}"
    assert refused(spec, server(issue("*.test")), "a.b.test") == "its certificate is not for a.b.test"


def test_signed_by_itself(authority: Authority, tmp_path: Path) -> None:
    """Nobody vouches for it; where its certificate stands among the authorities, it may."""
    alone = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = tmp_path / "own.pem"
    file.write_bytes(alone.cert_pem.bytes() + alone.private_key_pem.bytes())
    context.load_cert_chain(file)
    words = "its certificate is signed by itself, and by no authority that is trusted"
    assert refused(TrustSpec(ca=str(authority.file)), context) == words
    leaf = authority.ca.issue_cert(HOST)
    pinned = tmp_path / "leaf.pem"
    pinned.write_bytes(leaf.cert_chain_pems[0].bytes())
    assert refused(TrustSpec(ca=str(pinned)), server(leaf)) is None
    assert refused(TrustSpec(ca=str(pinned)), server(authority.ca.issue_cert(HOST))) is not None


@pytest.mark.parametrize(("newest", "words"), [("TLSv1_1", "it speaks no TLS of version 1.2 or newer"), ("TLSv1_2", None)])
def test_versions(authority: Authority, newest: str, words: str | None) -> None:
    old = server(
        authority.ca.issue_cert(HOST), minimum_version=ssl.TLSVersion.TLSv1, maximum_version=getattr(ssl.TLSVersion, newest)
    )
    assert refused(TrustSpec(ca=str(authority.file)), old) == words
    assert refused(TrustSpec(verify=False), old) == words


def test_whoever_answers(stranger: Authority) -> None:
    assert refused(TrustSpec(verify=False), server(stranger.ca.issue_cert("other.test", **PAST))) is None


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate(authority: Authority, stranger: Authority, newest: ssl.TLSVersion) -> None:
    asks = server(authority.ca.issue_cert(HOST), client_ca=authority)
    asks.maximum_version = newest
    ours, theirs = authority.server("ours", "gate.test"), stranger.server("theirs", "gate.test")
    ca = str(authority.file)
    assert refused(TrustSpec(ca=ca, cert=ours["cert"], key=ours["key"]), asks) is None
    assert "client certificate" in str(refused(TrustSpec(ca=ca), asks))
    words = "it does not know the authority of the client certificate of tls.cert"
    assert refused(TrustSpec(ca=ca, cert=theirs["cert"], key=theirs["key"]), asks) == words


def test_each_context_is_made_once(authority: Authority) -> None:
    trusts = Trusts()
    spec = TrustSpec(ca=str(authority.file), stamp="1")
    made = trusts.context(spec)
    assert isinstance(made, ssl.SSLContext)
    assert trusts.context(spec) is made
    assert trusts.context(TrustSpec(ca=str(authority.file), verify=False)) is not made
    renewed = trusts.context(TrustSpec(ca=str(authority.file), stamp="2"))
    assert renewed is not made
    assert repr(trusts) == "<Trusts: 2>"


def test_files_that_have_gone_bad(authority: Authority, tmp_path: Path) -> None:
    """What was made before stays, and it is said once; where nothing was made, there is a word in its place."""
    said: list[str] = []
    trusts = Trusts(said.append)
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.file.read_bytes())
    made = trusts.context(TrustSpec(ca=str(file), stamp="1"))
    file.write_text("no certificate")
    assert trusts.context(TrustSpec(ca=str(file), stamp="2")) is made
    assert trusts.context(TrustSpec(ca=str(file), stamp="2")) is made
    (one,) = said
    assert one.startswith(f"TLS towards instances goes on with what was read before: {file} cannot be used (")
    file.unlink()
    words = Trusts(said.append).context(TrustSpec(ca=str(file)))
    assert words == "the TLS files for it cannot be used: No such file or directory"
    assert len(said) == 2


def test_a_key_with_a_password_is_not_asked_for(authority: Authority, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(OSError):
        client_context(TrustSpec(cert=authority.server("x")["cert"], key=str(locked)))


def chained(*causes: BaseException) -> BaseException:
    """The first one, caused by the next and so on, as HTTP clients raise them."""
    for failure, cause in pairwise(causes):
        failure.__cause__ = cause
    return causes[0]


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def test_words() -> None:
    assert why_not(ConnectionRefusedError(), "a") is None
    assert why_not(TimeoutError(), "a") is None
    plain = ssl_error("WRONG_VERSION_NUMBER")
    words = "it does not speak TLS there: is it plain HTTP, or another port?"
    assert why_not(chained(httpx.ConnectError("x"), OSError("y"), plain), "a") == words
    assert why_not(ssl_error("SOME_NEW_REASON"), "a") == "TLS fails: some new reason"
    assert why_not(ssl_error(""), "a") == "TLS fails: for no reason that is known"
    other = ssl.SSLCertVerificationError(1, "x")
    other.verify_code, other.verify_message = 99, "something else"
    assert why_not(other, "a") == "its certificate does not count: something else"


def test_the_end_of_a_connection_is_the_handshakes_only_while_it_opens() -> None:
    for ended in (ConnectionResetError(), ssl_error("UNEXPECTED_EOF_WHILE_READING")):
        assert why_not(ended, "a") == NO_HANDSHAKE
        assert why_not(ended, "a", opening=False) is None
    assert why_not(ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "a", opening=False) is not None
