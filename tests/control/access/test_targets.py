"""The registry: each kind of place has what writes there."""

from __future__ import annotations

from pathlib import Path

from slmgate.control.access.places import OtlpAt, SyslogAt
from slmgate.control.access.streams import StreamSink
from slmgate.control.access.syslog import SyslogSink
from slmgate.control.access.targets import Target, open_target
from slmgate.control.tracing.otlp_logs import OtlpSink


def test_each_kind_is_opened(tmp_path: Path) -> None:
    file = open_target(Target(tmp_path / "a.log"), print)
    stream = open_target(Target("stderr"), print)
    server = open_target(Target(SyslogAt("unix", str(tmp_path / "none")), "logfmt", "local0", "gate"), print)
    collector = open_target(Target(OtlpAt("http://127.0.0.1:1/base/"), headers=(("a", "secret"),)), print)
    assert isinstance(collector, OtlpSink)
    assert repr(collector).startswith("<OtlpSink otlp:http://127.0.0.1:1/base/v1/logs:")
    assert isinstance(file, StreamSink)
    assert isinstance(stream, StreamSink)
    assert isinstance(server, SyslogSink)
    assert open_target(Target("off"), print) is None
    assert repr(server).startswith(f"<SyslogSink syslog:{tmp_path}/none:")
    for one in (file, stream, server, collector):
        one.close()
