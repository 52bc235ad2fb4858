"""The TGI dialect against answers scripted from its API document, and its reading and patching of requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects.masking import mask_of
from slmgate.dialects.tgi import Tgi
from slmgate.errors import FAULTS
from slmgate.terms import Ask, Refuse, Usage
from tests.tools.feeds import cut, every_way, feed
from tests.tools.transcripts import transcript

SUBJECT = Tgi()
JSON = "application/json"
TOKEN = b'data:{"token":{"text":"x"},"generated_text":null,"details":null}\n\n'


def last(details: str = '{"generated_tokens":3,"input_length":4}') -> bytes:
    return f'data:{{"token":{{"text":"x"}},"generated_text":"x","details":{details}}}\n\n'.encode()


@pytest.mark.parametrize(
    ("endpoint", "fields", "ask"),
    [
        ("generate", {"inputs": "x"}, ("", False, False, None)),
        ("generate_stream", {"inputs": "x", "parameters": {"max_new_tokens": 5}}, ("", True, False, 5)),
        ("generate_stream", {"inputs": "x", "parameters": {"details": True}, "model": "m"}, ("m", True, True, None)),
        ("generate", {"inputs": "x", "parameters": None, "stream": True}, ("", False, False, None)),
    ],
)
def test_reading(endpoint: str, fields: dict[str, Any], ask: tuple[str, bool, bool, int | None]) -> None:
    body = json.dumps(fields).encode()
    for content_type in (JSON, "application/x-www-form-urlencoded"):
        assert SUBJECT.read(endpoint, body, content_type) == Ask(*ask[:3], -(-len(body) // 4), ask[3], fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": " m"}, "model"),
        ({"parameters": []}, "parameters"),
        ({"parameters": {"max_new_tokens": -1}}, "max_new_tokens"),
        ({"parameters": {"details": "yes"}}, "details"),
    ],
)
def test_refused_fields(fields: dict[str, Any], param: str) -> None:
    refused = SUBJECT.read("generate", json.dumps(fields).encode(), JSON)
    assert isinstance(refused, Refuse)
    assert refused.param == param


def test_refused_bodies() -> None:
    assert isinstance(SUBJECT.read("generate", b"x", JSON), Refuse)
    assert isinstance(SUBJECT.read("generate", b"{}", "text/plain"), Refuse)


@pytest.mark.parametrize(
    ("endpoint", "body", "upstream_model", "expected"),
    [
        ("generate", b'{"inputs":"x"}', None, None),
        ("generate_stream", b'{"inputs":"x","parameters":{"details":true}}', None, None),
        ("generate_stream", b'{"inputs":"x" }', None, b'{"inputs":"x","parameters":{"details":true}}'),
        (
            "generate_stream",
            b'{"inputs":"x","parameters":{"seed":1,"details":false}}',
            None,
            b'{"inputs":"x","parameters":{"seed":1,"details":true}}',
        ),
        ("generate", b'{"inputs":"x"}', "n", b'{"inputs":"x","model":"n"}'),
    ],
)
def test_patching(endpoint: str, body: bytes, upstream_model: str | None, expected: bytes | None) -> None:
    ask = SUBJECT.read(endpoint, body, JSON)
    assert isinstance(ask, Ask)
    found = SUBJECT.patch(endpoint, ask, body, upstream_model)
    if expected is None:
        assert found is body
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (transcript("tgi-generate").body, Usage(2, 3)),
        (transcript("tgi-error").body, None),
        (b'{"generated_text":"x"}', None),
        (b'{"generated_text":"x","details":null}', None),
        (b'{"generated_text":"x","details":{"generated_tokens":3,"prefill":[]}}', None),
        (b'{"generated_text":"x","details":7}', None),
        (b"", None),
    ],
)
def test_usage_of_whole_answers(body: bytes, usage: Usage | None) -> None:
    assert SUBJECT.usage("generate", body) == usage


def test_the_scripted_stream() -> None:
    body = transcript("tgi-generate-stream").body
    asked = every_way(lambda: SUBJECT.scanner("generate_stream", Ask("", True, True)), body)
    assert asked == (body, Usage(4, 3), 3, True)
    fed = every_way(lambda: SUBJECT.scanner("generate_stream", Ask("", True)), body)
    assert fed[1:] == asked[1:]
    sent, before = fed.sent.split(b"\n\n"), body.split(b"\n\n")
    assert sent[:-2] == before[:-2]
    stripped = json.loads(before[-2].removeprefix(b"data:"))
    assert json.loads(sent[-2].removeprefix(b"data: ")) == {**stripped, "details": None}


@pytest.mark.parametrize(
    ("data", "usage", "finished"),
    [
        (TOKEN + last(), Usage(4, 3), True),
        (TOKEN + last('{"generated_tokens":3}'), Usage(9, 3, True), True),
        (TOKEN + last('{"generated_tokens":-3}'), None, True),
        (TOKEN + last('{"generated_tokens":"3","input_length":4}'), None, True),
        (TOKEN + last("null"), None, True),
        (TOKEN + b'data:{"generated_text":"x"}\n\n', None, True),
        (TOKEN + b'data: {"generated_text": "x", "details": null}\n\n', None, True),
        (TOKEN, None, False),
        (b'data:{"error":"died","error_type":"generation"}\n\n', None, False),
        (last()[:-9], None, False),
        (b'data:{"token":{"generated_text":"x"}}\n\n', None, False),
        (b"", None, False),
    ],
)
def test_ends_of_streams(data: bytes, usage: Usage | None, finished: bool) -> None:
    fed = every_way(lambda: SUBJECT.scanner("generate_stream", Ask("", True, True, 9)), data)
    assert (fed.sent, fed.usage, fed.finished) == (data, usage, finished)
    stripped = every_way(lambda: SUBJECT.scanner("generate_stream", Ask("", True, False, 9)), data + b":trailing")
    assert (stripped.usage, stripped.finished) == (usage, finished)
    assert stripped.sent.endswith(b":trailing")
    assert b"generated_tokens" not in stripped.sent.replace(last()[:-9], b"")


def test_errors() -> None:
    error = {"error": "Full.", "error_type": "overloaded"}
    assert json.loads(SUBJECT.error(FAULTS["overloaded"], Refuse("overloaded", "Full."), "r1")) == error
    said = SUBJECT.stream_error(FAULTS["overloaded"], "Full.")
    assert json.loads(said.removeprefix(b"data:")) == error
    assert said.endswith(b"}\n\n")
    assert SUBJECT.stream_error(FAULTS["overloaded"], "Full.", mid_event=True) == b"\n\n" + said


def test_the_list_of_models() -> None:
    assert [model["id"] for model in json.loads(SUBJECT.list_models("models", ["a"]))["data"]] == ["a"]


@given(
    st.lists(st.sampled_from([TOKEN, last(), last("null"), b":\n\n", b"\n", b"data:"]), max_size=10),
    st.lists(st.integers(0, 999), max_size=8),
    st.booleans(),
)
def test_any_stream_cut_anywhere(pieces: list[bytes], places: list[int], wants_usage: bool) -> None:
    data = b"".join(pieces)
    ask = Ask("", True, wants_usage)
    whole = every_way(lambda: SUBJECT.scanner("generate_stream", ask), data, stride=29)
    assert feed(lambda: SUBJECT.scanner("generate_stream", ask), cut(data, places)) == whole


def test_masked() -> None:
    fed = every_way(lambda: SUBJECT.scanner("generate_stream", Ask("", True, True), mask_of("pub")), TOKEN + last())
    assert fed.sent == TOKEN + last()
    failure = b'data:{"error":"/srv/engine","error_type":"generation"}\n\n'
    assert every_way(lambda: SUBJECT.scanner("generate_stream", Ask("", True), mask_of("pub")), TOKEN + failure).sent == TOKEN
    assert SUBJECT.told("generate", b"{}") == (None, None)


def test_a_name_that_is_no_text_costs_no_stream() -> None:
    """Bytes of an instance that one reading passes over and another stumbles at: found by fuzzing."""
    data = b'data:{"\xff":6,"generated_text":"four","details":{"generated_tokens":3,"input_length":4}}\n\n'
    fed = every_way(lambda: SUBJECT.scanner("generate_stream", Ask("", True)), data)
    assert (fed.sent, fed.finished) == (data, True)


@pytest.mark.parametrize(
    ("body", "figure"),
    [
        (b'{"generated_text":"x","details":{"generated_tokens":3,"prefill":[]}}', 3),
        (b'{"generated_text":"x","details":{"generated_tokens":0}}', 0),
        (b'{"generated_text":"x","details":{"generated_tokens":-1}}', None),
        (b'{"generated_text":"x","details":{}}', None),
        (b'{"generated_text":"x","details":null}', None),
        (b'{"generated_text":"x"}', None),
        (b"", None),
    ],
)
def test_the_completion_alone(body: bytes, figure: int | None) -> None:
    assert SUBJECT.completion("generate", body) == figure
