"""Every way in which the TLS files of a configuration can be wrong, and where a load says so.

The files are made by the tests' own authority; OpenSSL is the one that the gate itself uses.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization

from slmgate.control.config import load_text
from slmgate.control.config.tlsfiles import MAX_BYTES, authorities_fault, certificate_fault
from tests.tools.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    for name in ("gate", "other"):
        made.server(name)
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
    fault = certificate_fault(authority.home / cert, authority.home / key)
    if not problem:
        assert fault is None
        return
    assert fault is not None and (fault.option, problem in fault.problem) == (option, True), fault
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
    assert "several certificates" in str(load_text(several, base_dir=authority.home).faults[0])
