"""The salt in bodies: where it stands, that nothing else changes, and that no client's own is left."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slmgate.dialects import TABLE
from slmgate.dialects.salt import salted
from slmgate.terms import Ask

SALT = "5a17"


def sent(path: str, body: bytes) -> bytes:
    """What goes to the instance of this body."""
    route = TABLE["POST", path]
    ask = route.dialect.read(route.endpoint, body, "application/json")
    assert isinstance(ask, Ask)
    return salted(route, ask, body, SALT)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": []}),
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
    ],
)
def test_it_stands_where_the_engine_takes_it(path: str, fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", **fields}).encode()
    after = sent(path, body)
    assert json.loads(after) == {"model": "m", **fields, "cache_salt": SALT}
    assert after == b'{"cache_salt":"5a17",' + body[1:], "no other byte changes"


@pytest.mark.parametrize(
    ("path", "fields"), [("/v1/embeddings", {"input": "x"}), ("/v1/messages", {"messages": [], "max_tokens": 1})]
)
def test_elsewhere_it_is_left_out(path: str, fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", **fields}).encode()
    assert sent(path, body) is body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize(
    "theirs", ['"cache_salt": "mine"', r'"cache\u005fsalt": "mine"', '"cache_salt": null', '"cache_salt": ["mine"]']
)
def test_a_clients_own_is_never_left(path: str, theirs: str) -> None:
    body = b'{"model": "m", %b, "messages": [], "input": "x"}' % theirs.encode()
    after = json.loads(sent(path, body))
    assert after == {"model": "m", "messages": [], "input": "x", "cache_salt": SALT}


def test_a_form_is_left_alone() -> None:
    route = next(route for route in TABLE.values() if route.kind == "multipart")
    assert salted(route, Ask("m"), b"--x", SALT) == b"--x"
