"""Automatic certificates beside the rest of a configuration: who answers the challenge, whose account it is, what is shown.

The golden files have each fault with its words; here is what is, and what is not, a fault.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from slmgate.control.config import load_text

PLAIN = "{address: 127.0.0.1:80}"
AGREED = "agree_to_terms: true"


def faults(*listeners: str) -> list[str]:
    text = f"listen: [{', '.join(listeners)}]\nmodels: {{tiny: {{instances: [{{url: 'http://127.0.0.1:8000'}}]}}}}\n"
    return [fault.problem for fault in load_text(text, "slmgate.yaml", Path("/nowhere")).faults]


def tls(port: int, options: str) -> str:
    return f"{{address: '127.0.0.1:{port}', tls: {{acme: {{{options}}}}}}}"


@pytest.mark.parametrize(
    "listeners",
    [
        [tls(443, f"domains: a.example, {AGREED}")],
        [PLAIN, tls(443, f"domains: [a.example, b.example], {AGREED}, challenges: http-01")],
        [tls(443, f"domains: a.example, {AGREED}, challenges: tls-alpn-01")],
        [tls(443, f"domains: a.example, {AGREED}"), tls(444, f"domains: [a.example, b.example], {AGREED}")],
        [
            tls(443, f"domains: a.example, {AGREED}, email: a@example.com"),
            tls(444, f"domains: b.example, {AGREED}, directory: 'https://other.example/d', email: b@example.com"),
        ],
    ],
)
def test_no_fault(listeners: list[str]) -> None:
    assert faults(*listeners) == []


def test_without_an_answer_to_the_challenge() -> None:
    (problem,) = faults(tls(443, f"domains: a.example, {AGREED}, challenges: [tls-alpn-01, http-01]"))
    assert "there is none" in problem


def test_without_agreement() -> None:
    for options in ("domains: a.example", "domains: a.example, agree_to_terms: false"):
        assert "needs your agreement" in faults(tls(443, options))[0]


def test_the_authority_of_ones_own_needs_no_agreement_but_its_file() -> None:
    (problem,) = faults(tls(443, "domains: a.example, ca: missing.pem, directory: 'https://ca.internal/d'"))
    assert "cannot be read" in problem


def test_a_name_twice() -> None:
    assert "stands here twice" in faults(tls(443, f"domains: [a.example, A.example.], {AGREED}"))[0]


def test_a_name_in_two_ways() -> None:
    two = f"domains: a.example, {AGREED}, directory: 'https://other.example/d'"
    assert "in another way" in faults(tls(443, f"domains: a.example, {AGREED}"), tls(444, two))[0]


def test_two_accounts_at_one_authority() -> None:
    two = f"domains: b.example, {AGREED}, email: b@example.com"
    assert "another account" in faults(tls(443, f"domains: a.example, {AGREED}"), tls(444, two))[0]


def test_too_many_names() -> None:
    names = ", ".join(f"n{number}.example" for number in range(101))
    assert "more than 100 names" in faults(tls(443, f"domains: [{names}], {AGREED}"))[0]


def test_nothing_to_show() -> None:
    assert faults("{address: '127.0.0.1:443', tls: {min_version: '1.3'}}") == ["there is no certificate to show"]
    assert faults("{address: '127.0.0.1:443', tls: {certificates: []}}") == ["there is no certificate to show"]


def test_a_fault_in_one_place_is_no_fault_in_another() -> None:
    problems = faults(tls(443, f"domains: a.example, {AGREED}, email: nobody"), tls(444, f"domains: b.example, {AGREED}"))
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("challenges", "before", "beside", "closed"),
    [
        ("", [], [], True),
        (", challenges: tls-alpn-01", [PLAIN], [], True),
        (", challenges: http-01", [PLAIN], [], False),
        ("", [PLAIN], [], False),
        ("", ["{address: 127.0.0.1:8080}"], [], True),
        ("", [], [tls(444, f"domains: a.example, {AGREED}")], False),
    ],
)
def test_an_authority_that_nobody_lets_in(
    tmp_path: Path, challenges: str, before: list[str], beside: list[str], closed: bool
) -> None:
    """It asks by a handshake in which it shows no certificate."""
    ca = tmp_path / "clients.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    acme = f"acme: {{domains: a.example, {AGREED}{challenges}}}"
    own = f"{{address: '127.0.0.1:443', tls: {{client_ca: {ca}, client_auth: required, {acme}}}}}"
    found = faults(*before, own, *beside)
    assert len(found) == closed
    assert not found or "shows no certificate" in found[0]
