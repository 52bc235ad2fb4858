"""Nothing that a client sees names the inside: engines' transcripts, headers of all kinds, and failures, through a real gate.

The instance says words that occur nowhere else: a name, a path, a build, an address. Whatever the gate lets through, heads and
bodies, is searched for them. Each table has its positive control: the plain answer that comes with the same request.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.system.conftest import Launch
from tests.tools.gate import SECRET, Gate, model
from tests.tools.transcripts import FOLDER, transcript
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, request

INSIDE = "inside/canary-model"
WORDS = (b"canary", b"llama.cpp", b"b0-unknown", b"10.99.88.77", b"/srv/", b"Traceback", b"vllm/", b"uvicorn")


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory, shared_upstream: MockUpstream) -> Any:
    named = model(shared_upstream.url)
    named["instances"][0]["upstream_model"] = INSIDE
    made = Gate(tmp_path_factory.mktemp("inner"), {"smollm2": named}, workers=1)
    yield made
    made.stop()


def told(gate: Gate, body: dict[str, Any], path: str = "/v1/chat/completions") -> bytes:
    """Every byte that comes to the client, of a request that closes its connection."""
    data = request(
        json.dumps(body).encode(), path=path, secret=SECRET, headers=("Connection: close", "Content-Type: application/json")
    )
    with Wire(gate.port, 20.0) as wire:
        wire.send(data)
        while wire.more():
            pass
        return bytes(wire.buffer)


def clean(seen: bytes) -> None:
    for word in WORDS:
        assert word not in seen, (word, seen)


def raw(upstream: MockUpstream, data: bytes) -> None:
    upstream.default(do="raw", bytes=data.decode("latin-1"), then="close")


def test_recorded_answers_of_every_engine(inner: Gate, upstream: MockUpstream) -> None:
    """Real heads and bodies, in which the model has the name that it has inside."""
    seen = 0
    for path in sorted(FOLDER.glob("*.http")):
        name = path.stem
        taken = transcript(name)
        if taken.method != "POST" or "transcription" in name:  # those are forms
            continue
        answer = path.read_bytes()
        while answer.startswith(b"#"):
            answer = answer.partition(b"\n")[2]
        head = answer.split(b"\n", 2)[2].partition(b"\r\n\r\n")[0]
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-length", b"transfer-encoding"))]
        body = taken.body
        for known in (b"smollm2", b"llama3.2", b"all-minilm"):
            body = body.replace(b'"%b"' % known, json.dumps(INSIDE).encode())
        extra = [b"Server: vllm/9 at 10.99.88.77", b"X-Backend: /srv/canary", b"Set-Cookie: node=canary", b"Via: 1.1 canary"]
        raw(upstream, b"\r\n".join([*lines, *extra, b"Content-Length: %d" % len(body), b"", b""]) + body)
        asked = {**json.loads(taken.asked or b"{}"), "model": "smollm2"}
        answered = told(inner, asked, taken.path)
        clean(answered)
        assert answered.startswith(b"HTTP/1.1 "), (name, answered)
        if taken.status == 200:
            assert answered.startswith(b"HTTP/1.1 200"), (name, answered)
            assert b'"smollm2"' in answered or json.dumps(INSIDE).encode() not in body, (name, answered)
            seen += 1
    assert seen > 20


def test_heads_that_would_tell(inner: Gate, upstream: MockUpstream) -> None:
    fields = {
        "Location": "http://10.99.88.77:8000/canary",
        "Set-Cookie": "node=canary; Path=/srv/",
        "Server": "uvicorn",
        "Via": "1.1 canary",
        "X-Powered-By": "vllm/1",
        "Link": "<http://10.99.88.77>; rel=canary",
        "Alt-Svc": 'h3="10.99.88.77:443"',
        "WWW-Authenticate": "Bearer realm=canary",
        "Access-Control-Allow-Origin": "http://canary",
        "Content-Disposition": "attachment; filename=/srv/canary",
        "Content-Language": "canary@10.99.88.77",
        "Cache-Control": "private=\"/srv/\"",
        "Retry-After": "canary at 10.99.88.77",
        "Trailer": "X-Canary",
    }  # fmt: skip
    good = json.dumps({"model": INSIDE, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
    for status in (200, 201, 204, 301, 302, 307, 400, 401, 403, 404, 407, 409, 413, 422, 429, 500, 502, 503):
        body = b"" if status == 204 else good if status < 300 else b'{"error":{"message":"Traceback at /srv/canary 10.99.88.77"}}'
        lines = [f"{name}: {value}" for name, value in fields.items()]
        head = "\r\n".join([f"HTTP/1.1 {status} canary", *lines, "Content-Type: application/json; host=10.99.88.77"])
        raw(upstream, f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        seen = told(inner, {"model": "smollm2", "messages": []})
        clean(seen)
        assert seen.startswith(b"HTTP/1.1 "), (status, seen)
    early = b"HTTP/1.1 103 Early\r\nLink: </srv/canary>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    raw(upstream, early + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-Canary: canary\r\n\r\n" % (len(good), good))
    seen = told(inner, {"model": "smollm2", "messages": []})
    clean(seen)
    assert b'"model":"smollm2"' in seen or b'"model": "smollm2"' in seen


@pytest.mark.parametrize(
    "value", [b"a\rb", b"a\nX-Canary: canary", b"a\0b", b"a\r\n X-Canary: canary", b"\xff\xfe", b"a\x1b[31m"]
)
def test_no_head_is_split(inner: Gate, upstream: MockUpstream, value: bytes) -> None:
    for name in (b"Content-Type", b"Cache-Control", b"Content-Disposition", b"Retry-After"):
        kind = b"" if name == b"Content-Type" else b"Content-Type: application/json\r\n"
        raw(upstream, b"HTTP/1.1 200 OK\r\n%b%b: %b\r\nContent-Length: 2\r\n\r\n{}" % (kind, name, value))
        seen = told(inner, {"model": "smollm2", "messages": []})
        head = seen.partition(b"\r\n\r\n")[0]
        clean(head)
        assert head.isascii()
        assert not any(byte < 32 and byte not in b"\r\n" for byte in head)
        assert head.count(b"\n") == head.count(b"\r\n") == head.count(b"\r")


def test_failures_of_all_kinds(launch: Launch, upstream: MockUpstream) -> None:
    """Down, in the middle of a line of TLS, silent, no HTTP, no JSON: the request's id, and no host, port, path or stack."""
    tls = model(upstream.url.replace("http://", "https://"))
    timeouts = {"connect": "1s", "first_byte": "1s", "idle": "1s"}
    retry = {"attempts": 1}
    models = {
        "down": model("http://127.0.0.1:1", retry=retry, health="off"),
        "tls": {**tls, "retry": retry, "health": "off"},
        "odd": model(upstream.url, timeouts=timeouts, retry=retry),
    }
    gate = launch(models, workers=1, wait=False)
    gate.wait_ready(60.0)
    port = str(upstream.port).encode()
    scripts: list[tuple[str, dict[str, Any]]] = [
        ("down", {}),
        ("tls", {}),
        ("odd", {"do": "silence"}),
        ("odd", {"do": "raw", "bytes": "canary /srv/ Traceback\r\n\r\n", "then": "close"}),
        *[
            ("odd", {"do": "raw", "bytes": f"HTTP/1.1 {start}\r\n\r\n{body}", "then": "close"})
            for start, body in (
                ("200 OK\r\nContent-Type: text/html\r\nContent-Length: 7", "<canary"),
                ("200 OK\r\nContent-Length: 99", "{"),
                ("500 X\r\nContent-Length: 10", "Traceback "),
            )
        ],
    ]
    for name, script in scripts:
        upstream.default(**script)
        seen = told(gate, {"model": name, "messages": []})
        clean(seen)
        assert seen.startswith(b"HTTP/1.1 50"), (name, script, seen)
        assert b"x-request-id: " in seen
        assert b"127.0.0.1" not in seen
        assert port not in seen.partition(b"\r\n\r\n")[2]


def test_the_operator_reads_what_the_client_does_not(inner: Gate, upstream: MockUpstream) -> None:
    body = b'{"error":{"message":"Traceback at /srv/canary:\\n\\u001b[31m said \'My diary: nobody\'"}}'
    raw(upstream, b"HTTP/1.1 400 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    seen = told(inner, {"model": "smollm2", "messages": [{"role": "user", "content": "My diary: nobody may read it"}]})
    clean(seen)
    id = seen.split(b"x-request-id: ")[1].split(b"\r\n")[0].decode()
    (line,) = [line for line in inner.text().splitlines() if f"request {id}:" in line and "answered 400" in line]
    assert "Traceback at /srv/canary" in line
    assert "diary" not in line
    assert "\x1b" not in line
