"""A listener for proxies and who they are."""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text

MINIMAL = 'models: {m: {instances: [{url: "http://127.0.0.1:8000"}]}}\n'


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("listen: [{address: 127.0.0.1:8080}]", []),
        ("listen: [{address: 127.0.0.1:8080, proxy_protocol: false}]", []),
        ("listen: [{address: 127.0.0.1:8080, proxy_protocol: true}]\nguard: {trusted_proxies: [127.0.0.1]}", []),
        ("listen: [{address: 127.0.0.1:8080, proxy_protocol: true}]", ["listen[0].proxy_protocol"]),
        ("listen: [{address: 127.0.0.1:8080, proxy_protocol: true}]\nguard: {trusted_proxies: []}", ["listen[0].proxy_protocol"]),
        (
            "listen: [{address: 127.0.0.1:8080, proxy_protocol: true}]\nguard: {trusted_proxies: [x]}",
            ["guard.trusted_proxies[0]"],
        ),
    ],
)
def test_somebody_has_to_be_trusted(text: str, faults: list[str]) -> None:
    assert [fault.option for fault in load_text(MINIMAL + text).faults] == faults
