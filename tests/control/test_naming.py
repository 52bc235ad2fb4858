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
from slmgate.control.naming import CannotTell, Found, allowed, ask, family

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


@pytest.mark.parametrize(
    ("address", "with_loopback", "without"),
    [
        ("10.0.0.1", True, True),
        ("192.168.1.1", True, True),
        ("100.64.0.1", True, True),
        ("8.8.8.8", True, True),
        ("fd00::1", True, True),
        ("2001:db8::1", True, True),
        ("64:ff9b::a00:1", True, True),  # 10.0.0.1 through NAT64
        ("127.0.0.1", True, False),
        ("127.9.9.9", True, False),
        ("::1", True, False),
        ("::ffff:127.0.0.1", True, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:a9fe:a9fe::1", False, False),
        ("::a9fe:a9fe", False, False),
        ("fe80::1", False, False),
        ("fe80::1%eth0", False, False),
        ("fd00:ec2::254", False, False),
        ("100.100.100.200", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
        ("240.0.0.1", False, False),
        ("255.255.255.255", False, False),
        ("nothing", False, False),
        ("", False, False),
    ],
)
def test_which_addresses_may_be_instances(address: str, with_loopback: bool, without: bool) -> None:
    assert (allowed(address, True), allowed(address, False)) == (with_loopback, without)


@pytest.mark.parametrize(
    ("address", "in_it"),
    [
        ("10.1.255.255", True),
        ("10.2.0.0", False),
        ("192.168.1.7", True),
        ("192.168.1.8", False),
        ("8.8.8.8", False),
        ("::ffff:10.1.0.1", True),
        ("::ffff:10.2.0.1", False),
        ("fd00:1::1", True),
        ("fd00:2::1", False),
        ("64:ff9b::a01:1", False),
        ("127.0.0.1", True),
        ("no address", False),
    ],
)
def test_networks_that_are_named(address: str, in_it: bool) -> None:
    """This machine itself goes by its own option; what no instance may have, no network allows."""
    assert allowed(address, True, ("10.1.0.0/16", "192.168.1.7/32", "fd00:1::/32")) == in_it
    assert not allowed("127.0.0.1", False, ("127.0.0.0/8",))
    assert not allowed("169.254.169.254", True, ("0.0.0.0/0",))


def test_families() -> None:
    assert (family("10.0.0.1"), family("fd00::1")) == (4, 6)
