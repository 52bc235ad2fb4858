"""Every way in which the TLS files of a configuration can be wrong, and where a load says so.

The files are made by the tests' own authority; OpenSSL is the one that the gate itself uses.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slmgate.control.config import load_text
from slmgate.control.config.tls_options import ListenTls, ServerCertificate
from slmgate.control.config.tlsfiles import (
    MAX_BYTES,
    FileFault,
    authorities_fault,
    crl_ends,
    crl_fault,
    files_of,
    never_shown,
    read_crl,
    read_identity,
    read_listener,
)
from slmgate.link.tls import Identity, TlsSpec
from tests.tools.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    for name in ("gate", "other"):
        made.server(name, "localhost")
    key = serialization.load_pem_private_key((made.home / "gate.key").read_bytes(), None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    (made.home / "sealed.key").write_bytes(sealed)
    (made.home / "both.pem").write_bytes((made.home / "gate.key").read_bytes() + (made.home / "gate.pem").read_bytes())
    (made.home / "empty").write_bytes(b"")
    (made.home / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    (made.home / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (made.home / "broken.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    return made


@pytest.mark.parametrize(
    ("cert", "key", "option", "problem"),
    [
        ("gate.pem", "gate.key", "", ""),
        ("both.pem", "both.pem", "", ""),
        ("none.pem", "gate.key", "cert", "cannot be read: No such file"),
        (".", "gate.key", "cert", "cannot be read: Is a directory"),
        ("gate.pem", "none.key", "key", "cannot be read: No such file"),
        ("large", "gate.key", "cert", "larger than"),
        ("gate.pem", "large", "key", "larger than"),
        ("empty", "gate.key", "cert", "holds no certificate"),
        ("gate.key", "gate.key", "cert", "holds no certificate"),
        ("gate.pem", "gate.pem", "key", "holds no private key"),
        ("gate.pem", "other.key", "key", "is not the key of its certificate"),
        ("gate.pem", "sealed.key", "key", "is encrypted"),
        ("broken.pem", "gate.key", "cert", "is not accepted"),
        ("gate.pem", "broken.key", "cert", "or its key is not accepted"),
    ],
)
def test_a_certificate_and_its_key(authority: Authority, cert: str, key: str, option: str, problem: str) -> None:
    fault = read_identity(authority.home / cert, authority.home / key)
    if not problem:
        assert isinstance(fault, Identity)
        assert (fault.names, fault.kind) == (("localhost",), "ECDSA")
        return
    assert isinstance(fault, FileFault) and (fault.option, problem in fault.problem) == (option, True), fault
    assert fault.hint


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("ca.pem", ""),
        ("none.pem", "cannot be read"),
        ("large", "larger than"),
        ("empty", "holds no certificate"),
        ("gate.key", "holds no certificate"),
        ("broken.pem", "holds no certificate that can be read"),
    ],
)
def test_authorities(authority: Authority, name: str, problem: str) -> None:
    fault = authorities_fault(authority.home / name)
    assert (fault is None) == (not problem)
    assert fault is None or problem in fault.problem


def test_a_load_says_so_in_its_place(authority: Authority) -> None:
    text = """\
models: {m: {instances: [{url: "http://h:1"}]}}
listen:
  - address: 127.0.0.1:8443
    tls:
      certificates:
        - cert: gate.pem
          key: %s
      client_ca: %s
"""
    right = load_text(text % ("gate.key", "ca.pem"), base_dir=authority.home)
    assert right.faults == ()
    tls = right.unwrap().listen[0].tls
    assert tls is not None and tls.client_ca == authority.file
    wrong = load_text(text % ("sealed.key", "empty"), base_dir=authority.home)
    assert [(fault.line, fault.option) for fault in wrong.faults] == [
        (7, "listen[0].tls.certificates[0].key"),
        (8, "listen[0].tls.client_ca"),
    ]
    several = (text % ("gate.key", "ca.pem")).replace(
        "      client_ca", "        - {cert: other.pem, key: other.key}\n      client_ca"
    )
    (fault,) = load_text(several, base_dir=authority.home).faults
    assert (fault.line, fault.option) == (8, "listen[0].tls.certificates[1].cert")
    assert "would never be shown: others before it are for localhost" in fault.problem
    bad = text % ("sealed.key", "empty")
    assert load_text(bad, base_dir=authority.home, tls_files=False).faults == ()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("clients.crl", ""),
        ("ended.crl", ""),
        ("none.crl", "cannot be read"),
        ("gate.key", "holds no revocation list"),
        ("broken.crl", "cannot be read"),
        ("strange.crl", "holds no revocation list of OU=Testing CA"),
        ("forged.crl", "holds no revocation list of OU=Testing CA"),
    ],
)
def test_revocation_lists(authority: Authority, tmp_path: Path, name: str, problem: str) -> None:
    authority.crl()
    authority.crl(ends=-timedelta(hours=1), name="ended.crl")
    (authority.home / "broken.crl").write_text("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    stranger = Authority(tmp_path)
    (authority.home / "strange.crl").write_bytes(stranger.crl().read_bytes())
    (authority.home / "forged.crl").write_bytes(forged(authority, stranger))
    fault = crl_fault(authority.home / name, authority.file)
    assert (fault is None) == (not problem)
    assert fault is None or (problem in fault.problem and fault.option == "crl")
    assert crl_fault(authority.home / "clients.crl", authority.home / "empty") is not None, "the authorities are looked at first"


def forged(authority: Authority, stranger: Authority) -> bytes:
    """A list in the name of one authority that another has signed."""
    own = x509.load_pem_x509_certificate(authority.ca.cert_pem.bytes())
    now = datetime.now(UTC)
    built = x509.CertificateRevocationListBuilder().issuer_name(own.subject).last_update(now).next_update(now + timedelta(1))
    key = serialization.load_pem_private_key(stranger.ca.private_key_pem.bytes(), None)
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]  # it can sign


def test_when_a_list_ends(authority: Authority) -> None:
    early, late = authority.crl(ends=timedelta(hours=1), name="a.crl"), authority.crl(ends=timedelta(hours=9), name="b.crl")
    both = late.read_bytes() + early.read_bytes()
    assert crl_ends(both) == crl_ends(early.read_bytes()) < crl_ends(late.read_bytes())
    assert read_crl(early, authority.file.read_bytes()) == early.read_bytes()


def test_kinds_and_names(authority: Authority) -> None:
    made = authority.server("rsa", "A.Example", "*.b.example", "1.2.3.4", kind=trustme.KeyType.RSA)
    read = read_identity(Path(made["cert"]), Path(made["key"]))
    assert isinstance(read, Identity) and (read.names, read.kind) == (("a.example", "*.b.example"), "RSA")
    unnamed = authority.ca.issue_cert("x@y.example")
    (authority.home / "mail.pem").write_bytes(unnamed.cert_chain_pems[0].bytes())
    unnamed.private_key_pem.write_to_path(authority.home / "mail.key")
    read = read_identity(authority.home / "mail.pem", authority.home / "mail.key")
    assert isinstance(read, Identity) and read.names == ()


def test_a_certificate_without_alternative_names(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gate.example")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(1))
    own, secret = authority.home / "plain.pem", authority.home / "plain.key"
    own.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    read = read_identity(own, secret)
    assert isinstance(read, Identity) and read.names == ()


def one(kind: str, *names: str) -> Identity:
    return Identity(chain=b"", key=b"", names=names, kind=kind)


@pytest.mark.parametrize(
    ("identities", "idle"),
    [
        ((one("RSA"),), {}),
        ((one("RSA", "a"), one("ECDSA", "a"), one("RSA", "a", "b")), {}),
        ((one("RSA", "a", "b"), one("RSA", "a"), one("RSA")), {1, 2}),
        ((one("RSA", "a"), one("RSA", "b"), one("RSA", "b", "a")), {2}),
    ],
)
def test_what_would_never_be_shown(identities: tuple[Identity, ...], idle: set[int]) -> None:
    assert set(never_shown(identities)) == set(idle)


def test_a_whole_listener(authority: Authority) -> None:
    own = ServerCertificate(cert=authority.home / "gate.pem", key=authority.home / "gate.key")
    crl = authority.crl()
    tls = ListenTls(certificates=(own,), min_version="1.3", client_ca=authority.file, client_auth="required", crl=crl)
    read = read_listener("a:1", tls)
    assert isinstance(read, TlsSpec)
    assert (read.name, read.min_version, read.client_required, read.identities[0].names) == ("a:1", "1.3", True, ("localhost",))
    assert (read.client_ca, read.crl) == (authority.file.read_bytes(), crl.read_bytes())
    assert files_of(tls) == [own.cert, own.key, authority.file, crl]
    plain = read_listener("a:1", ListenTls(certificates=(own,)))
    assert isinstance(plain, TlsSpec) and plain.client_ca is plain.crl is None


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"certificates": ("gate", "other", "gate-without")}, "certificates[2].key"),
        ({"client_ca": "empty"}, "client_ca"),
        ({"client_ca": "ca.pem", "crl": "empty"}, "crl"),
    ],
)
def test_the_first_fault_of_a_listener(authority: Authority, change: dict[str, Any], option: str) -> None:
    home = authority.home
    (home / "gate-without.pem").write_bytes((home / "gate.pem").read_bytes())
    names = change.pop("certificates", ("gate",))
    own = tuple(ServerCertificate(cert=home / f"{name}.pem", key=home / f"{name}.key") for name in names)
    fault = read_listener("a:1", ListenTls(certificates=own, **{name: home / value for name, value in change.items()}))
    assert isinstance(fault, FileFault) and fault.option == option
