"""Asking for a name, with a resolver that answers from a table; and which addresses may be instances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dns.message
import dns.resolver
import pytest
from dns.exception import Timeout

from slmgate.control import naming
from slmgate.control.config.addresses import Address
from slmgate.control.naming import CannotTell, Found, ask, family

SERVER = (Address("192.0.2.53", 53),)
NXDOMAIN: Any = dns.resolver.NXDOMAIN
SILENCE: Any = Timeout
NO_SERVERS: Any = dns.resolver.NoNameservers
NOT_THERE = NXDOMAIN()


def answers(ttl: float, *addresses: str) -> Any:
    records = [SimpleNamespace(address=address) for address in addresses]
    return SimpleNamespace(rrset=records or None, chaining_result=SimpleNamespace(minimum_ttl=ttl))


Answering = Callable[[Any, Any], None]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    def answering(four: Any, six: Any) -> None:
        class Resolver:
            async def resolve(self, name: str, kind: str, **settings: object) -> Any:
                assert (name, settings["search"]) == ("n.example", True)
                one = four if kind == "A" else six
                if isinstance(one, Exception):
                    raise one
                return one

        monkeypatch.setattr(naming, "_resolver", lambda servers: Resolver())

    return answering


@pytest.mark.parametrize(
    ("four", "six", "found"),
    [
        (answers(30, "10.0.0.2", "10.0.0.1"), answers(9), Found(("10.0.0.2", "10.0.0.1"), 30)),
        (answers(30, "10.0.0.1"), answers(7, "fd00::1"), Found(("10.0.0.1", "fd00::1"), 7)),
        (answers(30, "10.0.0.1"), NOT_THERE, Found(("10.0.0.1",), 30)),
        (answers(30, "10.0.0.1"), SILENCE(), Found(("10.0.0.1",), 30, (6,))),
        (OSError(), answers(0, "fd00::1"), Found(("fd00::1",), 0, (4,))),
    ],
)
def test_answers(answering: Answering, four: Any, six: Any, found: Found) -> None:
    answering(four, six)
    assert asyncio.run(ask("n.example", SERVER)) == found


@pytest.mark.parametrize(
    ("four", "six", "why"),
    [
        (NOT_THERE, NOT_THERE, "DNS has no address for it"),
        (answers(5), answers(5), "DNS has no address for it"),
        (SILENCE(), SILENCE(), "no DNS server answers for it"),
        (NO_SERVERS(), answers(5), "no DNS server answers for it"),
    ],
)
def test_no_answer(answering: Answering, four: Any, six: Any, why: str) -> None:
    answering(four, six)
    with pytest.raises(CannotTell, match=why):
        asyncio.run(ask("n.example", SERVER))


def test_what_dns_does_not_have_the_system_may(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(NOT_THERE, NOT_THERE)
    asked: list[object] = []

    async def getaddrinfo(name: str, *_: object, **__: object) -> list[Any]:
        asked.append(name)
        if len(asked) > 1:
            raise OSError
        return [(2, 1, 6, "", ("10.0.0.1", 0)), (2, 2, 17, "", ("10.0.0.1", 0)), (10, 1, 6, "", ("fd00::1", 0, 0, 0))]

    async def twice() -> Found:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        found = await ask("n.example")
        with pytest.raises(CannotTell, match="neither DNS nor this machine"):
            await ask("n.example")
        return found

    assert asyncio.run(twice()) == Found(("10.0.0.1", "fd00::1"), None)
    assert asked == ["n.example", "n.example"]


def test_a_machine_without_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    async def system(name: str) -> Found:
        return Found((name,), None)

    monkeypatch.setattr(naming, "_resolver", none)
    monkeypatch.setattr(naming, "_ask_system", system)
    assert asyncio.run(ask("n.example")) == Found(("n.example",), None)


def test_the_servers_of_the_configuration() -> None:
    made = naming._resolver((Address("192.0.2.1", 5353), Address("::1", 53)))
    assert [str(one) for one in made.nameservers] == ["192.0.2.1", "::1"]
    assert made.nameserver_ports == {"192.0.2.1": 5353, "::1": 53}


def test_families() -> None:
    assert (family("10.0.0.1"), family("fd00::1")) == (4, 6)
