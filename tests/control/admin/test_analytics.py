"""The routes of analytics over a real store: what they take, what they refuse, and both forms of each answer."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.admin.routes import ROUTES
from slmgate.control.keyring import utc_now
from slmgate.stores.records import Batch
from tests.tools.admin_gate import AdminGate, asking
from tests.tools.journal_writer import make_receipt

PATHS = [row.path.removeprefix("/api/v1/analytics/") for row in ROUTES if "/analytics/" in row.path]
NEEDS = {"client": "client=bot", "model": "model=smollm2"}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    gate = AdminGate(tmp_path)
    ago = utc_now() - timedelta(minutes=10)
    gate.store.write(
        Batch(
            receipts=[
                make_receipt("r1", time=ago, first_byte_us=900, stream=True, cost=1_500_000_000, price="EUR 1 1", overhead_us=40),
                make_receipt("r2", time=ago, principal="=cmd|' /C calc'!A0", model="big", cost=20_000_000, price="USD 1 1"),
                make_receipt("r3", time=ago, verdict="refuse", reason="rate_limited", status=429, ended="refused", instance=""),
                make_receipt("r4", time=ago - timedelta(hours=30)),
            ]
        )
    )
    yield gate
    gate.store.close()


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as client:
        yield client


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_overview(client: TestClient[Litestar]) -> None:
    seen = client.get("/api/v1/analytics/overview").json()
    now = seen["compared"]["now"]
    assert (now["requests"], now["refused"], now["total_tokens"]) == (3, 1, 24)
    assert now["cost"] == {"EUR": "1.50", "USD": "0.02"}
    assert seen["compared"]["before"]["requests"] == 1
    assert (now["latency"]["total"]["count"], now["latency"]["connect"]["p50"]) == (2, 0)
    assert seen["refusals"] == [{"name": "rate_limited", "requests": 1}]
    assert [row["name"] for row in seen["models"]] == ["smollm2", "big"]
    assert seen["clients_total"] == 2
    assert sum(point["requests"] for line in seen["series"]["lines"] for point in line["points"]) == 3
    assert seen["series"]["range"]["step"] == "30m"


@pytest.mark.parametrize("path", PATHS)
def test_csv_is_safe_and_says_the_same(client: TestClient[Litestar], path: str) -> None:
    query = NEEDS.get(path, "")
    answer = client.get(f"/api/v1/analytics/{path}?format=csv&{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert answer.headers["content-disposition"] == 'attachment; filename="slmgate.csv"'
    found = rows(answer.text)
    assert not any(cell.startswith("=") for row in found for cell in row.values())
    expected = {"overview": 3, "clients": 3, "client": 2, "models": 3, "model": 1, "series": 3, "compare": 4}
    assert sum(int(row["requests"]) for row in found) == expected[path]


def test_the_columns_of_a_csv(client: TestClient[Litestar]) -> None:
    bot = rows(client.get("/api/v1/analytics/clients?format=csv&sort=name").text)[1]
    assert (bot["client"], bot["cost"], bot["total_p50_us"], bot["stream_p99_us"]) == ("bot", "EUR 1.50", "1116", "279")
    assert (bot["per_token_p50_us"], bot["tokens_per_second_p50"]) == ("69", "14492.75")
    other = rows(client.get("/api/v1/analytics/clients?format=csv&sort=name").text)[0]
    assert (other["client"], other["first_byte_p50_us"]) == ("'=cmd|' /C calc'!A0", "")


def test_clients_by_pages(client: TestClient[Litestar]) -> None:
    page = client.get("/api/v1/analytics/clients?limit=1&page=9&range=7d&zone=Asia/Kathmandu").json()
    assert (page["total"], page["page"], page["pages"], len(page["rows"])) == (2, 2, 2, 1)
    assert client.get("/api/v1/analytics/clients?search=BO").json()["total"] == 1


def test_a_client_and_a_model(client: TestClient[Litestar]) -> None:
    seen = client.get("/api/v1/analytics/client?client=bot&range=365d").json()
    assert [(row["name"], row["figures"]["requests"]) for row in seen["models"]] == [("smollm2", 3)]
    seen = client.get("/api/v1/analytics/model?model=smollm2&range=30d").json()
    assert [(row["name"], row["model"]) for row in seen["instances"]] == [("i1", "smollm2")]
    assert [row["name"] for row in seen["clients"]] == ["bot"]


def test_series(client: TestClient[Litestar]) -> None:
    ask = "/api/v1/analytics/series?range=24h&"
    assert [line["name"] for line in client.get(ask + "by=reason").json()["lines"]] == ["rate_limited"]
    assert [line["name"] for line in client.get(ask + "by=model").json()["lines"]] == ["smollm2", "big"]
    assert [line["name"] for line in client.get(ask + "by=instance&model=big&step=1d").json()["lines"]] == ["i1"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("overview?range=soon", "is not a duration"),
        ("overview?range=1h&since=2026-01-01", "not both"),
        ("overview?until=2026-01-01", "needs `since`"),
        ("overview?since=2026-01-02&until=2026-01-01", "begins before it ends"),
        ("overview?zone=Mars/Base", "no time zone"),
        ("overview?format=xlsx", "json or csv"),
        ("overview?ranges=1h", "no parameter 'ranges'"),
        ("clients?sort=charm", "cannot be sorted by 'charm'"),
        ("clients?page=0", "page"),
        ("clients?limit=1001", "limit"),
        ("client", "Say which `client`"),
        ("model", "Say which `model`"),
        ("series?by=luck", "is not by 'luck'"),
        ("series?by=model&client=bot", "by model or client of all requests"),
        ("series?client=bot&model=big", "not of both"),
        ("series?instance=i1", "say which"),
        ("series?step=2h", "no step '2h'"),
        ("series?step=1m&range=30d", "too many"),
        ("compare?client=bot&model=big", "not of both"),
    ],
)
def test_what_is_refused(client: TestClient[Litestar], query: str, told: str) -> None:
    answer = client.get(f"/api/v1/analytics/{query}")
    assert (answer.status_code, told in answer.json()["detail"]) == (400, True), answer.text


def test_both_forms_are_described(client: TestClient[Litestar]) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    for path in PATHS:
        forms = paths[f"/api/v1/analytics/{path}"]["get"]["responses"]["200"]["content"]
        assert set(forms) == {"application/json", "text/csv"}


def test_strangers_see_nothing(client: TestClient[Litestar]) -> None:
    client.headers.pop("authorization")
    for path in PATHS:
        assert client.get(f"/api/v1/analytics/{path}?{NEEDS.get(path, '')}").status_code == 401
