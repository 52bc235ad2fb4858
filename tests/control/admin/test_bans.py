"""The routes about bans, through the application: who is told of first, and what a lifted ban leaves in the audit log."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.link.messages import Ban
from slmgate.stores.records import AuditRecord, LedgerUnavailable
from tests.tools.admin_gate import AdminGate, asking

HERE, THERE = Ban("203.0.113.7", 900, 1), Ban("2001:db8::/64", 3600, 3)


@pytest.fixture
def gate(tmp_path: Path) -> AdminGate:
    made = AdminGate(tmp_path)
    made.banned = [HERE, THERE]
    return made


def test_the_longest_come_first(gate: AdminGate) -> None:
    with asking(gate) as client:
        told = client.get("/api/v1/bans").json()
        assert [row["address"] for row in told["bans"]] == [THERE.address, HERE.address]
        assert client.get("/api/v1/bans?limit=1").json() == {"count": 2, "bans": told["bans"][:1]}
        assert client.get("/api/v1/bans?limit=0").status_code == 400
        gate.banned = []
        assert client.get("/api/v1/bans").json() == {"count": 0, "bans": []}


def test_a_lifted_ban_is_audited(gate: AdminGate) -> None:
    with asking(gate) as client:
        assert client.post("/api/v1/bans/lift", json={"address": " 2001:db8::/64 "}).json()["times"] == 3
        assert client.post("/api/v1/bans/lift", json={"address": "2001:db8::/64"}).status_code == 404
        assert [row["address"] for row in client.get("/api/v1/bans").json()["bans"]] == [HERE.address]
    (noted,) = (row for row in gate.store.audit(10) if row.action == "ban.lift")
    assert (noted.target, noted.detail) == ("2001:db8::/64", {"seconds": "3600", "times": "3"})


def test_a_lifted_ban_that_cannot_be_noted_is_told_as_it_was(gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(record: AuditRecord) -> None:
        raise LedgerUnavailable("The database is away.")

    monkeypatch.setattr(gate.store, "append_audit", away)
    with asking(gate) as client:
        answer = client.post("/api/v1/bans/lift", json={"address": HERE.address})
    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("203.0.113.7 is not banned any more, but the audit log")
    assert gate.banned == [THERE]


@pytest.mark.parametrize("address", ["", "nobody", "10.0.0.0/8", "203.0.113.7:80", "2001:db8::/48", "1.2.3.4\n", "x" * 5000])
def test_what_is_no_address(gate: AdminGate, address: str) -> None:
    with asking(gate) as client:
        answer = client.post("/api/v1/bans/lift", json={"address": address})
        assert answer.status_code in (400, 404), answer.text
        assert len(answer.text) < 400
    assert gate.banned == [HERE, THERE]
