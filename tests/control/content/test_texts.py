"""The texts in bodies: forms that stay, streams put together in every dialect, cuts, and what is no text at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slmgate.control.content.masks import Masks
from slmgate.control.content.texts import LONGEST, body, stream

BY = Masks(("email", "card"))
MAIL = "jane@example.com"


def read(value: object, cut: bool = False) -> Any:
    found = body(json.dumps(value).encode(), cut, BY)
    return json.loads(found.text)


def test_a_form_stays() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": f"to {MAIL}"}], "n": 1, "stop": None, "stream": True}
    assert read(asked) == {**asked, "messages": [{"role": "user", "content": "to [email]"}]}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({MAIL: 1}, {"[email]": 1}),
        ({"card": 4111111111111111}, {"card": "[card]"}),
        ({"x": [1, 2.5, True, None]}, {"x": [1, 2.5, True, None]}),
        ({"input": list(range(17))}, {"input": "(17 numbers)"}),
        ({"url": "data:image/png;base64,AAAA"}, {"url": "(26 characters of data)"}),
        ({"content": [{"type": "text", "text": "jane@exam"}, {"type": "text", "text": "ple.com!"}]},
         {"content": [{"type": "text", "text": "[email]"}, {"type": "text", "text": "!"}]}),
        ({"prompt": ["jane@exam", "ple.com"]}, {"prompt": ["[email]", ""]}),
        ([MAIL], ["[email]"]),
    ],
)  # fmt: skip
def test_values(value: object, kept: object) -> None:
    assert read(value) == kept


def test_escapes_hide_nothing() -> None:
    found = body(b'{"content":"jane\\u0040example.com"}', False, BY)
    assert found == ('{"content":"[email]"}', False, 1)
    # nor in what is no JSON any more
    assert body(b'{"content":"jane\\u0040example.com', False, BY).text == '{"content":"[email]'
    assert body(b"say \\n\\ud83d\\ude00 \\q", False, BY).text == "say \n\U0001f600 q"


def test_what_is_no_text() -> None:
    assert body(b"\xff\xfe\x00", False, BY) == ("(3 bytes that are no text)", False, 0)
    assert body(b"", False, BY) == ("", False, 0)
    assert body(b'"just a text"', False, BY).text == '"just a text"'
    assert "\0" not in body(b"a\0b", False, BY).text


def test_what_is_long_is_cut_and_says_so() -> None:
    text = "x" * (LONGEST - 5) + f" {MAIL} " + "y" * 2000
    found = body(json.dumps({"content": text}).encode(), False, BY)
    assert (len(found.text), found.cut, found.found) == (LONGEST, True, 1)
    assert "jane" not in found.text
    assert body(json.dumps({"a": "x" * 40000, "b": "y" * 40000}).encode(), False, BY).cut


def test_what_a_cut_leaves_of_an_address_goes() -> None:
    """The end of what came may be half of something."""
    for end in range(1, len(MAIL)):
        raw = ('{"content":"' + "word " * 200 + MAIL[:end]).encode()
        found = body(raw, True, BY)
        assert found.cut
        assert "jan" not in found.text
        assert found.text.startswith('{"content":"word word')
    assert body(b"short", True, BY).text == ""


def events(*values: object) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(value).encode() for value in values) + b"data: [DONE]\n\n"


def delta(text: str, index: int = 0, name: str = "content") -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {name: text}}]}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (events(delta("to ja"), delta("ne@exam"), delta("ple.com!"), {"choices": [], "usage": {}}), "to [email]!"),
        (events({"choices": [{"index": 0, "text": "a"}]}, {"choices": [{"text": "b"}]}), "ab"),
        (
            b"event: content_block_start\ndata: "
            + events(
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "jane@"}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "example.com"}},
            )[6:],
            "[email]",
        ),
        (
            events(
                {"type": "response.output_text.delta", "output_index": 0, "delta": "jane@exam"},
                {"type": "response.output_text.delta", "output_index": 0, "delta": "ple.com"},
                {"type": "response.output_text.done", "output_index": 0, "text": MAIL},
                {"type": "response.completed", "response": {"output": [{"content": [{"text": MAIL}]}]}},
            ),
            "[email]",
        ),
        (b'{"message":{"role":"assistant","content":"ja"}}\n{"message":{"content":"ne@example.com"},"done":true}\n', "[email]"),
        (b'{"response":"a"}\r\n{"response":"b","done":true}', "ab"),
        (events({"content": "ja", "stop": False}, {"content": "ne@example.com", "stop": True}), "[email]"),
        (events({"token": {"text": "ja"}}, {"token": {"text": "ne@example.com"}, "generated_text": MAIL}), "[email]"),
        (events(delta("a"), delta("b")).replace(b"\n\n", b"\r\n\r\n"), "ab"),
        (events(delta("a"), delta("b")).replace(b"\n\n", b"\r\r"), "ab"),
        (b": ping\n\n" + events(delta("a")) + b"data: [1]\n\ndata: {\"choi", "a"),
        (b"", ""),
    ],
)  # fmt: skip
def test_streams(raw: bytes, said: str) -> None:
    found = stream(raw, False, BY)
    assert (found.text, found.cut, found.found) == (said, False, said.count("[email]"))


def test_each_thing_that_is_said_is_one_text() -> None:
    call = {"index": 1, "function": {"name": "send", "arguments": '{"to":"jane@'}}
    rest = {"index": 1, "function": {"arguments": 'example.com"}'}}
    raw = events(
        delta("think", name="reasoning_content"),
        delta("one"),
        delta("uno", 1),
        {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [rest]}}]},
        delta(" two"),
    )
    assert stream(raw, False, BY).text == (
        "[choices.delta.reasoning_content]\nthink\n\n[choices.delta.content]\none two\n\n[choices.1.delta.content]\nuno\n\n"
        '[choices.delta.tool_calls.1.function.arguments]\n{"to":"[email]"}'
    )


def test_a_stream_that_was_cut() -> None:
    raw = events(*[delta("word ") for _ in range(300)], delta("jane@exam"))
    found = stream(raw, True, BY)
    assert found.cut
    assert "jane" not in found.text
    assert found.text.startswith("word word")
    assert stream(events(delta("x" * (LONGEST + 1000))), False, BY).cut


def test_blocks_of_one_number_stay_apart() -> None:
    first = {"type": "content_block_delta", "index": 0, "delta": {"thinking": "a"}}
    second = {"type": "content_block_delta", "index": 1, "delta": {"text": "b"}}
    assert stream(events(first, second), False, BY).text == "[delta.thinking]\na\n\n[1.delta.text]\nb"
