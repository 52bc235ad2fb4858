"""Requests that no row of the table knows, as a client sees them, and that health checks leave no receipt."""

from __future__ import annotations

import pytest

from tests.tools.road import Road


def ask(road: Road, method: str, path: str) -> bytes:
    """One request without a credential; the answer as it was written."""
    said: list[bytes] = []
    client = road.stage.connect()
    client.write = said.append  # type: ignore[method-assign, assignment]  # what the client gets
    client.feed(f"{method} {path} HTTP/1.1\r\nHost: g\r\n\r\n".encode())
    road.stage.loop.settle()
    return b"".join(said)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/sleep", b"404", b""),
        ("POST", "/V1/chat/completions", b"404", b""),
        ("GET", "/v1/chat/completions", b"405", b"allow: POST, OPTIONS\r\n"),
        ("PATCH", "/v1/models", b"405", b"allow: GET, HEAD, OPTIONS\r\n"),
        ("OPTIONS", "/v1/models", b"204", b"allow: GET, HEAD, OPTIONS\r\n"),
        ("OPTIONS", "*", b"204", b"allow: GET, POST, HEAD, OPTIONS\r\n"),
        ("POST", "/healthz", b"405", b"allow: GET, HEAD, OPTIONS\r\n"),
        ("OPTIONS", "/nowhere", b"404", b""),
    ],
)
def test_no_row(road: Road, method: str, path: str, status: bytes, allow: bytes) -> None:
    answer = ask(road, method, path)
    assert answer.split(b" ")[1] == status
    assert (allow in answer) if allow else (b"allow:" not in answer)


def test_a_refusal_has_a_receipt_and_health_has_none(road: Road) -> None:
    ask(road, "GET", "/nowhere")
    assert [one["reason"] for one in road.stage.receipts] == ["not_found"]
    assert ask(road, "GET", "/healthz").endswith(b"ok\n")
    assert ask(road, "GET", "/readyz").endswith(b"ok\n")
    assert ask(road, "HEAD", "/healthz").endswith(b"\r\n\r\n")
    assert len(road.stage.receipts) == 1


def test_not_ready(road: Road) -> None:
    """While the worker cannot record work, or is being stopped, it is alive and not ready."""
    road.stage.worker.journal.room = 0
    assert b" 503 " in ask(road, "GET", "/readyz")
    assert b"retry-after: 1\r\n" in ask(road, "GET", "/readyz")
    assert b" 200 " in ask(road, "GET", "/healthz")
    road.stage.worker.journal.prepare()
