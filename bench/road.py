"""A worker's part of a request, in process: what a client's bytes set off until its answer is written, without sockets.

The worker is a real one, with its journal on disk and its own clock; only the event loop and the sockets are stand-ins, and the
instance's answer is a constant. So it shows small differences that drown in the noise of a whole gate under load, and nothing of
what the kernel and the event loop take. `python -m bench.road` prints microseconds of processor time for each request.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from bench import upstream, wire
from slmgate.dataplane.client import ClientConnection
from slmgate.dataplane.upstream import UpstreamConnection
from tests.tools.stage import SECRET, Stage, model

CONNECTIONS = 32
TURNS = 40
"""Of each connection, in one measurement."""


class _Patch:
    """What the stage asks of pytest's `monkeypatch`: here its clock and its journal stay the real ones."""

    def setattr(self, target: Any, *value: Any) -> None:
        if isinstance(target, str) and target != "slmgate.dataplane.worker.Journal":
            module, _, name = target.rpartition(".")
            setattr(importlib.import_module(module), name, value[0])


class _Transport:
    """A socket that takes everything."""

    written: bytes = b""

    def write(self, data: bytes) -> None:
        self.written = data

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 5) if name == "peername" else default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


class Road:
    """A worker with `CONNECTIONS` kept clients and as many kept connections to its one instance; `more` is its snapshot's."""

    def __init__(self, directory: Path, **more: Any) -> None:
        patch = cast(Any, _Patch())
        self._stage = Stage(directory, patch, model(name=wire.MODEL), segment_size=64 * 1024 * 1024)
        self._stage.publish(**more)
        self._worker = worker = self._stage.worker
        self._soon: list[Any] = []
        cast(Any, worker.outbox)._soon = self._soon.append
        [instance] = worker.pools.models[wire.MODEL].instances
        body, fields = wire.body(), wire.headers(secret=SECRET.decode())
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._request = (
            f"POST {wire.PATH} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        self._clients: list[ClientConnection] = []
        self._transports: list[_Transport] = []
        for _ in range(CONNECTIONS):
            transport, client, connection = _Transport(), ClientConnection(worker), UpstreamConnection(instance)
            client.connection_made(cast(Any, transport))
            connection.connection_made(cast(Any, _Transport()))
            instance.idle.append(connection)
            self._clients.append(client)
            self._transports.append(transport)
        self.turn()
        for transport in self._transports:
            assert transport.written.startswith(b"HTTP/1.1 200"), transport.written

    def turn(self) -> None:
        """One request of each connection."""
        for client in self._clients:
            client.data_received(self._request)
        self._worker.outbox.flush()
        asked = [cast(Any, client).exchange.connection for client in self._clients]
        for connection in asked:
            connection.data_received(upstream.ANSWER)
        self._worker.outbox.flush()
        self._soon.clear()

    def measure(self) -> float:
        """Microseconds of processor time for a request, of `TURNS` turns."""
        begun = time.process_time_ns()
        for _ in range(TURNS):
            self.turn()
        return (time.process_time_ns() - begun) / (TURNS * CONNECTIONS) / 1000


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="slmgate-road-") as directory:
        road = Road(Path(directory))
        found = sorted(road.measure() for _ in range(15))
    print(f"{found[len(found) // 2]:.2f} us for a request ({found[0]:.2f} - {found[-1]:.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
