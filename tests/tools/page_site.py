"""The admin listener in this process, over a made-up gate, for a real browser: the pages without workers and without a gate.

It serves on the loopback by uvicorn in a thread, as the control process does, and signs somebody in without the form.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from playwright.sync_api import BrowserContext

from slmgate.control.admin import create_app
from slmgate.control.admin.signin.sessions import Sessions, Signed
from tests.tools.admin_gate import AdminGate
from tests.tools.gate import free_port


class Site:
    """`origin` is where it listens; `gate` is what it shows, and may be changed meanwhile."""

    def __init__(self, gate: AdminGate, port: int) -> None:
        self.gate = gate
        self.origin = f"http://127.0.0.1:{port}"

    def sign_in(self, context: BrowserContext, name: str = "olga", role: str = "owner") -> None:
        """Have this browser's context be signed in as a local account of this role."""
        account = next((each for each in self.gate.accounts.all() if each.name == name), None)
        account = account or self.gate.accounts.add(name, role, "four plain words", "admin")
        cookie = Sessions(self.gate.accounts).start(Signed(f"user:{name}", role, account), self.gate.admin.auth, "", "")
        assert cookie is not None
        context.add_cookies([{"name": "slmgate-session", "value": cookie, "url": self.origin}])


@contextmanager
def serving(home: Path) -> Iterator[Site]:
    """A site with its state in `home`."""
    gate, port = AdminGate(home), free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(gate), host="127.0.0.1", port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
            assert thread.is_alive()
        yield Site(gate, port)
    finally:
        server.should_exit = True
        thread.join(10)
        gate.store.close()
