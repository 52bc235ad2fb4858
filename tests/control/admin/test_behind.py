"""Where somebody asks from: the connection's other end, unless that is a trusted proxy which names somebody."""

from __future__ import annotations

import pytest

from slmgate.control.admin.behind import asks_from
from slmgate.control.config.options import Guard

PROXY = "10.0.0.5"
BEHIND = Guard(trusted_proxies=("10.0.0.0/24",))
XFF, FORWARDED = b"x-forwarded-for", b"forwarded"


@pytest.mark.parametrize(
    ("peer", "headers", "guard", "address"),
    [
        ("192.0.2.7", [], Guard(), "192.0.2.7"),
        ("192.0.2.7", [(XFF, b"203.0.113.9")], Guard(), "192.0.2.7"),
        ("192.0.2.7", [(XFF, b"203.0.113.9")], BEHIND, "192.0.2.7"),
        ("", [(XFF, b"203.0.113.9")], BEHIND, ""),
        (PROXY, [], BEHIND, PROXY),
        (PROXY, [(XFF, b"203.0.113.9")], BEHIND, "203.0.113.9"),
        (PROXY, [(XFF, b"198.51.100.1, 203.0.113.9")], BEHIND, "203.0.113.9"),
        (PROXY, [(XFF, b"198.51.100.1"), (XFF, b"203.0.113.9")], BEHIND, "203.0.113.9"),
        (PROXY, [(XFF, b"203.0.113.9"), (b"host", b"a"), (XFF, b"10.0.0.6")], BEHIND, "203.0.113.9"),
        (PROXY, [(XFF, b"unknown")], BEHIND, PROXY),
        (PROXY, [(FORWARDED, b"for=203.0.113.9")], BEHIND, PROXY),
        (PROXY, [(b"x_forwarded_for", b"203.0.113.9"), (b"x-real-ip", b"203.0.113.9")], BEHIND, PROXY),
        (PROXY, [(FORWARDED, b"for=203.0.113.9")], Guard(trusted_proxies=(PROXY,), proxy_header="forwarded"), "203.0.113.9"),
        (PROXY, [(XFF, b"203.0.113.9")], Guard(trusted_proxies=(PROXY,), proxy_header="none"), PROXY),
    ],
)
def test_where_somebody_asks_from(peer: str, headers: list[tuple[bytes, bytes]], guard: Guard, address: str) -> None:
    assert asks_from(peer, headers, guard) == address
