"""One instance from its options: what the file takes is taken, and what it refuses is refused in its words."""

from __future__ import annotations

import pytest

from slmgate.control.config.addresses import Origin
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.one_instance import read_instance


def test_all_options() -> None:
    text = """{"url": "http://A:1", "engine": "vllm", "weight": 3, "max_in_flight": 4, "upstream_model": "x/\\"y é",
        "bearer": "${env:B}"}"""
    made = read_instance(text, {"B": "secret"})
    assert (made.url, made.engine, made.weight, made.max_in_flight) == (Origin("a", 1), "vllm", 3, 4)
    assert (made.upstream_model, str(made.bearer)) == ('x/"y é', "secret")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"url": "a:1"}', "url: 'a:1' has no scheme"),
        ('{"url": "http://a:1/path"}', "url: 'http://a:1/path' has a path"),
        ('{"url": "http://u:p@a:1"}', "url: the value holds a user name or password"),
        ('{"url": "http://a:1", "wieght": 2}', "unknown option 'wieght'"),
        ('{"url": "http://a:1", "weight": 0}', "weight: '0' is less than this option takes"),
        ('{"url": "http://a:1", "bearer": "${env:B}"}', "bearer: '${env:B}' needs the environment variable B, which is not set"),
        ('{"dns": "x.example", "port": 1}', "dns: only the configuration may name a name"),
        ('{"command": ["sh"]}', "command: only the configuration may name a command"),
        ('{"file": "x.yaml"}', "file: only the configuration may name a file"),
        ('{"url": "http://a:1", "tls": {"server_name": "a.test"}}', "tls is never looked at"),
        ("{}", "url: url is missing"),
        ("[]", "a list is not a mapping of options"),
        ("", "there are no options"),
        ("{", "this is not YAML: did not find expected node content"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadValueError) as caught:
        read_instance(text, {})
    assert caught.value.problem.startswith(problem)
