"""The kinds of automatic certificates' options: each accepted form, each refused one with its word."""

from __future__ import annotations

import re

import pytest

from slmgate.control.config.acme_options import Domain, HmacKey
from slmgate.control.config.faults import BadValueError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gate.example.com", "gate.example.com"),
        ("Gate.Example.COM.", "gate.example.com"),
        ("localhost", "localhost"),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5), ".".join(["a" * 49] * 5)),
        ("1and1.example", "1and1.example"),
    ],
)
def test_a_domain(text: str, name: str) -> None:
    assert Domain().take(text, "plain") == name
    assert re.fullmatch(Domain().schema()["pattern"].strip("^$"), text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("*.example.com", "wildcard, which needs the challenge dns-01"),
        ("192.0.2.1", "is an address"),
        ("2001:db8::1", "is an address"),
        ("[::1]", "is an address"),
        ("müller.example", "not in ASCII"),
        ("", "is not a domain"),
        (".", "is not a domain"),
        ("a..b", "is not a domain"),
        ("-a.example", "is not a domain"),
        ("a_b.example", "is not a domain"),
        ("a.*.example", "is not a domain"),
        ("https://a.example", "is not a domain"),
        ("a.example:443", "is not a domain"),
        ("a.example\n", "is not a domain"),
        ("../../etc", "is not a domain"),
        ("a" * 64 + ".example", "is not a domain"),
        (".".join(["a" * 50] * 5), "is not a domain"),
    ],
)
def test_what_is_no_domain(text: str, problem: str) -> None:
    with pytest.raises(BadValueError) as raised:
        Domain().take(text, "quoted")
    assert problem in raised.value.problem and raised.value.hint


@pytest.mark.parametrize("text", ["c2VjcmV0LXNlY3JldA", "c2VjcmV0LXNlY3JldA==", "_-" * 20])
def test_an_hmac_key(text: str) -> None:
    assert HmacKey().take(text, "quoted") == text and "***" in repr(HmacKey().take(text, "quoted"))


@pytest.mark.parametrize("text", ["", "short", "c2VjcmV0 LXNlY3JldA", "c2VjcmV0+XNlY3JldA/", "a" * 17, "=" * 20])
def test_what_is_no_hmac_key_is_never_shown(text: str) -> None:
    with pytest.raises(BadValueError) as raised:
        HmacKey().take(text, "quoted")
    assert raised.value.private
