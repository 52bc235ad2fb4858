"""The admin API: what operators and the commands of slmgate ask of a running gate, over HTTP on a listener of its own.

`routes.py` holds its table, `app.py` makes the application. It reads and changes through the keyring and the store, and
knows nothing of clients' connections.
"""

from __future__ import annotations

from slmgate.control.admin.app import create_app

__all__ = ["create_app"]
