"""Strict reading of JSON request bodies: one meaning or a `Refuse`.

Two parsers that read one body differently are a hole in every policy, so whatever they are known to differ on is
refused here: duplicate keys, keys that differ from a guarded one only in case, lone surrogates, byte-order marks,
numbers that overflow or go on for pages. This module knows the fields that all dialects share, not what any one dialect
means by them.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import msgspec

from slmgate.dialects.figures import MAX_COUNT
from slmgate.terms import Refuse

Fields = dict[str, Any]

MAX_MEMBERS = 100_000
"""Fields of all objects in one body. Reading more would hold up a worker for a good part of a second."""

LARGE = 512 * 1024
"""Bytes; a smaller body cannot have so many that it matters."""

MAX_MODEL = 256
"""Characters of a model's name."""

SHALLOW = 256
"""Brackets. A body with no more of them can be decoded at any depth of calls that the road has; each needs two bytes."""

MARGIN = 100
"""Calls. How much deeper a body with more brackets must be readable, for nesting and calls share Python's one limit."""

MAX_DIGITS = 1000
"""Digits in a row. A number with as many is refused: no two parsers take it for the same, and some take long."""

UNLIMITED = (-1, -2)
"""llama.cpp: -1 no bound, -2 until the context is full; Ollama's `num_predict` says the same."""

GUARDED = frozenset(
    (
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n_predict",
        "options",
        "parameters",
        "inputs",
        "prompt",
        "messages",
        "input",
        "n",
        "best_of",
        "logprobs",
        "top_logprobs",
        "prompt_logprobs",
        "tools",
        "functions",
        "response_format",
        "chat_template",
        "chat_template_kwargs",
    )
)
"""Fields that decisions rest on. Go's decoder (Ollama) takes `Model` for `model`; others do not: so neither passes."""

INSIDE = frozenset(
    ("kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key", "custom_logit_processor")
)
"""What engines tell each other in requests when they share the work: which machine to connect to, whose cache to read there
(vLLM, SGLang). And a program that the engine is to run (SGLang). A client has no business with any of it."""

USUAL = GUARDED | frozenset(
    (
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "seed",
        "user",
        "tool_choice",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "system",
        "instructions",
        "metadata",
        "store",
        "format",
        "keep_alive",
        "encoding_format",
        "dimensions",
    )
)
"""Fields known to be spelled as they should be: one set comparison spares the usual body a loop over its keys."""

_DECODER = msgspec.json.Decoder(Fields)
_ENCODER = msgspec.json.Encoder()
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_JSON_TYPES = frozenset(("application/json", "", "application/json; charset=utf-8", "application/json;charset=utf-8"))


_BYTE = re.compile(r"\(byte ([0-9]+)\)")
_LONG = re.compile(f"[0-9]{{{MAX_DIGITS}}}")
# Of so many digits in a row every 125th is a digit as well, eight times over. To look only there, with all digits turned
# into zeros, costs next to nothing; text and pictures pass it, and what does not is read a second time.
_STEP = MAX_DIGITS // 8
_SIGN = b"0" * 8
_ZEROS = bytes.maketrans(b"123456789", b"000000000")


class _TwiceError(Exception):
    """Carries a duplicate key out of `json.loads`; never leaves this module."""


class _LongError(Exception):
    """A number with too many digits, found by `json.loads`; never leaves this module."""


def unreadable(message: str, param: str | None = None) -> Refuse:
    """The `Refuse` for a body that cannot be read; `message` says what to do."""
    return Refuse("invalid_request", message, param)


def media_refusal(content_type: str, form_label: bool = False) -> Refuse | None:
    """None if a JSON body may come under this Content-Type (RFC 9110 section 8.3), else the `Refuse`.

    Accepted: none at all, `application/json`, `application/<x>+json`, each with no charset or utf-8. `form_label`
    accepts `application/x-www-form-urlencoded` as well, which `curl -d` writes by default and the engines whose
    documents show such calls (Ollama, llama.cpp, TGI) never look at; the body must be strict JSON all the same.
    """
    if content_type in _JSON_TYPES:
        return None
    kind, *params = (part.strip().lower() for part in content_type.split(";"))
    json_kind = kind in ("", "application/json") or (kind.startswith("application/") and kind.endswith("+json"))
    if json_kind or (form_label and kind == "application/x-www-form-urlencoded"):
        charsets = [param for param in params if param.startswith("charset")]
        if all(param.replace('"', "") in ("charset=utf-8", "charset=utf8") for param in charsets) and len(charsets) < 2:
            return None
    return Refuse("unsupported_media_type", "Send the body as JSON, with the header Content-Type: application/json.")


def read_object(body: bytes) -> Fields | Refuse:
    """The JSON object (RFC 8259) that is the whole of `body`, or a `Refuse` where it has not exactly one meaning."""
    size = len(body)
    if size > LARGE and _is_crowded(body):
        return unreadable(f"The body has more than {MAX_MEMBERS} fields: send a plainer JSON object.")
    try:
        # a body of so few bytes has no more brackets, unless it is none
        shallow = size <= 2 * SHALLOW or _occurrences(body, b"[", SHALLOW + 1) + _occurrences(body, b"{", SHALLOW + 1) <= SHALLOW
        fields = _DECODER.decode(body) if shallow else _deeper(body, MARGIN)
        again = _ENCODER.encode(fields)
    except UnicodeDecodeError:
        return unreadable("The body is not valid UTF-8: send one JSON object, encoded in UTF-8.")
    except RecursionError:
        return unreadable("The body is nested too deeply: send a flatter JSON object.")
    except msgspec.MsgspecError as fault:
        return _malformed(body, fault)
    # A dropped duplicate takes at least its own colon with it. Colons inside strings come out as they went in, except
    # those written as an escape: so equal counts prove that no key came twice, at a fraction of a second parse's cost.
    suspect = again != body and (body.find(b"\\u003") >= 0 or _occurrences(again, b":") != _occurrences(body, b":"))
    if size > MAX_DIGITS and not suspect:
        suspect = body[::_STEP].translate(_ZEROS).find(_SIGN) >= 0
    if suspect and (refused := _read_again(body)) is not None:
        return refused
    if not USUAL.issuperset(fields):
        for key in fields:
            if key not in GUARDED and key.casefold() in GUARDED:
                return unreadable(f"Write the field {key.casefold()} in lower case.", key.casefold())
            if key.casefold() in INSIDE and fields[key] is not None:
                return Refuse("parameter_not_allowed", f"The field {key} is not for clients: leave it out.", key)
    return fields


def _is_crowded(body: bytes) -> bool:
    """Whether `body` has more than `MAX_MEMBERS` fields. Counts block by block, since what has far too many has them early."""
    seen = 0
    for start in range(0, len(body), LARGE):
        seen += body.count(b'":', start, start + LARGE) + body.count(b'" :', start, start + LARGE)
        if seen > MAX_MEMBERS:
            return True
    return False


def _occurrences(data: bytes, byte: bytes, most: int = -1) -> int:
    """How often one byte stands in `data`; beyond `most` it is not counted on.

    `bytes.count` looks at each byte by itself; `replace` goes from one to the next with `memchr`, ten times as fast in a prompt.
    """
    return len(data) - len(data.replace(byte, b"", most))


def _deeper(body: bytes, frames: int) -> Fields:
    """Decode `frames` calls further down: what fits there can be read again later, from a deeper place on the road."""
    return _DECODER.decode(body) if frames == 0 else _deeper(body, frames - 1)


def _malformed(body: bytes, fault: msgspec.MsgspecError) -> Refuse:
    """The `Refuse` for what the parser did not take, in our own words: its own are for programmers."""
    if not body.strip():
        return unreadable("The body is empty: send one JSON object, in UTF-8.")
    if isinstance(fault, msgspec.ValidationError):
        if body.lstrip().startswith(b"{"):
            return unreadable("A number in the body is too large: send a smaller one.")
        return unreadable("The body is JSON, but not an object: send one JSON object, in UTF-8.")
    place = _BYTE.search(str(fault))
    if place is None:
        return unreadable("The body is not valid JSON: it was cut off, or holds half of a surrogate pair. Send one whole object.")
    return unreadable(f"The body is not valid JSON (near byte {place[1]}): send one JSON object, in UTF-8.")


def _read_again(body: bytes) -> Refuse | None:
    """The slow way, for what the quick signs do not clear: None if no key comes twice and no number is too long."""

    def number(text: str) -> str:
        # It stays text: its value was read before, and Python refuses long ones for its own reasons.
        if _LONG.search(text):
            raise _LongError
        return text

    def pairs(members: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in members:
            if key in seen:
                raise _TwiceError(key)
            seen.add(key)

    try:
        json.loads(body, object_pairs_hook=pairs, parse_int=number, parse_float=number)
    except _LongError:
        return unreadable(f"A number in the body has {MAX_DIGITS} digits or more: send fewer.")
    except _TwiceError as fault:
        key = str(fault)
        name = key if key in GUARDED else None
        return unreadable(f"The field {name or 'of one object'} comes twice: send each field once.", name)
    except (ValueError, RecursionError):
        return unreadable("The body cannot be read in exactly one way: send one plain JSON object in UTF-8.")
    return None


@lru_cache(maxsize=256)
def _is_name(model: str) -> bool:
    """Whether a text of at most `MAX_MODEL` characters (longer ones are not to be kept) can be a model's name."""
    return len(model) > 0 and model.isprintable() and model.strip() == model


def model_refusal(model: object) -> Refuse | None:
    """None if `model` can be a model's name: 1 to 256 printable characters, no white space at either end."""
    if isinstance(model, str) and len(model) <= MAX_MODEL and _is_name(model):
        return None
    if model is None:
        return unreadable("Name the model in the field model.", "model")
    return unreadable("The field model must be the name of a model: a string of 1 to 256 printable characters.", "model")


def read_request(body: bytes, content_type: str, form_label: bool = False, named: bool = True) -> Fields | Refuse:
    """The fields of a request whose Content-Type, body and `model` are in order: how every dialect begins.

    `form_label`: see `media_refusal`. `named`: the body must name a model; else it may, for the engine has but one.
    """
    # The usual types are known here already: so the road has no more calls than if each dialect wrote this out.
    if content_type not in _JSON_TYPES and (refused := media_refusal(content_type, form_label)) is not None:
        return refused
    fields = read_object(body)
    if isinstance(fields, Refuse):
        return fields
    model = fields.get("model")
    if type(model) is str and len(model) <= MAX_MODEL and _is_name(model):
        return fields
    if (named or model is not None) and (refused := model_refusal(model)) is not None:
        return refused
    return fields


def flag(fields: Fields, name: str, default: bool = False) -> bool | Refuse:
    """The boolean field `name`; absent and null mean `default`."""
    value = fields.get(name)
    if value is True or value is False:
        return bool(value)
    return default if value is None else unreadable(f"The field {name} must be true or false.", name)


def child(fields: Fields, name: str) -> Fields | Refuse:
    """The object under `name`; absent and null mean an empty one."""
    value = fields.get(name)
    if value is None:
        return {}
    return value if isinstance(value, dict) else unreadable(f"The field {name} must be an object.", name)


def bound(fields: Fields, names: frozenset[str], unlimited: frozenset[str] = frozenset()) -> int | Refuse | None:
    """The bound on completion tokens that a client set under any of `names`: the largest, None where there is none.

    An engine may obey any of the names that it knows, so the largest is what may have to be paid for. `unlimited` are
    the names under which -1 and -2 mean "no bound".
    """
    largest: int | None = None
    free = False
    for name in names.intersection(fields):
        value = fields[name]
        if value is None:
            continue
        if type(value) is int and 0 <= value <= MAX_COUNT:
            largest = value if largest is None or value > largest else largest
        elif type(value) is int and value in UNLIMITED and name in unlimited:
            free = True
        else:
            return unreadable(f"The field {name} must be a whole number of tokens, 0 or more.", name)
    return None if free else largest


def estimate(size: int) -> int:
    """Tokens in about `size` bytes of prompt, for use where no engine's count is to be had."""
    return -(-size // 4)


def splice(body: bytes, member: bytes) -> bytes:
    """`body` with `member` (`"name":value`) as its first; no other byte changes. `body` is an object that is not empty."""
    start = body.index(b"{") + 1
    return b"%b%b,%b" % (body[:start], member, body[start:])


def replace(body: bytes, members: Fields) -> bytes:
    """`body` with these members set; the values of all others keep their bytes."""
    fields: Fields = dict(_RAW.decode(body))
    fields.update(members)
    return _ENCODER.encode(fields)
