"""The page of the audit log: none, some, more than a part of it; filters, and the proof of its chain."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from slmgate.control.admin.dashboard import audit
from slmgate.control.admin.dashboard.asking import View
from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.admin.dashboard.shell import render
from tests.tools.admin_gate import AdminGate
from tests.tools.page_ask import ask, complaints

(ROW,) = audit.PAGES


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    yield made
    made.store.close()


def shown(gate: AdminGate, **query: str) -> tuple[View, str]:
    asked = ask("/audit", query, context=gate)
    view = audit.audit_log(asked)
    page = render(view, asked, ROW, PAGES)
    assert complaints(page) == []
    return view, page.decode()


def ids(view: View) -> list[int]:
    return [row["id"] for row in view.values["table"].rows]


def test_nothing_yet(gate: AdminGate) -> None:
    assert "Nothing was changed yet" in shown(gate)[1]
    assert "all 0 rows" in shown(gate, verify="1")[1]


def test_filters(gate: AdminGate) -> None:
    record, _ = gate.keyring.create("<ann>", actor="user:olga")
    gate.keyring.create("bob", actor="admin")
    gate.keyring.disable("<ann>", "admin")
    view, page = shown(gate)
    assert ids(view) == [3, 2, 1] and "&lt;ann&gt;" in page and "<ann>" not in page
    for query, expected in (
        ({"actor": "admin"}, [3, 2]),
        ({"action": "key.disable"}, [3]),
        ({"action": "key."}, [3, 2, 1]),
        ({"action": "key"}, []),
        ({"target": record.id}, [3, 1]),
        ({"since": "1h"}, [3, 2, 1]),
        ({"until": "1h"}, []),
        ({"actor": "admin", "action": "key.create"}, [2]),
        ({"actor": "%"}, []),
    ):
        assert ids(shown(gate, **query)[0]) == expected, query
    assert "No change is like that" in shown(gate, actor="nobody")[1]
    view, page = shown(gate, since="soon")
    assert view.status == 400 and "is not a time" in page and 'value="soon"' in page


@pytest.mark.parametrize("many", [audit.SIZE, audit.SIZE + 1, 3 * audit.SIZE])
def test_part_by_part(gate: AdminGate, many: int) -> None:
    for number in range(many):
        gate.keyring.create(f"k{number}")
    address, seen = "/audit", list[int]()
    while address:
        view, page = shown(gate, **dict(parse_qsl(urlsplit(address).query)))
        assert ids(view)
        seen += ids(view)
        after = re.search(r'rel="next" href="([^"]*)"', page)
        address = after[1].replace("&amp;", "&") if after else ""
    assert seen == list(range(many, 0, -1))
    csv = audit.audit_log(ask("/audit", {"csv": "table"}, context=gate)).tables[0].csv().decode().splitlines()
    assert len(csv) == many + 1 and csv[0].endswith("seal")
    assert ids(shown(gate, trail="x")[0])[0] == many  # a way that nobody was led


def test_the_proof(gate: AdminGate, tmp_path: Path) -> None:
    for number in range(3):
        gate.keyring.create(f"k{number}")
    view, page = shown(gate, verify="1")
    head = view.values["verdict"].head
    assert "all 3 rows" in page and head in page
    assert "Yes" in shown(gate, verify="1", head=head)[1]
    view, page = shown(gate, verify="1", head="x")
    assert view.status == 400 and "NUMBER:SEAL" in page
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as store:
        store.execute("DROP TRIGGER audit_not_changed")
        store.execute("UPDATE audit SET actor = 'nobody' WHERE id = 2")
    page = shown(gate, verify="1")[1]
    assert "<strong>No.</strong>" in page and "The first row that is wrong is 2" in page
