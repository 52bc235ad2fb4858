"""What a JSON body must be to be read: accepted and refused inputs, by table and by generated ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects import body as subject
from slmgate.dialects.figures import MAX_COUNT
from slmgate.terms import Refuse

ROOM = frozenset(("max_tokens", "n_predict"))
FREE = frozenset(("n_predict",))


@pytest.mark.parametrize(
    ("content_type", "plain", "form"),
    [
        ("application/json", True, True),
        ("", True, True),
        ("Application/JSON", True, True),
        ("application/json; charset=utf-8", True, True),
        ('application/json ; charset="UTF-8"', True, True),
        ("application/json; charset=utf8", True, True),
        ("application/json; profile=x", True, True),
        ("application/vnd.api+json", True, True),
        ("application/json; charset=utf-16", False, False),
        ("application/json; charset=utf-8; charset=utf-16", False, False),
        ("application/json; charset=utf-8; charset=utf-8", False, False),
        ("application/x-www-form-urlencoded", False, True),
        ("application/x-www-form-urlencoded; charset=latin-1", False, False),
        ("multipart/form-data; boundary=x", False, False),
        ("text/plain", False, False),
        ("text/x+json", False, False),
        ("application/jsonx", False, False),
        ("application/json\n", True, True),  # white space at the end, which no header section can carry
    ],
)
def test_media_types(content_type: str, plain: bool, form: bool) -> None:
    assert (subject.media_refusal(content_type) is None) == plain
    assert (subject.media_refusal(content_type, form_label=True) is None) == form


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m"}',
        b' \r\n\t{"model" : "m"}\n',
        b'{"model":"m","temperature":1.0e0,"top_p":1E+0}',
        b'{"model":"\\u006d","x":{"a:b":"c:d:\\n"}}',
        b'{"a":{"b":1},"c":{"b":1}}',  # the same key in two objects
        b'{"text":"\\u003a \\\\u003a"}',  # an escaped colon: read again, slowly, and found to be in order
        b'{"emoji":"\\ud83d\\ude00","raw":"\xf0\x9f\x98\x80"}',
        b'{"long":123456789012345678901234567890}',
    ],
)
def test_bodies_that_are_read(body: bytes) -> None:
    assert subject.read_object(body) == json.loads(body)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (b"[]", "not an object"),
        (b'"model"', "object"),
        (b"null", "object"),
        (b"model=m", "JSON"),
        (b'{"model":"m"', "cut off"),
        (b'{"model":"m"}{"model":"n"}', "JSON"),
        (b'{"model":"m"} x', "JSON"),
        (b'{"model":"m",}', "JSON"),
        (b"{'model':'m'}", "near byte 1"),
        (b'\xef\xbb\xbf{"model":"m"}', "JSON"),
        ('{"model":"m"}'.encode("utf-16"), "JSON"),
        ('{"model":"m"}'.encode("utf-32-le"), "JSON"),
        (b'{"model":"\xff"}', "UTF-8"),
        (b'{"model":"\xc0\xaf"}', "UTF-8"),
        (b'{"model":"\xed\xa0\x80"}', "UTF-8"),
        (b'{"model":"\\ud800"}', "surrogate"),
        (b'{"model":"\\udc00\\ud800"}', "JSON"),
        (b'{"model":"a\x00b"}', "JSON"),
        (b'{"n":NaN}', "JSON"),
        (b'{"n":Infinity}', "JSON"),
        (b'{"n":1e400}', "too large"),
        (b'{"n":' + b"9" * 10_000 + b"}", "too large"),
        (b'{"n":01}', "JSON"),
        (b"[" * 100_000, "object"),
        (b'{"a":' * 100_000, "deep"),
        (b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "deep"),
        (b'{"model":"a","model":"b"}', "model comes twice"),
        (b'{"model":"a","model":"a"}', "model comes twice"),
        (b'{"model":"a", "\\u006dodel":"b"}', "model comes twice"),
        (b'{"x":{"y":[{"z":1,"z":2}]}}', "twice"),
        (b'{"x":":","x":"\\u003a\\u003a\\u003a"}', "twice"),
        (b'{"x":1,"x":"\\u003a\\u003A"}', "twice"),
        (b'{"Model":"a","model":"b"}', "lower case"),
        (b'{"MAX_TOKENS":1}', "lower case"),
        ('{"\u017ftream":true}'.encode(), "lower case"),
    ],
)
def test_bodies_that_are_refused(body: bytes, word: str) -> None:
    refused = subject.read_object(body)
    assert isinstance(refused, Refuse)
    assert refused.code == "invalid_request"
    assert word in refused.message


@pytest.mark.parametrize("around", ['{{"n":{}}}', '{{"model":"m","x":[{{"y":[1,{}]}}]}}', '{{"x":1.0, "seed" : {} }}'])
@pytest.mark.parametrize("number", ["1.{}", "-0.{}", "1e{}1", "1E-{}1", "1{}e-19999", "0.5{}", "-1.25e+{}1"])
def test_numbers_of_many_digits(around: str, number: str) -> None:
    zeros = subject.MAX_DIGITS - 1 - sum(part in number for part in ("}1", "5{", "1{"))
    good = around.format(number.format("0" * zeros)).encode()
    assert subject.read_object(good) == json.loads(good)
    for more in (1, 2, 124, 125, 9_000):
        refused = subject.read_object(around.format(number.format("0" * (zeros + more))).encode())
        assert isinstance(refused, Refuse)
        assert "1000 digits" in refused.message


@pytest.mark.parametrize("sign", ["", "-"])
def test_whole_numbers_of_many_digits(sign: str) -> None:
    good = f'{{"n":{"9" * (subject.MAX_DIGITS - 1)}}}'.encode()
    assert subject.read_object(good) == json.loads(good)
    for digits in (subject.MAX_DIGITS, 1_500, 4_300, 4_301, 10_000):
        refused = subject.read_object(f'{{"n":{sign}{"9" * digits}}}'.encode())
        assert isinstance(refused, Refuse)


@given(st.integers(0, 400), st.integers(0, 3_000), st.integers(0, 400))
def test_a_run_of_digits_is_found_wherever_it_begins(before: int, digits: int, behind: int) -> None:
    body = f'{{"a":"{"x" * before}","n":0.{"7" * digits or 0},"b":"{"y" * behind}"}}'.encode()
    assert isinstance(subject.read_object(body), Refuse) == (digits >= subject.MAX_DIGITS)


def test_digits_in_a_text_are_no_number() -> None:
    body = json.dumps({"model": "m", "prompt": "3" * 20_000}).encode()
    assert subject.read_object(body) == json.loads(body)


@pytest.mark.parametrize("body", [b"", b"\xef\xbb\xbf{}", b"{", b"[1]", b'{"n":1e999}', b'{"a":"\\udc00"}', b"nul", b"{}}"])
def test_no_word_of_a_parser_goes_out(body: bytes) -> None:
    refused = subject.read_object(body)
    assert isinstance(refused, Refuse)
    assert not {"Input", "truncated", "malformed", "Expected", "range"} & set(refused.message.replace("`", " ").split())


@pytest.mark.parametrize(
    ("body", "content_type", "refusal"),
    [
        (b'{"model":"m"}', "application/json", None),
        (b'{"model":"m"}', "text/plain", "unsupported_media_type"),
        (b'{"model":"m"}', "application/x-www-form-urlencoded", "unsupported_media_type"),
        (b"{", "application/json", "invalid_request"),
        (b"{}", "application/json", "invalid_request"),
        (b'{"model":7}', "application/json", "invalid_request"),
    ],
)
def test_how_a_request_is_read(body: bytes, content_type: str, refusal: str | None) -> None:
    found = subject.read_request(body, content_type)
    assert (found.code if isinstance(found, Refuse) else None) == refusal


def test_how_a_request_is_read_that_need_not_say_much() -> None:
    label = "application/x-www-form-urlencoded"
    assert subject.read_request(b"{}", label, form_label=True, named=False) == {}
    assert isinstance(subject.read_request(b"{}", label, form_label=True), Refuse)
    assert isinstance(subject.read_request(b'{"model":""}', label, form_label=True, named=False), Refuse)


def test_a_body_that_only_the_second_reading_finds_too_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(json, "loads", too_deep)
    assert isinstance(subject.read_object(b'{"text":"\\u003a"}'), Refuse)


def test_what_was_read_can_be_replaced_from_a_deeper_call() -> None:
    def further(body: bytes, frames: int) -> bytes:
        return subject.replace(body, {"model": "n"}) if frames == 0 else further(body, frames - 1)

    read = 0
    for depth in range(1, 1_200, 7):
        body = b'{"model":"m","x":' + b"[" * depth + b"]" * depth + b"}"
        if not isinstance(subject.read_object(body), Refuse):
            read += 1
            assert further(body, subject.MARGIN - 10).startswith(b'{"model":"n"')
    assert 50 < read < 171


def test_a_refusal_names_only_fields_that_it_knows() -> None:
    refused = subject.read_object(b'{"secret":1,"secret":2}')
    assert isinstance(refused, Refuse)
    assert refused.param is None
    assert "secret" not in refused.message


SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(st.text(), VALUES, max_size=6), st.sampled_from([None, 1]), st.booleans())
def test_any_object_is_read_for_what_it_is(value: dict[str, object], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON in UTF-8 cannot say
        return
    found = subject.read_object(encoded)
    lowered = {key.casefold() for key in value if key not in subject.GUARDED}
    if isinstance(found, Refuse):
        assert lowered & subject.GUARDED or "\\ud" in text
    else:
        assert found == value


@given(st.text(), VALUES, VALUES, st.lists(st.sampled_from(["list", "object"]), max_size=4), st.booleans(), st.booleans())
def test_a_duplicate_is_refused_wherever_it_is(
    key: str, one: object, two: object, around: list[str], spaced: bool, ascii_only: bool
) -> None:
    gap = " " if spaced else ""
    name = json.dumps(key, ensure_ascii=True)
    text = f"{{{name}:{gap}{json.dumps(one, ensure_ascii=True)},{gap}{name}:{json.dumps(two, ensure_ascii=ascii_only)}}}"
    for kind in around:
        text = f'{{"outer":[{text}]}}' if kind == "list" else f'{{"outer":{gap}{text}}}'
    assert isinstance(subject.read_object(text.encode("utf-8", "surrogatepass")), Refuse)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert isinstance(subject.read_object(data), dict | Refuse)


@pytest.mark.parametrize("model", ["m", "x" * subject.MAX_MODEL, "HuggingFaceTB/SmolLM2-135M:latest", "größe", "two words"])
def test_names_of_models(model: str) -> None:
    assert subject.model_refusal(model) is None


@pytest.mark.parametrize(
    "model",
    [
        None,
        "",
        "x" * (subject.MAX_MODEL + 1),
        " m",
        "m ",
        "m\n",
        "a\x00b",
        "a\x7fb",
        "a\u200bb",
        "a\u2028b",
        1,
        True,
        ["m"],
        {"m": 1},
    ],
)
def test_what_names_no_model(model: object) -> None:
    refused = subject.model_refusal(model)
    assert refused is not None
    assert (refused.code, refused.param) == ("invalid_request", "model")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, False), ({"stream": None}, False), ({"stream": True}, True), ({"stream": False}, False)],
)
def test_flags(fields: subject.Fields, expected: bool) -> None:
    assert subject.flag(fields, "stream") is expected
    assert subject.flag({}, "stream", default=True) is True


@pytest.mark.parametrize("value", [1, 0, "true", [], {}])
def test_what_is_no_flag(value: object) -> None:
    refused = subject.flag({"stream": value}, "stream")
    assert isinstance(refused, Refuse)
    assert refused.param == "stream"


def test_children() -> None:
    assert subject.child({}, "options") == {}
    assert subject.child({"options": None}, "options") == {}
    assert subject.child({"options": {"a": 1}}, "options") == {"a": 1}
    assert isinstance(subject.child({"options": []}, "options"), Refuse)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": MAX_COUNT}, MAX_COUNT),
        ({"max_tokens": 7, "n_predict": 9}, 9),
        ({"max_tokens": 9, "n_predict": 7}, 9),
        ({"max_tokens": 9, "n_predict": -1}, None),
        ({"n_predict": -2}, None),
    ],
)
def test_bounds(fields: subject.Fields, expected: int | None) -> None:
    assert subject.bound(fields, ROOM, FREE) == expected


@pytest.mark.parametrize("value", [-1, MAX_COUNT + 1, 1.0, 1.5, "7", True, False, [], {}])
def test_what_is_no_bound(value: object) -> None:
    refused = subject.bound({"max_tokens": value}, ROOM, FREE)
    assert isinstance(refused, Refuse)
    assert refused.param == "max_tokens"


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_estimate(size: int, tokens: int) -> None:
    assert subject.estimate(size) == tokens


def test_splice_and_replace_leave_the_rest_as_it_was() -> None:
    body = b' { "model" : "m", "t": 1.0e0, "x": {"y": [1, 2]}}'
    assert subject.splice(body, b'"s":1') == b' {"s":1, "model" : "m", "t": 1.0e0, "x": {"y": [1, 2]}}'
    assert subject.replace(body, {"model": "n", "z": True}) == b'{"model":"n","t":1.0e0,"x":{"y": [1, 2]},"z":true}'


@pytest.mark.parametrize(("members", "refused"), [(subject.MAX_MEMBERS, False), (subject.MAX_MEMBERS + 1, True)])
def test_so_many_fields_and_no_more(members: int, refused: bool) -> None:
    body = b'{"model":"m","a":[' + b",".join([b'{"abcdefgh":0}'] * (members - 2)) + b"]}"
    assert len(body) > subject.LARGE
    for one in (body, body.replace(b'h":', b'h" :')):
        assert isinstance(subject.read_object(one), Refuse) is refused


@pytest.mark.parametrize("name", [*sorted(subject.INSIDE), "Bootstrap_Host"])
def test_what_engines_tell_each_other(name: str) -> None:
    """It would have the engine connect to a machine of the client's choice, or read another's cache there."""
    refused = subject.read_object(b'{"model":"m","%b":{"remote_host":"10.0.0.9"}}' % name.encode())
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.param) == ("parameter_not_allowed", name)
    assert subject.read_object(b'{"model":"m","%b":null}' % name.encode()) == {"model": "m", name: None}, "that says nothing"
