"""Which figures of an engine are believed. What an engine lies about must come out as None, never as a bill."""

from __future__ import annotations

import msgspec
import pytest

from slmgate.dialects.figures import (
    MAX_COUNT,
    believable,
    decoded,
    is_document,
    openai_answer,
    openai_usage,
    says_error,
    says_failure,
)
from slmgate.terms import Usage


@pytest.mark.parametrize(
    ("prompt", "completion", "usage"),
    [
        (0, 0, Usage(0, 0)),
        (1, 2, Usage(1, 2)),
        (MAX_COUNT, MAX_COUNT, Usage(MAX_COUNT, MAX_COUNT)),
        (MAX_COUNT + 1, 1, None),
        (1, MAX_COUNT + 1, None),
        (-1, 1, None),
        (1, -1, None),
        (None, 1, None),
        (1, None, None),
    ],
)
def test_believable(prompt: int | None, completion: int | None, usage: Usage | None) -> None:
    assert believable(prompt, completion) == usage


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (b"", None),
        (b"null", None),
        (b"{}", None),
        (b'{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}', Usage(3, 4)),
        (b'{"input_tokens":3,"output_tokens":4}', Usage(3, 4)),
        (b'{"prompt_tokens":3,"total_tokens":3}', Usage(3, 0)),
        (b'{"total_tokens":9}', Usage(9, 0)),
        (b'{"completion_tokens":4,"total_tokens":9}', Usage(5, 4)),
        (b'{"completion_tokens":4}', None),
        (b'{"prompt_tokens":-3,"completion_tokens":4}', None),
        (b'{"prompt_tokens":"3","completion_tokens":4}', None),
        (b'{"prompt_tokens":3.5,"completion_tokens":4}', None),
        (b'{"prompt_tokens":true,"completion_tokens":4}', None),
        (b'{"prompt_tokens":1e400,"completion_tokens":4}', None),
        (b'{"prompt_tokens":99999999999999999999999,"completion_tokens":4}', None),
        (b'{"prompt_tokens":[3],"completion_tokens":4}', None),
        (b"[]", None),
        (b"7", None),
    ],
)
def test_openai_usage(raw: bytes, usage: Usage | None) -> None:
    assert openai_usage(msgspec.Raw(raw)) == usage


@pytest.mark.parametrize("data", [b"", b"{", b'"\xff"', b"[" * 100_000])
def test_nothing_that_an_engine_says_raises(data: bytes) -> None:
    assert decoded(msgspec.json.Decoder(object), data) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}', Usage(3, 4)),
        (b'{"usage":{"input_tokens":3,"output_tokens":4}}', Usage(3, 4)),
        (b'{"usage":{"prompt_tokens":3,"total_tokens":3}}', Usage(3, 0)),
        (b'{"usage":{"prompt_tokens":-3,"completion_tokens":4}}', None),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":2147483649}}', None),
        (b'{"usage":null}', None),
        (b"{}", None),
        (b"not JSON", None),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4},"x":"\xff"}', Usage(3, 4)),  # text is not looked at
    ],
)
def test_the_figures_of_a_complete_answer(body: bytes, expected: Usage | None) -> None:
    assert openai_answer(body)[0] == expected


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (b'{"error":{"message":"dead","type":"x"}}', True),
        (b'{"error":"model is loading"}', True),
        (b'{"type":"error","error":{"type":"api_error","message":"dead"}}', True),
        (b'{"object":"error","message":"dead","code":500,"x":"error"}', True),
        (b'{"error":null,"choices":[]}', False),
        (b'{"error":"","response":"x"}', False),
        (b'{"object":"response","status":"failed","error":{"code":"server_error"}}', False),
        (b'{"choices":[{"message":{"content":"\\"error\\": {}"}}]}', False),
        (b'["error"]', False),
        (b'{"error"', False),
        (b"", False),
    ],
)
def test_an_error_under_any_status(body: bytes, failed: bool) -> None:
    assert says_error(body) is failed


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (b'{"error":{"message":"dead"}}', True),
        (b'{"error":"dead"}', True),
        (b'{"type":"error","code":"x"}', True),
        (b'{"type":"response.failed","response":{"error":null}}', True),
        (b'{"error":null,"choices":[]}', False),
        (b'{"type":"response.created"}', False),
        (b'{"choices":[{"delta":{"content":"\\"error\\""}}]}', False),
        (b"[DONE]", False),
        (b"", False),
    ],
)
def test_an_event_that_says_that_the_engine_failed(event: bytes, failed: bool) -> None:
    assert says_failure(event) is failed


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (b'"model":"m",', "m"),
        (b"", ""),
        (b'"model":"m","system_fingerprint":null,"kv_transfer_params":null,', "m"),
        (b'"model":"m","system_fingerprint":"b0",', None),
        (b'"model":"m","kv_transfer_params":{"remote_host":"h"},', None),
        (b'"model":"m","__verbose":{},', None),
        (b'"model":null,', None),
    ],
)
def test_the_name_is_told_where_it_is_all_there_is_to_hide(more: bytes, name: str | None) -> None:
    body = b'{%b"usage":{"prompt_tokens":1,"completion_tokens":2}}' % more
    assert openai_answer(body) == (Usage(1, 2), name)


@pytest.mark.parametrize("data", [b"{}", b' {"a": [1]}\r\n', b"null", b"[]", b'"text"'])
def test_what_is_one_json_document(data: bytes) -> None:
    assert is_document(data)
    assert not is_document(data + b"{")
    assert not is_document(data.rstrip()[:-1])


@pytest.mark.parametrize("data", [b"", b" ", b"{", b'{"a":', b"ok", b"\xff"])
def test_what_is_none(data: bytes) -> None:
    assert not is_document(data)
