"""A gate that is broken on purpose: it shows that the system tests can fail.

`relay` joins each client to the first instance byte by byte: no key check, no parsing, no receipts. A system test that
passes against it proves nothing. It reads the gate's configuration file and knows nothing else of the gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def relay(config: dict[str, Any]) -> None:
    host, port = config["listen"][0]["address"].rsplit(":", 1)
    instance = urlsplit(next(iter(config["models"].values()))["instances"][0]["url"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.read(65536)
        if head.startswith((b"GET /readyz", b"GET /healthz")):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.close()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(instance.hostname, instance.port)
        except OSError:
            writer.close()
            return
        up_writer.write(head)
        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))

    server = await asyncio.start_server(serve, host, int(port))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    assert sys.argv[1] == "relay", "the only stand-in is `relay`"
    asyncio.run(relay(yaml.safe_load(Path(sys.argv[3]).read_text())))
