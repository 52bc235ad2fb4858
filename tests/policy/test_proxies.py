"""Whom a trusted proxy speaks for: hops from the nearest on, until one that is not trusted or names nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slmgate.policy.networks import Networks
from slmgate.policy.proxies import MOST_HOPS, client_of

TRUSTED = Networks(["10.0.0.0/24", "fd00::/16"])
PROXY = "10.0.0.5"


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ([], PROXY),
        ([None], PROXY),
        (["203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9", "198.51.100.1"], "203.0.113.9"),
        (["203.0.113.9", "10.0.0.7"], "203.0.113.9"),
        (["10.0.0.6", "203.0.113.9"], "203.0.113.9"),
        (["10.0.0.6", "fd00::1", "203.0.113.9", "198.51.100.1"], "203.0.113.9"),
        (["10.0.0.6"], "10.0.0.6"),
        (["10.0.0.6", "10.0.0.7"], "10.0.0.7"),
        (["10.0.0.6", None], "10.0.0.6"),
        ([None, "203.0.113.9"], PROXY),
        (["10.0.1.6", "203.0.113.9"], "10.0.1.6"),
        (["2001:db8::1"], "2001:db8::1"),
    ],
)
def test_the_first_who_is_not_trusted(hops: list[str | None], client: str) -> None:
    assert client_of(PROXY, hops, TRUSTED) == client


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_the_bound_of_hops(beyond: int) -> None:
    hops = ["10.0.0.6"] * (MOST_HOPS - 1 + beyond) + ["203.0.113.9"]
    assert client_of(PROXY, hops, TRUSTED) == ("203.0.113.9" if beyond <= 0 else "10.0.0.6")


def test_no_hop_is_asked_for_behind_the_client() -> None:
    def hops() -> Iterator[str]:
        yield "203.0.113.9"
        raise AssertionError("what a client may have written is not read")

    assert client_of(PROXY, hops(), TRUSTED) == "203.0.113.9"
