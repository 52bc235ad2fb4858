"""Which listeners exclude each other. The other checks between options are in the golden files `between-*`.

No socket is opened.
"""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.addresses import Address
from slmgate.control.config.checks import overlap


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Address("127.0.0.1", 1), Address("127.0.0.1", 1), True),
        (Address("127.0.0.1", 1), Address("127.0.0.1", 2), False),
        (Address("127.0.0.1", 1), Address("127.0.0.2", 1), False),
        (Address("", 1), Address("127.0.0.1", 1), True),
        (Address("::1", 1), Address("0.0.0.0", 1), True),
        (Address("::", 1), Address("::1", 1), True),
    ],
)
def test_overlap(one: Address, other: Address, both: bool) -> None:
    assert overlap(one, other) is both
    assert overlap(other, one) is both


@pytest.mark.parametrize(
    ("url", "listen", "itself"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://localhost:8080", ":8080", True),
        ("http://10.0.0.5:8080", ":8080", False),
        ("http://10.0.0.5:8080", "10.0.0.5:8080", True),
        ("http://127.0.0.1:8080", "10.0.0.5:8080", False),
        ("http://127.0.0.1:8081", "127.0.0.1:8080", False),
    ],
)
def test_an_instance_that_is_the_gate(url: str, listen: str, itself: bool) -> None:
    text = (
        f'models: {{m: {{instances: [{{url: "{url}"}}]}}}}\nlisten: [{{address: "{listen}"}}]\nadmin: {{address: "127.0.0.1:9"}}'
    )
    assert any("is the gate itself" in fault.problem for fault in load_text(text).faults) is itself


def test_a_default_that_stands_in_for_a_broken_value_is_not_compared() -> None:
    text = 'models: {m: {instances: [{url: "http://h:1"}]}}\nlisten: [{address: "127.0.0.1:8081"}]\nadmin: {address: 1}'
    assert [fault.option for fault in load_text(text).faults] == ["admin.address"]
