"""The least that a proxy on uvloop can do: bytes from one socket to the other, nothing read, nothing decided.

A target of the benchmark (`relay`) and no proxy for anyone: it takes the first bytes of a client for a whole request and
knows an answer's end by the mock instance's way of writing it. What it costs is the floor under any gate in Python on this
loop, so that the gate's own part of a figure can be told from the loop's. `python bench/relay.py PORT UPSTREAM_PORT`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

LOOPBACK = "127.0.0.1"


class Instance(asyncio.Protocol):
    """A connection to the instance, kept for the next request when an answer is over."""

    client: Client | None = None
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client is None:
            return
        if data.endswith(b"0\r\n\r\n") or b"content-length" in data[:400].lower():
            self.client = client.instance = None
            client.idle.append(self)
        client.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self.client.transport.abort()


class Client(asyncio.Protocol):
    instance: Instance | None = None
    transport: asyncio.Transport

    def __init__(self, idle: list[Instance], upstream: int) -> None:
        self.idle = idle
        self.upstream = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        while self.idle:
            instance = self.idle.pop()
            if not instance.transport.is_closing():
                self.ask(instance, data)
                return
        self.task = asyncio.get_running_loop().create_task(self.connect(data))

    async def connect(self, data: bytes) -> None:
        _, instance = await asyncio.get_running_loop().create_connection(Instance, LOOPBACK, self.upstream)
        self.ask(instance, data)

    def ask(self, instance: Instance, data: bytes) -> None:
        instance.client, self.instance = self, instance
        instance.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.instance is not None:
            self.instance.client = None
            self.instance.transport.abort()


async def main(port: int, upstream: int) -> None:
    idle: list[Instance] = []
    server = await asyncio.get_running_loop().create_server(lambda: Client(idle, upstream), LOOPBACK, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
