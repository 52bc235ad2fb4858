"""Which addresses may be instances, in every form and wrapping; what is an address at all."""

from __future__ import annotations

import pytest

from slmgate.policy.places import allowed, is_address


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


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("10.0.0.5", True), ("::1", True), ("fe80::1%eth0", True), ("a", False), ("localhost", False), ("10.example", False)],
)
def test_addresses(host: str, is_one: bool) -> None:
    assert is_address(host) is is_one
