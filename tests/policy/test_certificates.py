"""Whom a client certificate stands for: each field, none and several of it, names that may not stand in a log, and the end.

What a refusal says is for the client; its rule is for the operator.
"""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.policy.certificates import MAX_NAME, Certificate, CertificateSpec
from slmgate.terms import Principal, Refuse

NAMES = {
    "subject_cn": ("bot",),
    "subject_email": ("bot@acme.example",),
    "subject_o": ("acme",),
    "san_dns": ("bot.acme.example",),
    "san_uri": ("spiffe://acme.example/bot",),
    "san_email": ("alt@acme.example",),
}
SPEC = CertificateSpec(roles=("internal",))


def certificate(issuer: str = "ca", until: float = 100.0, **names: Any) -> Certificate:
    return Certificate(NAMES | names, issuer, until)


def principal(of: Certificate, spec: CertificateSpec = SPEC) -> Principal:
    answer = of.opens(spec, 1.0)
    assert isinstance(answer, tuple), answer
    assert answer[1] == of.until
    return answer[0]


def refused(of: Certificate, spec: CertificateSpec = SPEC, now: float = 1.0) -> Refuse:
    answer = of.opens(spec, now)
    assert isinstance(answer, Refuse)
    assert answer.code == "invalid_api_key"
    assert "client certificate" in answer.message
    return answer


@pytest.mark.parametrize("field", sorted(set(NAMES) - {"subject_o"}))
def test_each_field(field: Any) -> None:
    who = principal(certificate(), CertificateSpec(principal=field, roles=("a", "b")))
    assert (who.name, who.kind, who.team, who.roles) == (NAMES[field][0], "certificate", None, ("a", "b"))
    assert who.id.startswith("cert:") and len(who.id) == 69
    for none in ((), ("",)):
        assert field in refused(Certificate(NAMES | {field: none}, "ca", 100.0), CertificateSpec(principal=field)).rule


def test_the_id_is_of_authority_field_and_name() -> None:
    one = principal(certificate()).id
    assert principal(certificate(until=999.0, subject_o=("other",), san_dns=())).id == one, "a renewed certificate is the same"
    assert principal(certificate(issuer="another")).id != one
    assert principal(certificate(subject_cn=("bot2",))).id != one
    same_text = certificate(san_dns=("bot",))
    assert principal(same_text, CertificateSpec(principal="san_dns")).id != principal(same_text).id


def test_several_do_not_say_who_calls() -> None:
    assert refused(certificate(subject_cn=("bot", "root"))).rule == "auth.client_certificates: several subject_cn"
    assert principal(certificate(subject_cn=("bot", "bot"))).name == "bot"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("x", True),
        ("Jörg Müller", True),
        ("x" * MAX_NAME, True),
        ("x" * (MAX_NAME + 1), False),
        (" x", False),
        ("x ", False),
        ("a\0b", False),
        ("a\nb", False),
        ("a\x1b[2J", False),
        ("a\u200bb", False),
        ("a\u202eb", False),
    ],
)
def test_names_are_clean(name: str, right: bool) -> None:
    if right:
        assert principal(certificate(subject_cn=(name,))).name == name
    else:
        assert refused(certificate(subject_cn=(name,))).rule.endswith("subject_cn is not clean")


def test_the_team() -> None:
    spec = CertificateSpec(team=True)
    assert principal(certificate(), spec).team == "acme"
    assert principal(certificate(subject_o=()), spec).team is None
    assert "organization" in refused(certificate(subject_o=("a", "b")), spec).message
    assert "organization" in refused(certificate(subject_o=("a\nb",)), spec).message


@pytest.mark.parametrize(("now", "right"), [(99.9, True), (100.0, False), (100.1, False)])
def test_it_ends(now: float, right: bool) -> None:
    if right:
        assert isinstance(certificate().opens(SPEC, now), tuple)
    else:
        assert "expired" in refused(certificate(), now=now).message


def test_it_is_worked_out_once_for_a_specification() -> None:
    one = certificate()
    assert principal(one) is principal(one)
    other = CertificateSpec(roles=("partner",))
    assert principal(one, other).roles == ("partner",)
    assert principal(one).roles == ("internal",)
    assert "bot" in repr(one)
