"""A worker's orders: one JSON argument, whole or refused.

What is done by them is the worker's affair.
"""

from __future__ import annotations

import msgspec
import pytest

from slmgate.link.orders import WorkerOrders

ORDERS = WorkerOrders(
    slot=1, listeners=(3, 4), beats=5, lifeline=6, link="/run/link", journal="/var/journal", answers="/var/answers"
)


@pytest.mark.parametrize(
    "orders",
    [
        ORDERS,
        msgspec.structs.replace(ORDERS, tls=(None, "0.0.0.0:8443")),
        msgspec.structs.replace(ORDERS, sync=None, serve_unaccounted=True, segment_size=1),
    ],
)
def test_a_round_trip(orders: WorkerOrders) -> None:
    assert msgspec.json.decode(msgspec.json.encode(orders), type=WorkerOrders) == orders


def test_what_is_missing_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError, match="listeners"):
        msgspec.json.decode(b'{"slot": 1}', type=WorkerOrders)
