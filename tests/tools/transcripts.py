"""Reads the recorded and scripted answers of engines in `tests/dialects/transcripts`.

A transcript is, after any lines that begin with `#` and say where a scripted one is from, a line `METHOD path`, a line
with the request's body, and the raw HTTP response. This module knows just enough HTTP to take that apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent.parent / "dialects" / "transcripts"


class Transcript(NamedTuple):
    method: str
    path: str
    asked: bytes
    status: int
    headers: dict[str, str]
    body: bytes


def _unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        whole += rest[:length]
        data = rest[length + 2 :] if length else b""
    return whole


def transcript(name: str) -> Transcript:
    """The transcript in the file `<name>.http`."""
    data = (FOLDER / f"{name}.http").read_bytes()
    while data.startswith(b"#"):
        data = data.partition(b"\n")[2]
    line, asked, answer = data.split(b"\n", 2)
    method, path = line.decode().split(" ")
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    return Transcript(method, path, asked, int(status.split()[1]), headers, body)
