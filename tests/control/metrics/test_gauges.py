"""How things stand, as samples: each from what it was told, bounded, and no series twice."""

from __future__ import annotations

from datetime import UTC, datetime

from slmgate.control.acme.status import CertificateStatus
from slmgate.control.admin.context import GateStatus, InstanceStatus, ModelStatus, WorkerStatus
from slmgate.control.metrics.families import BY_NAME, NOW
from slmgate.control.metrics.gauges import MOST, Beside, Use, samples

BESIDE = Beside(ledger_up=True, waiting_bytes=64, reloaded_well=False, reloaded_at=5.0)
END = datetime(2027, 1, 1, tzinfo=UTC)
STATUS = GateStatus(
    models=[ModelStatus(name="m", ready=True), ModelStatus(name="asleep", ready=False)],
    instances=[
        InstanceStatus(id="a", model="m", in_flight=3, waiting=2),
        InstanceStatus(id="b", model="m", healthy=False, state="ejected", waiting=2),
        InstanceStatus(id="c", model="m", draining=True),
        InstanceStatus(id="a", model="m", in_flight=9),
    ],
    workers=[WorkerStatus(slot=0, pid=1, ready=True, connections=5, in_flight=4), WorkerStatus(slot=1, pid=2, ready=False)],
    ledger_lag=1.5,
    certificates=[
        CertificateStatus(names=["g.example"], source="file", not_after=END.replace(year=2026)),
        CertificateStatus(names=["g.example"], source="file", not_after=END),
        CertificateStatus(names=[], source="file", serial="ab", not_after=END.replace(year=2025)),
        CertificateStatus(names=["waiting"], source="x"),
    ],
)


def test_all_of_them() -> None:
    found = samples(STATUS, BESIDE)
    assert found["slmgate_workers"] == [((), 1)]
    assert found["slmgate_worker_connections"] == [(("0",), 5), (("1",), 0)]
    assert found["slmgate_worker_in_flight_requests"] == [(("0",), 4), (("1",), 0)]
    assert found["slmgate_in_flight_requests"] == [(("m", "a"), 3), (("m", "b"), 0), (("m", "c"), 0)]
    assert found["slmgate_queue_length"] == [(("m",), 2), (("asleep",), 0)]
    assert found["slmgate_instance_up"] == [(("m", "a"), 1), (("m", "b"), 0), (("m", "c"), 0)]
    assert [labels for labels, value in found["slmgate_instance_state"] if value][:2] == [
        ("m", "a", "healthy"),
        ("m", "b", "ejected"),
    ]
    assert found["slmgate_journal_lag_seconds"] == [((), 1.5)]
    assert found["slmgate_journal_waiting_bytes"] == [((), 64)]
    assert found["slmgate_config_last_reload_successful"] == [((), False)]
    ends = [(("ab",), END.replace(year=2025).timestamp()), (("g.example",), END.timestamp())]
    assert found["slmgate_certificate_expiry_timestamp_seconds"] == ends
    assert "slmgate_limit_used_ratio" not in found, "nobody could tell"
    assert found.keys() | {"slmgate_limit_used_ratio"} == {family.name for family in NOW}
    for name, rows in found.items():
        assert len(dict(rows)) == len(rows)
        assert all(len(labels) == len(BY_NAME[name].labels) for labels, _ in rows)


def test_nothing_is_known_yet() -> None:
    found = samples(GateStatus(), BESIDE)
    assert "slmgate_journal_lag_seconds" not in found and found["slmgate_workers"] == [((), 0)]


def test_of_limits_and_plans_the_nearest() -> None:
    uses = [Use((f"l{number}", "x"), number / 100) for number in range(100)] + [Use(("l99", "x"), 0.1)]
    beside = Beside(ledger_up=True, waiting_bytes=0, reloaded_well=True, reloaded_at=0.0, plans=uses, limits=uses)
    found = samples(STATUS, beside)
    for name in ("slmgate_limit_used_ratio", "slmgate_plan_used_ratio"):
        assert len(found[name]) == MOST and found[name][0] == (("l99", "x"), 0.99)


def test_however_many_instances() -> None:
    many = GateStatus(
        models=[ModelStatus(name=f"m{number}", ready=True) for number in range(5000)],
        instances=[InstanceStatus(id=f"i{number}", model=f"m{number}") for number in range(5000)],
    )
    found = samples(many, BESIDE)
    assert (len(found["slmgate_instance_up"]), len(found["slmgate_queue_length"])) == (500, 200)
