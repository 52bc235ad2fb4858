"""The llama.cpp dialect against recorded answers of the real server, and its reading and patching of requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects.llamacpp import LlamaCpp
from slmgate.dialects.masking import mask_of
from slmgate.errors import FAULTS
from slmgate.terms import Ask, Refuse, Usage
from tests.tools.feeds import cut, every_way, feed
from tests.tools.transcripts import transcript

SUBJECT = LlamaCpp()
JSON = "application/json"
ASK = Ask("", True, fields={"prompt": "x"})


def last(index: int, evaluated: object = 3, predicted: object = 4) -> bytes:
    fields = {"index": index, "content": "", "stop": True, "tokens_evaluated": evaluated, "tokens_predicted": predicted}
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("endpoint", "fields", "model", "stream", "limit"),
    [
        ("completion", {"prompt": "x"}, "", False, None),
        ("completion", {"prompt": "x", "model": None}, "", False, None),
        ("completion", {"prompt": "x", "model": "m", "stream": True, "n_predict": 5}, "m", True, 5),
        ("infill", {"stream": True, "n_predict": -1}, "", True, None),
        ("completion", {"n_predict": 5, "max_tokens": 7}, "", False, 7),
        ("tokenize", {"content": "x", "stream": True}, "", False, None),
    ],
)
def test_reading(endpoint: str, fields: dict[str, Any], model: str, stream: bool, limit: int | None) -> None:
    body = json.dumps(fields).encode()
    for content_type in (JSON, "application/x-www-form-urlencoded"):
        assert SUBJECT.read(endpoint, body, content_type) == Ask(model, stream, True, -(-len(body) // 4), limit, fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"model": ""}, "model"), ({"model": 7}, "model"), ({"stream": 1}, "stream"), ({"n_predict": -3}, "n_predict")],
)
def test_refused_fields(fields: dict[str, Any], param: str) -> None:
    refused = SUBJECT.read("completion", json.dumps(fields).encode(), JSON)
    assert isinstance(refused, Refuse)
    assert refused.param == param


def test_refused_bodies() -> None:
    assert isinstance(SUBJECT.read("completion", b"x", JSON), Refuse)
    assert isinstance(SUBJECT.read("completion", b"{}", "text/plain"), Refuse)


def test_only_a_rename_changes_the_body() -> None:
    body = b'{"prompt":"x" }'
    assert SUBJECT.patch("completion", ASK, body, None) is body
    assert SUBJECT.patch("completion", ASK, body, "n") == b'{"prompt":"x","model":"n"}'


@pytest.mark.parametrize(
    ("endpoint", "body", "usage"),
    [
        ("completion", transcript("llamacpp-completion").body, Usage(4, 6)),
        ("completion", transcript("llamacpp-completion-two").body, Usage(8, 8)),
        ("completion", transcript("llamacpp-completion-error").body, None),
        ("infill", transcript("llamacpp-infill").body, None),
        ("tokenize", transcript("llamacpp-tokenize").body, Usage(0, 0)),
        ("detokenize", transcript("llamacpp-detokenize").body, Usage(0, 0)),
        ("completion", b"[]", None),
        ("completion", b"", None),
        ("completion", b'[{"tokens_evaluated":1,"tokens_predicted":1},{}]', None),
    ],
)
def test_usage_of_whole_answers(endpoint: str, body: bytes, usage: Usage | None) -> None:
    assert SUBJECT.usage(endpoint, body) == usage


@pytest.mark.parametrize(
    ("name", "usage", "tokens"),
    [
        ("llamacpp-completion-stream", Usage(4, 6), 6),
        ("llamacpp-completion-two-stream", Usage(8, 8), 8),
        ("llamacpp-completion-copies-stream", Usage(8, 8), 8),
    ],
)
def test_recorded_streams(name: str, usage: Usage, tokens: int) -> None:
    taken = transcript(name)
    ask = SUBJECT.read("completion", taken.asked, JSON)
    assert isinstance(ask, Ask)
    fed = every_way(lambda: SUBJECT.scanner("completion", ask), taken.body, stride=7)
    assert fed == (taken.body, usage, tokens, True)


@pytest.mark.parametrize(
    ("fields", "data", "usage", "finished"),
    [
        ({"prompt": "x"}, last(0), Usage(3, 4), True),
        ({"prompt": "x"}, last(0) + last(0), Usage(3, 4), True),
        ({"prompt": "x"}, last(0) + last(1) + last(2), Usage(3, 4), True),
        ({"prompt": [1, 2]}, last(0), Usage(3, 4), True),
        ({"prompt": ["x", 2]}, last(0), Usage(3, 4), True),
        ({"prompt": []}, last(0), Usage(3, 4), True),
        ({"prompt": ["x", "y"]}, last(0), Usage(3, 4), False),
        ({"prompt": [[1], [2]]}, last(0) + last(1), Usage(6, 8), True),
        ({"prompt": ["x", "y"], "n": 2}, last(0) + last(1) + last(2), Usage(9, 12), False),
        ({"prompt": "x", "n_cmpl": -1}, last(0), Usage(3, 4), True),
        ({"prompt": "x"}, last(0, -3), None, True),
        ({"prompt": "x"}, last(0, 3, "4"), None, True),
        ({"prompt": "x"}, last(0, None), None, True),
        ({"prompt": ["x", "y"]}, last(0) + last(1, 2**41), None, True),
        ({"prompt": "x"}, last(0)[:-5], None, False),
        ({"prompt": "x"}, b'data: {"stop":false,"x":{"stop":true}}\n\n', None, False),
        ({"prompt": "x"}, b'data: {"stop": true, "tokens_evaluated": 3, "tokens_predicted": 4}\n\n', Usage(3, 4), True),
    ],
)
def test_ends_of_streams(fields: dict[str, Any], data: bytes, usage: Usage | None, finished: bool) -> None:
    fed = every_way(lambda: SUBJECT.scanner("completion", Ask("", True, fields=fields)), data)
    assert (fed.sent, fed.usage, fed.finished) == (data, usage, finished)


@pytest.mark.parametrize(
    ("event", "tokens"),
    [
        (b'data: {"content":"x","stop":false}\n\n', 1),
        (b'data: {"content":"","stop":false}\n\n', 0),
        (b'data: {"content": "x", "stop": false}\n\n', 1),
        (b"data: null\n\n", 0),
        (b'data: {"content":"","content":"","stop":false}\n\n', 0),  # found by fuzzing: it was less than nothing
    ],
)
def test_counting_text(event: bytes, tokens: int) -> None:
    assert every_way(lambda: SUBJECT.scanner("completion", ASK), event * 2).tokens_seen == 2 * tokens


def test_errors() -> None:
    error = {"code": 503, "message": "Full.", "type": "overloaded"}
    assert json.loads(SUBJECT.error(FAULTS["overloaded"], Refuse("overloaded", "Full."), "r1")) == {"error": error}
    said = SUBJECT.stream_error(FAULTS["overloaded"], "Full.")
    assert json.loads(said.removeprefix(b"data: ")) == {"error": error}
    assert said.endswith(b"}\n\n")
    assert SUBJECT.stream_error(FAULTS["overloaded"], "Full.", mid_event=True) == b"\n\n" + said


def test_the_list_of_models() -> None:
    assert [model["id"] for model in json.loads(SUBJECT.list_models("models", ["a"]))["data"]] == ["a"]


@given(
    st.lists(st.sampled_from([last(0), last(1), b'data: {"content":"x","stop":false}\n\n', b"\n", b"data: "]), max_size=10),
    st.lists(st.integers(0, 999), max_size=8),
)
def test_any_stream_cut_anywhere(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    whole = every_way(lambda: SUBJECT.scanner("completion", ASK), data, stride=29)
    assert feed(lambda: SUBJECT.scanner("completion", ASK), cut(data, places)) == whole


def test_masked() -> None:
    """The last event tells the model's file; older versions told it twice."""
    said = b'data: {"content":"","stop":true,"model":"/srv/a.gguf","generation_settings":{"model":"/srv/a.gguf"}}\n\n'
    text = b'data: {"content":"x","stop":false}\n\n'
    fed = every_way(lambda: SUBJECT.scanner("completion", Ask("pub", True), mask_of("pub")), text + said)
    assert fed.sent == text + said.replace(b"/srv/a.gguf", b"pub")
    assert SUBJECT.told("completion", b'{"tokens_evaluated":1,"tokens_predicted":2}') == (Usage(1, 2), None)


def test_the_completion_alone_is_never_said() -> None:
    assert SUBJECT.completion("completion", b'{"usage":{"completion_tokens":2}}') is None
