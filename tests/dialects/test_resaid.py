"""Engines' refusals as clients and operators are told of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slmgate.dialects.resaid import SEARCHED, SHOWN, quoted, resaid

FIELDS: dict[str, Any] = {"model": "m", "messages": [], "temperature": 9, "n": 1}


@pytest.mark.parametrize(
    ("status", "said", "code", "param"),
    [
        # llama.cpp
        (400, '{"error":{"message":"Expected \'messages\' to be an array","type":"x"}}', "invalid_request", "messages"),
        (400, '{"error":{"message":"[json.exception.out_of_range.403] key \'prompt\' not found"}}', "invalid_request", "prompt"),
        (
            400,
            '{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it",'
            '"type":"exceed_context_size_error","n_prompt_tokens":900,"n_ctx":512}}',
            "context_length_exceeded",
            None,
        ),
        # vLLM
        (
            400,
            '{"object":"error","message":"This model\'s maximum context length is 8192 tokens. However, you requested 9000",'
            '"type":"BadRequestError","param":null,"code":400}',
            "context_length_exceeded",
            None,
        ),
        (400, '{"error":{"message":"must be positive","param":"temperature"}}', "invalid_request", "temperature"),
        (400, '{"error":{"message":"bad","param":"/srv/secret"}}', "invalid_request", None),
        (422, '{"detail":[{"loc":["body","messages"],"msg":"Field required"}]}', "invalid_request", "messages"),
        # TGI
        (422, '{"error":"Input validation error: `inputs` cannot be empty"}', "invalid_request", "inputs"),
        (422, '{"error":"`inputs` must have less than 1024 tokens. Given: 2000"}', "context_length_exceeded", None),
        # Ollama, and any
        (404, '{"error":"model \\"x\\" not found, try pulling it first"}', "not_found", None),
        (404, '{"detail":"Not Found"}', "not_found", None),
        (413, "Payload Too Large", "request_too_large", None),
        (415, "", "unsupported_media_type", None),
        (418, 'Traceback (most recent call last):\n  File "/srv/engine.py"', "invalid_request", None),
        (400, "", "invalid_request", None),
        (400, "[1]", "invalid_request", None),
    ],
)
def test_to_the_client(status: int, said: str, code: str, param: str | None) -> None:
    told = resaid(status, said.encode(), FIELDS)
    assert (told.code, told.param) == (code, param)
    for word in ("srv", "json.exception", "pulling", "Traceback", "BadRequest"):
        assert word not in told.message
    if param:
        assert param in told.message


def test_the_size_of_a_context_is_told() -> None:
    said = b'{"message":"This model\'s maximum context length is 8192 tokens. However, you requested 9000"}'
    assert "8192" in resaid(400, said, {}).message
    said = b'{"error":{"message":"exceeds the available context size","n_ctx":512}}'
    assert resaid(400, said, {}).message.endswith("context of 512 tokens.")


def test_to_the_operator() -> None:
    prompt = "My diary: nobody may read this"
    asked = json.dumps({"messages": [{"content": prompt}]}).encode()
    said = json.dumps({"error": {"message": f"Bad at /srv/engine.py:\n\x1b[31m\u2028 got '{prompt}' here"}}).encode()
    told = quoted(said, asked)
    assert told == "Bad at /srv/engine.py:\\n\\x1b[31m\\u2028 got '[...]' here"
    assert quoted(b"\xff\0\r\nslmgate: forged", b"") == "\ufffd\\x00\\r\\nslmgate: forged"
    assert len(quoted(b"x" * 5000, b"")) == SHOWN
    assert quoted(b"anything", b"x" * (SEARCHED + 1)).startswith("8 bytes, not shown")
    assert quoted(b'{"detail":"no"}', b"") == "no"


@pytest.mark.parametrize("cut", range(12, 30))
def test_a_part_of_the_prompt_is_not_shown_either(cut: int) -> None:
    prompt = "My diary: nobody may read this."
    told = quoted(f"got {prompt[:cut]}...".encode(), prompt.encode())
    assert told == "got [...]..."


PROMPT = 'Mein Tagebuch: "geheim", für niemanden\n日記は誰にも読ませない 🔒🔒 ganz privat'


@pytest.mark.parametrize("asked_in_ascii", [True, False])
@pytest.mark.parametrize("said_in_ascii", [True, False])
def test_a_prompt_in_another_writing_is_not_shown_either(asked_in_ascii: bool, said_in_ascii: bool) -> None:
    """Clients escape what is not ASCII, or do not; engines repeat it in a message, or in JSON that is no message."""
    asked = json.dumps({"messages": [{"content": PROMPT}]}, ensure_ascii=asked_in_ascii).encode()
    for said in ({"error": {"message": f"got {PROMPT}"}}, {"detail": [{"input": PROMPT}]}, {"message": repr(PROMPT)}):
        told = quoted(json.dumps(said, ensure_ascii=said_in_ascii).encode(), asked)
        assert "[...]" in told
        assert not any(part in told for part in ("geheim", "niemand", "\\u8a18", "誰", "privat", "U0001f512")), told


def test_escapes_that_are_none_are_left() -> None:
    assert quoted(rb'got \ud800 \u12 "x" \q', rb"\ud800 \u") == r'got \ud800 \u12 "x" \q'


def test_what_looks_like_a_credential_is_not_shown() -> None:
    said = b"got sk-slm-abc_DEF-0123456789, Bearer abcdef0123 and eyJhbGciOi.eyJzdWIi.c2ln; api-version 2, keys, monkey-business"
    assert quoted(said, b"") == "got [...], [...] and [...]; api-version 2, keys, monkey-business"
    assert quoted(b"x-header: own-secret-of-the-gate", b"authorization: Bearer own-secret-of-the-gate") == "x-header:[...]"
