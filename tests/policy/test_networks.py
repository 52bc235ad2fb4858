"""Which addresses lie in which networks, at their edges and one past them, in both families and in the mapped form.

No socket is opened; addresses are texts as a kernel writes them.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy.networks import NOWHERE, Networks, networks_of, number_of, parse_network


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.0.0.0", 0xFFFF00000000),
        ("255.255.255.255", 0xFFFFFFFFFFFF),
        ("::ffff:1.2.3.4", 0xFFFF01020304),
        ("1.2.3.4", 0xFFFF01020304),
        ("::", 0),
        ("::1", 1),
        ("fe80::1%eth0", 0xFE80 << 112 | 1),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", (1 << 128) - 1),
        ("", NOWHERE),
        ("/run/gate.sock", NOWHERE),
        ("1.2.3", NOWHERE),
        ("01.2.3.4", NOWHERE),
        ("1.2.3.4 ", NOWHERE),
        ("203.0.113.0/24", NOWHERE),
        ("localhost", NOWHERE),
    ],
)
def test_numbers(text: str, number: int) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(
    ("network", "address", "inside"),
    [
        ("203.0.113.0/24", "203.0.112.255", False),
        ("203.0.113.0/24", "203.0.113.0", True),
        ("203.0.113.0/24", "203.0.113.255", True),
        ("203.0.113.0/24", "203.0.114.0", False),
        ("203.0.113.0/24", "::ffff:203.0.113.7", True),
        ("203.0.113.0/24", "::203.0.113.7", False),
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.6/31", "203.0.113.7", True),
        ("203.0.113.6/31", "203.0.113.8", False),
        ("0.0.0.0/0", "255.255.255.255", True),
        ("0.0.0.0/0", "::1", False),
        ("0.0.0.0/0", "::fffe:ffff:ffff", False),
        ("::/0", "::1", True),
        ("::/0", "10.0.0.1", True),
        ("::ffff:0:0/96", "10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "10.255.255.255", True),
        ("::ffff:10.0.0.0/104", "11.0.0.0", False),
        ("2001:db8::/32", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", True),
        ("2001:db8::/32", "2001:db9::", False),
        ("2001:db8::/32", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", False),
        ("::1", "::1", True),
        ("::1/128", "::2", False),
    ],
)
def test_edges(network: str, address: str, inside: bool) -> None:
    assert Networks([network]).holds(number_of(address)) is inside


@pytest.mark.parametrize("text", ["::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0/0"])
def test_what_is_no_address_is_nowhere(text: str) -> None:
    assert not Networks([text]).holds(NOWHERE)


def test_several_and_none() -> None:
    two = Networks(["10.0.0.0/8", "2001:db8::/32"])
    assert repr(two) == "<Networks 10.0.0.0/8 2001:db8::/32>"
    assert [two.holds(number_of(text)) for text in ("10.1.1.1", "2001:db8::1", "11.0.0.1")] == [True, True, False]
    assert not Networks([]).holds(number_of("10.0.0.1"))


@pytest.mark.parametrize(
    ("listed", "first", "bits", "met"),
    [
        ("2001:db8::10", "2001:db8::", 64, True),
        ("2001:db8::/32", "2001:db8:0:7::", 64, True),
        ("2001:db8:0:1::/64", "2001:db8::", 64, False),
        ("203.0.113.7", "203.0.113.7", 0, True),
        ("203.0.113.0/24", "203.0.113.7", 0, True),
        ("203.0.113.8", "203.0.113.7", 0, False),
    ],
)
def test_networks_that_meet(listed: str, first: str, bits: int, met: bool) -> None:
    assert Networks([listed]).meets(number_of(first), bits) is met
    assert not Networks([]).meets(number_of(first), bits)


def test_lists_are_made_once() -> None:
    assert networks_of(("10.77.0.0/16",)) is networks_of(("10.77.0.0/16",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0/8",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/0.0.0.255",
        "::1/0",
        "fe80::%1/64",
    ],
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError):
        parse_network(text)


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_of_one_family_it_is_what_ipaddress_says(base: int, prefix: int, address: int) -> None:
    network = parse_network(f"{IPv4Address(base >> (32 - prefix) << (32 - prefix))}/{prefix}")
    assert Networks([str(network)]).holds(number_of(str(IPv4Address(address)))) is (IPv4Address(address) in network)


@given(st.integers(0, 2**128 - 1), st.integers(0, 128), st.integers(0, 2**128 - 1))
def test_the_same_of_the_other(base: int, prefix: int, address: int) -> None:
    network = parse_network(f"{IPv6Address(base >> (128 - prefix) << (128 - prefix))}/{prefix}")
    assert Networks([str(network)]).holds(number_of(str(IPv6Address(address)))) is (IPv6Address(address) in network)
