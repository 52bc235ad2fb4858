"""PEM texts into contexts, without a file that has a name; what a context then takes and shows is in dataplane/test_tls.py."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from slmgate.link.pem import as_file, load_identity, load_trusted
from tests.tools.authority import Authority


def context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def test_a_file_is_there_for_a_moment() -> None:
    with as_file(b"x" * 100_000) as path:
        assert Path(path).read_bytes() == b"x" * 100_000
        fd = int(path.rpartition("/")[2])
    with pytest.raises(OSError):
        os.fstat(fd)


def test_identities_and_authorities(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, other = authority.server(), authority.server("other")
    chain, key = Path(own["cert"]).read_bytes(), Path(own["key"]).read_bytes()
    load_identity(context(), chain, key)
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        load_identity(context(), chain, Path(other["key"]).read_bytes())
    ours = context()
    load_trusted(ours, authority.file.read_bytes())
    load_trusted(ours, authority.crl().read_bytes())
    assert ours.cert_store_stats() == {"x509": 1, "crl": 1, "x509_ca": 1}
    with pytest.raises(ssl.SSLError):
        load_trusted(context(), b"nothing")
