"""The table of malformed and ambiguous requests on fakes, each of them whole, byte by byte, and cut in two at every byte.

However the bytes arrive, a request is refused with nothing sent on, or sent on as it is and with nothing else. With real sockets
and over TLS the table is in `tests/system/test_ambiguous.py`.
"""

from __future__ import annotations

import pytest

from tests.dataplane.conftest import OpenRoad
from tests.tools.ambiguous import Case, Sent, Table
from tests.tools.stage import SECRET, Stage, reply

TABLE = Table(SECRET, "m")
CASES = TABLE.cases()
SHORT = 4096
"""Longer requests are cut at some places only."""


class Gate:
    """Clients of one stage, each with a connection of its own, whose requests are answered at once."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.asked: list[bytes] = []
        self.answers = b""
        stage.loop.told = self.told

    def told(self, who: str, what: str, data: bytes) -> None:
        if what != "write":
            return
        if who == "client":
            self.answers += data
        else:
            self.asked.append(data)
            self.stage.loop.call_soon(self.stage.loop.opened["a"][-1].feed, reply(b"{}"))

    def meets(self, case: Case, *pieces: bytes) -> str:
        """What is wrong with what became of these bytes of a case; empty: nothing."""
        self.asked, self.answers = [], b""
        end = self.stage.connect()
        client = self.stage.clients.pop()
        for piece in pieces:
            if not end.closing:
                end.feed(piece)
                self.stage.loop.settle()
        if client.state != "closed":
            client.connection_lost(None)
            self.stage.loop.settle()
        status = int(self.answers[9:12]) if self.answers.startswith(b"HTTP/1.1 ") else -1
        return TABLE.fault(case, [seen(one) for one in self.asked], status)


def seen(request: bytes) -> Sent:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    return Sent(line, [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)], body)


@pytest.fixture
def gate(open_road: OpenRoad) -> Gate:
    return Gate(open_road().stage)


def test_there_are_many_and_no_two_of_a_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 450
    assert len({case.raw for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_reading_or_none(gate: Gate, case: Case) -> None:
    raw = case.raw
    assert not gate.meets(case, raw)
    stride = 1 if len(raw) <= SHORT else len(raw) // 64
    assert not gate.meets(case, *(raw[at : at + stride] for at in range(0, len(raw), stride)))
    for place in range(1, len(raw), stride):
        wrong = gate.meets(case, raw[:place], raw[place:])
        assert not wrong, f"cut at {place}: {wrong}"
