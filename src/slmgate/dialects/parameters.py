"""One name for what several APIs call differently: the parameters of a request that a policy can speak of.

`max_tokens` is also `max_completion_tokens`, `n_predict` or Ollama's `options.num_predict`. Here stands where each is found in a
body, how its value is read as a plain one, and how one is set. What values are allowed is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from math import inf
from typing import Any

import msgspec

from slmgate.dialects.body import USUAL, replace
from slmgate.dialects.contract import Route
from slmgate.terms import Ask

Scalar = str | int | float | bool
Fields = Mapping[str, Any]

NESTED = {"ollama": "options", "tgi": "parameters"}
"""Where APIs keep the parameters of generation, if not at the top."""

NAMES: dict[str, tuple[str, ...]] = {
    "max_tokens": (
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n_predict",
        "num_predict",
        "max_new_tokens",
    ),
    "n": ("n", "n_cmpl"),
    "best_of": ("best_of",),
    "logprobs": ("logprobs", "top_logprobs", "n_probs", "top_n_tokens"),
    "prompt_logprobs": ("prompt_logprobs", "decoder_input_details"),
    "tools": ("tools", "functions"),
    "tool_choice": ("tool_choice", "function_call"),
    "response_format": (
        "response_format",
        "format",
        "text",
        "grammar",
        "json_schema",
        "structured_outputs",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "regex",
        "ebnf",
    ),
    "chat_template_kwargs": ("chat_template_kwargs", "chat_template"),
    "stop": ("stop", "stop_sequences"),
}
"""Parameters with several names: the shared one, and those that engines take for it. Any other name stands for itself."""

URLS: dict[str, frozenset[str]] = {
    "image_url": frozenset(("image_url", "video_url", "audio_url")),
    "file_url": frozenset(("file_url",)),
}
"""Parameters that are URLs in messages, which an engine fetches: pictures (video and sound too), and files."""

# Where a negative number means as many as there are, or for ever.
_UNBOUNDED = frozenset(("max_tokens", "logprobs", "prompt_logprobs", "keep_alive"))
# Names of the length under which 0 is no bound either: Ollama reads it so, and SGLang, which passes over what is falsy.
_ZERO_IS_NONE = frozenset(("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict"))
# Of parts that keep their URL in a `source` (Anthropic): the part's type.
_SOURCES = {"image_url": "image", "file_url": "document"}
# Of APIs with a place for parameters, those that stand beside it all the same.
_BESIDE = {
    "ollama": frozenset(
        (
            "dimensions",
            "format",
            "keep_alive",
            "logprobs",
            "raw",
            "suffix",
            "system",
            "template",
            "think",
            "top_logprobs",
            "truncate",
        )
    )
}
_KNOWN = USUAL.union(*NAMES.values())
_PRIMARY = {"responses": "max_output_tokens", "messages": "max_tokens"}
_SET_AS = {
    ("ollama", "max_tokens"): "num_predict",
    ("tgi", "max_tokens"): "max_new_tokens",
    ("llamacpp", "max_tokens"): "n_predict",
}

NOTED = ("max_tokens", "n", "best_of", "logprobs", "prompt_logprobs", "tools", "response_format")
"""What a receipt keeps, so that a past request can be held against another policy. Never a text that a client wrote."""

_NOTED_NAMES = frozenset(name for shared in NOTED if shared != "max_tokens" for name in NAMES[shared])
_MAX_KEPT = 8
_LENGTHS = frozenset(NAMES["max_tokens"][1:]) | frozenset(NESTED.values())
_SEVERAL = frozenset((*NAMES["n"], *NAMES["best_of"]))
_NOT_ONE = _LENGTHS | _SEVERAL | {"prompt"}  # without any of these it is one answer, of the length that `Ask` says


def values(dialect: str, fields: Fields, name: str) -> list[Scalar]:
    """What a request gives to the parameter `name` under any of its names, wherever its API takes it; null gives nothing.

    A list counts as its length (none: false), an object as its `type`; "as many as there are" is infinite; URLs are told one by
    one. Names are looked for in any letter case, since Go's decoder (Ollama) takes `Format` for `format`.
    """
    if dialect not in NESTED and name not in URLS and _KNOWN.issuperset(fields):  # as nearly always
        plain: list[Scalar] = []
        for wire in NAMES.get(name) or (name,):
            if wire in fields:
                value = fields[wire]
                if type(value) is int and value > 0:
                    plain.append(value)
                elif value is not None and (wire != "text" or isinstance(value, dict)):
                    plain.append(_plain(name, wire, value))
        return plain
    if name in URLS:
        found_urls: list[Scalar] = list(_urls(fields, name))
        if dialect == "tgi" and name == "image_url":
            found_urls += _markdown_images(fields.get("inputs"))
        return found_urls
    places: list[Fields] = [fields]
    inner = fields.get(NESTED.get(dialect, ""))
    if isinstance(inner, dict):
        places.append(inner)
    found: list[Scalar] = []
    names = NAMES.get(name) or (name,)
    for place in places:
        for wire in names:
            value = place.get(wire)
            if value is not None and (wire != "text" or isinstance(value, dict)):
                found.append(_plain(name, wire, value))
        if not _KNOWN.issuperset(place):
            odd = [key for key in place if not (key.islower() and key.isascii())] if name.islower() else [*place]
            if odd:
                found += (_plain(name, wire, place[key]) for key, wire in _otherwise_spelt(odd, names) if place[key] is not None)
    return found


def _otherwise_spelt(keys: Iterable[str], names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Those of `keys` that are one of `names` but for the case of their letters, each with that name."""
    folded = {name.casefold(): name for name in names}
    for key in keys:
        if key not in names and (wire := folded.get(key.casefold())) is not None:
            yield key, wire


def _plain(name: str, wire: str, value: Any) -> Scalar:
    if isinstance(value, bool | str):
        return "grammar" if name == "response_format" and wire != "format" else value
    if isinstance(value, int | float):
        free = value < 0 and name in _UNBOUNDED
        return inf if free or (value == 0 and wire in _ZERO_IS_NONE) else value
    if name == "response_format":
        return _format(wire, value)
    if isinstance(value, dict):
        kind = value.get("type")
        return kind if isinstance(kind, str) and kind else bool(value)
    return len(value) or False


def _format(wire: str, value: Any) -> str:
    """The kind of a structured answer: `text`, `json_object`, `json_schema`, or `grammar` for all that is more than those."""
    if wire == "text":  # of the responses API: the format is one deeper
        value = value.get("format") if isinstance(value, dict) else None
        if value is None:
            return "text"
    if wire in ("json_schema", "guided_json"):
        return "json_schema"
    kind = value.get("type") if isinstance(value, dict) else None
    if wire in ("response_format", "text") and isinstance(kind, str):
        return kind
    return "json_schema" if wire == "format" else "grammar"


def _urls(value: Any, name: str) -> Iterator[str]:
    """The URLs of one kind, wherever they stand. Walks with a list of its own: bodies may be deep."""
    keys, source = URLS[name], _SOURCES[name]
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(child for child in one if isinstance(child, dict | list))
        elif isinstance(one, dict):
            for key in keys.intersection(one):
                yield from _url(one[key])
            if one.get("type") == source:
                yield from _url(one.get("source"))
            waiting.extend(child for child in one.values() if isinstance(child, dict | list))


def _url(value: Any) -> Iterator[str]:
    text = value.get("url") if isinstance(value, dict) else value
    if isinstance(text, str):
        yield text


def _markdown_images(text: Any) -> Iterator[str]:
    """The URLs of pictures in a prompt, `![...](URL)`, which TGI fetches. Linear, whatever the text."""
    for before, after in pairwise(text.split("](") if isinstance(text, str) else ()):
        if before.rfind("![") > before.rfind("]"):
            yield after.partition(")")[0].strip()


def longest(dialect: str, ask: Ask) -> int | None:
    """The bound of an answer's tokens that the request sets under any name, the largest of several; None: it sets none."""
    if ask.max_tokens is not None and ask.max_tokens > 0 and _LENGTHS.isdisjoint(ask.fields):
        return ask.max_tokens
    found = [_number(value) for value in values(dialect, ask.fields, "max_tokens")]
    most = max(found, default=inf)
    return None if most == inf else max(0, int(most))


def longest_answers(dialect: str, ask: Ask) -> tuple[int | None, int]:
    """`longest` and `answers` of a request that generates."""
    if ask.max_tokens is not None and ask.max_tokens > 0 and _NOT_ONE.isdisjoint(ask.fields):  # as nearly always
        return ask.max_tokens, 1
    return longest(dialect, ask), answers(dialect, ask)


def answers(dialect: str, ask: Ask) -> int:
    """How many answers of that length the request is for: `n` or `best_of` for each of its prompts."""
    fields = ask.fields
    prompt = fields.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    if _SEVERAL.isdisjoint(fields) and NESTED.get(dialect, "") not in fields:
        return prompts
    each = [1.0]
    for name in ("n", "best_of"):
        each += (number for value in values(dialect, fields, name) if (number := _number(value)) != inf)
    return prompts * int(max(each))


def bound(route: Route, ask: Ask, body: bytes, most: int) -> tuple[Ask, bytes]:
    """A request whose answers are at most `most` tokens long, under the name that its API has and every other that it uses."""
    places = [ask.fields, ask.fields.get(NESTED.get(route.dialect.name, ""))]
    given = {name for place in places if isinstance(place, dict) for name in place}
    others = [name for name in NAMES["max_tokens"] if name in given and name != "max_tokens"]
    odd = [name for name in given if name not in _KNOWN and name.casefold() in NAMES["max_tokens"]]
    return settle(route, ask, body, [("max_tokens", most), *((name, most) for name in (*others, *odd))])


def _number(value: Scalar) -> float:
    """A value as a number; infinite for what is none, or none that can be relied on."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return inf
    return inf if number != number else number


def noted(dialect: str, ask: Ask) -> str:
    """The parameters that a receipt keeps, as `name=value` with spaces between; empty where there are none.

    A value is a number, a boolean or one of our own words, so that nothing a client wrote comes through.
    """
    found = [] if ask.max_tokens is None else [f"max_tokens={ask.max_tokens}"]
    inner = ask.fields.get(NESTED.get(dialect, ""))
    if _NOTED_NAMES.isdisjoint(ask.fields) and (not isinstance(inner, dict) or _NOTED_NAMES.isdisjoint(inner)):
        return found[0] if found else ""
    for name in NOTED[1:]:
        for value in values(dialect, ask.fields, name)[:_MAX_KEPT]:
            text = _word(value)
            if text:
                found.append(f"{name}={text}")
    return " ".join(found)


def _word(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if value in ("text", "json", "json_object", "json_schema", "grammar", "structural_tag") else "other"
    try:
        return f"{value:g}"
    except OverflowError:  # an integer of hundreds of digits, which is good JSON
        return "inf" if value > 0 else "-inf"


def read_noted(text: str) -> dict[str, list[Scalar]]:
    """What `noted` wrote, read back: parameter -> its values."""
    found: dict[str, list[Scalar]] = {}
    for pair in text.split():
        name, _, value = pair.partition("=")
        found.setdefault(name, []).append(_scalar(value))
    return found


def _scalar(text: str) -> Scalar:
    if text in ("true", "false"):
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def settle(route: Route, ask: Ask, body: bytes, settings: Iterable[tuple[str, Scalar]]) -> tuple[Ask, bytes]:
    """A request with these parameters set, under the name that its API has for each; all others keep their bytes.

    A form (`Route.kind`) is left as it is: nothing that can be ruled is in one.
    """
    if route.kind != "json":
        return ask, body
    dialect = route.dialect.name
    nested = NESTED.get(dialect, "")
    beside = _BESIDE.get(dialect, frozenset())
    members: dict[str, Any] = {}
    inner = dict(ask.fields.get(nested) or {}) if nested else {}
    most = ask.max_tokens
    for name, value in settings:
        wire = _SET_AS.get((dialect, name)) or (_PRIMARY.get(route.endpoint, name) if name == "max_tokens" else name)
        within = nested != "" and wire not in beside
        place = inner if within else ask.fields
        if place.get(wire) != value or type(place.get(wire)) is not type(value):
            if within:
                inner[wire] = value
                members[nested] = inner
            else:
                members[wire] = value
        if name == "max_tokens" and isinstance(value, int):
            most = value
    if not members:
        return ask, body
    fields = {**ask.fields, **members}
    return msgspec.structs.replace(ask, fields=fields, max_tokens=most), replace(body, members)
