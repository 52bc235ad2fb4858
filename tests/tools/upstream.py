"""A mock instance: a raw HTTP/1.1 server in a process of its own that journals all it is sent and lies on command.

Each request may carry a `script` in its JSON body that says how it is answered; without one the server's default
script holds. `serve` is the process; `MockUpstream` is the handle that a test holds. Time stamps are seconds of
CLOCK_MONOTONIC, so they compare across the processes of one machine. This module knows nothing of the gate.

A script is a JSON object. `do` is one of
  answer   (default) a good answer in the dialect of the path; streamed if the body says `stream`
  raw      the text in `bytes` (latin-1) as it is, then `then`
  trickle  the text in `bytes`, one byte every `interval` seconds
  flood    a body of `size` bytes in an honest answer
  silence  nothing at all, for ever
  early    the text in `bytes` before the body was read, which it is not if it is `deaf` (only as a default script)
and the rest: `delay` seconds before the first byte; `status`; `tag` is repeated in every event and answer;
`events`, `rate` (events a second, 0 = at once), `pad` (bytes in each event), `usage` (in place of the true figures),
`prompt` (prompt tokens), `after` (cut the stream after that many events) with `then` (`close`, `reset`, `stall`,
`finish`, `garbage`, `keep`), `idle_close` (seconds after which the idle connection is closed without a word).
The gate's own checks are answered with the status `check` of the default script (200), and are in no journal and no gauge. What
the mock says that it serves is its `lists`: names, in the form of the path, or a script of its own; without, it is `{}`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from tests.tools.parent import die_with_parent
from tests.tools.voices import answer, listing, voice

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\nServer: mock\r\n\r\n"
REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 500: b"Internal Server Error", 502: b"Bad Gateway"}
BODY_KEPT = 65536
"""Bytes of a request's body that the journal keeps; the full length is in `body_size`."""


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def sized(status: int, body: bytes, content_type: str = "application/json", extra: str = "") -> bytes:
    """A whole answer with Content-Length, and with headers that a proxy must not pass on."""
    head = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\nServer: mock\r\nX-Powered-By: mock\r\n"
    head += f"Set-Cookie: upstream=1\r\n{extra}\r\n"
    return b"HTTP/1.1 %d %s\r\n" % (status, REASONS.get(status, b"Status")) + head.encode() + body


class Asked:
    """One request as it was received, and how far its answer went. `as_dict` is its row in the journal."""

    def __init__(self, connection: int, head: bytes, now: float) -> None:
        self.connection = connection
        self.time = now
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.method, self.path = [*lines[0].split(" "), "", ""][:2]
        self.headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        self.body = b""
        self.events = 0
        self.sent = 0
        self.ended: str | None = None
        self.end_time: float | None = None

    def header(self, name: str) -> str:
        return ", ".join(value for found, value in self.headers if found == name)

    def as_dict(self) -> dict[str, Any]:
        row = {name: value for name, value in vars(self).items() if name != "body"}
        return {**row, "body": self.body[:BODY_KEPT].decode("latin-1"), "body_size": len(self.body)}


class Connection(asyncio.Protocol):
    """One connection from the gate. A task reads its requests and plays its scripts; losing it cancels the task."""

    def __init__(self, mock: Mock) -> None:
        self.mock = mock
        self.buffer = bytearray()
        self.arrived = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.current: Asked | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.number = len(self.mock.connections)
        self.record: dict[str, Any] = {"opened": time.monotonic(), "closed": None, "bytes": 0}
        self.mock.connections.append(self.record)
        self.task = asyncio.get_running_loop().create_task(self.serve())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if data.startswith(b"GET ") and b"\r\nuser-agent: slmgate\r\n" in data.lower():
            self.record["check"] = True  # at once: who counts bytes may look before the task has read the head
        self.record["bytes"] += len(data)
        self.arrived.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def eof_received(self) -> bool:
        self.record["closed"] = time.monotonic()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self.record["closed"] = self.record["closed"] or time.monotonic()
        self.finish("peer_closed")
        self.task.cancel()

    def finish(self, ended: str) -> None:
        if self.current is not None and self.current.ended is None:
            self.current.ended, self.current.end_time = ended, time.monotonic()
            self.mock.in_flight -= 1
        self.current = None

    async def need(self, ready: Callable[[], int]) -> int:
        """Wait until `ready` gives a number of bytes that are all in the buffer."""
        while not (end := ready()):
            self.arrived.clear()
            await self.arrived.wait()
        return end

    async def take(self, size: int) -> bytes:
        await self.need(lambda: int(len(self.buffer) >= size) or 0) if size else None
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    async def line(self) -> bytes:
        return (await self.take(await self.need(lambda: self.buffer.find(b"\n") + 1)))[:-2]

    async def serve(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                head = await self.take(
                    await self.need(lambda: self.buffer.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in self.buffer else 0)
                )
                asked = Asked(self.number, head[:-4], time.monotonic())
                if asked.method == "GET" and asked.header("user-agent") == "slmgate":
                    self.mock.checks += 1
                    if "lists" in self.mock.default and asked.header("accept") == "application/json":
                        await self.list(asked, self.mock.default["lists"])
                        continue
                    self.transport.write(sized(self.mock.default.get("check", 200), b"{}"))
                    continue
                self.current = asked
                self.mock.journal.append(asked)
                self.mock.in_flight += 1
                self.mock.peak = max(self.mock.peak, self.mock.in_flight)
                early = self.mock.default if self.mock.default.get("do") == "early" else None
                if early is not None:
                    self.transport.write(early["bytes"].encode("latin-1"))
                    if early.get("deaf"):
                        self.transport.pause_reading()
                        await asyncio.Event().wait()
                await self.read_body(asked)
                if early is None:
                    script = self.script(asked)
                    await self.play(asked, script)
                    await self.rest(script)
                self.finish("complete")

    async def list(self, asked: Asked, lists: list[str] | dict[str, Any]) -> None:
        self.mock.lists += 1
        if isinstance(lists, dict):
            await self.play(asked, {"fields": {}, **lists})
        else:
            await self.send(sized(200, listing(asked.path, lists)))

    async def read_body(self, asked: Asked) -> None:
        if "chunked" in asked.header("transfer-encoding"):
            while size := int(await self.line(), 16):
                asked.body += await self.take(size)
                await self.line()
            while await self.line():
                pass
        elif length := asked.header("content-length"):
            asked.body = await self.take(int(length))

    def script(self, asked: Asked) -> dict[str, Any]:
        try:
            fields = json.loads(asked.body)
        except ValueError:
            fields = {}
        fields = fields if isinstance(fields, dict) else {}
        return {"fields": fields, **self.mock.default, **fields.get("script", {})}

    async def send(self, data: bytes) -> None:
        await self.writable.wait()
        self.transport.write(data)
        if self.current is not None:
            self.current.sent += len(data)

    async def end(self, how: str) -> None:
        """Leave the connection in the state that a script asked for; only `finish` and `keep` come back."""
        if how in ("finish", "keep"):
            return
        if how == "stall":
            await asyncio.Event().wait()
        if how == "garbage":
            await self.send(b"zz\r\n<garbage>\r\n")
            await asyncio.Event().wait()
        self.finish(how)
        if how == "reset":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()
        raise asyncio.CancelledError

    async def rest(self, script: dict[str, Any]) -> None:
        """After an answer: close without a word when the script wants stale connections."""
        if (pause := script.get("idle_close")) is not None:
            self.finish("complete")
            if not pause:
                await self.end("close")
            asyncio.get_running_loop().call_later(pause, self.close_if_idle)

    def close_if_idle(self) -> None:
        if self.current is None and not self.buffer:
            self.transport.close()

    async def play(self, asked: Asked, script: dict[str, Any]) -> None:
        if delay := script.get("delay"):
            await asyncio.sleep(delay)
        match script.get("do", "answer"):
            case "silence":
                await asyncio.Event().wait()
            case "raw":
                await self.send(script["bytes"].encode("latin-1"))
                await self.end(script.get("then", "keep"))
            case "trickle":
                for byte in script["bytes"].encode("latin-1"):
                    await self.send(bytes([byte]))
                    await asyncio.sleep(script.get("interval", 1.0))
                await self.end(script.get("then", "keep"))
            case "flood":
                await self.flood(script)
            case _ if script["fields"].get("stream", asked.path in ("/api/chat", "/api/generate")):
                await self.stream(asked, script)
            case _:
                await self.send(sized(script.get("status", 200), answer(asked.path, script)))

    async def flood(self, script: dict[str, Any]) -> None:
        size, block = script["size"], b"x" * 65536
        # A thousand of these on one machine, unread, must leave it memory for other connections (tcp(7), tcp_mem).
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(block))
        kind = "text/event-stream" if script["fields"].get("stream") else "application/json"
        await self.send(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // len(block)):
            await self.send(block)
        await self.send(b"x" * (size % len(block)))

    async def stream(self, asked: Asked, script: dict[str, Any]) -> None:
        """Numbered events on an absolute schedule, cut after `after` events if the script says so."""
        count, rate = script.get("events", 5), script.get("rate", 0)
        cut = script.get("after", -1)
        opening, event, closing = voice(asked.path, script)
        kind = b"application/x-ndjson" if asked.path.startswith("/api/") else b"text/event-stream"
        await self.send(STREAM_HEAD % kind)
        for part in opening:
            await self.send(chunk(part))
        start = time.monotonic()
        for number in range(count):
            if number == cut:
                await self.end(script.get("then", "close"))
            if rate and (pause := start + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            await self.send(chunk(event(number)))
            asked.events += 1
        if cut >= count:
            await self.end(script.get("then", "close"))
        for part in closing:
            await self.send(chunk(part))
        await self.send(b"0\r\n\r\n")


class Mock:
    """The state of one mock process: the journal, the gauges and the default script."""

    def __init__(self) -> None:
        self.journal: list[Asked] = []
        self.connections: list[dict[str, Any]] = []
        self.default: dict[str, Any] = {}
        self.checks = 0
        self.lists = 0
        self.in_flight = 0
        self.peak = 0

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The handle's own port: GET gives everything, POST sets the default script and may clear the journal."""
        line = await reader.readline()
        length = 0
        while header := (await reader.readline()).strip():
            name, _, value = header.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        if line.startswith(b"POST"):
            order = json.loads(await reader.readexactly(length))
            self.default = order.get("default", self.default)
            if order.get("clear"):
                self.journal.clear()
        state: dict[str, Any] = {"in_flight": self.in_flight, "peak": self.peak, "connections": self.connections}
        state |= {"checks": self.checks, "lists": self.lists}
        if b" /gauges " not in line:
            state["journal"] = [asked.as_dict() for asked in self.journal]
        writer.write(sized(200, json.dumps(state).encode()))
        await writer.drain()
        writer.close()


async def serve(host: str, port: int) -> None:
    """Serve on loopback until killed; prints the two ports as one JSON line when ready."""
    mock = Mock()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(mock), host, port, backlog=2048)
    control = await asyncio.start_server(mock.control, "127.0.0.1", 0)
    ports = [each.sockets[0].getsockname()[1] for each in (server, control)]
    print(json.dumps({"port": ports[0], "control": ports[1]}), flush=True)
    async with server, control:
        await asyncio.Event().wait()


class MockUpstream:
    """A test's handle on one mock process. `kill` and `start` keep the port, so that it can come back."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host, self.port = host, port
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.tools.upstream", "--host", self.host, "--port", str(self.port)]
        root = Path(__file__).resolve().parents[2]
        self.process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        assert self.process.stdout is not None
        ports = json.loads(self.process.stdout.readline())
        self.port, self.control = ports["port"], ports["control"]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, path: str = "/", order: dict[str, Any] | None = None) -> dict[str, Any]:
        link = http.client.HTTPConnection("127.0.0.1", self.control, timeout=20)
        try:
            if order is None:
                link.request("GET", path)
            else:
                link.request("POST", path, json.dumps(order))
            return cast("dict[str, Any]", json.loads(link.getresponse().read()))
        finally:
            link.close()

    def default(self, **script: Any) -> None:
        """How requests without a script of their own are answered from now on."""
        self.ask("/gauges", {"default": script})

    def clear(self) -> None:
        self.ask("/gauges", {"clear": True})

    def gauges(self) -> dict[str, Any]:
        return self.ask("/gauges")

    def journal(self) -> list[dict[str, Any]]:
        """Every POST that arrived, in order (a gate may probe with GET as it likes)."""
        return [asked for asked in self.ask()["journal"] if asked["method"] == "POST"]

    def connections(self) -> list[dict[str, Any]]:
        """All but those of checks."""
        return [each for each in self.gauges()["connections"] if "check" not in each]

    def bytes_received(self) -> int:
        return sum(int(each["bytes"]) for each in self.connections())

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A mock instance that journals and lies on command.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().host, parser.parse_args().port))
