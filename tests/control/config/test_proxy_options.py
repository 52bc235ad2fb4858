"""The networks of proxies: any but that of everybody."""

from __future__ import annotations

import pytest

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.proxy_options import ProxyNetwork


@pytest.mark.parametrize("text", ["10.0.0.5", "10.0.0.0/8", "0.0.0.0/1", "fd00:2::/64", "::1"])
def test_networks(text: str) -> None:
    assert ProxyNetwork().read(text).startswith(text)


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "::0/0"])
def test_everybody_is_no_proxy(text: str) -> None:
    with pytest.raises(BadValueError, match="anybody could say"):
        ProxyNetwork().read(text)


def test_what_is_no_network() -> None:
    with pytest.raises(BadValueError):
        ProxyNetwork().read("proxy")
