"""A raw HTTP/1.1 client: bytes out, answers in, with nothing put right on the way.

It writes exactly what a test gives it and reads answers by the framing that they declare, saying whether each was
complete. It never retries, never follows, and knows nothing of the gate but how a credential is written.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import time
from typing import Any, NamedTuple

CHAT = "/v1/chat/completions"


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool
    """The body ended as its framing promised."""
    informational: tuple[int, ...] = ()

    def header(self, name: str) -> str | None:
        found = [value for each, value in self.headers if each == name]
        assert len(found) <= 1, f"header {name} came {len(found)} times: {found}"
        return found[0] if found else None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The `code` of an OpenAI error body."""
        error = self.json().get("error")
        return error.get("code") if isinstance(error, dict) else None

    def events(self) -> list[str]:
        return sse(self.body)


class ClosedEarlyError(Exception):
    """The connection ended before a single byte of an answer came."""


def sse(body: bytes) -> list[str]:
    """The data of each whole event of a Server-Sent Events body."""
    blocks = body.decode().split("\n\n")[:-1]
    return ["\n".join(line[6:] for line in block.split("\n") if line.startswith("data: ")) for block in blocks]


def numbers(events: list[str]) -> list[int]:
    """The numbers of a mock instance's events, in the order of arrival."""
    decoded = [json.loads(event) for event in events if event.startswith("{")]
    return [event["n"] for event in decoded if "n" in event]


def chat(stream: bool = False, model: str = "tiny", **script: Any) -> bytes:
    """A chat body that tells the mock instance how to answer."""
    fields: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hi"}], "script": script}
    return json.dumps({**fields, "stream": True} if stream else fields).encode()


def request(
    body: bytes | None = b"",
    *,
    method: str = "POST",
    path: str = CHAT,
    secret: str | None = None,
    headers: tuple[str, ...] = (),
    version: str = "1.1",
    host: str = "gate.test",
) -> bytes:
    """One request. `body` None leaves the framing to `headers`; otherwise Content-Length is right."""
    lines = [
        f"{method} {path} HTTP/{version}",
        f"Host: {host}",
        *([f"Authorization: Bearer {secret}"] if secret else []),
        *headers,
    ]
    if body is not None and (body or method == "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def chunked(body: bytes, size: int = 7) -> bytes:
    """A body in chunks of `size` bytes with its last chunk."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class Wire:
    """One client connection."""

    def __init__(self, port: int, timeout: float = 10.0, receive_buffer: int | None = None, source: str = "") -> None:
        """`source`: the address to come from, one of this machine's."""
        self.socket = socket.socket()
        if source:
            self.socket.bind((source, 0))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def __del__(self) -> None:
        # A test that fails leaves its connections to the collector, which must not add a warning of its own.
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        """Leave by RST, as a killed client's kernel does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def more(self) -> bool:
        """Read once; False at the end of the connection. A reset counts as an end."""
        try:
            data = self.socket.recv(262144)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def take(self, size: int) -> bytes | None:
        while len(self.buffer) < size:
            if not self.more():
                return None
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def until(self, mark: bytes) -> bytes | None:
        while mark not in self.buffer:
            if not self.more():
                return None
        data, _, self.buffer = self.buffer.partition(mark)
        return data

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        head = self.until(b"\r\n\r\n")
        if head is None:
            raise ClosedEarlyError(self.buffer)
        line, *rest = head.decode("latin-1").split("\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in rest)]
        version, status, *_ = line.split(" ")
        assert version == "HTTP/1.1", line
        return int(status), fields

    def answer(self, method: str = "POST") -> Answer:
        """The next answer to a request with `method`, informational ones before it noted."""
        informational: list[int] = []
        status, headers = self.head()
        while status < 200:
            informational.append(status)
            status, headers = self.head()
        names = dict(headers)
        assert not ("transfer-encoding" in names and "content-length" in names), headers
        complete, body = True, b""
        if method == "HEAD" or status in (204, 304):
            pass
        elif names.get("transfer-encoding") == "chunked":
            body, complete = self.chunks()
        elif "content-length" in names:
            got = self.take(int(names["content-length"]))
            complete, body = got is not None, self.buffer if got is None else got
        else:
            while self.more():
                pass
            body, self.buffer = self.buffer, b""
        return Answer(status, headers, body, complete, tuple(informational))

    def chunks(self) -> tuple[bytes, bool]:
        body = b""
        while (line := self.until(b"\r\n")) is not None:
            size = int(line, 16)
            data = self.take(size + 2)
            if data is None:
                return body + self.buffer, False
            assert data[size:] == b"\r\n", data[-20:]
            if not size:
                return body, True
            body += data[:size]
        return body + self.buffer, False

    def ask(self, data: bytes, method: str = "POST") -> Answer:
        self.send(data)
        return self.answer(method)

    def event(self) -> bytes | None:
        """The next bytes of a stream's body up to an event's end; raw, with whatever chunk lines stand before it."""
        return self.until(b"\n\n")

    def closed(self, within: float = 2.0) -> bool:
        """Whether the other side ends the connection within that time without another byte."""
        end = time.monotonic() + within
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self.socket], [], [], left)
            if ready:
                with contextlib.suppress(ConnectionResetError):
                    if data := self.socket.recv(65536):
                        raise AssertionError(f"more bytes instead of an end: {data[:200]!r}")
                return True
        return False


def ask(port: int, data: bytes, method: str = "POST", timeout: float = 10.0) -> Answer:
    """One request on a connection of its own."""
    with Wire(port, timeout) as wire:
        return wire.ask(data, method)
