"""What `off`, an unset option and each figure under `guard` come to for workers."""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.compile_guard import guard_spec
from slmgate.policy.guard import GuardSpec, RateSpec

OFF = "{requests: off, connections: off, new_connections: off, failed_auth: {limit: off}}"
LOOPBACK = ("127.0.0.0/8", "::1/128")


def spec(options: str) -> GuardSpec:
    text = f'models: {{m: {{instances: [{{url: "http://h:1"}}]}}}}\nguard: {options}\n'
    return guard_spec(load_text(text).unwrap().guard)


def test_what_is_counted_by_itself() -> None:
    """This machine's own programs are not, strangers who try keys are soon banned, all else is wide."""
    assert spec("{}") == GuardSpec(
        requests=RateSpec(1000, 1, 2000, "1k requests/second burst 2k"),
        connections=1000,
        new_connections=RateSpec(200, 1, 1000, "200 requests/second burst 1k"),
        failed_auth=RateSpec(10, 60, 10, "10 requests/minute"),
        ban=900,
        exempt=LOOPBACK,
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            "{per_ip: {requests: off, connections: off, new_connections: off, failed_auth: {limit: off}}}",
            GuardSpec(exempt=LOOPBACK),
        ),
        ("{per_ip: {requests: 7/2 minutes}}", {"requests": RateSpec(7, 120, 7, "7 requests/2 minutes")}),
        ("{per_ip: {requests: 100/second burst 50}}", {"requests": RateSpec(100, 1, 50, "100 requests/second burst 50")}),
        ("{per_ip: {connections: 64}}", {"connections": 64}),
        (
            "{per_ip: {failed_auth: {limit: 5/hour, ban: 1h}}}",
            {"failed_auth": RateSpec(5, 3600, 5, "5 requests/hour"), "ban": 3600},
        ),
        ("{new_connections: 2k/second}", {"all_new_connections": RateSpec(2000, 1, 2000, "2k requests/second")}),
        ("{exempt: []}", {"exempt": ()}),
        ('{exempt: [10.0.0.0/8, "2001:db8::/32"]}', {"exempt": ("10.0.0.0/8", "2001:db8::/32")}),
    ],
)
def test_each_option_arrives(options: str, expected: GuardSpec | dict[str, object]) -> None:
    found = spec(options)
    if isinstance(expected, GuardSpec):
        assert found == expected
    else:
        assert {name: getattr(found, name) for name in expected} == expected
