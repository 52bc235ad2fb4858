"""A whole order, and all that can go wrong with it, against an authority in memory: what is asked, presented, kept and told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from cryptography import x509
from msgspec import structs

from slmgate.control.acme import issuing as module
from slmgate.control.acme.files import Account
from slmgate.control.acme.issuing import Answer, Issuing, NotIssued
from slmgate.control.acme.making import key_pem, leaf_of, new_key
from slmgate.control.config.acme_options import Acme, ExternalAccount
from slmgate.control.config.kinds import Secret
from tests.control.acme.fake_authority import DIRECTORY, HOST, FakeAuthority, problem

NAME = "gate.example.com"
OPTIONS = Acme(domains=(NAME,), directory=DIRECTORY, email="ops@example.com", agree_to_terms=True)


class Desk:
    """An authority, and who asks it."""

    def __init__(self, authority: FakeAuthority) -> None:
        self.authority = authority
        self.presented: list[Answer | None] = []
        self.kept: list[Account] = []
        self.waited: list[float] = []
        self.ending = False
        self.options = OPTIONS

    def issue(self, challenge: str = "http-01", account: Account | None = None) -> bytes:
        issuing = Issuing(self.options, self.presented.append, self._wait)
        return issuing.issue(NAME, challenge, account, self.kept.append).pem

    def fails(self, **more: Any) -> NotIssued:
        with pytest.raises(NotIssued) as raised:
            self.issue(**more)
        return raised.value

    def paths(self) -> list[str]:
        return [path for _, path in self.authority.asked]

    def _wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        return self.ending


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    authority = FakeAuthority()
    monkeypatch.setattr(requests.Session, "request", lambda _, method, url, **options: authority.request(method, url, **options))
    monkeypatch.setattr("acme.client.time.sleep", lambda _: None)
    return Desk(authority)


def test_an_order_from_a_new_account_to_the_certificate(desk: Desk) -> None:
    leaf = leaf_of(desk.issue())
    assert leaf.names == (NAME,)
    (answer, nothing) = desk.presented
    assert answer is not None and nothing is None
    assert (
        answer.token == "dG9rZW4tdG9rZW4tdG9rZW4tdG9rZW4"
        and answer.text.startswith("dG9rZW4tdG9rZW4tdG9rZW4tdG9rZW4.")
        and answer.pem == b""
    )
    (account,) = desk.kept
    assert account.uri == f"{HOST}/account/1" and account.email == "ops@example.com"
    assert desk.authority.said["/newAccount"]["contact"] == ["mailto:ops@example.com"]
    assert desk.authority.said["/newAccount"]["termsOfServiceAgreed"] is True
    assert desk.authority.said["/newOrder"]["identifiers"] == [{"type": "dns", "value": NAME}]


def test_tls_alpn_01(desk: Desk) -> None:
    assert leaf_of(desk.issue("tls-alpn-01")).names == (NAME,)
    answer = desk.presented[0]
    assert answer is not None and answer.token == answer.text == "" and answer.domain == NAME
    made = x509.load_pem_x509_certificates(answer.pem)[0]
    assert made.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")).critical
    assert "/challenge/tls-alpn-01" in desk.paths() and "/challenge/http-01" not in desk.paths()


def test_each_certificate_has_a_key_of_its_own(desk: Desk) -> None:
    one, two = desk.issue(), desk.issue(account=desk.kept[0])
    assert one.partition(b"-----BEGIN PRIVATE")[2] != two.partition(b"-----BEGIN PRIVATE")[2]
    assert len(desk.kept) == 1, "the second goes by the account of the first"


def test_what_was_checked_before_is_not_checked_again(desk: Desk) -> None:
    desk.authority.authorized = "valid"
    desk.issue()
    assert desk.presented == [None] and not any("challenge" in path for path in desk.paths())


def test_looks_at_a_slow_check_ever_more_seldom(desk: Desk) -> None:
    desk.authority.looks = 8
    desk.issue()
    assert desk.waited == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_a_check_that_takes_too_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.authority.looks = 100
    monkeypatch.setattr(module, "VALIDATION_SECONDS", 0.0)
    assert "has not checked" in str(desk.fails()) and desk.presented[-1] is None


def test_a_gate_that_ends_gives_up(desk: Desk) -> None:
    desk.authority.looks, desk.ending = 100, True
    error = desk.fails()
    assert (error.kind, str(error)) == ("away", "the gate ends")


# --- accounts ----------------------------------------------------------------------------------------------------------------


def test_an_account_that_the_authority_has_lost_is_made_anew(desk: Desk) -> None:
    desk.issue(account=Account(key=key_pem(new_key()).decode(), uri=f"{HOST}/account/9", email="ops@example.com"))
    assert [account.uri for account in desk.kept] == [f"{HOST}/account/1"]


def test_a_key_that_has_an_account_already(desk: Desk) -> None:
    desk.authority.knows_account = True
    desk.issue(account=Account(key=key_pem(new_key()).decode()))
    assert [account.uri for account in desk.kept] == [f"{HOST}/account/1"]


def test_another_email_is_told(desk: Desk) -> None:
    desk.authority.knows_account = True
    desk.issue(account=Account(key=key_pem(new_key()).decode(), uri=f"{HOST}/account/1", email="old@example.com"))
    assert desk.authority.said["/account/1"]["contact"] == ["mailto:ops@example.com"]
    assert [account.email for account in desk.kept] == ["ops@example.com"]


def test_an_account_that_has_to_be_bound(desk: Desk) -> None:
    desk.authority.wants_binding = True
    assert "tls.acme.eab" in str(desk.fails())
    desk.options = structs.replace(OPTIONS, eab=ExternalAccount(kid="kid-1", hmac_key=Secret("c2VjcmV0LXNlY3JldA")))
    desk.issue()
    assert "externalAccountBinding" in desk.authority.said["/newAccount"]
    assert desk.kept[-1].kid == "kid-1"


def test_an_authority_that_is_in_trouble_with_the_account(desk: Desk) -> None:
    desk.authority.broken["/newAccount"] = problem("unauthorized", "deactivated", 401)
    stored = Account(key=key_pem(new_key()).decode(), uri=f"{HOST}/account/1", email="ops@example.com")
    assert "deactivated" in str(desk.fails(account=stored)) and desk.kept == []


# --- what goes wrong -----------------------------------------------------------------------------------------------------------


def test_a_name_that_leads_elsewhere(desk: Desk) -> None:
    error = {"type": "urn:ietf:params:acme:error:connection", "detail": "connection refused"}
    for status in ("invalid", "pending"):
        desk.authority.decided = {"status": status, "error": error}
        failed = desk.fails()
        assert "connection refused" in str(failed) and "port 80 of the name" in str(failed) and failed.kind == "refused"
        assert desk.presented[-1] is None, "nothing stays pending"
    assert "port 443 of the name" in str(desk.fails(challenge="tls-alpn-01"))


def test_an_authorization_that_is_refused_without_a_word(desk: Desk) -> None:
    desk.authority.decided = {"status": "invalid"}
    assert "does not take gate.example.com for yours" in str(desk.fails())


def test_an_order_that_comes_to_nothing(desk: Desk) -> None:
    desk.authority.order_error = {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA forbids it"}
    assert "CAA forbids it" in str(desk.fails()) and "CAA record" in str(desk.fails())


@pytest.mark.parametrize("asked", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT", "rubbish", ""])
def test_who_asks_too_often_is_told_when_to_come_back(desk: Desk, asked: str) -> None:
    desk.authority.broken["/newOrder"] = problem("rateLimited", "too many certificates", 429, retry_after=asked)
    error = desk.fails()
    assert "too many certificates" in str(error) and error.kind == "refused"
    assert (error.retry_after or 0) >= (3600 if "3600" in asked or "2099" in asked else 0)
    assert asked in ("3600", "Wed, 21 Oct 2099 07:28:00 GMT") or error.retry_after is None


def test_a_way_that_is_not_offered(desk: Desk) -> None:
    desk.authority.ways = ["dns-01", "tls-alpn-01"]
    assert "offers tls-alpn-01: see tls.acme.challenges" in str(desk.fails())
    desk.authority.ways = ["dns-01"]
    assert "offers none that slmgate can answer" in str(desk.fails())


def test_a_certificate_for_another_name_is_not_taken(desk: Desk) -> None:
    desk.authority.names = ["other.example.com"]
    assert "is not for gate.example.com" in str(desk.fails())


def test_a_certificate_that_is_none(desk: Desk) -> None:
    desk.authority.broken["/cert/1"] = (200, {"content-type": "application/pem-certificate-chain"}, b"hello")
    assert "does not speak ACME as it should" in str(desk.fails())


def redirect(_: FakeAuthority) -> tuple[int, dict[str, str], bytes]:
    return 302, {"location": "http://169.254.169.254/"}, b""


def elsewhere(_: FakeAuthority) -> tuple[int, dict[str, str], bytes]:
    names = {name: f"http://169.254.169.254/{name}" for name in ("newNonce", "newAccount", "newOrder")}
    return 200, {}, json.dumps(names).encode()


def too_long(_: FakeAuthority) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, b" " * (module.MAX_ANSWER + 1)


@pytest.mark.parametrize("answer", [redirect, elsewhere, too_long])
def test_nobody_else_is_asked_and_nothing_endless_read(
    desk: Desk, answer: Callable[[FakeAuthority], tuple[int, dict[str, str], bytes]]
) -> None:
    desk.authority.broken["/directory"] = answer(desk.authority)
    error = desk.fails()
    assert desk.authority.asked == [("GET", "/directory")], "no other address was asked"
    assert any(word in str(error) for word in ("is not followed", "another host", "too long"))


@pytest.mark.parametrize("body", [b"", b"rubbish", b"[]", b"{}", b'{"newNonce": 5}', b"\xff\xfe", b'"' + b"x" * 100])
def test_a_directory_that_is_none(desk: Desk, body: bytes) -> None:
    desk.authority.broken["/directory"] = (200, {}, body)
    assert "acme.test" in str(desk.fails())


def test_answers_that_trickle_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASK_SECONDS", 1e-9)
    assert "takes too long" in str(desk.fails())


def test_an_authority_that_is_not_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> requests.Response:
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests.Session, "request", refuse)
    error = desk.fails()
    assert error.kind == "away" and "cannot be reached" in str(error)
