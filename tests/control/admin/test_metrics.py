"""The route of the metrics: in which form, for whom, and where, as the configuration has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.config import load_text
from slmgate.stores.records import Batch
from tests.tools.admin_gate import AdminGate, asking
from tests.tools.journal_writer import make_receipt

MODELS = 'models: {m: {instances: [{url: "http://127.0.0.1:1"}]}}\n'


@pytest.fixture
def gate(tmp_path: Path) -> AdminGate:
    return AdminGate(tmp_path)


def test_what_a_scraper_gets(gate: AdminGate) -> None:
    gate.metrics.count(gate.store.write(Batch(receipts=[make_receipt("r1")])))
    with asking(gate) as client:
        plain = client.get("/metrics")
        new = client.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"})
        assert client.get("/metrics?name=x").status_code == 400
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert new.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert 'slmgate_requests_total{code="200",ended="complete",endpoint="chat",model="smollm2"} 1.0' in plain.text
    assert new.text.endswith("# EOF\n") and plain.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.1", True),
        ("gzip;q=1.0", True),
        ("gzip ; level=1 ; q=0.001", True),
        ("gzip;q=0", False),
        ("gzip; q = 0.000, br", False),
        ("", False),
        ("*", False),
        ("identity", False),
        ("gzipped", False),
        (";,;q=0,,", False),
    ],
)
def test_compressed_for_who_takes_that(gate: AdminGate, accepted: str, taken: bool) -> None:
    gate.metrics.count(gate.store.write(Batch(receipts=[make_receipt("r1")])))
    with asking(gate) as client:
        found = client.get("/metrics", headers={"accept-encoding": accepted})
        plain = client.get("/metrics", headers={"accept-encoding": "identity"})
    assert found.headers.get("content-encoding") == ("gzip" if taken else None)
    assert "slmgate_requests_total" in found.text
    assert int(found.headers["content-length"]) < int(plain.headers["content-length"]) or not taken
    assert found.headers["content-type"] == plain.headers["content-type"]


@pytest.mark.parametrize("public", [False, True])
def test_who_may_read_them(gate: AdminGate, public: bool) -> None:
    with asking(gate) as client:
        del client.headers["authorization"]
        assert client.get("/metrics").status_code == 401, "no configuration opens it"
        gate.config = load_text(f"{MODELS}metrics: {{public: {str(public).lower()}}}").unwrap()
        assert client.get("/metrics").status_code == (200 if public else 401)
        assert client.get("/api/v1/status").status_code == 401
        assert client.get("/metrics", headers={"host": "evil.example"}).status_code == 421, "not for a page that a browser shows"


def test_where_they_are(gate: AdminGate) -> None:
    gate.config = load_text(f"{MODELS}metrics: {{path: /internal/metrics}}").unwrap()
    with asking(gate) as client:
        assert [client.get(path).status_code for path in ("/internal/metrics", "/metrics")] == [200, 404]
