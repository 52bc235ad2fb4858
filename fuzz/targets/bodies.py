"""JSON bodies, by every dialect and endpoint: what was read and what is sent on, against Python's own reader of JSON.

The first byte of an input says which endpoint, the rest is the body. What the gate refuses need not be wrong; what it takes must
have one meaning, the same for the gate, for another parser, and in the bytes that go to an instance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fuzz.target import Target
from slmgate.dialects import TABLE
from slmgate.dialects.contract import Dialect
from slmgate.errors import FAULTS
from slmgate.terms import Ask, Refuse
from tests.tools import transcripts

ROUTES = tuple(route for route in TABLE.values() if route.kind == "json")
OWN = {"stream_options": "include_usage", "parameters": "details"}
"""Where the gate itself may ask for usage: the field, and the one member of it that it sets."""


def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    assert len(found) == len(members), "a name that stands twice was let pass"
    return found


def alike(one: Any, other: Any) -> bool:
    """Whether two parsers read the same. Whole numbers of more than 64 bits are floats to one of them."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(*both) for both in zip(one, other, strict=True))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    return type(one) is type(other) and bool(one == other)


def without(fields: dict[str, Any], name: str) -> Any:
    """A field without the member in which the gate may ask for usage; none at all is as good as an empty one."""
    value = fields.get(name)
    if value is None:
        return {}
    return {key: inner for key, inner in value.items() if key.casefold() != OWN[name]} if isinstance(value, dict) else value


def check(data: bytes) -> None:
    if not data:
        return
    route, body = ROUTES[data[0] % len(ROUTES)], data[1:]
    dialect: Dialect = route.dialect
    ask = dialect.read(route.endpoint, body, "application/json")
    if isinstance(ask, Refuse):
        assert 400 <= FAULTS[ask.code].status < 500, ask
        assert ask.message.isprintable(), ask
        return
    assert isinstance(ask, Ask)
    other = json.loads(body.decode(), object_pairs_hook=pairs)
    assert alike(other, ask.fields), "another parser reads other fields"
    assert other.get("model", "") == ask.model or (ask.model == "" and other.get("model") is None), "another model"
    for named in (None, "up"):
        sent = dialect.patch(route.endpoint, ask, body, named)
        again = json.loads(sent.decode(), object_pairs_hook=pairs)
        if named is not None:
            assert again["model"] == named, "the model was not renamed"
        for name in again.keys() | other.keys():
            if name in OWN:
                assert alike(without(again, name), without(other, name)), f"more of {name} was changed than who asks for usage"
            elif name != "model" or named is None:
                assert alike(again.get(name, ...), other.get(name, ...)), f"{name[:40]!r} was changed on its way"
        second = dialect.read(route.endpoint, sent, "application/json")
        assert isinstance(second, Ask), "what is sent on would be refused"
        assert second.stream == ask.stream, "what is sent on streams otherwise"
        assert second.max_tokens == ask.max_tokens, "what is sent on has another bound"


def seeds() -> Iterable[bytes]:
    for path in sorted(transcripts.FOLDER.glob("*.http")):
        one = transcripts.transcript(path.stem)
        for at, route in enumerate(ROUTES):
            if route.path == one.path:
                yield bytes((at,)) + one.asked
    for at in range(len(ROUTES)):
        for body in (
            b'{"model":"m","stream":true,"stream_options":{"include_usage":false},"max_tokens":5,"n":2}',
            b'{"model":"m","messages":[{"role":"user","content":"\\ud83d\\ude00 hi"}],"options":{"num_predict":-1}}',
            b'{"model":"m","prompt":["a",[1,2]],"parameters":{"max_new_tokens":1.5},"inputs":"","stream":null}',
            b'{"model":"m","model":"n"}',
            b'{"Model":"m","x":1e400,"y":-0.0,"z":123456789012345678901234567890}',
            b'\xef\xbb\xbf{"model":"m"}',
            b'{"model":"m","a":{"b":[[[[{}]]]]},"\\u006dodel":"n"}',
        ):
            yield bytes((at,)) + body


TARGET = Target(check, seeds, 4096)
