"""Words to the service manager, on a socket that only remembers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from slmgate.control import notify


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    told: list[Any] = []

    class FakeSocket:
        def __init__(self, *_: object) -> None:
            pass

        def __enter__(self) -> FakeSocket:
            return self

        def __exit__(self, *_: object) -> None:
            told.append("closed")

        def sendto(self, data: bytes, address: str) -> None:
            told.append((data, address))
            if address == "/gone":
                raise ConnectionRefusedError

    monkeypatch.setattr(notify, "socket", SimpleNamespace(socket=FakeSocket, AF_UNIX=1, SOCK_DGRAM=2, SOCK_CLOEXEC=4))
    return told


@pytest.mark.parametrize(("address", "to"), [("/run/notify", "/run/notify"), ("@name", "\0name"), ("/gone", "/gone")])
def test_a_word_is_sent(sent: list[Any], address: str, to: str) -> None:
    notify.tell("READY=1", {"NOTIFY_SOCKET": address})
    assert sent == [(b"READY=1", to), "closed"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_where_nobody_waits_for_one(sent: list[Any], environment: dict[str, str]) -> None:
    notify.tell("READY=1", environment)
    assert sent == []
