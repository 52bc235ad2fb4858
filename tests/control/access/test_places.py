"""The words for syslog servers, accepted and refused, and that each is written as it is read."""

from __future__ import annotations

import pytest

from slmgate.control.access.places import FACILITIES, SyslogAt, syslog_at


@pytest.mark.parametrize(
    ("text", "at", "written"),
    [
        ("syslog", SyslogAt(), "syslog"),
        ("syslog:/dev/log", SyslogAt(), "syslog"),
        ("syslog:/run/a b.sock", SyslogAt("unix", "/run/a b.sock"), "syslog:/run/a b.sock"),
        ("syslog:udp://logs.example.com", SyslogAt("udp", "logs.example.com", 514), "syslog:udp://logs.example.com:514"),
        ("syslog:tcp://127.0.0.1", SyslogAt("tcp", "127.0.0.1", 601), "syslog:tcp://127.0.0.1:601"),
        ("syslog:tcp://[::1]:5514", SyslogAt("tcp", "::1", 5514), "syslog:tcp://[::1]:5514"),
        ("syslog:udp://h:65535", SyslogAt("udp", "h", 65535), "syslog:udp://h:65535"),
    ],
)
def test_accepted(text: str, at: SyslogAt, written: str) -> None:
    assert syslog_at(text) == at
    assert str(at) == written
    assert syslog_at(written) == at


@pytest.mark.parametrize(
    "text",
    ["syslog:", "syslog:udp", "syslog:udp://", "syslog:http://h:1", "syslog:udp://h:0", "syslog:udp://h:65536", "syslog:udp://h:1/x",
     "syslog:run/log", "syslog:/a\n", "syslog:udp://a b", "syslog:udp://h:1\n"],
)  # fmt: skip
def test_refused(text: str) -> None:
    assert syslog_at(text) is None


def test_facilities() -> None:
    assert (FACILITIES["user"], FACILITIES["local0"], FACILITIES["local7"]) == (1, 16, 23)
