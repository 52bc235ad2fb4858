"""The table of malformed and ambiguous requests over real sockets: whole, byte by byte, and over TLS.

An instance that records sees nothing of what is refused, and of the rest one request that reads in one way only: in both
readings, what the RFCs allow and the safest choice. The same cut in two at every byte is
`tests/dataplane/test_client_ambiguous.py`; the same through other proxies is `python -m bench.hostile`.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.system.conftest import SHARED, running
from tests.tools import readings as readings_of
from tests.tools.ambiguous import Case, Sent, Table
from tests.tools.authority import Authority, TlsWire
from tests.tools.gate import SECRET, Gate, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ClosedEarlyError, Wire

TABLE = Table(SECRET.encode(), "tiny")
CASES = TABLE.cases()
BATCH = 35
"""Cases of one test, each on a connection of its own."""
SHORT = 4096
BOTH: tuple[readings_of.Reading, ...] = ("rfc", "strict")
Send = Callable[[Wire, bytes], None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def gate(authority: Authority, shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A plain listener and one with TLS."""
    tls = {"certificates": [authority.server()]}
    made = Gate(tmp_path_factory.mktemp("gate"), {"tiny": model(shared_upstream.url)}, tls=tls, **SHARED)
    running.append(made)
    yield made
    running.remove(made)
    made.stop()


def whole(wire: Wire, data: bytes) -> None:
    wire.send(data)


def by_the_byte(wire: Wire, data: bytes) -> None:
    step = 1 if len(data) <= SHORT else 1000
    for at in range(0, len(data), step):
        wire.send(data[at : at + step])


def first_status(wire: Wire, case: Case, send: Send) -> int:
    """The status of the first answer, when all answers are here; 0: the connection was closed without one."""
    status = 0
    with contextlib.suppress(OSError):  # the gate may have refused, and closed, before the last byte was sent
        send(wire, case.raw)
    try:
        for _ in range(2 if case.becomes == "two" else 1):
            answer = wire.answer()
            status = status or answer.status
    except (ClosedEarlyError, ConnectionError):
        return status
    except TimeoutError:
        return -1
    return status


def faults(cases: list[Case], upstream: MockUpstream, open_wire: Callable[[], Wire], send: Send) -> list[str]:
    found = []
    for case in cases:
        upstream.clear()
        with open_wire() as wire:
            status = first_status(wire, case, send)
            if case.becomes == "one":  # of what is behind it, nothing may come after a while either
                with contextlib.suppress(OSError):
                    wire.socket.settimeout(0.05)
                    wire.more()
        rows = upstream.journal()
        sent = [Sent(row["line"], [(a, b) for a, b in row["headers"]], row["body"].encode("latin-1")) for row in rows]
        readings = [readings_of.fault(TABLE, case, readings_of.Seen(sent, 0, ()), status, reading) for reading in BOTH]
        if wrong := TABLE.fault(case, sent, status or 400) or "".join(readings):
            found.append(f"{case.name} ({case.section}): {wrong}")
    return found


def batches() -> list[list[Case]]:
    return [CASES[at : at + BATCH] for at in range(0, len(CASES), BATCH)]


@pytest.mark.parametrize("cases", batches(), ids=lambda cases: cases[0].name)
@pytest.mark.parametrize("send", [whole, by_the_byte], ids=["whole", "by-the-byte"])
def test_one_reading_or_none(gate: Gate, upstream: MockUpstream, cases: list[Case], send: Send) -> None:
    assert faults(cases, upstream, lambda: Wire(gate.port, 5.0), send) == []


@pytest.mark.parametrize("cases", batches(), ids=lambda cases: cases[0].name)
def test_one_reading_or_none_over_tls(gate: Gate, upstream: MockUpstream, authority: Authority, cases: list[Case]) -> None:
    context = authority.context()
    assert faults(cases, upstream, lambda: TlsWire(gate.tls_port, context, 5.0), whole) == []


def test_the_gate_is_well_after_all_of_it(gate: Gate, upstream: MockUpstream) -> None:
    workers = gate.workers()
    with Wire(gate.port) as wire:
        assert wire.ask(TABLE.sized()).status == 200
    eventually(lambda: gate.rows(), 5, "receipts are in the ledger")
    assert workers == gate.workers()
    assert "fault" not in gate.text().lower()
    with socket.create_connection(("127.0.0.1", gate.port)):
        assert gate.process.poll() is None
