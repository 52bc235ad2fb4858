"""Durable state: the ledger of receipts, the keys, the audit log; SQLite for one machine, PostgreSQL for several.

Control opens a store with `open_store` and speaks to it through the protocols of `base.py`. Nothing in this room
knows of policy, HTTP or workers, and driver exceptions end here.
"""

from __future__ import annotations

from slmgate.stores.sql import open_store

__all__ = ["open_store"]
