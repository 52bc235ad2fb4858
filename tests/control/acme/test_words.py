"""What an operator reads when an authority says no: what it said, without control characters, and what to do."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from acme import errors, messages

from slmgate.control.acme.words import QUOTED, quoted, told
from slmgate.control.config.acme_options import Acme

OPTIONS = Acme(domains=("a.example.com",), directory="https://acme.test/directory")


def problem(code: str, detail: str = "it said so") -> messages.Error:
    return made(typ=messages.ERROR_PREFIX + code, detail=detail)


def made(**fields: Any) -> messages.Error:
    build: Any = messages.Error  # its fields are not in its types
    error: messages.Error = build(**fields)
    return error


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("caa", "CAA record"),
        ("dns", "DNS has the name"),
        ("connection", "port 80 of the name"),
        ("tls", "port 80 of the name"),
        ("rateLimited", "asked again when it says so"),
        ("rejectedIdentifier", "tls.acme.domains"),
        ("externalAccountRequired", "tls.acme.eab"),
        ("unauthorized", "leads to this gate and to no other"),
        ("serverInternal", "it is asked again"),
    ],
)
def test_each_refusal_has_its_advice(code: str, advice: str) -> None:
    text, kind = told(problem(code), "a.example.com", "http-01", OPTIONS)
    assert text.startswith(f"acme.test refuses: it said so ({code})") and advice in text and kind == "refused"


def test_a_refusal_without_advice_or_detail() -> None:
    assert told(problem("malformed", ""), "a", "http-01", OPTIONS)[0] == "acme.test refuses: malformed (malformed)"
    assert told(made(typ="about:blank"), "a", "http-01", OPTIONS)[0] == "acme.test refuses: error (error)"


def test_what_is_wrong_with_parts_of_an_order_is_told_too() -> None:
    whole = made(typ=messages.ERROR_PREFIX + "compound", detail="two", subproblems=(problem("dns", "NXDOMAIN"),))
    assert "two; NXDOMAIN (compound)" in told(errors.IssuanceError(whole), "a", "http-01", OPTIONS)[0]


def test_the_certificate_of_the_authority_itself() -> None:
    error = requests.exceptions.SSLError("no")
    text, kind = told(error, "a", "http-01", OPTIONS)
    assert "give its authority in tls.acme.ca" in text and kind == "away"


def test_what_is_no_acme() -> None:
    answer = requests.Response()
    answer.status_code = 404
    text, kind = told(errors.ClientError(answer), "a", "http-01", OPTIONS)
    assert "answers 404 and no ACME; see tls.acme.directory" in text and kind == "away"
    assert "in time" in told(errors.TimeoutError(), "a", "http-01", OPTIONS)[0]
    assert "as it should: eh" in told(ValueError("eh"), "a", "http-01", OPTIONS)[0]
    assert "as it should: KeyError" in told(KeyError(), "a", "http-01", OPTIONS)[0]


def test_the_cause_of_a_connection_that_failed() -> None:
    error = requests.ConnectionError("HTTPSConnectionPool(...)")
    error.__cause__ = OSError(113, "No route to host")
    assert told(error, "a", "http-01", OPTIONS) == ("acme.test cannot be reached (No route to host); it is tried again", "away")


def test_what_is_quoted_forges_no_line_and_is_not_long() -> None:
    assert quoted("one\ntwo\x1b[31m\r") == "one two [31m "
    assert len(quoted("x" * 10_000)) == QUOTED and quoted("x" * 10_000).endswith("...")
    assert "\n" not in told(problem("dns", "a\nslmgate: all is well"), "a", "http-01", OPTIONS)[0]
