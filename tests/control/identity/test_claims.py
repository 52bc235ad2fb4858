"""Claims to principals: paths, clean texts, roles by exact values and patterns."""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.control.config.auth_options import Oidc, RoleMap
from slmgate.control.identity.claims import MAX_NAME, MAX_VALUES, clean, find, principal_of, roles_of
from slmgate.control.identity.outcomes import TokenRefused
from slmgate.terms import Bearer


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("sub", "bot"),
        ("realm.groups", ["a"]),
        ("https://x.example/roles", ["b"]),
        ("a.b", "literal"),
        ("realm", {"groups": ["a"]}),
        ("realm.nothing", None),
        ("sub.x", None),
        ("nothing", None),
        ("realm.groups.0", None),
    ],
)
def test_paths(path: str, found: Any) -> None:
    claims = {"sub": "bot", "realm": {"groups": ["a"]}, "https://x.example/roles": ["b"], "a.b": "literal", "a": {"b": "nested"}}
    assert find(claims, path) == found


@pytest.mark.parametrize("text", ["a", "b" * MAX_NAME, "auth0|5f7c", "user@example.com", "Zoë", "a b"])
def test_clean_texts(text: str) -> None:
    assert clean(text, "subject") == text


@pytest.mark.parametrize(
    "value", [None, "", 1, ["a"], "b" * (MAX_NAME + 1), "a\n", "a\0b", "a\u202eb", "\ud800", " a", "a\u00a0b", "a\u200bb"]
)
def test_texts_that_are_not_clean(value: Any) -> None:
    with pytest.raises(TokenRefused, match="subject"):
        clean(value, "subject")


RULES = RoleMap(claim="groups", map={"ml-*": "internal", "ops": "operator", "*-x-*": "x", "ml-lead": "lead"}, default=("public",))


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        (["ml-team"], ("internal",)),
        ("ml-team", ("internal",)),
        (["ml-lead"], ("internal", "lead")),
        (["ops", "ml-a", "ml-b"], ("internal", "operator")),
        (["OPS"], ("public",)),
        (["ops "], ("public",)),
        (["ml"], ("public",)),
        (["a-x-b"], ("x",)),
        (["xml-team"], ("public",)),
        (["ml-\n"], ("internal",)),
        ([], ("public",)),
        (None, ("public",)),
        (["x"] * MAX_VALUES, ("public",)),
    ],
)
def test_roles(groups: Any, roles: tuple[str, ...]) -> None:
    assert roles_of({"groups": groups} if groups is not None else {}, RULES) == roles


@pytest.mark.parametrize("groups", [1, {"ml-team": True}, [{"ml-team": 1}], ["ops", None], ["x"] * (MAX_VALUES + 1)])
def test_claims_for_roles_that_are_malformed(groups: Any) -> None:
    with pytest.raises(TokenRefused, match="roles"):
        roles_of({"groups": groups}, RULES)


@pytest.mark.parametrize("claim", ["scope", "scp", "a.scope"])
def test_scopes_are_words(claim: str) -> None:
    rules = RoleMap(claim=claim, map={"chat": "internal"})
    claims: dict[str, Any] = {"scope": "read chat  x", "scp": ["read", "chat"], "a": {"scope": "chat"}}
    assert roles_of(claims, rules) == ("internal",)
    assert roles_of({"groups": "read chat"}, RoleMap(claim="groups", map={"chat": "internal"})) == ()


def test_no_map_gives_the_default() -> None:
    assert roles_of({"groups": ["a"]}, RoleMap()) == ()
    assert roles_of({"groups": ["a"]}, RoleMap(default=("a", "b"))) == ("a", "b")


def test_a_pattern_looks_back_at_nothing() -> None:
    """A pattern with many stars against a long value that nearly fits: it has to end at once."""
    rules = RoleMap(claim="groups", map={"*a" * 40 + "b": "x"})
    assert roles_of({"groups": ["a" * 15_000]}, rules) == ()


def test_the_principal() -> None:
    rules = Oidc(issuer="https://i", audience=("gate",), principal="client.id", team="org", roles=RULES)
    claims = {"client": {"id": "bot"}, "org": "acme", "groups": ["ops"]}
    assert principal_of(claims, "https://i", rules, "g") == Bearer(
        id="https://i#bot", name="bot", kind="token", team="acme", roles=("operator",), grounds="g"
    )
    assert principal_of({"client": {"id": "bot"}}, "https://i", rules, "g").team is None


@pytest.mark.parametrize("claims", [{}, {"sub": "bot", "org": 1}, {"sub": "bot", "org": ""}, {"sub": "bot", "org": "a\nb"}])
def test_no_principal(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        principal_of(claims, "https://i", Oidc(issuer="https://i", audience=("gate",), team="org"), "g")
