"""What stands between a TLS transport and a connection: every call reaches it, and its bytes are its own.

That the event loop makes use of it is seen in tests/system/test_tls.py.
"""

from __future__ import annotations

from typing import Any, cast

import pytest

from slmgate.dataplane.client import ClientConnection
from slmgate.dataplane.reading import BUFFER, Reading, buffer


class Client:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def note(*given: Any) -> Any:
            self.told.append((name, *given))
            return True if name == "eof_received" else None

        return note


def test_bytes_are_copied_out_of_the_shared_buffer() -> None:
    shared = buffer()
    one, other = Client(), Client()
    readings = [Reading(cast(ClientConnection, each), shared) for each in (one, other)]
    for reading, data in zip(readings, (b"first", b"2"), strict=True):
        room = reading.get_buffer(100)
        assert len(room) == BUFFER
        room[: len(data)] = data
        reading.buffer_updated(len(data))
    assert one.told == [("data_received", b"first")]
    assert other.told == [("data_received", b"2")]
    assert type(one.told[0][1]) is bytes


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("connection_made", ("t",)),
        ("eof_received", ()),
        ("connection_lost", (None,)),
        ("pause_writing", ()),
        ("resume_writing", ()),
    ],
)
def test_every_call_reaches_the_connection(name: str, given: tuple[Any, ...]) -> None:
    client = Client()
    said = getattr(Reading(cast(ClientConnection, client), buffer()), name)(*given)
    assert client.told == [(name, *given)]
    assert said is (True if name == "eof_received" else None)
