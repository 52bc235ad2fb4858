"""Messages to a syslog server, on a socket that is none: how they look, how they are framed, and what a lost server costs."""

from __future__ import annotations

import errno
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from slmgate.control.access import syslog
from slmgate.control.access.places import Over, SyslogAt
from slmgate.control.access.syslog import SyslogSink, head

NOW = datetime(2026, 11, 28, 16, 30, 0, 5, UTC)
# The header of RFC 5424, section 6.
RFC_5424 = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) "
    rb"([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) - (.*)",
    re.DOTALL,
)


class Wire:
    """Stands for the socket: takes what it is told to, then fails."""

    def __init__(self, fails: dict[int, OSError] | None = None) -> None:
        self.sent: list[bytes] = []
        self.fails = fails or {}  # at which message, counted over all connections
        self.asked = 0
        self.connected = 0
        self.closed = 0
        self.gone = False  # the other side has closed
        self.refuses = 0  # how often nobody is there

    def connect(self, to: SyslogAt) -> Wire:
        if self.refuses:
            self.refuses -= 1
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        self.connected += 1
        self.gone = False
        return self

    def send(self, message: bytes) -> None:
        self.asked += 1
        if self.asked - 1 in self.fails:
            raise self.fails[self.asked - 1]
        self.sent.append(message)

    sendall = send

    def recv(self, size: int) -> bytes:
        return b""

    def close(self) -> None:
        self.closed += 1

    def says_something(self, link: Wire, event: int, seconds: float) -> bool:
        return self.gone


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire()
    monkeypatch.setattr(syslog, "_connect", wire.connect)
    monkeypatch.setattr(syslog, "is_ready", wire.says_something)
    return wire


def made(over: Over, told: list[str] | None = None, retry: float = 0.0) -> SyslogSink:
    to = SyslogAt() if over == "unix" else SyslogAt(over, "logs.example.com", 514)
    return SyslogSink(to, "json", (told if told is not None else []).append, retry=retry, now=lambda: NOW)


def test_the_header() -> None:
    berlin = NOW.astimezone(timezone(timedelta(hours=1)))
    assert head("local7", "slmgate", berlin, "gate one\n", 7) == b"<190>1 2026-11-28T16:30:00.000005Z gateone slmgate 7 access - "
    assert head("kern", "x", NOW, "", 1).startswith(b"<6>1 2026-11-28T16:30:00.000005Z - x 1 ")


@pytest.mark.parametrize("over", ["unix", "udp"])
def test_a_datagram_for_each_line(wire: Wire, over: Over) -> None:
    log = made(over)
    log.write('{"model":"é"}\n{"b":2}\n'.encode())
    log.close()
    told = [RFC_5424.fullmatch(message) for message in wire.sent]
    assert [found[7] for found in told if found] == ['{"model":"é"}'.encode(), b'{"b":2}']
    assert wire.connected == wire.closed == 1


def test_octet_counting_over_tcp(wire: Wire) -> None:
    log = made("tcp")
    log.write(b"{}\n")
    log.close()
    count, _, message = wire.sent[0].partition(b" ")
    assert int(count) == len(message)
    found = RFC_5424.fullmatch(message)
    assert found is not None and found[7] == b"{}"


def test_a_server_that_is_away_for_a_while_loses_nothing(wire: Wire) -> None:
    wire.refuses = 3
    told: list[str] = []
    log = made("tcp", told)
    log.write(b"1\n2\n")
    while wire.refuses:
        log.reopen()
    log.close()
    assert [message[-1:] for message in wire.sent] == [b"1", b"2"]
    assert log.dropped == 0
    assert told == ["the access log to syslog:tcp://logs.example.com:514: it does not take messages: Connection refused"]


def test_a_server_that_closed_is_seen_before_it_is_sent_anything(wire: Wire) -> None:
    log = made("tcp")
    log.write(b"1\n")
    while not wire.sent:
        log.write(b"")
    wire.gone = True
    log.write(b"2\n")
    log.close()
    assert wire.connected == 2
    assert len(wire.sent) == 2


def test_a_message_that_broke_off_is_sent_again_whole(wire: Wire) -> None:
    wire.fails = {1: TimeoutError("timed out")}
    told: list[str] = []
    log = made("tcp", told)
    log.write(b"1\n2\n3\n")
    while wire.asked < 4:
        log.reopen()
    log.close()
    assert [message[-1:] for message in wire.sent] == [b"1", b"2", b"3"]
    assert "timed out" in told[0]


def test_over_udp_a_refusal_speaks_of_the_message_before(wire: Wire) -> None:
    wire.fails = {1: ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")}
    log = made("udp")
    log.write(b"1\n2\n")
    while wire.asked < 3:
        log.reopen()
    log.close()
    assert [message[-1:] for message in wire.sent[:2]] == [b"1", b"2"]
    assert log.dropped == 1


def test_a_message_that_is_too_long_costs_itself_alone(wire: Wire) -> None:
    wire.fails = {0: OSError(errno.EMSGSIZE, "Message too long")}
    told: list[str] = []
    log = made("udp", told)
    log.write(b"1\n2\n")
    log.close()
    assert wire.sent[0][-1:] == b"2"
    assert log.dropped == 1
    assert "bytes is too long; 1 lines were dropped" in told[0]


def test_what_fails_otherwise_is_tried_again(wire: Wire) -> None:
    wire.fails = {0: OSError(errno.ENOBUFS, "No buffer space available")}
    log = made("unix")
    log.write(b"1\n")
    while wire.asked < 2:
        log.reopen()
    log.close()
    assert len(wire.sent) == 1
    assert log.dropped == 0


def test_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    class Fake:
        def __init__(self, family: int, kind: int) -> None:
            asked.append((family, kind))

        def settimeout(self, seconds: float) -> None:
            asked.append(seconds)

        def connect(self, address: object) -> None:
            asked.append(address)
            if address == "/none":
                raise FileNotFoundError(2, "No such file or directory")

        def close(self) -> None:
            asked.append("closed")

    monkeypatch.setattr("slmgate.control.access.syslog.socket.socket", Fake)
    connect = "slmgate.control.access.syslog.socket.create_connection"
    monkeypatch.setattr(connect, lambda address, seconds: asked.append((address, seconds)))
    syslog._connect(SyslogAt("udp", "127.0.0.1", 514))
    syslog._connect(SyslogAt("tcp", "h", 601))
    syslog._connect(SyslogAt("unix", "/dev/log"))
    with pytest.raises(FileNotFoundError):
        syslog._connect(SyslogAt("unix", "/none"))
    internet, local, datagram = 2, 1, 2
    assert asked == [
        (internet, datagram), 5.0, ("127.0.0.1", 514),
        (("h", 601), 5.0),
        (local, datagram), 5.0, "/dev/log",
        (local, datagram), 5.0, "/none", "closed",
    ]  # fmt: skip


@pytest.mark.parametrize("over", ["udp", "tcp"])
def test_a_host_that_no_name_can_be_is_trouble_like_another(over: Over) -> None:
    """No question goes out: such a name is refused before anybody is asked."""
    told: list[str] = []
    sink = SyslogSink(SyslogAt(over, f"logs.{'x' * 64}.example.com", 514), "json", told.append, retry=0.0)
    sink.write(b'{"a":1}\n')
    sink.close(10)
    assert sink.dropped == 1
    assert told[0].endswith(f"it does not take messages: no host can be called logs.{'x' * 64}.example.com")
