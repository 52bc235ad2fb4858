"""The options of the access log: one place or several, each accepted word, and what is told of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.access.places import OtlpAt, SyslogAt
from slmgate.control.access.targets import Target
from slmgate.control.config import Config, load_text
from slmgate.control.config.compile import compile_snapshot
from slmgate.control.config.log_options import targets
from slmgate.control.config.show import to_yaml

MODEL = 'models: {m: {instances: [{url: "http://127.0.0.1:1"}]}}\n'


def loaded(log: str) -> Config:
    return load_text(f"{MODEL}log: {log}\n", "gate.yaml", Path("/base")).unwrap()


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("{}", [Target("stdout")]),
        ("{access: off}", [Target("off")]),
        ("{access: logs/a.log, format: combined}", [Target(Path("/base/logs/a.log"), "combined")]),
        ("{access: {to: stderr, format: logfmt}}", [Target("stderr", "logfmt")]),
        (
            "{access: [stdout, {to: syslog, facility: local0, tag: gate}, {to: a.log, format: combined}], format: logfmt}",
            [Target("stdout", "logfmt"), Target(SyslogAt(), "logfmt", "local0", "gate"), Target(Path("/base/a.log"), "combined")],
        ),
        ('{access: ["syslog:tcp://[::1]:601"]}', [Target(SyslogAt("tcp", "::1", 601))]),
        ("{access: []}", []),
        ("{access: 'otlp:http://collector:4318', format: logfmt}", [Target(OtlpAt("http://collector:4318"))]),
    ],
)
def test_targets(log: str, expected: list[Target]) -> None:
    config = loaded(log)
    assert targets(config.log) == expected
    assert targets(load_text(to_yaml(config), "gate.yaml", Path("/base")).unwrap().log) == expected


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ("{access: 'syslog:http://h'}", "is not a syslog server"),
        ("{access: 'otlp:collector:4318'}", "has no scheme"),
        ("{access: 'otlp:grpc://collector:4317'}", "has no scheme"),
        ("{access: 'otlp:http://user:word@collector'}", "holds a user name or password"),
        ("{access: {to: 'otlp:http://c', headers: {'a b': c}}}", "is not accepted here"),
        ("{access: [stdut\x00]}", ""),
        ("{access: {to: stdout, format: combinde}}", "is not one of the accepted values"),
        ("{access: {format: json}}", "to is missing"),
        ("{access: {to: syslog, facility: local8}}", "is not one of the accepted values"),
        ("{access: {to: syslog, tag: 'a b'}}", "is not accepted here"),
        ("{access: {to: stdout, colour: red}}", "colour"),
        ("{format: xml}", "is not one of the accepted values"),
    ],
)
def test_faults(log: str, problem: str) -> None:
    result = load_text(f"{MODEL}log: {log}\n", "gate.yaml", Path("/base"))
    assert result.config is None
    assert any(problem in str(fault) for fault in result.faults)


def test_a_collectors_credential_is_not_seen() -> None:
    config = loaded("{access: {to: 'otlp:https://collector/base', headers: {authorization: Bearer abc}, ca: ca.pem, tag: gate}}")
    (target,) = targets(config.log)
    assert target == Target(
        OtlpAt("https://collector/base"), tag="gate", headers=(("authorization", "Bearer abc"),), ca=Path("/base/ca.pem")
    )
    assert "abc" not in repr(target) + to_yaml(config)


@pytest.mark.parametrize(
    ("log", "agents"),
    [
        ("{}", False),
        ("{format: combined}", True),
        ("{access: [stdout, {to: a.log, format: combined}]}", True),
        ("{access: off, format: combined}", False),
        ("{access: 'otlp:http://c:4318', format: combined}", False),
        ("{access: {to: a.log, format: logfmt}, format: combined}", False),
    ],
)
def test_what_clients_call_themselves_is_noted_for_who_wants_it(log: str, agents: bool) -> None:
    text = f'models: {{m: {{instances: [{{url: "http://h:1"}}]}}}}\nlog: {log}\n'
    assert compile_snapshot(load_text(text).unwrap(), 1).agents is agents
