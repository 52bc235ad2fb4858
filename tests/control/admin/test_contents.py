"""The route of contents: for owners alone, and never without its line in the audit log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slmgate.control.admin import contents
from slmgate.control.admin.contents import receipt_content
from slmgate.control.admin.handlers import Unknown
from slmgate.control.admin.local import LocalContext
from slmgate.control.admin.routes import ROUTES
from slmgate.control.operators import Operator, Permission
from slmgate.stores.contents import ContentRecord
from slmgate.stores.records import AuditRecord, Batch, LedgerUnavailable
from tests.tools.journal_writer import make_receipt

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
KEPT = ContentRecord(id="r1", role="kept", time=NOW, expires=NOW + timedelta(days=7), prompt="asked")
JANE = Operator("jane", Permission.OWNER)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalContext:
    monkeypatch.setattr(contents, "utc_now", lambda: NOW)
    context = LocalContext(tmp_path)
    context.store.write(Batch(receipts=[make_receipt("r1", request_id="q1"), make_receipt("r2")]))
    context.store.contents.put([KEPT])
    return context


def test_it_is_found_by_both_ids_and_each_look_is_noted(context: LocalContext) -> None:
    assert [receipt_content(context, JANE, id) for id in ("r1", "q1")] == [KEPT, KEPT]
    lines = context.store.audit(9)
    assert [(line.actor, line.action, line.target, line.detail["client"], line.detail["role"]) for line in lines] == [
        ("jane", "read", "content/r1", "bot", "kept")
    ] * 2


@pytest.mark.parametrize("id", ["r2", "none"])
def test_nothing_is_kept(context: LocalContext, id: str) -> None:
    with pytest.raises(Unknown, match="Nothing is kept"):
        receipt_content(context, JANE, id)
    assert context.store.audit(9) == []


def test_what_is_over_is_not_shown_though_it_is_there(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "utc_now", lambda: KEPT.expires)
    with pytest.raises(Unknown, match="its time is over"):
        receipt_content(context, JANE, "r1")
    assert context.store.contents.get("r1") == KEPT
    assert context.store.audit(9) == []


def test_what_cannot_be_noted_is_not_shown(context: LocalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(record: AuditRecord) -> None:
        raise LedgerUnavailable("it is locked")

    monkeypatch.setattr(context.store, "append_audit", away)
    with pytest.raises(LedgerUnavailable):
        receipt_content(context, JANE, "r1")


def test_it_is_for_owners() -> None:
    (row,) = (row for row in ROUTES if row.handler is receipt_content)
    assert row.permission is Permission.OWNER
