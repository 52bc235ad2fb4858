"""The table of faults: the codes that clients rely on, their statuses, and what a row must say of itself.

How a fault looks on the wire is tested with the dialects.
"""

from __future__ import annotations

import pytest

from slmgate.errors import FAULTS, Fault

PROMISED = {
    "invalid_api_key": 401,
    "permission_denied": 403,
    "model_not_found": 404,
    "parameter_not_allowed": 400,
    "request_too_large": 413,
    "rate_limit_exceeded": 429,
    "quota_exceeded": 429,
    "overloaded": 503,
    "upstream_error": 502,
    "upstream_timeout": 504,
}
"""Clients switch on these: neither the code nor its status may ever change."""


@pytest.mark.parametrize(("code", "status"), PROMISED.items())
def test_what_clients_rely_on(code: str, status: int) -> None:
    assert FAULTS[code].status == status


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.code)
def test_a_row_says_everything(fault: Fault) -> None:
    assert FAULTS[fault.code] is fault
    assert 400 <= fault.status <= 599
    assert fault.sentence.endswith(".")
    assert fault.source in ("client", "policy", "gate", "upstream")
    assert fault.kind


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.code)
def test_asking_again_never_helps_against_a_clients_own_mistake(fault: Fault) -> None:
    assert not (fault.retry and fault.source == "client")


def test_no_code_is_there_twice() -> None:
    from slmgate import errors

    assert len(errors._ROWS) == len(FAULTS)


def test_retry_is_no_unless_a_row_says_otherwise() -> None:
    assert Fault("a", 400, "client", "b", "C.").retry is False
