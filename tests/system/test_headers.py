"""Credentials and headers on the wire: who is let in, what ends at the gate, and what passes in either direction.

Every refusal has its positive control in the same test. The mock instance's journal shows the request as it was sent on.
"""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.system.scenes import PLAIN, assert_refused, controlled
from tests.tools.gate import OTHER, SECRET, Gate
from tests.tools.upstream import MockUpstream
from tests.tools.wire import CHAT, ask, chat, request

# --- credentials -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Authorization:",),
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        (f"Authorization: Basic {SECRET}",),
        (f"Authorization: {SECRET}",),
        (f"Authorization: Bearer {SECRET}x",),
        (f"Authorization: Bearer {SECRET[:-1]}",),
        (f"Authorization: Bearer {SECRET.upper()}",),
        (f"Authorization: Bearer {SECRET} {SECRET}",),
        (f"Authorization: Bearer {SECRET}", f"Authorization: Bearer {OTHER}"),
        (f"Authorization: Bearer {SECRET}", f"x-api-key: {OTHER}"),
        (f"x-api-key: {SECRET}", "api-key: sk-nobody-000000000000000"),
        (f"Cookie: api_key={SECRET}",),
        (f"X-Authorization: Bearer {SECRET}",),
        (f"x_api_key: {SECRET}",),
        ("Authorization: Bearer ' OR '1'='1' --",),
        ("Authorization: Bearer %s%n{0}{}",),
        ("Authorization: Bearer " + "a" * 16000,),
    ],
)
def test_no_valid_credential(gate: Gate, upstream: MockUpstream, headers: tuple[str, ...]) -> None:
    answer = controlled(gate, upstream, lambda: ask(gate.port, request(chat(), headers=headers)))
    assert_refused(gate, answer, 401, "invalid_api_key")
    assert (answer.header("www-authenticate") or "").startswith("Bearer")
    assert SECRET.encode() not in answer.body


def test_key_in_the_query_is_no_credential(gate: Gate, upstream: MockUpstream) -> None:
    answer = controlled(gate, upstream, lambda: ask(gate.port, request(chat(), path=f"{CHAT}?api_key={SECRET}")))
    assert answer.status == 401


@pytest.mark.parametrize(
    "header", [f"Authorization: Bearer {SECRET}", f"authorization: bearer {SECRET}", f"x-api-key: {SECRET}", f"API-Key: {SECRET}"]
)
def test_places_of_a_credential(gate: Gate, upstream: MockUpstream, header: str) -> None:
    assert ask(gate.port, request(chat(), headers=(header,))).status == 200
    assert SECRET not in json.dumps(upstream.journal())


def test_the_same_credential_twice_is_one(gate: Gate) -> None:
    assert ask(gate.port, request(chat(), headers=(f"Authorization: Bearer {SECRET}", f"x-api-key: {SECRET}"))).status == 200


# --- headers, both ways ------------------------------------------------------------------------------------------------


def test_headers_that_end_at_the_gate(gate: Gate, upstream: MockUpstream) -> None:
    headers = (
        "Connection: keep-alive, X-Hop, X-Request-Id",
        "X-Hop: 1",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Upgrade: websocket",
        "Proxy-Authorization: Basic eA==",
        "Proxy-Connection: keep-alive",
        "Cookie: a=b",
        "api-key: " + SECRET,
        "X-Forwarded-For: 1.2.3.4",
        "Forwarded: for=1.2.3.4",
        "X-Real-IP: 1.2.3.4",
        "X-Original-URL: /api/pull",
        "X-HTTP-Method-Override: DELETE",
        "Content-Type: application/json",
    )
    assert ask(gate.port, request(chat(), secret=SECRET, headers=headers)).status == 200
    (asked,) = upstream.journal()
    names = [name for name, _ in asked["headers"]]
    forbidden = {
        "x-hop",
        "keep-alive",
        "te",
        "upgrade",
        "proxy-authorization",
        "proxy-connection",
        "cookie",
        "api-key",
        "authorization",
    }
    spoofed = {"x-forwarded-for", "forwarded", "x-real-ip", "x-original-url", "x-http-method-override"}
    assert not forbidden & set(names), names
    assert not {name for name, value in asked["headers"] if (name in spoofed and "1.2.3.4" in value) or name == "x-original-url"}
    assert len(names) == len(set(names))
    assert {"host", "content-length", "content-type"} <= set(names)
    assert SECRET not in json.dumps(asked)
    assert "transfer-encoding" not in names


def test_upstream_choosing_fields_are_inert(gate: Gate, upstream: MockUpstream) -> None:
    fields = json.loads(chat()) | {"api_base": "http://127.0.0.1:1", "base_url": "http://127.0.0.1:1", "api_key": "x"}
    headers = ("X-Upstream: http://127.0.0.1:1", "X-Backend-Host: 127.0.0.1:1", "X-Forwarded-Host: 127.0.0.1:1")
    answer = ask(
        gate.port,
        request(json.dumps(fields).encode(), path=f"{CHAT}?base_url=http://127.0.0.1:1", secret=SECRET, headers=headers),
    )
    assert answer.status == 200
    assert upstream.journal()[-1]["path"].split("?")[0] == CHAT
    sent = len(upstream.journal())
    for name in ("kv_transfer_params", "bootstrap_host"):  # by these an engine would go where the client says
        fields = json.loads(chat()) | {name: {"remote_host": "127.0.0.1"}}
        answer = ask(gate.port, request(json.dumps(fields).encode(), secret=SECRET))
        assert (answer.status, answer.json()["error"]["code"]) == (400, "parameter_not_allowed")
    assert len(upstream.journal()) == sent


def test_response_headers_are_the_gates_own(gate: Gate, upstream: MockUpstream) -> None:
    answer = ask(gate.port, PLAIN)
    names = [name for name, _ in answer.headers]
    assert len(names) == len(set(names)), names
    assert not {"set-cookie", "x-powered-by", "keep-alive", "connection"} & set(names), names
    assert answer.header("server") != "mock"
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-request-id")
    assert re.fullmatch(r"queue;dur=[0-9.]+, upstream;dur=[0-9.]+, gate;dur=[0-9.]+", answer.header("server-timing") or "")


def test_compressed_answer_is_none(gate: Gate, upstream: MockUpstream) -> None:
    """The instance is asked not to compress; one that does all the same gave nothing that a client could read."""
    assert ask(gate.port, PLAIN).status == 200
    assert dict(upstream.journal()[0]["headers"])["accept-encoding"] == "identity"
    for coding, status in (("gzip", 502), ("br", 502), ("zstd", 502), ("deflate", 502), ("gzip, gzip", 502), ("identity", 200)):
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: 2\r\n\r\n"
        assert ask(gate.port, request(chat(do="raw", bytes=head + "{}"), secret=SECRET)).status == status


def test_hop_by_hop_headers_of_the_instance_end_at_the_gate(gate: Gate, upstream: MockUpstream) -> None:
    head = "HTTP/1.1 200 OK\r\nConnection: X-Private\r\nX-Private: 1\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nX-Kept: yes\r\n"
    answer = ask(gate.port, request(chat(do="raw", bytes=head + "Content-Length: 2\r\n\r\n{}"), secret=SECRET))
    assert answer.status == 200
    assert not {"x-private", "proxy-authenticate", "upgrade"} & {name for name, _ in answer.headers}


@pytest.mark.parametrize("mine", ["abc-123_4.5", "A" * 64])
def test_sane_request_id_is_kept(gate: Gate, mine: str) -> None:
    unique = mine + f"{time.monotonic_ns()}"[-8:] if len(mine) < 50 else mine
    answer = ask(gate.port, request(chat(), secret=SECRET, headers=(f"X-Request-Id: {unique}",)))
    assert answer.header("x-request-id") == unique
    assert gate.receipt(unique)["status"] == 200


@pytest.mark.parametrize("mine", ["", "a b", "x" * 5000, "\xff\xfe", '{"a":1}', "a\tb", "<script>", "%0d%0aSet-Cookie: a"])
def test_other_request_id_is_replaced(gate: Gate, mine: str) -> None:
    answer = ask(gate.port, request(chat(), secret=SECRET, headers=(f"X-Request-Id: {mine}",)))
    given = answer.header("x-request-id")
    assert answer.status == 200
    assert given
    assert given != mine
    assert given.isascii()
    assert len(given) <= 128
