"""One worker process: it listens, asks the pure floor, and moves bytes between clients and instances.

Everything here runs on one event loop without a task, an await or a lock per request. It knows neither stores nor the
control process; snapshots come down the link, receipts leave through the journal.
"""
