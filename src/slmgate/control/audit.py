"""Lines of the audit log: who did what, when and from where, made in this one place; and how one is told to the gate's own log.

Where a change comes from is known at the door and needed far behind it, in whatever thread makes the change: it goes there with
the context, as `asked_from`. What a line may say is its maker's; this module keeps it short, and never sees a secret.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime

from slmgate.stores.records import AuditRecord

LONGEST = 1000
"""Characters of one text of a line; names and options are shorter."""
BY_THE_FILE = "file"
"""The actor of a configuration that was taken because its file changed: who changed it, only the file's system knows."""

asked_from: ContextVar[str] = ContextVar("asked_from", default="")
"""The address of whoever asked for what is being done; empty: nobody did, or a command without a gate."""


def line(time: datetime, actor: str, action: str, target: str, detail: Mapping[str, str] | None = None) -> AuditRecord:
    """A line of the audit log. Never give it a secret."""
    told = {name: _short(text) for name, text in (detail or {}).items()}
    return AuditRecord(
        time=time, actor=_short(actor), action=action, target=_short(target), address=asked_from.get(), detail=told
    )


def teller(log: logging.Logger) -> Callable[[AuditRecord, str], None]:
    """Tells `log` of every line as it is written: whoever keeps these elsewhere can prove later what was there."""

    def tell(record: AuditRecord, trouble: str) -> None:
        who = f"{record.actor} from {record.address}" if record.address else record.actor
        log.info("audit %d:%s %s %s by %s", record.id, record.seal, record.action, record.target, who)
        if trouble:
            log.error("the audit log is not as it was written (`slmgate audit verify` tells more): %s", trouble)

    return tell


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
