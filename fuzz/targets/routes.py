"""Method and target: what is let through is spelled, to the byte, as a row of the table; everything else does not exist.

An input is a request line and, behind a line end, a Host. There is no key and no body here: `requests.py` has whole requests.
"""

from __future__ import annotations

from collections.abc import Iterable

import httptools

from fuzz.target import Target
from slmgate.dialects import PATHS, TABLE, error_dialect
from slmgate.http1.heads import HeadReader
from slmgate.terms import Refuse

READER = HeadReader()


class Fields:
    """What llhttp calls."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.setdefault(name, value)


def check(data: bytes) -> None:
    line, _, host = data.partition(b"\n")
    host = host.partition(b"\r")[0]
    head = line + b"\r\nHost: " + host + b"\r\n\r\n"
    end = head.find(b"\r\n\r\n")
    found = Fields()
    try:
        httptools.HttpRequestParser(found).feed_data(head[: end + 4])
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return
    again = [reader.read(head[:end], found.fields) for reader in (READER, HeadReader(), READER)]
    assert again[0] == again[1] == again[2], "what was seen before changes what is read"
    read = again[0]
    if isinstance(read, Refuse):
        return
    method, target, version = line.split(b" ")
    assert version in (b"HTTP/1.1", b"HTTP/1.0")
    path = target.partition(b"?")[0]
    if path[:1] not in b"/*":
        assert path.lower().startswith(b"http://" + host.strip(b" \t").lower() + b"/"), "an absolute target of another host"
        path = path[path.index(b"/", 7) :]
    assert (read.method.encode(), read.path.encode()) == (method, path), "another method or path was read"
    assert read.path.isascii()
    assert read.path.isprintable()
    row = TABLE.get((read.method, read.path))
    assert (row is not None) == (read.method in PATHS.get(read.path, ()))
    error_dialect(read.path)


def seeds() -> Iterable[bytes]:
    for method, path in TABLE:
        yield f"{method} {path} HTTP/1.1\ngate.test".encode()
    for target in (
        "http://gate.test/v1/models",
        "*",
        "//v1/models",
        "/v1/%6dodels",
        "/v1/models?x=%00",
        "/v1/models#",
        "/v1/../x",
    ):
        yield f"GET {target} HTTP/1.0\ngate.test".encode()
    yield b"CONNECT gate.test:80 HTTP/1.1\ngate.test:80"
    yield b"GET http://[::1]:80/ HTTP/1.1\n[::1]:80"


TARGET = Target(check, seeds, 512)
