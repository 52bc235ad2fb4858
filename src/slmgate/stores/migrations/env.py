"""Alembic's entry: runs the revisions on the connection that `upgrade` hands over.

It is executed by Alembic, never imported. It opens no database of its own and knows no URL, so the transaction, its
locks and its errors stay with the caller.
"""

from __future__ import annotations

from alembic import context

from slmgate.stores.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
