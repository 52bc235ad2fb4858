"""Durable state: the ledger of receipts, the keys, the audit log; SQLite for one machine, PostgreSQL for several.

Control opens a store with `sql.open_store` and speaks to it through the protocols of `base.py`. Nothing in this room
knows of policy, HTTP or workers, and driver exceptions end here. Nothing is imported here, so that the protocols cost
no driver.
"""
