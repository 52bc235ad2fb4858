"""The OpenAI dialect against recorded and scripted answers, and its reading and patching of requests."""

from __future__ import annotations

import json
from typing import Any

import anthropic.types
import openai.types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects.masking import mask_of
from slmgate.dialects.openai import OpenAI
from slmgate.errors import FAULTS
from slmgate.terms import Ask, Refuse, Usage
from tests.tools.feeds import cut, every_way, feed
from tests.tools.transcripts import transcript

SUBJECT = OpenAI()
JSON = "application/json"
FORM = "multipart/form-data; boundary=b"
SAY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def read(fields: dict[str, Any], endpoint: str = "chat") -> Ask:
    found = SUBJECT.read(endpoint, json.dumps(fields).encode(), JSON)
    assert isinstance(found, Ask), found
    return found


def form(*fields: tuple[str, str]) -> bytes:
    written = "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields)
    recording = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n'
    return (written + recording + "--b--\r\n").encode()


def test_reading() -> None:
    fields = {**SAY, "stream": True, "max_tokens": 7, "max_completion_tokens": 9, "stream_options": {"include_usage": True}}
    size = len(json.dumps(fields))
    assert read(fields) == Ask("m", True, True, -(-size // 4), 9, fields)
    plain = read(SAY)
    assert (plain.stream, plain.wants_usage, plain.max_tokens) == (False, False, None)
    assert read({**SAY, "max_tokens": -1}).max_tokens is None
    assert read({"model": "m", "input": "Hi", "max_output_tokens": 5}, "responses").max_tokens == 5
    assert read({"model": "m", "input": "Hi", "stream_format": "sse"}, "speech").stream
    assert not read({"model": "m", "input": "Hi", "stream": True}, "speech").stream


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "model"),
        ({"model": ["m"]}, "model"),
        ({"model": "m", "stream": "yes"}, "stream"),
        ({"model": "m", "max_tokens": -2.5}, "max_tokens"),
        ({"model": "m", "max_output_tokens": -1}, "max_output_tokens"),
        ({"model": "m", "stream_options": []}, "stream_options"),
        ({"model": "m", "stream_options": {"include_usage": 1}}, "include_usage"),
    ],
)
def test_refused_fields(fields: dict[str, Any], param: str) -> None:
    refused = SUBJECT.read("chat", json.dumps(fields).encode(), JSON)
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.param) == ("invalid_request", param)


def test_refused_bodies() -> None:
    assert isinstance(SUBJECT.read("chat", b"{", JSON), Refuse)
    typed = SUBJECT.read("chat", json.dumps(SAY).encode(), "application/x-www-form-urlencoded")
    assert isinstance(typed, Refuse)
    assert typed.code == "unsupported_media_type"


@pytest.mark.parametrize(
    ("text", "stream"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False), ("", False)]
)
def test_reading_a_form(text: str, stream: bool) -> None:
    body = form(("model", "m"), ("stream", text), ("prompt", "words"))
    fields = {"model": "m", "stream": text, "prompt": "words"}
    found = SUBJECT.read("transcriptions", body, FORM)
    assert isinstance(found, Ask)
    assert (found.model, found.stream, found.fields) == ("m", stream, fields)
    assert 0 < found.prompt_estimate < len(body)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(("prompt", "x")), FORM),
        (form(("model", " m")), FORM),
        (form(("model", "m"), ("stream", "maybe")), FORM),
        (form(("model", "m"), ("model", "n")), FORM),
        (form(("model", "m")).replace(b"m\r\n", b"\xff\r\n"), FORM),
        (form(("model", "m")), JSON),
        (json.dumps(SAY).encode(), FORM),
    ],
)
def test_refused_forms(body: bytes, content_type: str) -> None:
    assert isinstance(SUBJECT.read("translations", body, content_type), Refuse)


def patched(body: bytes, upstream_model: str | None = None, endpoint: str = "chat") -> bytes:
    ask = SUBJECT.read(endpoint, body, JSON)
    assert isinstance(ask, Ask)
    return SUBJECT.patch(endpoint, ask, body, upstream_model)


def test_usage_is_asked_for_by_a_splice_that_leaves_every_other_byte() -> None:
    body = b' {"model":"m", "stream":true, "t":1.0e0}'
    assert patched(body) == b' {"stream_options":{"include_usage":true},"model":"m", "stream":true, "t":1.0e0}'


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        (b'{"model":"m"}', "chat"),
        (b'{"model":"m","stream":false}', "completions"),
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}', "chat"),
        (b'{"model":"m","stream":true}', "responses"),
        (b'{"model":"m"}', "embeddings"),
    ],
)
def test_nothing_to_patch_is_the_body_itself(body: bytes, endpoint: str) -> None:
    assert patched(body, endpoint=endpoint) is body


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False, "x": 1}, {"x": 1, "include_usage": True}),
        ({"Include_Usage": False}, {"include_usage": True}),
    ],
)
def test_options_of_the_stream_are_kept(options: object, expected: object) -> None:
    fields = {**SAY, "stream": True, "stream_options": options}
    assert json.loads(patched(json.dumps(fields).encode())) == {**fields, "stream_options": expected}


def test_renaming() -> None:
    body = json.dumps({**SAY, "stream": True}).encode()
    assert json.loads(patched(body, "org/other")) == {
        **SAY,
        "stream": True,
        "model": "org/other",
        "stream_options": {"include_usage": True},
    }
    asked = form(("model", "m"), ("stream", "1"))
    ask = SUBJECT.read("transcriptions", asked, FORM)
    assert isinstance(ask, Ask)
    assert SUBJECT.patch("transcriptions", ask, asked, None) is asked
    assert SUBJECT.patch("transcriptions", ask, asked, "org/other") == form(("model", "org/other"), ("stream", "1"))
    assert SUBJECT.patch("transcriptions", ask, b"--b\r\nnot what was read", "x") == b"--b\r\nnot what was read"


@pytest.mark.parametrize(
    ("name", "endpoint", "usage"),
    [
        ("llamacpp-chat", "chat", Usage(36, 8)),
        ("llamacpp-completions", "completions", Usage(4, 6)),
        ("llamacpp-responses", "responses", Usage(34, 8)),
        ("llamacpp-embeddings", "embeddings", Usage(4, 0)),
        ("llamacpp-chat-error", "chat", None),
        ("vllm-rerank", "rerank", Usage(56, 0)),
        ("openai-transcription", "transcriptions", Usage(14, 3)),
    ],
)
def test_usage_of_whole_answers(name: str, endpoint: str, usage: Usage | None) -> None:
    assert SUBJECT.usage(endpoint, transcript(name).body) == usage


def test_usage_of_what_is_no_json() -> None:
    assert SUBJECT.usage("speech", b'{"usage":{"total_tokens":1}}') is None
    assert SUBJECT.usage("chat", b"<html>") is None


def test_recorded_requests_are_read() -> None:
    for name in ("llamacpp-chat-stream-usage", "llamacpp-chat", "vllm-chat-continuous"):
        assert isinstance(SUBJECT.read("chat", transcript(name).asked, JSON), Ask)


@pytest.mark.parametrize(
    ("name", "endpoint", "usage", "tokens"),
    [
        ("llamacpp-chat-stream", "chat", None, 8),
        ("llamacpp-chat-stream-usage", "chat", Usage(36, 8), 8),
        ("llamacpp-completions-stream-usage", "completions", Usage(4, 6), 6),
        ("llamacpp-responses-stream", "responses", Usage(34, 8), 8),
        ("vllm-chat-stream", "chat", Usage(11, 3), 3),
        ("vllm-chat-continuous", "chat", Usage(11, 2), 2),
        ("openai-chat-stream", "chat", Usage(11, 3), 1),
        ("openai-speech-stream", "speech", Usage(14, 101), 1),
        ("openai-transcription-stream", "transcriptions", Usage(14, 3), 2),
        ("vllm-transcription-stream", "transcriptions", Usage(11, 3), 1),
    ],
)
@pytest.mark.parametrize("wants_usage", [True, False])
def test_streams(name: str, endpoint: str, usage: Usage | None, tokens: int, wants_usage: bool) -> None:
    body = transcript(name).body
    ask = Ask("m", True, wants_usage)
    fed = every_way(lambda: SUBJECT.scanner(endpoint, ask), body, stride=5)
    assert (fed.usage, fed.tokens_seen, fed.finished) == (usage, tokens, True)
    events = body.split(b"\n\n")
    if not wants_usage and endpoint in ("chat", "completions"):
        events = [event for event in events if b'"choices":[]' not in event]
    assert fed.sent == b"\n\n".join(events)


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"\r\n\r\n", b"\n\ntrailing"])
def test_the_end_may_lack_its_blank_line_or_have_more_after_it(end: bytes) -> None:
    data = b"data: [DONE]" + end
    fed = every_way(lambda: SUBJECT.scanner("chat", Ask("m", True)), data)
    assert fed.sent == data
    assert fed.finished


@pytest.mark.parametrize("data", [b"data: [DON", b'data: {"x":"[DONE]"}\n\n', b'data: {"choices":[]}\n\n', b"[DONE]\n\n", b""])
def test_what_is_no_end(data: bytes) -> None:
    fed = every_way(lambda: SUBJECT.scanner("chat", Ask("m", True)), data)
    assert (fed.sent, fed.finished, fed.usage) == (data, False, None)


def chunk(usage: str, choices: str = "[]") -> bytes:
    return f'data: {{"choices":{choices},"usage":{usage}}}\n\n'.encode()


GOOD = '{"prompt_tokens":3,"completion_tokens":4}'


@pytest.mark.parametrize(
    ("chunks", "usage", "kept"),
    [
        ([chunk(GOOD)], Usage(3, 4), []),
        ([chunk(GOOD), chunk(GOOD)], Usage(3, 4), []),
        ([chunk('{"prompt_tokens":1,"completion_tokens":1}'), chunk(GOOD)], Usage(3, 4), []),
        ([chunk(GOOD), chunk('{"prompt_tokens":-1,"completion_tokens":1}')], None, []),
        ([chunk('{"prompt_tokens":3,"completion_tokens":99999999999999}')], None, []),
        ([chunk('"many"')], None, []),
        ([chunk("null")], None, [chunk("null")]),
        ([b'data: {"choices": [], "usage": null}\n\n'], None, [b'data: {"choices": [], "usage": null}\n\n']),
        ([chunk(GOOD, '[{"index":0}]')], Usage(3, 4), [chunk(GOOD, '[{"index":0}]')]),
        ([b'data: {"usage":{]\n\n'], None, [b'data: {"usage":{]\n\n']),
        ([b'data: {"choices": [], "usage": ' + GOOD.encode() + b"}\n\n"], Usage(3, 4), []),
    ],
)
def test_usage_in_chunks(chunks: list[bytes], usage: Usage | None, kept: list[bytes]) -> None:
    fed = every_way(lambda: SUBJECT.scanner("chat", Ask("m", True)), b"".join(chunks))
    assert (fed.usage, fed.sent) == (usage, b"".join(kept))


@pytest.mark.parametrize(
    ("delta", "tokens"),
    [
        ('{"content":"x"}', 1),
        ('{"content":""}', 0),
        ('{"content":null}', 0),
        ('{"reasoning_content":"x","content":null}', 1),
        ('{"reasoning":"x"}', 1),
        ('{"tool_calls":[{"function":{"arguments":"x"}}]}', 1),
        ('{"tool_calls":[{"function":{"arguments":""}}]}', 0),
        ('{"content": "x"}', 1),
        ('{"content": ""}', 0),
        ('{"content":"\\"content\\":\\"x\\""}', 1),
        ("{}", 0),
    ],
)
def test_counting_text(delta: str, tokens: int) -> None:
    data = f'data: {{"choices":[{{"delta":{delta}}}]}}\n\n'.encode()
    assert every_way(lambda: SUBJECT.scanner("chat", Ask("m", True)), data * 2, stride=9).tokens_seen == 2 * tokens


@pytest.mark.parametrize(
    ("data", "finished", "usage"),
    [
        (b'data: {"type":"response.failed","response":{"error":{}}}\n\n', True, None),
        (
            b'data: {"type":"response.incomplete","response":{"usage":' + b'{"input_tokens":1,"output_tokens":2}}}\n\n',
            True,
            Usage(1, 2),
        ),
        (b'data: {"type":"response.completed","response":7}\n\n', True, None),
        (b'event: response.completed\ndata: {"type":"response.completed","resp', False, None),
        (b'data: {"x":"response.completed"}\n\n', False, None),
        (b"data: [DONE]\n\n", True, None),
    ],
)
def test_ends_of_typed_streams(data: bytes, finished: bool, usage: Usage | None) -> None:
    fed = every_way(lambda: SUBJECT.scanner("responses", Ask("m", True)), data)
    assert (fed.sent, fed.finished, fed.usage) == (data, finished, usage)


def test_a_last_event_too_long_to_keep_still_ends_the_stream() -> None:
    data = b'event: response.completed\ndata: {"type":"response.completed","response":{"output":"' + b"x" * 600_000 + b'"}}\n\n'
    scanner = SUBJECT.scanner("responses", Ask("m", True))
    for start in range(0, len(data), 65536):
        assert not scanner.finished
        scanner.feed(data[start : start + 65536])
    assert scanner.finished


def test_errors() -> None:
    refuse = Refuse("rate_limit_exceeded", "Too many.", "model", 3)
    assert json.loads(SUBJECT.error(FAULTS["rate_limit_exceeded"], refuse, "r1")) == {
        "error": {"message": "Too many.", "type": "rate_limit_error", "param": "model", "code": "rate_limit_exceeded"}
    }
    said = SUBJECT.stream_error(FAULTS["upstream_error"], "It failed\r\n\r\n.")
    assert said.startswith(b'data: {"error":{"message":"It failed')
    assert said.endswith(b"}\n\n")
    assert said.count(b"\n\n") == 1
    assert SUBJECT.stream_error(FAULTS["upstream_error"], "It failed\r\n\r\n.", True) == b"\n\n" + said
    fed = feed(lambda: SUBJECT.scanner("chat", Ask("m", True)), [said])
    assert (fed.sent, fed.finished) == (said, False)


def test_the_list_of_models_is_what_both_clients_of_its_path_read() -> None:
    listed = json.loads(SUBJECT.list_models("models", ["a", "b"]))
    assert [openai.types.Model.model_validate(model).id for model in listed["data"]] == ["a", "b"]
    assert [anthropic.types.ModelInfo.construct(**model).display_name for model in listed["data"]] == ["a", "b"]
    assert (listed["object"], listed["first_id"], listed["last_id"], listed["has_more"]) == ("list", "a", "b", False)
    assert json.loads(SUBJECT.list_models("models", [])) == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


PIECES = [
    b'data: {"choices":[{"delta":{"content":"x"}}]}',
    chunk(GOOD)[:-2],
    chunk("null", "[{}]")[:-2],
    b'data: {"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}',
    b"data: [DONE]",
    b": ping",
    b"\n",
    b"\n\n",
    b"\r\n\r\n",
    b"\r",
]


@given(
    st.lists(st.sampled_from(PIECES), max_size=12),
    st.lists(st.integers(0, 999), max_size=8),
    st.sampled_from(["chat", "responses", "transcriptions"]),
)
def test_any_stream_cut_anywhere(pieces: list[bytes], places: list[int], endpoint: str) -> None:
    data = b"".join(pieces)
    whole = every_way(lambda: SUBJECT.scanner(endpoint, Ask("m", True)), data, stride=17)
    assert feed(lambda: SUBJECT.scanner(endpoint, Ask("m", True)), cut(data, places)) == whole


def test_masked() -> None:
    """Streams of chunks say the name in each event, typed ones in a few, and transcriptions either way."""
    inside = b'"model":"/srv/a","system_fingerprint":"b1"'
    text = b'data: {"choices":[{"delta":{"content":"x"}}],%b}\n\n' % inside
    other = b'data: {"choices":[{"delta":{"arguments":"x"}}]}\n\n'
    typed = b'data: {"type":"response.output_text.delta","delta":"x"}\n\n'
    created = b'data: {"type":"response.created","response":{"model":"/srv/a"}}\n\n'
    shown = text.replace(inside, b'"model":"pub"')
    for endpoint, said, expected in (
        ("chat", text * 2 + other, shown * 2 + other),
        ("responses", typed + created, typed + created.replace(b"/srv/a", b"pub")),
        ("transcriptions", text + typed, shown + typed),
    ):
        assert every_way(lambda: SUBJECT.scanner(endpoint, Ask("pub", True, True), mask_of("pub")), said).sent == expected  # noqa: B023  # called at once
    assert SUBJECT.scanner("chat", Ask("pub", True, True)).usual(other) == 1
    assert SUBJECT.told("chat", b'{"model":"m","usage":{"prompt_tokens":1,"completion_tokens":2}}') == (Usage(1, 2), "m")


@pytest.mark.parametrize("inside", [{"__verbose": {"model": "/srv/m.gguf"}}, {"kv_transfer_params": {"remote_host": "10.0.0.9"}}])
def test_what_only_the_last_chunk_tells_of_the_inside(inside: dict[str, Any]) -> None:
    """All before it were clean, so that nothing was learnt to be changed."""
    text = b'data: {"choices":[{"delta":{"content":"Hi"}}],"model":"m"}\n\n'
    last = b"data: %b\n\n" % json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}], "model": "m", **inside}).encode()
    scanner = SUBJECT.scanner("chat", read({**SAY, "stream": True}), mask_of("m"))
    assert scanner.feed(text) == text
    assert scanner.at_rest
    assert scanner.usual(text) == 1
    assert scanner.usual(last) == -1
    masked = scanner.feed(last)
    assert json.loads(masked.removeprefix(b"data: "))[next(iter(inside))] is None


def test_the_completion_alone_is_never_said() -> None:
    assert SUBJECT.completion("chat", b'{"usage":{"completion_tokens":2}}') is None
