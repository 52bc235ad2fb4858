"""Lines of the audit log: what they hold, how long they may be, and how the gate's own log tells of them."""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context
from datetime import UTC, datetime

import pytest

from slmgate.control import audit
from slmgate.stores.records import AuditRecord

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_where_it_was_asked_from_goes_along_into_threads() -> None:
    made: list[AuditRecord] = []

    def asked() -> None:
        audit.asked_from.set("192.0.2.1")
        thread = threading.Thread(target=copy_context().run, args=[lambda: made.append(audit.line(NOON, "ann", "x", "y"))])
        thread.start()
        thread.join()

    copy_context().run(asked)
    assert made == [AuditRecord(time=NOON, actor="ann", action="x", target="y", address="192.0.2.1")]
    assert audit.line(NOON, "ann", "x", "y", {"a": "b"}) == AuditRecord(
        time=NOON, actor="ann", action="x", target="y", detail={"a": "b"}
    )


def test_texts_are_cut() -> None:
    at, beyond = "a" * audit.LONGEST, "a" * (audit.LONGEST + 1)
    assert audit.line(NOON, at, "x", at, {"d": at}) == AuditRecord(time=NOON, actor=at, action="x", target=at, detail={"d": at})
    made = audit.line(NOON, beyond, "x", beyond, {"d": beyond})
    assert made.actor == made.target == made.detail["d"] == at[:-1] + "…"


def test_what_the_log_tells(caplog: pytest.LogCaptureFixture) -> None:
    tell = audit.teller(logging.getLogger("slmgate.test"))
    row = AuditRecord(time=NOON, actor="key:ci", action="key.revoke", target="k1", address="192.0.2.1", id=17, seal="ab12")
    with caplog.at_level(logging.INFO):
        tell(row, "")
        tell(AuditRecord(time=NOON, actor="cli", action="reload", target="configuration", id=18, seal="cd"), "row 3 is missing")
    assert caplog.messages == [
        "audit 17:ab12 key.revoke k1 by key:ci from 192.0.2.1",
        "audit 18:cd reload configuration by cli",
        "the audit log is not as it was written (`slmgate audit verify` tells more): row 3 is missing",
    ]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "ERROR"]
