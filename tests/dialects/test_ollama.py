"""The Ollama dialect against answers scripted from its API document, and its reading and patching of requests."""

from __future__ import annotations

import json
from typing import Any

import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects.masking import mask_of
from slmgate.dialects.ollama import Ollama
from slmgate.errors import FAULTS
from slmgate.terms import Ask, Refuse, Usage
from tests.tools.feeds import cut, every_way, feed
from tests.tools.transcripts import transcript

SUBJECT = Ollama()
JSON = "application/json"
CURL = "application/x-www-form-urlencoded"
LAST = b'{"done":true,"prompt_eval_count":3,"eval_count":4}\n'
TEXT = b'{"response":"x","done":false}\n'


def read(endpoint: str, fields: dict[str, Any], content_type: str = JSON) -> Ask | Refuse:
    return SUBJECT.read(endpoint, json.dumps(fields).encode(), content_type)


@pytest.mark.parametrize(
    ("endpoint", "fields", "stream", "limit"),
    [
        ("chat", {}, True, None),
        ("generate", {"stream": None}, True, None),
        ("chat", {"stream": False}, False, None),
        ("embed", {}, False, None),
        ("embed", {"stream": True}, False, None),
        ("chat", {"options": {"num_predict": 9}}, True, 9),
        ("chat", {"options": {"num_predict": -1}}, True, None),
        ("chat", {"options": {"num_predict": -2}}, True, None),
        ("chat", {"options": None}, True, None),
    ],
)
def test_reading(endpoint: str, fields: dict[str, Any], stream: bool, limit: int | None) -> None:
    whole = {"model": "m:latest", **fields}
    size = len(json.dumps(whole))
    for content_type in (JSON, CURL, ""):
        assert read(endpoint, whole, content_type) == Ask("m:latest", stream, True, -(-size // 4), limit, whole)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "model"),
        ({"model": "m", "stream": "x"}, "stream"),
        ({"model": "m", "options": []}, "options"),
        ({"model": "m", "options": {"num_predict": -3}}, "num_predict"),
        ({"model": "m", "Model": "n"}, "model"),
    ],
)
def test_refused_fields(fields: dict[str, Any], param: str) -> None:
    refused = read("chat", fields)
    assert isinstance(refused, Refuse)
    assert refused.param == param


def test_refused_bodies() -> None:
    assert isinstance(SUBJECT.read("chat", b"model=m", CURL), Refuse)
    assert isinstance(read("chat", {"model": "m"}, "multipart/form-data"), Refuse)


def test_only_a_rename_changes_the_body() -> None:
    body = b'{"model":"m", "stream":true}'
    ask = Ask("m", True)
    assert SUBJECT.patch("chat", ask, body, None) is body
    assert SUBJECT.patch("chat", ask, body, "n") == b'{"model":"n","stream":true}'


@pytest.mark.parametrize(
    ("endpoint", "body", "usage"),
    [
        ("chat", transcript("ollama-chat").body, Usage(26, 282)),
        ("embed", transcript("ollama-embed").body, Usage(8, 0)),
        ("embeddings", b'{"embedding":[0.5]}', None),
        ("chat", transcript("ollama-error").body, None),
        ("chat", b'{"done":true,"eval_count":4}', None),
        ("chat", b'{"done":true,"prompt_eval_count":"3","eval_count":4}', None),
        ("chat", b"", None),
    ],
)
def test_usage_of_whole_answers(endpoint: str, body: bytes, usage: Usage | None) -> None:
    assert SUBJECT.usage(endpoint, body) == usage


@pytest.mark.parametrize(
    ("data", "usage", "tokens"),
    [
        (transcript("ollama-chat-stream").body, Usage(26, 282), 2),
        (transcript("ollama-generate-stream").body, Usage(26, 282), 1),
        (TEXT + TEXT + LAST, Usage(3, 4), 2),
        (TEXT + LAST[:-1], Usage(3, 4), 1),
        (LAST + LAST, Usage(3, 4), 0),
        (b'{"done":true,"prompt_eval_count":-3,"eval_count":4}\n', None, 0),
        (b'{"done":true,"prompt_eval_count":3,"eval_count":1e30}\n', None, 0),
        (b'{"response": "x", "done": false}\n{"done": true, "prompt_eval_count": 3, "eval_count": 4}\n', Usage(3, 4), 1),
    ],
)
def test_streams(data: bytes, usage: Usage | None, tokens: int) -> None:
    fed = every_way(lambda: SUBJECT.scanner("chat", Ask("m", True)), data)
    assert fed == (data, usage, tokens, True)
    assert (
        every_way(lambda: SUBJECT.scanner("chat", Ask("m", True)), data + b"\ntrailing", stride=31).sent == data + b"\ntrailing"
    )


@pytest.mark.parametrize("data", [b"", TEXT, LAST[:-3], b'{"message":{"done":true},"done":false}\n', b'{"error":"died"}\n'])
def test_what_is_no_end(data: bytes) -> None:
    fed = every_way(lambda: SUBJECT.scanner("chat", Ask("m", True)), data)
    assert (fed.sent, fed.finished) == (data, False)


def test_errors() -> None:
    assert json.loads(SUBJECT.error(FAULTS["overloaded"], Refuse("overloaded", "Full."), "r1")) == {
        "error": "Full.",
        "code": "overloaded",
    }
    said = SUBJECT.stream_error(FAULTS["upstream_error"], "Died\n.")
    assert said == b'{"error":"Died\\n.","code":"upstream_error"}\n'
    assert SUBJECT.stream_error(FAULTS["upstream_error"], "Died\n.", mid_event=True) == b"\n" + said


def test_the_list_of_models_is_what_its_client_reads() -> None:
    listed = ollama.ListResponse.model_validate_json(SUBJECT.list_models("models", ["a", "b"]))
    assert [model.model for model in listed.models] == ["a", "b"]


@given(st.lists(st.sampled_from([TEXT, LAST, b"\n", b'{"done":true']), max_size=12), st.lists(st.integers(0, 999), max_size=8))
def test_any_stream_cut_anywhere(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    whole = every_way(lambda: SUBJECT.scanner("chat", Ask("m", True)), data, stride=13)
    assert feed(lambda: SUBJECT.scanner("chat", Ask("m", True)), cut(data, places)) == whole


def test_masked() -> None:
    text = b'{"model":"/srv/a","message":{"role":"assistant","content":"x"},"done":false}\n'
    tool = b'{"model":"/srv/a","message":{"tool_calls":[{"function":{"arguments":{"model":"/srv/a"}}}]},"done":false}\n'
    fed = every_way(lambda: SUBJECT.scanner("chat", Ask("pub", True), mask_of("pub")), text * 2 + tool + LAST)
    assert fed.sent == text.replace(b"/srv/a", b"pub") * 2 + tool.replace(b"/srv/a", b"pub", 1) + LAST
    assert fed.finished
    assert SUBJECT.told("chat", b'{"prompt_eval_count":1,"eval_count":2}') == (Usage(1, 2), None)


@pytest.mark.parametrize(
    ("endpoint", "body", "figure"),
    [
        ("chat", b'{"done":true,"eval_count":2}', 2),
        ("generate", b'{"done":true,"eval_count":0}', 0),
        ("chat", b'{"done":true,"eval_count":-2}', None),
        ("chat", b'{"done":true,"eval_count":"2"}', None),
        ("chat", b'{"done":true}', None),
        ("embed", b'{"eval_count":2}', None),
        ("chat", b"", None),
    ],
)
def test_the_completion_alone(endpoint: str, body: bytes, figure: int | None) -> None:
    assert SUBJECT.completion(endpoint, body) == figure
