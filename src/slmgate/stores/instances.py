"""The instances' part of the store: what operators said of instances at run time, beside what the configuration says.

A record exists for an instance that was added, drained, or both. No driver is named here; `sql_instances.py` answers. It
knows no configuration, and no secret: the options of an added instance say where one is fetched from.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from slmgate.stores.records import AuditRecord


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of one instance. `options`: those that it was added with, as JSON; empty: it was not added."""

    id: str
    model: str
    options: str = ""
    drained: bool = False

    @property
    def says_nothing(self) -> bool:
        """Nothing is left that would have to be remembered."""
        return not self.options and not self.drained


class InstanceStore(Protocol):
    """What control asks of the store about instances. All raise LedgerUnavailable with nothing written."""

    def all(self) -> list[InstanceRecord]:
        """By id."""
        ...

    def save(self, record: InstanceRecord, audit: AuditRecord) -> None:
        """Add or replace; one that says nothing is removed."""
        ...

    def remove(self, id: str, audit: AuditRecord) -> None:
        """Remove it, if there is one."""
        ...
