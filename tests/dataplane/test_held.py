"""Names that were given at run time: each answer of the name's is judged, and only what was judged is connected to."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from slmgate.dataplane.held import NO_PLACE, connect
from slmgate.dataplane.secured import Unusable
from slmgate.dataplane.upstream import UpstreamConnection
from slmgate.policy.specs import HeldSpec, InstanceSpec

ANYWHERE = InstanceSpec(id="m/a:8000", host="a", port=8000)
HELD = InstanceSpec(id="m/a:8000", host="a", port=8000, held=HeldSpec())


class Loop:
    """A network: what the name leads to, and which addresses refuse."""

    def __init__(self, *addresses: str, refuse: tuple[str, ...] = ()) -> None:
        self.addresses = addresses
        self.refuse = refuse
        self.asked: list[tuple[str, int, dict[str, Any]]] = []

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        assert (host, port) == ("a", 8000)
        return [(0, 0, 0, "", (one, port)) for one in self.addresses]

    async def create_connection(self, made: object, host: str, port: int, **arguments: Any) -> str:
        self.asked.append((host, port, arguments))
        if host in self.refuse:
            raise ConnectionRefusedError(host)
        return host


def opened(loop: Loop, spec: InstanceSpec = HELD, **arguments: Any) -> object:
    made = cast("type[UpstreamConnection]", object)
    return asyncio.run(connect(cast("asyncio.AbstractEventLoop", loop), made, spec, arguments))


def test_a_name_that_is_held_to_nothing_may_lead_anywhere() -> None:
    loop = Loop("169.254.169.254", "::1", refuse=("169.254.169.254",))
    assert opened(loop, ANYWHERE, ssl=1) == "::1"
    assert loop.asked == [("169.254.169.254", 8000, {"ssl": 1}), ("::1", 8000, {"ssl": 1})]


@pytest.mark.parametrize("address", ["10.0.0.1", "::1", "fd00::a"])
def test_an_address_is_not_looked_up(address: str) -> None:
    loop = Loop()
    assert opened(loop, InstanceSpec(id="m/a:8000", host=address, port=8000)) == address


def test_the_first_address_that_answers() -> None:
    loop = Loop("10.0.0.1", "10.0.0.2", "10.0.0.1", refuse=("10.0.0.1",))
    assert opened(loop, server_hostname="a") == "10.0.0.2"
    assert [host for host, _, _ in loop.asked] == ["10.0.0.1", "10.0.0.2"]
    assert loop.asked[0][2] == {"server_hostname": "a"}
    with pytest.raises(ConnectionRefusedError):
        opened(Loop("10.0.0.1", refuse=("10.0.0.1",)))
    with pytest.raises(OSError, match="its name has no address"):
        opened(Loop())


@pytest.mark.parametrize(
    ("addresses", "held"),
    [
        (("169.254.169.254",), HeldSpec()),
        (("10.0.0.1", "::ffff:169.254.169.254"), HeldSpec(loopback=True)),
        (("127.0.0.1",), HeldSpec()),
        (("10.1.0.1", "10.2.0.1"), HeldSpec(networks=("10.1.0.0/16",))),
    ],
)
def test_one_address_that_may_not_be_is_enough(addresses: tuple[str, ...], held: HeldSpec) -> None:
    loop = Loop(*addresses)
    with pytest.raises(Unusable, match=NO_PLACE):
        opened(loop, InstanceSpec(id="m/a:8000", host="a", port=8000, held=held))
    assert loop.asked == []


def test_this_machine_itself_where_that_is_said() -> None:
    assert (
        opened(Loop("127.0.0.1"), InstanceSpec(id="m/a:8000", host="a", port=8000, held=HeldSpec(loopback=True))) == "127.0.0.1"
    )
