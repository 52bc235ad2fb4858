"""A word to systemd, where it has started the gate and waits for one (`Type=notify`, sd_notify(3)).

Elsewhere `tell` does nothing. It knows no state of the gate.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


def tell(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Say this, such as `READY=1`, to the service manager. That it does not listen is no reason not to serve."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
        there.sendto(state.encode(), address)
