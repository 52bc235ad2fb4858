"""The one request that every target gets, the answers that count as right, and reading an HTTP/1.1 response.

The request is the official Python client's: its headers, its compact JSON. This module opens no socket; the mock
instance, the loader and the probe all build on it, so that they cannot disagree about what is right.
"""

from __future__ import annotations

import json
import platform
from typing import NamedTuple

MODEL = "bench-model"
SECRET = "sk-slm-bench-0123456789abcdefghijklmnopqrstuvwxyz"
WRONG_SECRET = "sk-slm-bench-wrong-6789abcdefghijklmnopqrstuvwxyz"
PATH = "/v1/chat/completions"
ANSWER = "The capital of France is Paris, on the river Seine."
_MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant. Answer in one short sentence."},
    {"role": "user", "content": "What is the capital of France, and on which river does it lie?"},
]


def body(*, stream: bool = False, chunks: int = 64) -> bytes:
    """The request's JSON, compact as the client sends it. The mock instance streams `max_tokens` chunks."""
    fields: dict[str, object] = {
        "messages": _MESSAGES,
        "model": MODEL,
        "max_tokens": chunks,
        "temperature": 0.2,
        "top_p": 0.95,
        "user": "bench",
    }
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(fields, separators=(",", ":")).encode()


def headers(secret: str = SECRET, extra: dict[str, str] | None = None) -> dict[str, str]:
    """The headers of the official client, without Host and Content-Length; `extra` is what one target needs besides."""
    return {
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "authorization": f"Bearer {secret}",
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": "OpenAI/Python 3.54.0",
        "x-stainless-lang": "python",
        "x-stainless-package-version": "3.54.0",
        "x-stainless-os": "Linux",
        "x-stainless-arch": "x64",
        "x-stainless-runtime": "CPython",
        "x-stainless-runtime-version": platform.python_version(),
        "x-stainless-async": "false",
        "x-stainless-retry-count": "0",
        "x-stainless-read-timeout": "600",
        **(extra or {}),
    }


def request(port: int, content: bytes, secret: str = SECRET, extra: dict[str, str] | None = None) -> bytes:
    """The whole POST as bytes."""
    lines = [f"POST {PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in headers(secret, extra).items()]
    lines += [f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


def answer() -> bytes:
    """The mock instance's unstreamed JSON answer."""
    fields = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 34, "completion_tokens": 13, "total_tokens": 47},
    }
    return json.dumps(fields, separators=(",", ":")).encode()


class Answer(NamedTuple):
    """One complete response. `size` is all its bytes, head and framing included."""

    status: int
    head: bytes
    body: bytes
    size: int


class IncompleteError(Exception):
    """More bytes are needed."""


def parse(data: bytes) -> Answer:
    """Read one response from the start of `data`; raises `IncompleteError`, or ValueError when it is no HTTP/1.1 response."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        raise IncompleteError
    if not head.startswith(b"HTTP/1."):
        raise ValueError(f"not an HTTP response: {head[:40]!r}")
    status = int(head[9:12])
    lower = head.lower()
    if b"\r\ntransfer-encoding: chunked" in lower:
        content, used = _unchunk(rest)
    else:
        at = lower.find(b"\r\ncontent-length:")
        if at < 0:
            raise ValueError("neither a length nor chunks")
        used = int(lower[at + 17 :].split(b"\r\n", 1)[0])
        content = rest[:used]
        if len(rest) < used:
            raise IncompleteError
    return Answer(status, head, content, len(head) + 4 + used)


def _unchunk(data: bytes) -> tuple[bytes, int]:
    parts: list[bytes] = []
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            raise IncompleteError
        size = int(data[at:end].split(b";")[0], 16)
        at = end + 2 + size + 2
        if len(data) < at:
            raise IncompleteError
        if size == 0:  # trailers are not sent by any target
            return b"".join(parts), at
        parts.append(data[end + 2 : at - 2])


def text_of(content: bytes) -> str:
    """The assistant's text in a chat completion's JSON; "" when it is something else."""
    try:
        return str(json.loads(content)["choices"][0]["message"]["content"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
