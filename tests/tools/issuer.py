"""An issuer under a test's control: discovery and keys over HTTP on loopback, well or badly, and a record of what was asked.

It runs in a thread of the test. `answer` replaces any path's answer by bytes of any kind; it signs nothing (`signer.py` does).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.tools.signer import PUBLISHED, jwk

Act = Callable[[BaseHTTPRequestHandler], None]


class FakeIssuer:
    """`paths` are the paths that were asked for; `keys` the published keys; `acts` what a path does instead of answering."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                act = outer.acts.get(self.path)
                if act is not None:
                    act(self)
                elif self.path == "/.well-known/openid-configuration":
                    say(self, {"issuer": outer.url, "jwks_uri": f"{outer.url}/jwks"})
                elif self.path == "/jwks":
                    say(self, {"keys": outer.keys})
                else:
                    self.send_error(404)

            def log_message(self, *_: Any) -> None:
                """It says nothing."""

        self.paths: list[str] = []
        self.keys: list[dict[str, Any]] = [jwk(name) for name in PUBLISHED]
        self.acts: dict[str, Act] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def say(handler: BaseHTTPRequestHandler, value: Any, kind: str = "application/json") -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    handler.send_response(200)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
