"""The doctor's questions from outside, answered by a table in place of a gate."""

from __future__ import annotations

import http.client
import ssl
from typing import Any

import pytest

from slmgate.control.config.addresses import Origin
from slmgate.control.doctor import outside
from slmgate.control.doctor.outside import Reply, look

PLAIN, TLS = Origin("gate.example.com", 8080), Origin("gate.example.com", 8443, True)
REFUSED = Reply(401, {"date": "x", "x-request-id": "a"}, b"{}")


def examined(monkeypatch: pytest.MonkeyPatch, replies: dict[str, Reply | None], origin: Origin = PLAIN) -> dict[str, str]:
    monkeypatch.setattr(outside, "ask", lambda origin, method, path: replies.get(path, REFUSED))
    found = look(origin)
    assert all(one.next for one in found if one.verdict != "ok")
    return {one.check: one.verdict for one in found}


WELL = {"admin paths": "ok", "engine paths": "ok", "no credential": "ok", "headers": "ok"}


@pytest.mark.parametrize(
    ("replies", "unlike"),
    [
        ({}, {}),
        ({"/api/v1/keys": Reply(200, {}, b"")}, {"admin paths": "bad"}),
        ({"/login": Reply(302, {}, b"")}, {"admin paths": "bad"}),
        ({"/slots": Reply(200, {}, b"")}, {"engine paths": "bad"}),
        ({"/slots": None}, {}),
        ({"/v1/models": Reply(200, {}, b"")}, {"no credential": "warn"}),
        ({"/v1/models": Reply(401, {"server": "x"}, b"")}, {"headers": "warn"}),
        ({"/v1/models": Reply(401, {"x-a": "llama.cpp/1.2"}, b"")}, {"headers": "warn"}),
        ({"/v1/models": None}, {"reached": "warn"}),
    ],
)
def test_what_a_stranger_gets(monkeypatch: pytest.MonkeyPatch, replies: dict[str, Reply | None], unlike: dict[str, str]) -> None:
    found = examined(monkeypatch, replies)
    assert found == (unlike if "reached" in unlike else {**WELL, **unlike})


class Wrapped:
    """Stands for a socket, before and after the handshake."""

    def __enter__(self) -> Wrapped:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("spoken", "shown", "expected"),
    [
        ((), None, ("ok", "ok")),
        ((ssl.TLSVersion.TLSv1,), None, ("bad", "ok")),
        ((), ssl.SSLCertVerificationError("self-signed"), ("ok", "warn")),
        ((), ConnectionResetError(), ("ok", "warn")),
    ],
)
def test_tls(monkeypatch: pytest.MonkeyPatch, spoken: Any, shown: Exception | None, expected: tuple[str, str]) -> None:
    def wrap(context: ssl.SSLContext, raw: Any, server_hostname: str | None = None) -> Wrapped:
        if server_hostname is not None:
            if isinstance(shown, ssl.SSLCertVerificationError):
                shown.verify_message = "self-signed"
            if shown is not None:
                raise shown
        elif context.maximum_version not in spoken:
            raise ssl.SSLError("no protocols available")
        return Wrapped()

    monkeypatch.setattr("slmgate.control.doctor.outside.socket.create_connection", lambda *_: Wrapped())
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
    found = examined(monkeypatch, {}, TLS)
    assert (found["TLS versions"], found["certificate"]) == expected


@pytest.mark.parametrize("tls", [False, True])
def test_one_question(monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    class Link:
        status = 404

        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def request(self, method: str, path: str) -> None:
            if path == "/broken":
                raise ConnectionResetError

        def getresponse(self) -> Link:
            return self

        def getheaders(self) -> list[tuple[str, str]]:
            return [("Server", "x")]

        def read(self, _: int) -> bytes:
            return b"body"

        def close(self) -> None:
            pass

    monkeypatch.setattr(http.client, "HTTPSConnection" if tls else "HTTPConnection", Link)
    origin = TLS if tls else PLAIN
    assert outside.ask(origin, "GET", "/") == Reply(404, {"server": "x"}, b"body")
    assert outside.ask(origin, "GET", "/broken") is None
