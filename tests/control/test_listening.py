"""Where sockets are opened and how they are shared, on sockets that only remember; the real ones are in tests/system."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from slmgate.control import listening as module
from slmgate.control.listening import CannotServe, Listening, bound_to, listener, probe_port, resolve, url

INET, INET6 = 2, 10
_socket: Any = vars(module)["socket"]


class FakeSocket:
    """Port 1 is somebody else's."""

    opened: ClassVar[list[FakeSocket]] = []

    def __init__(self, family: int = INET) -> None:
        self.family = family
        self.options: list[tuple[int, int]] = []
        self.address: tuple[Any, ...] = ("", 0)
        self.listens = self.closed = False
        FakeSocket.opened.append(self)

    def __enter__(self) -> FakeSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option))

    def bind(self, address: tuple[str, int]) -> None:
        if address[1] == 1:
            raise OSError(98, "Address already in use")
        self.address = (address[0], address[1] or 4000)

    def getsockname(self) -> tuple[Any, ...]:
        return self.address if self.family == INET else (*self.address, 0, 0)

    def listen(self, line: int) -> None:
        self.listens = True

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[FakeSocket]:
    def getaddrinfo(host: str, port: int, type: int) -> list[Any]:
        if host == "nowhere":
            raise OSError(-2, "Name or service not known")
        return [(INET6 if ":" in host else INET, 1, 6, "", ("127.0.0.1" if host == "localhost" else host, port))]

    monkeypatch.setattr(_socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(_socket, "has_dualstack_ipv6", lambda: True)
    monkeypatch.setattr(_socket, "socket", FakeSocket)
    monkeypatch.setattr(FakeSocket, "opened", [])
    return FakeSocket.opened


@pytest.mark.parametrize(
    ("host", "port", "bound"),
    [
        ("127.0.0.1", 80, (INET, ("127.0.0.1", 80))),
        ("localhost", 0, (INET, ("127.0.0.1", 0))),
        ("::1", 80, (INET6, ("::1", 80))),
        ("", 80, (INET6, ("::", 80))),
    ],
)
def test_where_an_address_leads(host: str, port: int, bound: Any) -> None:
    assert resolve(host, port) == bound
    assert probe_port(host, port) == (bound[0], (bound[1][0], port or 4000))
    assert [one.closed for one in FakeSocket.opened] == [True]


def test_every_address_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_socket, "has_dualstack_ipv6", lambda: False)
    assert resolve("", 80) == (INET, ("0.0.0.0", 80))


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(CannotServe, match="cannot listen on nowhere:80: Name or service not known"):
        probe_port("nowhere", 80)
    with pytest.raises(CannotServe, match=r"cannot listen on 127\.0\.0\.1:1: Address already in use"):
        probe_port("127.0.0.1", 1)
    with pytest.raises(CannotServe, match=r"cannot listen on 127\.0\.0\.1:1: Address already in use"):
        listener(resolve("127.0.0.1", 1), shared=True)
    assert all(one.closed for one in FakeSocket.opened)


def test_a_socket_is_one_of_several_or_alone() -> None:
    shared: Any = listener(resolve("127.0.0.1", 80), shared=True)
    alone: Any = listener(resolve("::1", 80), shared=False)
    quiet: Any = listener(resolve("127.0.0.1", 80), shared=True, listens=False)
    reuse = (_socket.SOL_SOCKET, _socket.SO_REUSEPORT)
    assert reuse in shared.options and reuse not in alone.options
    assert [one.listens for one in (shared, alone, quiet)] == [True, True, False]
    assert bound_to(alone) == (INET6, ("::1", 80))


@pytest.mark.parametrize(("sockets", "workers"), [(1, 1), (2, 2), (3, 1), (3, 2), (5, 2)])
def test_every_socket_has_a_worker_and_every_worker_a_socket(sockets: int, workers: int) -> None:
    ours: list[Any] = list(range(sockets))
    at = Listening("a:1", None, ours)
    shares = [at.share(slot, workers) for slot in range(workers)]
    assert all(shares)
    assert {*shares[0]}.union(*shares) == {*ours} and sum(map(len, shares)) == sockets


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "http://127.0.0.1:80"),
        (("", 8080), "http://*:8080"),
        (("::1", 80), "http://[::1]:80"),
        (("::", 80, 0, 0), "http://[::]:80"),
    ],
)
def test_addresses(address: Any, text: str) -> None:
    assert url((2, address)) == text


def test_addresses_with_tls() -> None:
    assert url((2, ("127.0.0.1", 1)), tls=True) == "https://127.0.0.1:1"
    assert url((10, ("::1", 1)), tls=True) == "https://[::1]:1"
