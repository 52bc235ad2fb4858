"""The Anthropic dialect against recorded and scripted answers, and its reading and patching of requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects.anthropic import Anthropic
from slmgate.dialects.masking import mask_of
from slmgate.errors import FAULTS
from slmgate.terms import Ask, Refuse, Usage
from tests.tools.feeds import cut, every_way, feed
from tests.tools.transcripts import transcript

SUBJECT = Anthropic()
JSON = "application/json"
SAY = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}
START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
# What llama.cpp was seen to send when its first token was half a character: no `message_start`.
HEADLESS = (
    'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"😊"}}\n\n'
    'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":4}}\n\n'
).encode() + STOP


def delta(usage: str) -> bytes:
    return f'event: message_delta\ndata: {{"type":"message_delta","usage":{usage}}}\n\n'.encode()


def test_reading() -> None:
    body = json.dumps({**SAY, "stream": True}).encode()
    found = SUBJECT.read("messages", body, JSON)
    assert found == Ask("m", True, True, -(-len(body) // 4), 8, {**SAY, "stream": True})
    for name in ("llamacpp-messages-stream", "anthropic-messages-stream"):
        assert isinstance(SUBJECT.read("messages", transcript(name).asked, JSON), Ask)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({}, "model"), ({"model": "m", "stream": 1}, "stream"), ({"model": "m", "max_tokens": -1}, "max_tokens")],
)
def test_refused_fields(fields: dict[str, Any], param: str) -> None:
    refused = SUBJECT.read("messages", json.dumps(fields).encode(), JSON)
    assert isinstance(refused, Refuse)
    assert refused.param == param


def test_refused_bodies() -> None:
    assert isinstance(SUBJECT.read("messages", b"[]", JSON), Refuse)
    assert isinstance(SUBJECT.read("messages", json.dumps(SAY).encode(), "text/plain"), Refuse)


def test_only_a_rename_changes_the_body() -> None:
    body = b'{"model":"m", "stream":true}'
    ask = SUBJECT.read("messages", body, JSON)
    assert isinstance(ask, Ask)
    assert SUBJECT.patch("messages", ask, body, None) is body
    assert SUBJECT.patch("messages", ask, body, "n") == b'{"model":"n","stream":true}'


@pytest.mark.parametrize(
    ("endpoint", "body", "usage"),
    [
        ("messages", transcript("llamacpp-messages").body, Usage(36, 8)),  # 25 of the prompt's tokens came from its cache
        ("messages", transcript("llamacpp-messages-error").body, None),
        ("count_tokens", transcript("llamacpp-messages-count").body, Usage(0, 0)),
        ("messages", b'{"usage":{"output_tokens":3}}', None),
        ("messages", b'{"usage":{"input_tokens":5,"cache_read_input_tokens":-5,"output_tokens":3}}', None),
        ("messages", b'{"usage":{"input_tokens":"5","output_tokens":3}}', None),
        ("messages", b'{"usage":null}', None),
        ("messages", b"", None),
    ],
)
def test_usage_of_whole_answers(endpoint: str, body: bytes, usage: Usage | None) -> None:
    assert SUBJECT.usage(endpoint, body) == usage


@pytest.mark.parametrize(
    ("data", "usage", "tokens"),
    [
        (transcript("llamacpp-messages-stream").body, Usage(36, 8), 8),
        (transcript("anthropic-messages-stream").body, Usage(32, 15), 2),
        (HEADLESS, Usage(9, 4, True), 1),
        (START + delta('{"output_tokens":2}') + delta('{"output_tokens":3}') + STOP, Usage(5, 3), 0),
        (START + delta('{"input_tokens":6,"output_tokens":2}') + STOP, Usage(6, 2), 0),
        (START + delta('{"output_tokens":-2}') + STOP, None, 0),
        (START + delta('{"output_tokens":"2"}') + STOP, None, 0),
        (START + delta("null") + STOP, None, 0),
        (delta('{"output_tokens":-2}') + STOP, None, 0),
        (START.replace(b"5", b"-5") + delta('{"output_tokens":2}') + STOP, None, 0),
        (START + b'event: message_delta\ndata: {"type":"message_delta"}\n\n' + STOP, None, 0),
        (b'data: {"type":"message_start"}\n\n' + delta('{"output_tokens":2}') + STOP, Usage(9, 2, True), 0),
        (b'data: {"type":"message_start","message":{}}\n\n' + STOP, None, 0),
        (b'data: {"type":"message_other"}\n\n' + STOP, None, 0),
    ],
)
def test_streams(data: bytes, usage: Usage | None, tokens: int) -> None:
    fed = every_way(lambda: SUBJECT.scanner("messages", Ask("m", True, prompt_estimate=9)), data, stride=3)
    assert fed == (data, usage, tokens, True)
    assert (
        every_way(lambda: SUBJECT.scanner("messages", Ask("m", True)), data + b"trailing", stride=31).sent == data + b"trailing"
    )


@pytest.mark.parametrize("data", [b"", START, STOP[:-4], b'data: {"type":"message_stop"\n\n', b'data: "\\"message_stop"\n\n'])
def test_what_is_no_end(data: bytes) -> None:
    fed = every_way(lambda: SUBJECT.scanner("messages", Ask("m", True)), data)
    assert (fed.sent, fed.finished) == (data, False)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_request", "invalid_request_error"),
        ("invalid_api_key", "authentication_error"),
        ("permission_denied", "permission_error"),
        ("model_not_found", "not_found_error"),
        ("request_too_large", "request_too_large"),
        ("quota_exceeded", "rate_limit_error"),
        ("internal_error", "api_error"),
        ("upstream_error", "api_error"),
        ("overloaded", "overloaded_error"),
        ("upstream_timeout", "timeout_error"),
    ],
)
def test_errors(code: str, kind: str) -> None:
    error = {"type": kind, "message": "No.", "code": code}
    assert json.loads(SUBJECT.error(FAULTS[code], Refuse(code, "No."), "r1")) == {
        "type": "error",
        "error": error,
        "request_id": "r1",
    }
    said = SUBJECT.stream_error(FAULTS[code], "No.")
    first, second, *rest = said.split(b"\n")
    assert first == b"event: error"
    assert json.loads(second.removeprefix(b"data: ")) == {"type": "error", "error": error}
    assert rest == [b"", b""]
    assert SUBJECT.stream_error(FAULTS[code], "No.", mid_event=True) == b"\n\n" + said


def test_the_list_of_models() -> None:
    assert [model["id"] for model in json.loads(SUBJECT.list_models("models", ["a"]))["data"]] == ["a"]


@given(
    st.lists(
        st.sampled_from([START, STOP, delta('{"output_tokens":2}'), b'data: {"type":"content_block_delta"}', b"\n", b"\r\n"])
    ),
    st.lists(st.integers(0, 999), max_size=8),
)
def test_any_stream_cut_anywhere(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    whole = every_way(lambda: SUBJECT.scanner("messages", Ask("m", True)), data, stride=29)
    assert feed(lambda: SUBJECT.scanner("messages", Ask("m", True)), cut(data, places)) == whole
    assert whole.sent == data


def test_masked() -> None:
    start = START.replace(b'{"usage"', b'{"model":"/srv/a","content":[{"model":"T"}],"usage"')
    text = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"x"}}\n\n'
    fed = every_way(lambda: SUBJECT.scanner("messages", Ask("pub", True), mask_of("pub")), start + text + STOP)
    assert fed.sent == start.replace(b"/srv/a", b"pub") + text + STOP
    failure = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"/srv"}}\n\n'
    assert every_way(lambda: SUBJECT.scanner("messages", Ask("pub", True), mask_of("pub")), text + failure).sent == text
    assert SUBJECT.told("messages", b'{"usage":{"input_tokens":1,"output_tokens":2}}') == (Usage(1, 2), None)


def test_the_completion_alone_is_never_said() -> None:
    assert SUBJECT.completion("messages", b'{"usage":{"completion_tokens":2}}') is None
