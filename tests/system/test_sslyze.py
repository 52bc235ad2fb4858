"""sslyze looks at the gate's TLS from outside: nothing above Mozilla's intermediate profile, and none of the known attacks.

The scanner offers everything that clients ever spoke. What the gate itself means to speak is in dataplane/test_tls.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from cryptography.utils import CryptographyDeprecationWarning
from sslyze.mozilla_tls_profile.tls_config_checker import (
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)
from sslyze.plugins.session_resumption._resumption_with_id import TlsResumptionSupportEnum
from sslyze.scanner.models import ServerScanRequest, ServerScanResult, ServerScanStatusEnum
from sslyze.scanner.scanner import Scanner
from sslyze.server_setting import ServerNetworkLocation

from tests.system.conftest import SHARED, running
from tests.tools.authority import Authority
from tests.tools.gate import Gate, model
from tests.tools.upstream import MockUpstream


@pytest.fixture(scope="module")
def scanned(shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerScanResult]:
    """A gate with an RSA and an ECDSA certificate, as sslyze sees it."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    now = datetime.now(UTC)
    lives = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(days=90)}
    own = [authority.server(kind.name, "localhost", kind=kind, **lives) for kind in trustme.KeyType]
    gate = Gate(tmp_path_factory.mktemp("scanned"), {"tiny": model(shared_upstream.url)}, tls={"certificates": own}, **SHARED)
    running.append(gate)
    scanner = Scanner()
    where = ServerNetworkLocation(hostname="localhost", port=gate.tls_port, ip_address="127.0.0.1")
    scanner.queue_scans([ServerScanRequest(server_location=where)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # about authorities that sslyze brings with it
        (result,) = scanner.get_results()
    assert result.scan_status is ServerScanStatusEnum.COMPLETED, result.connectivity_error_trace
    yield result
    running.remove(gate)
    gate.stop()


def found(scanned: ServerScanResult, what: str) -> Any:
    """What one of the scans came to."""
    attempt = getattr(scanned.scan_result, what)
    assert attempt.result is not None, f"{what}: {attempt.status} {attempt.error_trace}"
    return attempt.result


def issues(scanned: ServerScanResult, profile: TlsConfigurationEnum) -> set[str]:
    """What of it is not as the profile wants it."""
    try:
        check_server_against_tls_configuration(scanned, MozillaTlsConfiguration.get(profile))
    except ServerNotCompliantWithTlsConfiguration as found:
        return set(found.issues)
    return set()


def test_nothing_above_the_intermediate_profile(scanned: ServerScanResult) -> None:
    assert issues(scanned, TlsConfigurationEnum.MOZILLA_INTERMEDIATE) == {"certificate_path_validation"}, (
        "the test's own authority"
    )
    assert issues(scanned, TlsConfigurationEnum.MOZILLA_MODERN) > {"tls_versions", "ciphers"}, "it finds something at all"


@pytest.mark.parametrize("version", ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"])
def test_old_versions(scanned: ServerScanResult, version: str) -> None:
    assert not found(scanned, f"{version}_cipher_suites").is_tls_version_supported


def test_both_kinds_of_keys_with_every_cipher_of_the_profile(scanned: ServerScanResult) -> None:
    accepted = {one.cipher_suite.name for one in found(scanned, "tls_1_2_cipher_suites").accepted_cipher_suites}
    profile = MozillaTlsConfiguration.get(TlsConfigurationEnum.MOZILLA_INTERMEDIATE)
    assert accepted == {name for name in profile.ciphers.iana if "_ECDHE_" in name}
    accepted = {one.cipher_suite.name for one in found(scanned, "tls_1_3_cipher_suites").accepted_cipher_suites}
    assert accepted == profile.ciphersuites
    assert {curve.name for curve in found(scanned, "elliptic_curves").supported_curves} == profile.tls_curves


def test_known_attacks(scanned: ServerScanResult) -> None:
    assert not found(scanned, "tls_compression").supports_compression
    renegotiation = found(scanned, "session_renegotiation")
    assert not renegotiation.is_vulnerable_to_client_renegotiation_dos
    assert renegotiation.supports_secure_renegotiation
    assert not found(scanned, "tls_1_3_early_data").supports_early_data
    assert found(scanned, "robot").robot_result.name.startswith("NOT_VULNERABLE")


def test_resumption(scanned: ServerScanResult) -> None:
    resumption = found(scanned, "session_resumption")
    assert resumption.tls_ticket_resumption_result is TlsResumptionSupportEnum.FULLY_SUPPORTED
    assert resumption.session_id_resumption_result is TlsResumptionSupportEnum.NOT_SUPPORTED, "nothing is kept for clients"
