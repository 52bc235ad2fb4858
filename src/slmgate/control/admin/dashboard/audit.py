"""The page of the audit log: who changed what, when and from where, and whether the log is as it was written.

By the admin API's functions. To walk the whole chain takes its time, so that it is done when somebody asks for it.
"""

from __future__ import annotations

from typing import Any

from slmgate.control.admin import handlers
from slmgate.control.admin.dashboard import tables
from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.admin.dashboard.page import Page
from slmgate.control.admin.dashboard.tables import Column
from slmgate.control.admin.dashboard.walked import Walked, trail_of
from slmgate.control.keyfields import BadKeyInput
from slmgate.control.operators import Permission
from slmgate.stores.records import AuditRecord, AuditVerdict

SIZE = 50
AT_ONCE = 1000
_COLUMNS = (
    Column("id", "No.", "count", sort=False),
    Column("time", "Time", "time", sort=False),
    Column("actor", "Who", sort=False),
    Column("action", "What", sort=False),
    Column("target", "To what", sort=False, wide=True),
    Column("told", "How", sort=False, wide=True),
    Column("address", "From", sort=False, wide=True),
)
_SEAL = (Column("seal", "Seal", "code"),)
ACTIONS = (
    *("key.", "key.create", "key.edit", "key.rotate", "key.disable", "key.enable", "key.revoke", "key.import"),
    *("reload", "refused", "account.", "admin_key.", "session.", "instance."),
)
"""Beginnings and words that the field offers."""


def audit_log(ask: Ask) -> View:
    """Changes, the newest first, those that are meant; and the proof, where it is asked for."""
    chosen = {name: ask.text(name) for name in ("actor", "action", "target", "since", "until")}
    wrong: dict[str, str] = {}
    whole = tables.asked(ask, "")
    trail = trail_of(ask)
    found: list[AuditRecord] = []
    before = None if whole or not trail or not trail[-1].isdigit() else int(trail[-1][:18])
    asked: dict[str, Any] = {name: text or None for name, text in chosen.items()}
    try:
        while True:
            page = handlers.audit(ask.context, limit=AT_ONCE if whole else SIZE + 1, before=before, **asked)
            found += page.changes
            before = page.next
            if before is None or not whole or len(found) >= tables.MOST_CSV:
                break
    except BadKeyInput as bad:
        wrong["since"] = str(bad)
    more = not whole and len(found) > SIZE  # the one beyond says that there is more
    found = found if whole else found[:SIZE]
    table = Walked(
        ask=ask,
        name="",
        columns=(*_COLUMNS, *_SEAL) if whole else _COLUMNS,
        rows=[_row(each) for each in found],
        sort="",
        page=tables.place(ask) if trail else 1,
        size=SIZE,
        more=more,
        trail=trail,
        next=str(found[-1].id) if more else None,
    )
    verdict, trouble = _verified(ask)
    values = {
        "table": table,
        "chosen": chosen,
        "filtered": any(chosen.values()),
        "wrong": wrong,
        "actions": ACTIONS,
        "verdict": verdict,
        "trouble": trouble,
        "head": ask.text("head"),
    }
    return View(template="audit.html", values=values, tables=[table], status=400 if wrong or trouble else 200, ranged=False)


def _verified(ask: Ask) -> tuple[AuditVerdict | None, str]:
    if ask.text("verify") != "1":
        return None, ""
    try:
        return handlers.verify_audit(ask.context, ask.text("head")), ""
    except handlers.BadQuery as bad:
        return None, str(bad)


def _row(record: AuditRecord) -> dict[str, Any]:
    told = "; ".join(f"{name}: {text}" for name, text in record.detail.items())
    return {
        "id": record.id,
        "time": record.time,
        "actor": record.actor,
        "action": record.action,
        "target": record.target,
        "told": told,
        "address": record.address,
        "seal": record.seal,
    }


PAGES: tuple[Page, ...] = (
    Page(path="/audit", permission=Permission.VIEWER, handler=audit_log, title="Audit log", place=("Records", 30)),
)
