"""The page of receipts with none, one and a thousand of them: filters, pages both ways, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from slmgate.control import searching
from slmgate.control.admin.dashboard import requests as module
from slmgate.control.admin.dashboard.asking import View
from slmgate.control.admin.dashboard.requests import outcome
from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.admin.dashboard.shell import render
from slmgate.stores.records import Batch
from slmgate.terms import Receipt
from tests.tools.admin_gate import AdminGate
from tests.tools.page_ask import NOW, ask, complaints

EVIL = "<script>alert(1)</script>\u202e"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminGate]:
    """With a thousand receipts, a second apart; every hundredth was refused."""
    made = AdminGate(tmp_path_factory.mktemp("full"))
    made.store.write(Batch(receipts=[receipt(number) for number in range(1000)]))
    yield made
    made.store.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    yield made
    made.store.close()


def receipt(number: int = 0, **fields: Any) -> Receipt:
    refused = number % 100 == 0
    told: dict[str, Any] = {
        "id": f"r{number}", "request_id": f"r{number}", "time": NOW - timedelta(seconds=number), "method": "POST",
        "path": "/v1/chat/completions", "status": 429 if refused else 200, "verdict": "refuse" if refused else "admit",
        "reason": "rate_limit_exceeded" if refused else "", "ended": "refused" if refused else "complete",
        "principal": f"bot-{number % 3}", "model": "a/b", "instance": "" if refused else "a/b/1", "attempts": 0 if refused else 1,
        "prompt_tokens": 7, "completion_tokens": number, "first_byte_us": None if refused else 1500, "total_us": 2500,
    }  # fmt: skip
    return Receipt(**told | fields)


def page(gate: AdminGate, query: dict[str, str] | None = None) -> tuple[str, View]:
    asked = ask("/requests", query, context=gate)
    view = module.requests(asked)
    html = render(view, asked, next(each for each in PAGES if each.path == "/requests"), PAGES).decode()
    assert complaints(html) == []
    return html, view


def ids(view: View) -> list[str]:
    """Those that the page shows, by the links to their own pages."""
    return [row["time"].href.rpartition("/")[2].partition("?")[0] for row in view.tables[0].rows]


def follow(view: View, way: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(view.values["ways"][way]).query))


def test_an_empty_ledger(gate: AdminGate) -> None:
    html, view = page(gate)
    assert "No requests in this time" in html
    assert (view.refresh, view.values["ways"]) == (module.REFRESH, {})
    html, _ = page(gate, {"client": "bot"})
    assert "No request in this time is like that" in html


def test_one(gate: AdminGate) -> None:
    gate.store.write(Batch(receipts=[receipt(1, estimated=True, completion_tokens=1234)]))
    html, _ = page(gate)
    assert 'href="/requests/r1"' in html and 'href="/clients/bot-1"' in html and 'href="/models/a~1b"' in html
    assert "~ 1,241" in html and "1.5 ms" in html and "2.5 ms" in html
    assert "complete" in html


def test_when_it_was(gate: AdminGate) -> None:
    """The time alone where it is of today, in the time zone of whoever looks."""
    gate.store.write(Batch(receipts=[receipt(1), receipt(2, time=NOW - timedelta(hours=13))]))
    html, _ = page(gate)
    assert ">12:00:29<" in html.replace("<bdi>", "").replace("</bdi>", "") and "2026-11-27 23:00:30" in html


def test_names_are_text(gate: AdminGate) -> None:
    gate.store.write(Batch(receipts=[receipt(1, principal=EVIL, model=EVIL, instance=EVIL, id="a/b")]))
    html, _ = page(gate)
    assert "<script>alert" not in html and 'href="/requests/a~1b"' in html
    html, _ = page(gate, {"client": EVIL, "status": EVIL, "reason": EVIL})
    assert "<script>alert" not in html


def test_pages_both_ways(full: AdminGate) -> None:
    everything = [f"r{number}" for number in range(999, -1, -1)]  # the last one that came to the ledger first
    _, view = page(full)
    pages = [ids(view)]
    while "Older" in view.values["ways"]:
        _, view = page(full, follow(view, "Older"))
        assert view.refresh == 0
        pages.append(ids(view))
    assert [id for each in pages for id in each] == everything
    assert {len(each) for each in pages} == {module.SIZE}
    back = []
    while "Newer" in view.values["ways"]:
        newest = view.values["ways"]["Newest"]
        _, view = page(full, follow(view, "Newer"))
        back.append(ids(view))
    assert back == pages[-2::-1]
    assert newest == "/requests"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "429"}, 10),
        ({"reason": "rate_limit_exceeded"}, 10),
        ({"reason": "rate_limit_exceeded", "client": "bot-0"}, 4),
        ({"model": "a/b", "instance": "a/b/1", "status": "429"}, 0),
        ({"client": "nobody"}, 0),
        ({"status": "200", "client": "bot-1", "from": "2026-11-28T11:59", "to": "2026-11-28T12:00"}, 20),
    ],
)
def test_filters(full: AdminGate, query: dict[str, str], found: int) -> None:
    html, view = page(full, query)
    assert len(ids(view)) == found
    assert all(f'value="{value}"' in html for name, value in query.items() if name not in ("from", "to"))
    assert "All</a>" in html


@pytest.mark.parametrize("status", ["many", "20", "2000", "-20", "²00"])
def test_a_status_that_is_none(full: AdminGate, status: str) -> None:
    html, view = page(full, {"status": status})
    assert "A status is a number such as 429" in html
    assert len(ids(view)) == module.SIZE


@pytest.mark.parametrize("cursor", ["x", "", "-1", "9" * 19, "²"])
def test_a_cursor_that_is_none(full: AdminGate, cursor: str) -> None:
    _, view = page(full, {"before": cursor})
    assert ids(view)[0] == "r999"


def test_all_of_them_as_csv(full: AdminGate) -> None:
    asked = ask("/requests", {"csv": "table", "client": "bot-1"}, context=full)
    rows = list(csv.DictReader(io.StringIO(module.requests(asked).tables[0].csv().decode())))
    assert len(rows) == 333
    one = next(row for row in rows if row["id"] == "r1")
    assert (one["total"], one["first_byte"], one["completion_tokens"], one["cost"]) == ("0.0025", "0.0015", "1", "")
    assert set(one) == {name.removesuffix("_us") for name in Receipt.__struct_fields__}


def test_what_it_cost_as_csv(gate: AdminGate) -> None:
    gate.store.write(Batch(receipts=[receipt(1, price="EUR 100 300", cost=1_500_000_000)]))
    table = module.requests(ask("/requests", {"csv": "table"}, context=gate)).tables[0]
    (one,) = csv.DictReader(io.StringIO(table.csv().decode()))
    assert one["cost"] == "1.50 EUR"


def test_a_ledger_that_is_too_large(full: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is up before all of it was looked at: the page says so, and goes on from there."""
    monkeypatch.setattr(searching, "WINDOW", 100)
    monkeypatch.setattr(searching, "PATIENCE", -1.0)
    html, view = page(full, {"status": "500"})
    assert "not all of it was looked at" in html and "Look further back" in view.values["ways"]
    looks = 1
    while "Look further back" in view.values["ways"]:
        _, view = page(full, follow(view, "Look further back"))
        looks += 1
    assert looks >= 10
    html, view = page(full, {"status": "429"})
    found = ids(view)
    while "Look further back" in view.values["ways"]:
        html, view = page(full, follow(view, "Look further back"))
        found += ids(view)
        assert not found or not ids(view) or view.values["found"].all or "there may be more further back" in html
    assert len(found) == 10


@pytest.mark.parametrize(
    ("fields", "said", "tone"),
    [
        ({"status": 200, "ended": "complete", "reason": ""}, "complete", ""),
        ({"status": 200, "ended": "complete", "reason": "replayed"}, "replayed", "warn"),
        ({"status": 404, "ended": "complete", "reason": ""}, "complete", "warn"),
        ({"status": 429, "ended": "refused", "reason": "rate_limit_exceeded"}, "rate limit exceeded", "warn"),
        ({"status": 499, "ended": "client_left", "reason": "client_left"}, "client left", "warn"),
        ({"status": 200, "ended": "gate_stopped", "reason": "cancelled"}, "cancelled", "bad"),
        ({"status": 502, "ended": "upstream_error", "reason": "upstream_error"}, "upstream error", "bad"),
        ({"status": 200, "ended": "unknown", "reason": ""}, "unknown", "bad"),
    ],
)
def test_how_it_ended(fields: dict[str, Any], said: str, tone: str) -> None:
    assert outcome(receipt(1, **fields)) == (said, tone)
