"""Which address lies in which network, whatever form either is written in."""

from __future__ import annotations

import pytest

from slmgate.policy.networks import NOWHERE, Networks, networks_of, number_of, parse_network


@pytest.mark.parametrize(
    ("networks", "address", "inside"),
    [
        (("10.0.0.0/8",), "10.0.0.0", True),
        (("10.0.0.0/8",), "10.255.255.255", True),
        (("10.0.0.0/8",), "9.255.255.255", False),
        (("10.0.0.0/8",), "11.0.0.0", False),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("::ffff:10.0.0.0/104",), "10.1.2.3", True),
        (("10.0.0.0/8",), "::10.1.2.3", False),
        (("192.0.2.7/32",), "192.0.2.7", True),
        (("192.0.2.7",), "192.0.2.8", False),
        (("0.0.0.0/0",), "203.0.113.1", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("2001:db8::/32",), "2001:db8:ffff::1", True),
        (("2001:db8::/32",), "2001:db9::", False),
        (("::1/128",), "::1", True),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("192.0.2.0/24", "::1/128"), "::1", True),
        ((), "127.0.0.1", False),
    ],
)
def test_inside(networks: tuple[str, ...], address: str, inside: bool) -> None:
    assert Networks(networks).holds(number_of(address)) is inside


@pytest.mark.parametrize("address", ["", "unix", "10.0.0", "10.0.0.1/8", "1.2.3.4:80", "010.0.0.1"])
def test_no_address_is_in_no_network(address: str) -> None:
    assert number_of(address) == NOWHERE
    assert not Networks(("0.0.0.0/0", "::/0")).holds(NOWHERE)


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "10.0.0.0/33", "host", "::1/129"])
def test_no_network(text: str) -> None:
    with pytest.raises(ValueError):
        parse_network(text)


def test_lists_are_made_once() -> None:
    assert networks_of(("10.0.0.0/8",)) is networks_of(("10.0.0.0/8",))
    assert repr(networks_of(("10.0.0.0/8", "::1"))) == "<Networks 10.0.0.0/8 ::1>"
