"""The pages of clients: nobody, one, a hundred thousand; names that are anything; search, order, CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.admin.dashboard import clients
from slmgate.control.analytics import Analytics, Figures, Page, Row
from slmgate.stores.records import Batch
from tests.tools.admin_gate import AdminGate, asking
from tests.tools.journal_writer import make_receipt
from tests.tools.page_ask import ask, complaints

DAY = "from=2026-11-28T00:00&to=2026-11-29T00:00"
EVIL = '"><script>alert(1)</script>'
HTML = {"accept": "text/html"}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as client:
        yield client


def fill(gate: AdminGate, *names: str) -> None:
    """A receipt for each name, one more for each that comes later."""
    time = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
    rows = [
        make_receipt(
            f"{place}-{number}", time=time, principal=name, cost=2_000_000, price="EUR 1 1", model="big" if number else "tiny"
        )
        for place, name in enumerate(names)
        for number in range(place + 1)
    ]
    gate.store.write(Batch(receipts=rows))


def names(page: str) -> list[str]:
    return re.findall(r'<th scope=row class=[^>]*><a href="[^"]*"><bdi>(.*?)</bdi>', page)


def test_nobody(client: TestClient[Litestar]) -> None:
    page = client.get(f"/clients?{DAY}", headers=HTML).text
    assert complaints(page) == []
    assert "Nobody asked anything in this time" in page
    assert "has \u201czoe\u201d in it" in client.get(f"/clients?{DAY}&q=zoe", headers=HTML).text
    one = client.get(f"/clients/ann?{DAY}", headers=HTML)
    assert one.status_code == 200 and "Nothing from this client" in one.text


def test_in_order(gate: AdminGate, client: TestClient[Litestar]) -> None:
    fill(gate, "ann", "bob", "carl")
    assert names(client.get(f"/clients?{DAY}").text) == ["carl", "bob", "ann"]
    assert names(client.get(f"/clients?{DAY}&sort=name").text) == ["ann", "bob", "carl"]
    assert names(client.get(f"/clients?{DAY}&q=AN").text) == ["ann"]
    page = client.get(f"/clients?{DAY}&sort=-tokens").text
    assert re.search(r'aria-sort="descending"><a href="[^"]*sort=-tokens', page)
    assert ">big</bdi>" in page  # what carl asked for most


@pytest.mark.parametrize(
    "name", ["ann@example.com", "org/team/bot", "..", "a b?c#d", "~1", EVIL, "(other)", "x" * 200, "\u00e9\u202e"]
)
def test_whatever_its_name(gate: AdminGate, client: TestClient[Litestar], name: str) -> None:
    fill(gate, name)
    listed = client.get(f"/clients?{DAY}", headers=HTML).text
    assert complaints(listed) == []
    href = re.findall(r'<th scope=row class=[^>]*><a href="([^"]*)"', listed)[0].replace("&amp;", "&")
    page = client.get(href, headers=HTML)
    assert page.status_code == 200, href
    assert complaints(page.text) == []
    assert 'id="tile-requests"' in page.text
    assert "<script>alert" not in page.text


def test_the_exact_figures(gate: AdminGate, client: TestClient[Litestar]) -> None:
    fill(gate, "ann", "bob")
    rows = list(csv.DictReader(io.StringIO(client.get(f"/clients?{DAY}&csv=table").text, newline="")))
    assert [(row["name"], row["requests"], row["tokens"], row["cost_EUR"]) for row in rows] == [
        ("bob", "2", "24", "0.004000000"),
        ("ann", "1", "12", "0.002000000"),
    ]
    models = list(csv.DictReader(io.StringIO(client.get(f"/clients/bob?{DAY}&csv=models").text, newline="")))
    assert {row["name"]: row["requests"] for row in models} == {"big": "1", "tiny": "1"}


class Many(Analytics):
    """A hundred thousand clients, none of them written anywhere."""

    def __init__(self, *_: object) -> None:
        self.asked: list[tuple[int, int]] = []

    def clients(self, range: object, sort: object = "", page: int = 1, size: int = 50, search: str = "") -> Page:
        self.asked.append((page, size))
        rows = [Row(name=f"c{(page - 1) * size + at}", figures=Figures(requests=1), share=0.0) for at in _range(size)]
        return Page(rows=rows, total=100_000, page=page, size=size)

    def favourites(self, range: object, clients: object) -> dict[str, str]:
        return {}


_range = range


def test_a_hundred_thousand(monkeypatch: pytest.MonkeyPatch, gate: AdminGate) -> None:
    many = Many()
    monkeypatch.setattr(clients, "Analytics", lambda _: many)
    view = clients.clients(ask("/clients", {"page": "7"}, context=gate))
    table = view.values["table"]
    assert (table.page, table.pages, len(table.rows), table.total) == (7, 2000, 50, 100_000)
    assert many.asked == [(7, 50)]
    everything = clients.clients(ask("/clients", {"csv": "table"}, context=gate)).values["table"]
    assert len(everything.rows) == clients.MOST_CSV
    assert len(many.asked) == 1 + clients.MOST_CSV // 1000
