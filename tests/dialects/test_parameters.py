"""Parameters under every name that an API or an engine has for them, and requests that are given some.

The names are those of the APIs' documents and the engines' sources; no engine is asked. What values are allowed is not tested
here: `tests/policy` does.
Length: they are one table of names, looked at from each side.
"""

from __future__ import annotations

import json
import time
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects import TABLE, parameters
from slmgate.dialects.contract import Route
from slmgate.dialects.parameters import NAMES, NOTED, Scalar, noted, read_noted, settle, values
from slmgate.terms import Ask, Refuse

DIALECTS = ("openai", "anthropic", "ollama", "llamacpp", "tgi")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("name", "wire"), [(name, wire) for name, wires in NAMES.items() for wire in wires])
def test_every_name_is_found_in_every_api(dialect: str, name: str, wire: str) -> None:
    given: Any = {"format": {"type": "json_schema"}} if wire == "text" else 7
    assert len(values(dialect, {wire: given}, name)) == 1
    assert values(dialect, {wire: None}, name) == []
    assert values(dialect, {}, name) == []


@pytest.mark.parametrize(("dialect", "place"), [("ollama", "options"), ("tgi", "parameters")])
def test_what_is_kept_apart_is_found_in_both_places(dialect: str, place: str) -> None:
    fields = {"max_tokens": 1, place: {"num_predict": 2, "max_new_tokens": 3}}
    assert sorted(values(dialect, fields, "max_tokens")) == [1, 2, 3]
    assert values("openai", fields, "max_tokens") == [1]
    assert values(dialect, {place: {"num_ctx": 4096}}, "num_ctx") == [4096]
    assert values(dialect, {place: [1], "num_ctx": 1}, "num_ctx") == [1]


SPELT = [
    ("format", "Format", "response_format"),
    ("format", "FORMAT", "response_format"),
    ("temperature", "Temperature", "temperature"),
    ("max_tokens", "Max_New_Tokens", "max_tokens"),
    ("stop", "\N{LATIN SMALL LETTER LONG S}top", "stop"),
    ("think", "THIN\N{KELVIN SIGN}", "think"),
]


@pytest.mark.parametrize(("wire", "spelt", "name"), SPELT)
def test_letter_case_hides_nothing_from_a_rule(wire: str, spelt: str, name: str) -> None:
    """Go's decoder, which Ollama uses, folds the case of names, with the two letters beyond ASCII that fold into it."""
    for dialect in DIALECTS:
        assert values(dialect, {spelt: 7, "model": "m"}, name), dialect
        assert values(dialect, {spelt: None, "model": "m"}, name) == []
    assert values("ollama", {"options": {spelt: 7}}, name)


def test_a_rule_with_capitals_is_no_narrower() -> None:
    assert values("ollama", {"keepalive": 5, "x": 1}, "keepAlive") == [5]
    assert values("ollama", {"keepAlive": 5, "keepalive": None, "KEEPALIVE": 6}, "keepAlive") == [5, 6]


PLAIN: list[tuple[str, str, Any, Scalar]] = [
    ("max_tokens", "max_tokens", 7, 7),
    ("max_tokens", "max_tokens", 0, inf),
    ("max_tokens", "max_completion_tokens", 0, inf),
    ("max_tokens", "max_output_tokens", 0, inf),
    ("max_tokens", "num_predict", 0, inf),
    ("max_tokens", "n_predict", 0, 0),
    ("max_tokens", "max_new_tokens", 0, 0),
    ("max_tokens", "max_tokens", -1, inf),
    ("max_tokens", "n_predict", -2, inf),
    ("max_tokens", "max_tokens", 1.5, 1.5),
    ("max_tokens", "max_tokens", "600", "600"),
    ("max_tokens", "max_tokens", True, True),
    ("logprobs", "logprobs", -1, inf),
    ("logprobs", "logprobs", True, True),
    ("logprobs", "top_logprobs", 0, 0),
    ("logprobs", "n_probs", 5, 5),
    ("logprobs", "top_n_tokens", 5, 5),
    ("prompt_logprobs", "decoder_input_details", True, True),
    ("prompt_logprobs", "prompt_logprobs", -1, inf),
    ("keep_alive", "keep_alive", -1, inf),
    ("keep_alive", "keep_alive", 0, 0),
    ("keep_alive", "keep_alive", "24h", "24h"),
    ("n", "n", -1, -1),
    ("n", "n_cmpl", 4, 4),
    ("tools", "tools", [{}, {}], 2),
    ("tools", "tools", [], False),
    ("tools", "functions", [{}], 1),
    ("tool_choice", "tool_choice", "auto", "auto"),
    ("tool_choice", "tool_choice", {"type": "function"}, "function"),
    ("tool_choice", "tool_choice", {"type": "", "function": {}}, True),
    ("tool_choice", "function_call", {"name": "f"}, True),
    ("stop", "stop", "a", "a"),
    ("stop", "stop_sequences", ["a", "b"], 2),
    ("chat_template_kwargs", "chat_template_kwargs", {}, False),
    ("chat_template_kwargs", "chat_template_kwargs", {"enable_thinking": False}, True),
    ("chat_template_kwargs", "chat_template_kwargs", {"type": "", "x": 1}, True),
    ("chat_template_kwargs", "chat_template_kwargs", {"type": 1}, True),
    ("chat_template_kwargs", "chat_template", "{{ x }}", "{{ x }}"),
    ("seed", "seed", "x", "x"),
]


@pytest.mark.parametrize(("name", "wire", "value", "plain"), PLAIN)
def test_plain_values(name: str, wire: str, value: Any, plain: Scalar) -> None:
    (found,) = values("openai", {wire: value}, name)
    assert found == plain
    assert type(found) is type(plain)


FORMATS: list[tuple[str, Any, str]] = [
    ("response_format", {"type": "text"}, "text"),
    ("response_format", {"type": "json_object"}, "json_object"),
    ("response_format", {"type": "json_schema", "json_schema": {}}, "json_schema"),
    ("response_format", {"type": "structural_tag"}, "structural_tag"),
    ("response_format", {}, "grammar"),
    ("response_format", {"type": 1}, "grammar"),
    ("response_format", [1], "grammar"),
    ("response_format", 7, "7"),
    ("response_format", "json", "grammar"),
    ("format", "json", "json"),
    ("format", "", ""),
    ("format", {"type": "object"}, "json_schema"),
    ("text", {}, "text"),
    ("text", {"verbosity": "low"}, "text"),
    ("text", {"format": {"type": "json_schema"}}, "json_schema"),
    ("text", {"format": "x"}, "grammar"),
    ("json_schema", {}, "json_schema"),
    ("guided_json", {"type": "object"}, "json_schema"),
    ("grammar", "root ::= x", "grammar"),
    ("grammar", {"type": "regex", "value": "x"}, "grammar"),
    ("structured_outputs", {"choice": ["a"]}, "grammar"),
    ("guided_regex", "a+", "grammar"),
    ("guided_choice", ["a"], "grammar"),
    ("regex", "a+", "grammar"),
    ("ebnf", "x", "grammar"),
]


@pytest.mark.parametrize(("wire", "value", "kind"), FORMATS)
def test_formats_of_answers(wire: str, value: Any, kind: str) -> None:
    assert [str(found) for found in values("openai", {wire: value}, "response_format")] == [kind]


def test_a_text_field_that_is_text_is_no_format() -> None:
    assert values("openai", {"text": "read this aloud"}, "response_format") == []


U, V = "https://e.example/a.png", "http://169.254.169.254/"


def message(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


PICTURES: list[tuple[dict[str, Any], str, list[str]]] = [
    (message({"type": "image_url", "image_url": {"url": U}}), "image_url", [U]),
    (message({"type": "image_url", "image_url": U}), "image_url", [U]),
    (message({"image_url": U}), "image_url", [U]),  # vLLM takes parts without a type
    (message({"type": "text", "text": "x", "image_url": {"url": U}}), "image_url", [U]),
    (message({"type": "video_url", "video_url": {"url": V}}), "image_url", [V]),
    (message({"type": "audio_url", "audio_url": {"url": V}}), "image_url", [V]),
    (message({"type": "input_image", "image_url": U}), "image_url", [U]),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": U}]}]}, "image_url", [U]),
    ({"input": [{"type": "input_file", "file_url": V}]}, "file_url", [V]),
    ({"input": [{"type": "input_file", "file_url": V}]}, "image_url", []),
    (message({"type": "image", "source": {"type": "url", "url": U}}), "image_url", [U]),
    (message({"type": "image", "source": {"type": "base64", "data": "AA"}}), "image_url", []),
    (message({"type": "document", "source": {"type": "url", "url": V}}), "file_url", [V]),
    (message({"type": "document", "source": {"type": "url", "url": V}}), "image_url", []),
    (
        message({"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": U}}]}),
        "image_url",
        [U],
    ),
    ({"documents": [{"content": [{"image_url": {"url": U}}]}]}, "image_url", [U]),  # vLLM's rerank
    (message({"type": "text", "text": U}), "image_url", []),
    (message({"image_url": {"url": 1}}, {"image_url": None}, {"image_url": ["x"]}), "image_url", []),
    ({"image_url": U, "nested": [[[{"image_url": {"url": V}}]]]}, "image_url", [U, V]),
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("fields", "name", "urls"), PICTURES)
def test_urls(dialect: str, fields: dict[str, Any], name: str, urls: list[str]) -> None:
    assert sorted(map(str, values(dialect, fields, name))) == sorted(urls)


@pytest.mark.parametrize(
    ("prompt", "urls"),
    [
        (f"look: ![]({U})", [U]),
        (f"![a]({U}) and ![b]( {V} )", [U, V]),
        (f"[a link]({U})", []),
        (f"![x] [a link]({U})", []),
        (f"![a [b]({U})", [U]),
        (f"![](<{U}", [f"<{U}"]),
        ("](![](", [""]),
        ("", []),
    ],
)
def test_pictures_that_tgi_finds_in_a_prompt(prompt: str, urls: list[str]) -> None:
    assert values("tgi", {"inputs": prompt}, "image_url") == urls
    assert values("tgi", {"inputs": prompt}, "file_url") == []
    assert values("openai", {"inputs": prompt}, "image_url") == []
    assert values("tgi", {"inputs": [prompt]}, "image_url") == []


def test_pictures_in_a_hostile_prompt_take_no_longer_than_it_is() -> None:
    started = time.process_time()
    for prompt in ("![" * 1_000_000, "![](" * 500_000, "](" * 1_000_000):
        values("tgi", {"inputs": prompt}, "image_url")
    assert time.process_time() - started < 3


def test_deep_bodies_are_walked_without_calls() -> None:
    deep: Any = {"image_url": U}
    for _ in range(100_000):
        deep = [deep]
    assert values("openai", {"messages": deep}, "image_url") == [U]
    while deep and isinstance(deep, list):  # taken apart by hand: freeing it at once would be as deep
        deep = deep[0]


# -- noted


def test_noted_and_read_again() -> None:
    fields = {
        "n": 2,
        "logprobs": True,
        "top_logprobs": 5,
        "tools": [{}] * 3,
        "response_format": {"type": "json_object"},
        "best_of": 1.5,
        "temperature": 1,
    }
    text = noted("openai", Ask("m", max_tokens=9, fields=fields))
    assert text == "max_tokens=9 n=2 best_of=1.5 logprobs=true logprobs=5 tools=3 response_format=json_object"
    assert read_noted(text) == {
        "max_tokens": [9],
        "n": [2],
        "best_of": [1.5],
        "logprobs": [True, 5],
        "tools": [3],
        "response_format": ["json_object"],
    }


@pytest.mark.parametrize(
    ("dialect", "fields", "text"),
    [
        ("openai", {}, ""),
        ("openai", {"model": "m", "temperature": 1}, ""),
        ("ollama", {"options": {"temperature": 1}}, ""),
        ("ollama", {"options": "x"}, ""),
        ("ollama", {"options": {"n_probs": 3}, "format": "json"}, "logprobs=3 response_format=json"),
        ("tgi", {"parameters": {"best_of": 4, "decoder_input_details": False}}, "best_of=4 prompt_logprobs=false"),
        ("openai", {"n": "a b=c\n"}, "n=other"),
        ("openai", {"n": ""}, "n=other"),
        ("openai", {"logprobs": -1}, "logprobs=inf"),
        ("openai", {"tools": []}, "tools=false"),
        ("openai", {"response_format": {"type": "rm -rf"}}, "response_format=other"),
        ("openai", {"grammar": "root ::= x"}, "response_format=grammar"),
    ],
)
def test_noted(dialect: str, fields: dict[str, Any], text: str) -> None:
    assert noted(dialect, Ask("m", fields=fields)) == text


def test_noted_nothing_but_the_length() -> None:
    assert noted("openai", Ask("m", max_tokens=0)) == "max_tokens=0"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", {}),
        ("n=inf", {"n": [inf]}),
        ("n=false n=2.5", {"n": [False, 2.5]}),
        ("n=other", {"n": ["other"]}),
        ("n=1e+06", {"n": [1_000_000]}),
        ("n", {"n": [""]}),
    ],
)
def test_read_noted(text: str, read: dict[str, list[Scalar]]) -> None:
    assert read_noted(text) == read


@given(
    st.sampled_from(DIALECTS),
    st.dictionaries(
        st.sampled_from([*NOTED, "format", "n_cmpl", "grammar", "top_logprobs"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.integers())),
    ),
)
def test_no_text_of_a_client_is_noted(dialect: str, fields: dict[str, Any]) -> None:
    text = noted(dialect, Ask("m", fields=fields))
    assert text.isascii()
    assert text.isprintable()
    assert set(read_noted(text)) <= set(NOTED)


# -- settle


def route(path: str) -> Route:
    return TABLE["POST", path]


def settled(path: str, body: bytes, *settings: tuple[str, Scalar]) -> tuple[Ask, bytes]:
    row = route(path)
    ask = row.dialect.read(row.endpoint, body, "application/json")
    assert not isinstance(ask, Refuse)
    return settle(row, ask, body, settings)


SET = [
    ("/v1/chat/completions", b'{"model":"m"}', {"max_tokens": 5}),
    ("/v1/completions", b'{"model":"m"}', {"max_tokens": 5}),
    ("/v1/responses", b'{"model":"m"}', {"max_output_tokens": 5}),
    ("/v1/messages", b'{"model":"m"}', {"max_tokens": 5}),
    ("/api/chat", b'{"model":"m"}', {"options": {"num_predict": 5}}),
    ("/api/generate", b'{"model":"m","options":null}', {"options": {"num_predict": 5}}),
    ("/api/chat", b'{"model":"m","options":{"num_ctx":9}}', {"options": {"num_ctx": 9, "num_predict": 5}}),
    ("/completion", b'{"prompt":"x"}', {"n_predict": 5}),
    ("/infill", b'{"prompt":"x"}', {"n_predict": 5}),
    ("/generate", b'{"inputs":"x"}', {"parameters": {"max_new_tokens": 5}}),
    ("/generate_stream", b'{"inputs":"x","parameters":{"top_k":3}}', {"parameters": {"top_k": 3, "max_new_tokens": 5}}),
]


@pytest.mark.parametrize(("path", "body", "changed"), SET)
def test_a_length_goes_where_the_api_has_it(path: str, body: bytes, changed: dict[str, Any]) -> None:
    ask, out = settled(path, body, ("max_tokens", 5))
    assert ask.max_tokens == 5
    assert json.loads(out) == {**json.loads(body), **changed}
    assert ask.fields == json.loads(out)
    again, same = settled(path, out, ("max_tokens", 5))
    assert same is out
    assert again.max_tokens == 5


@pytest.mark.parametrize(
    ("path", "setting", "changed"),
    [
        ("/v1/chat/completions", ("temperature", 0.5), {"temperature": 0.5}),
        ("/v1/chat/completions", ("logprobs", False), {"logprobs": False}),
        ("/api/chat", ("temperature", 0.5), {"options": {"temperature": 0.5}}),
        ("/api/chat", ("keep_alive", "5m"), {"keep_alive": "5m"}),
        ("/api/generate", ("think", False), {"think": False}),
        ("/generate", ("best_of", 1), {"parameters": {"best_of": 1}}),
        ("/completion", ("cache_prompt", True), {"cache_prompt": True}),
    ],
)
def test_other_parameters(path: str, setting: tuple[str, Scalar], changed: dict[str, Any]) -> None:
    body = b'{"model":"m","prompt":"x"}'
    ask, out = settled(path, body, setting)
    assert json.loads(out) == {**json.loads(body), **changed}
    assert ask.max_tokens is None


def test_a_value_of_another_type_is_not_the_same() -> None:
    _, out = settled("/v1/chat/completions", b'{"model":"m","n":true}', ("n", 1))
    assert json.loads(out)["n"] == 1
    assert out.count(b"true") == 0


def test_all_other_fields_keep_their_bytes() -> None:
    kept = b'"prompt":"\\u00e9\\/ \xc3\xa9","temperature":1.10,"seed":1E2,"deep":{ "a" : [1 , 2] }'
    _, out = settled("/v1/completions", b'{"model": "m", ' + kept + b"}", ("max_tokens", 5))
    for member in (b'"\\u00e9\\/ \xc3\xa9"', b"1.10", b"1E2", b'{ "a" : [1 , 2] }'):
        assert member in out
    assert json.loads(out)["max_tokens"] == 5


def test_the_largest_of_several_names_is_set_under_the_one_that_all_know() -> None:
    ask, out = settled("/v1/chat/completions", b'{"model":"m","max_completion_tokens":9}', ("max_tokens", 9))
    assert json.loads(out) == {"model": "m", "max_completion_tokens": 9, "max_tokens": 9}
    assert ask.max_tokens == 9


def test_a_length_that_is_no_whole_number_is_set_all_the_same() -> None:
    ask, out = settled("/v1/chat/completions", b'{"model":"m"}', ("max_tokens", "many"))
    assert json.loads(out)["max_tokens"] == "many"
    assert ask.max_tokens is None


def test_a_form_is_left_as_it_is() -> None:
    ask = Ask("m", fields={"model": "m"})
    assert settle(route("/v1/audio/transcriptions"), ask, b"--x", [("n", 1)]) == (ask, b"--x")


def test_nothing_to_set() -> None:
    body = b'{"model":"m"}'
    ask, out = settled("/v1/chat/completions", body)
    assert out is body
    assert ask.max_tokens is None


def read(path: str, body: dict[str, Any]) -> tuple[Route, Ask, bytes]:
    route = TABLE["POST", path]
    raw = json.dumps(body).encode()
    asked = route.dialect.read(route.endpoint, raw, "application/json")
    assert isinstance(asked, Ask), asked
    return route, asked, raw


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("path", "body", "bound"),
    [
        ("/v1/chat/completions", CHAT, None),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 9}, 9),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 9, "max_completion_tokens": 30}, 30),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 0}, None),
        ("/v1/responses", {"model": "m", "input": "hi", "max_output_tokens": 7}, 7),
        ("/completion", {"prompt": "hi", "n_predict": -1}, None),
        ("/completion", {"prompt": "hi", "n_predict": 0}, 0),
        ("/completion", {"prompt": "hi", "n_predict": 5}, 5),
        ("/api/chat", {**CHAT, "options": {"num_predict": 6}}, 6),
        ("/api/chat", {**CHAT, "options": {"num_predict": -1}}, None),
        ("/api/chat", {**CHAT, "options": {"NUM_PREDICT": 8}}, 8),
        ("/generate", {"inputs": "hi", "parameters": {"max_new_tokens": 4}}, 4),
    ],
)
def test_the_bound_of_an_answer(path: str, body: dict[str, Any], bound: int | None) -> None:
    route, asked, _ = read(path, body)
    assert parameters.longest(route.dialect.name, asked) == bound


@pytest.mark.parametrize("value", ["many", "nan", "inf", 10**400, 1e999])
def test_a_bound_that_cannot_be_relied_on_is_none(value: Any) -> None:
    assert parameters.longest("openai", Ask("m", fields={"max_completion_tokens": value})) is None


@pytest.mark.parametrize(
    ("path", "body", "count"),
    [
        ("/v1/chat/completions", CHAT, 1),
        ("/v1/chat/completions", {**CHAT, "n": 3}, 3),
        ("/v1/completions", {"model": "m", "prompt": "a"}, 1),
        ("/v1/completions", {"model": "m", "prompt": ["a", "b"]}, 2),
        ("/v1/completions", {"model": "m", "prompt": [1, 2, 3]}, 1),
        ("/v1/completions", {"model": "m", "prompt": [[1, 2], [3]], "n": 2, "best_of": 5}, 10),
        ("/v1/completions", {"model": "m", "prompt": "a", "n": -4}, 1),
        ("/completion", {"prompt": "a", "n_cmpl": 2}, 2),
        ("/generate", {"inputs": "a", "parameters": {"best_of": 2}}, 2),
        ("/api/chat", {**CHAT, "options": {"num_predict": 6}}, 1),
    ],
)
def test_how_many_answers(path: str, body: dict[str, Any], count: int) -> None:
    route, asked, _ = read(path, body)
    assert parameters.answers(route.dialect.name, asked) == count


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"max_tokens": 7}),
        ("/v1/chat/completions", {"max_tokens": 7, "n": 3}),
        ("/v1/chat/completions", {"max_tokens": 7, "max_completion_tokens": 9}),
        ("/v1/completions", {"max_tokens": 7, "prompt": ["a", "b"]}),
        ("/completion", {"n_predict": 7, "n_cmpl": 2, "prompt": "a"}),
        ("/generate", {"inputs": "a", "parameters": {"max_new_tokens": 7, "best_of": 2}}),
        ("/api/chat", {"options": {"num_predict": 6}}),
        ("/v1/messages", {"max_tokens": 7}),
    ],
)
def test_how_long_and_how_many_at_once(path: str, more: dict[str, Any]) -> None:
    chat = {} if path in ("/v1/completions", "/completion", "/generate") else CHAT
    route, asked, _ = read(path, {"model": "m", **chat, **more})
    dialect = route.dialect.name
    both = parameters.longest(dialect, asked), parameters.answers(dialect, asked)
    assert parameters.longest_answers(dialect, asked) == both


@pytest.mark.parametrize(
    ("path", "body", "bounded"),
    [
        ("/v1/chat/completions", CHAT, {"max_tokens": 5}),
        (
            "/v1/chat/completions",
            {**CHAT, "max_tokens": 50, "max_completion_tokens": 70},
            {"max_tokens": 5, "max_completion_tokens": 5},
        ),
        ("/api/chat", {**CHAT, "options": {"NUM_PREDICT": 50}}, {"options": {"NUM_PREDICT": 5, "num_predict": 5}}),
        ("/v1/responses", {"model": "m", "input": "hi"}, {"max_output_tokens": 5}),
        ("/completion", {"prompt": "hi", "n_predict": -1}, {"n_predict": 5}),
        ("/api/chat", {**CHAT, "options": {"num_predict": 60, "seed": 1}}, {"options": {"num_predict": 5, "seed": 1}}),
        ("/generate", {"inputs": "hi", "parameters": {"max_new_tokens": 40}}, {"parameters": {"max_new_tokens": 5}}),
    ],
)
def test_bounded_under_every_name_that_it_uses(path: str, body: dict[str, Any], bounded: dict[str, Any]) -> None:
    route, asked, raw = read(path, body)
    asked, out = parameters.bound(route, asked, raw, 5)
    assert json.loads(out) == {**body, **bounded}
    assert parameters.longest(route.dialect.name, asked) == 5


@pytest.mark.parametrize(
    ("value", "text"), [(10**400, "n=inf"), (-(10**400), "n=-inf"), (10**300, "n=1e+300"), (1e308, "n=1e+308")]
)
def test_a_number_of_any_size_is_noted(value: float, text: str) -> None:
    """Integers are good JSON at any length, and a receipt may not fail over one."""
    ask = Ask("m", fields={"n": value})
    assert noted("openai", ask) == text
    assert read_noted(text) == {"n": [float(text[2:])]}
