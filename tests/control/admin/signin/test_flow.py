"""Cookies of a sign-in under way: what comes back as it went, and everything else, which opens nothing."""

from __future__ import annotations

import base64
import hashlib

import pytest

from slmgate.control.admin.signin.flow import Flows, own_path

KEY = b"k" * 32


def test_what_comes_back_is_what_went() -> None:
    flows = Flows(KEY, "oidc", 600)
    cookie, attempt = flows.begin("/api/v1/keys?x=é".replace("é", "%C3%A9"), 1000.0)
    assert flows.open(cookie, 1000.0) == attempt
    assert Flows(KEY, "oidc", 1).open(cookie, 1600.0) == attempt
    assert flows.open(cookie, 1601.0) is None
    derived = {attempt.token, attempt.state, attempt.nonce, attempt.verifier}
    assert len(derived) == 4
    assert not any(each in cookie for each in derived)
    assert {len(each) for each in derived} == {43}


def test_the_challenge_is_s256_of_the_verifier() -> None:
    _, attempt = Flows(KEY, "oidc", 600).begin("/", 0.0)
    digest = hashlib.sha256(attempt.verifier.encode("ascii")).digest()
    assert attempt.challenge == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_no_two_are_alike() -> None:
    flows = Flows(KEY, "oidc", 600)
    assert flows.begin("/", 0.0)[1] != flows.begin("/", 0.0)[1]


@pytest.mark.parametrize("place", range(0, 100, 3))
def test_a_changed_cookie_opens_nothing(place: int) -> None:
    flows = Flows(KEY, "oidc", 600)
    cookie, _ = flows.begin("/", 1000.0)
    if place < len(cookie):
        other = "A" if cookie[place] != "A" else "B"
        assert flows.open(cookie[:place] + other + cookie[place + 1 :], 1000.0) is None


def test_cookies_of_others_open_nothing() -> None:
    cookie, _ = Flows(KEY, "form", 600).begin("/", 1000.0)
    for other in (Flows(KEY, "oidc", 600), Flows(b"x" * 32, "form", 600)):
        assert other.open(cookie, 1000.0) is None
    for odd in ("", ".", "...", cookie + "\n", cookie + "x", " " + cookie, "é" * 43, cookie.replace(".", "")):
        assert Flows(KEY, "form", 600).open(odd, 1000.0) is None


@pytest.mark.parametrize("path", ["/", "/api/v1/keys", "/api/v1/usage?by=client,model".replace(",", "%2C"), "/a-b_c.d~e"])
def test_own_paths(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        None, "", "x", "//evil.example", "///x", "/\\evil.example", "https://evil.example", "/x//y", "/x\n", "/\t/evil", "/é",
        "/#x", "/" + "a" * 600, "/x y", "/@evil", "/<",
    ],
)  # fmt: skip
def test_other_paths_lead_home(path: str | None) -> None:
    assert own_path(path) == "/"
