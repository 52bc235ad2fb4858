"""The ledger that `bench.pages` fills is a right one: whatever is kept beside its receipts is what they add up to."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bench import pages
from slmgate.control.analytics import Analytics
from slmgate.control.ranges import between
from slmgate.stores.sql import open_store


@pytest.mark.parametrize(("clients", "days"), [(3, 1), (40, 9)])
def test_the_ledger_is_what_its_receipts_are(tmp_path: Path, clients: int, days: int) -> None:
    pages.Filling(tmp_path / "ledger.db", clients, 1500, days).fill()
    store = open_store(tmp_path / "ledger.db")
    assert [difference.told() for found in store.verify() for difference in found.differences] == []
    end = pages._BEGIN + timedelta(days=days)
    seen = Analytics(store).overview(between("2026-01-01", None, end))
    assert (seen.compared.now.requests, seen.clients_total) == (1500, clients)
    store.close()


def test_every_question_and_page_is_asked_and_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--clients", "2", "--receipts", "500", "--directory", str(tmp_path), "--reuse", str(tmp_path / "kept")]
    assert pages.main(given) in (0, 1)
    told = capsys.readouterr().out
    assert "500 receipts of 2 clients" in told
    assert (told.count("median"), told.count("page: ")) == (5 * 28, 5 * 14)
    assert [each.name for each in (tmp_path / "kept").iterdir()] == ["2-500"]
