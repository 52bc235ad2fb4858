"""The route about certificates, through the application."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from slmgate.control.acme.status import CertificateStatus
from tests.tools.admin_gate import READY, AdminGate, asking


def test_certificates_are_listed(tmp_path: Path) -> None:
    gate = AdminGate(tmp_path)
    one = CertificateStatus(
        names=("a.example.com",), source="acme.test", state="waiting", error="no", next_try=datetime(2027, 1, 1, tzinfo=UTC)
    )
    gate.now = msgspec.structs.replace(READY, certificates=[one])
    with asking(gate) as client:
        (row,) = client.get("/api/v1/certificates").json()
        assert (row["names"], row["state"], row["error"], row["not_after"]) == (["a.example.com"], "waiting", "no", None)
        assert row["next_try"].startswith("2027-01-01")
        client.headers.pop("authorization")
        assert client.get("/api/v1/certificates").status_code == 401
