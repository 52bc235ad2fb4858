"""The admin API: what operators and the commands of slmgate ask of a running gate, over HTTP on a listener of its own.

`routes.py` holds its table, `app.py` makes the application, `local.py` answers the same questions where no gate runs. It
reads and changes through the keyring and the store, and knows nothing of clients' connections.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litestar import Litestar

    from slmgate.control.admin.context import AdminContext


def create_app(context: AdminContext, hosts: Collection[str] = ()) -> Litestar:
    """As `app.create_app`. The web framework is imported here and not above: commands use this package without it."""
    from slmgate.control.admin.app import create_app as create

    return create(context, hosts)
