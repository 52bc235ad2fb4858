"""What an answer says of the inside, taken out of it: names of models and builds, addresses of engines.

An engine's answer says more than the model's text: what the model is called inside (often a path), which build answered, where
a cache is. `Mask` puts the name there that the client used, and leaves the rest out. A member is looked for where the APIs have
it, never deeper: what the model itself wrote, such as a tool's arguments, stays as it is. Where nothing is to be hidden, the very
bytes come back. This module knows JSON, and neither streams, instances nor who asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from slmgate.dialects.figures import decoded

# The build of the engine; where vLLM keeps a prompt (hosts and ports); what llama.cpp adds when it is started with `-v`: the
# prompt as its template made it, the model's file and all settings.
_BUILD, _CACHE, _VERBOSE = b'"system_fingerprint"', b'"kv_transfer_params"', b'"__verbose"'
_INNER = (b'"response"', b'"message"', b'"generation_settings"')
"""Members of an answer that have a `model` of their own: an event of responses, `message_start`, and older llama.cpp."""
REMEMBERED = 512
LONGEST_NAME = 1024

_STRING = rb'"(?:[^"\\]|\\.)*+"'
_TOKEN = re.compile(rb'("(?:[^"\\]|\\.)*+")(\s*:\s*)?|[{}\[\]]', re.DOTALL)
_ROUGH_MODEL = re.compile(rb'("model"\s*:\s*)' + _STRING, re.DOTALL)
_ROUGH_BUILD = re.compile(rb'("system_fingerprint"\s*:\s*)' + _STRING, re.DOTALL)
_BLANKS = b" \t\r\n"


class Edit(NamedTuple):
    """Bytes of a document from `start` to `end` that give way to `new`. They begin with a member's name."""

    start: int
    end: int
    new: bytes


class _Inner(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw()


class _Top(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw()
    system_fingerprint: msgspec.Raw = msgspec.Raw()


_TOP = msgspec.json.Decoder(_Top)
_ANY = msgspec.json.Decoder()


class Mask:
    """Shows answers as if the model had no other name than the one it was asked for by."""

    __slots__ = ("_close", "_name", "_spaced", "_told")

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = told = msgspec.json.encode(name)
        self._close = b'"model":' + told
        self._spaced = b'"model": ' + told

    def __repr__(self) -> str:
        return f"<Mask {self._name!r}>"

    def clean(self, data: bytes) -> bool:
        """Whether it is seen at a glance that nothing in these bytes is to be hidden."""
        models = data.count(b'"model"')
        if models and (models > 1 or (data.find(self._close) < 0 and data.find(self._spaced) < 0)):
            return False
        if data.find(_BUILD) >= 0 or data.find(_VERBOSE) >= 0:
            return False
        at = data.find(_CACHE)  # newer vLLM says `null` in all its answers
        return at < 0 or (data.startswith(b":null", at + len(_CACHE)) and data.find(_CACHE, at + 1) < 0)

    def document(self, data: bytes) -> bytes:
        """One JSON document, masked."""
        if self.clean(data):
            return data
        edits = self.edits(data)
        return self.rough(data) if edits is None else edited(data, edits)

    def edits(self, data: bytes) -> list[Edit] | None:
        """What is to be changed in one JSON document, in its order; None: it is no JSON."""
        top = decoded(_TOP, data)
        if top is None:
            return None if decoded(_ANY, data) is None and data.strip(_BLANKS) != b"null" else self._walk(data)
        short = self._at_the_top(data, top)
        return self._walk(data) if short is None else short

    def rough(self, data: bytes) -> bytes:
        """The same of what is no JSON, or only a part of it: names and builds wherever they stand."""
        data = _ROUGH_MODEL.sub(lambda found: found[1] + self._told, data)
        return _ROUGH_BUILD.sub(rb"\1null", data)

    def _at_the_top(self, data: bytes, top: _Top) -> list[Edit] | None:
        """The edits of a document in which each name to look for stands once, at its top; None: look at all of it."""
        if data.count(b'"model"') > 1 or data.find(_CACHE) >= 0 or data.find(_VERBOSE) >= 0:
            return None
        edits: list[Edit] = []
        at = data.find(b'"model"')
        if at >= 0:
            found = _after(data, at, b'"model"', bytes(top.model))
            if found is None:
                return None
            self._rename(edits, data, at, found)
        at = data.find(_BUILD)
        if at >= 0:
            found = _after(data, at, _BUILD, bytes(top.system_fingerprint))
            if found is None or data.find(_BUILD, at + 1) >= 0 or bytes(top.system_fingerprint)[:1] not in (b'"', b"n"):
                return None
            edits.append(_without(data, at, found))
        edits.sort()
        return edits

    def _rename(self, edits: list[Edit], data: bytes, key: int, end: int) -> None:
        """The member at `key` becomes the name that the client knows, if it is another one."""
        start = data.index(b":", key) + 1
        while data[start] in _BLANKS:
            start += 1
        value = data[start:end]
        if value[:1] == b'"' and value != self._told and decoded(_ANY, value) != self._name:
            edits.append(Edit(key, end, data[key:start] + self._told))

    def _walk(self, data: bytes) -> list[Edit]:
        """The edits of any document, by its brackets and strings."""
        edits: list[Edit] = []
        # of each open bracket: how deep it counts (0: the top, or one of its list; 1: an inner member; 2: deeper) and, if what
        # it opened is to be left out, where its member and its value began
        stack: list[tuple[int, tuple[int, int] | None]] = []
        key, key_at, value_at = b"", -1, 0  # the member whose value comes next
        for found in _TOKEN.finditer(data):
            text = found[1]
            level = stack[-1][0] if stack else 0
            if text is not None and found[2] is not None:
                key, key_at, value_at = text, found.start(), found.end()
                if b"\\" in text:
                    key = msgspec.json.encode(decoded(_ANY, text))
                continue
            named = key_at >= 0 and level < 2
            if text is not None:
                if named and key == b'"model"':
                    self._rename(edits, data, key_at, found.end(1))
                elif named and key == _BUILD:
                    first = all(edit.new for edit in edits)  # of two, the commas between them may go only once
                    edits.append(_without(data, key_at, found.end()) if first else _emptied(data, key_at, value_at, found.end()))
                elif named and key in (_CACHE, _VERBOSE):
                    edits.append(_emptied(data, key_at, value_at, found.end()))
            elif found[0] in b"{[":
                out = (key_at, value_at) if named and key in (_CACHE, _VERBOSE) else None
                if not stack or (level == 0 and key_at < 0):
                    depth = 0
                else:
                    depth = 1 if level == 0 and key in _INNER and found[0] == b"{" and out is None else 2
                stack.append((depth, out))
            elif stack:
                _, out = stack.pop()
                if out is not None:
                    edits.append(_emptied(data, *out, found.end()))
            key_at = -1
        return edits


class Swap:
    """Masks the usual chunk of a stream by the very bytes that were to be changed in an event before it.

    It stands between a connection and the scanner's own `usual`: what has no such bytes is not usual.
    """

    __slots__ = ("_end", "_line", "_pairs", "_size", "_usual", "out")

    def __init__(self, pairs: list[tuple[bytes, bytes]], usual: Callable[[bytes], int], end: bytes) -> None:
        """`usual` is told of the chunk as it goes on; `end` is what an event of one line ends with."""
        self._pairs = pairs
        self._usual = usual
        self._end = end
        self._size, self._line = -1, b""  # of the last chunk
        self.out = b""  # the last chunk that was usual, as it goes on, with its size line

    def apply(self, chunk: bytes) -> bytes | None:
        """The chunk with all changes; None: one of them is not to be made here."""
        for old, new in self._pairs:
            at = chunk.find(old)
            if at < 0:
                return None
            chunk = b"%b%b%b" % (chunk[:at], new, chunk[at + len(old) :])
        return chunk

    def usual(self, chunk: bytes) -> int:
        """See `contract.Scanner.usual`; but of what is usual it says -2 less the tokens, since it is `out` that goes on."""
        end = self._end
        if chunk.find(b"\n") != len(chunk) - len(end) or not chunk.endswith(end):  # one line
            return -1
        for old, new in self._pairs:
            at = chunk.find(old)
            if at < 0:
                return -1
            chunk = b"".join((chunk[:at], new, chunk[at + len(old) :]))
        tokens = self._usual(chunk)
        if tokens <= 0:
            return -1
        size = len(chunk)
        if size != self._size:  # of text whose tokens are about as long, many are alike
            self._size, self._line = size, b"%x\r\n" % size
        self.out = b"".join((self._line, chunk, b"\r\n"))
        return -2 - tokens


def learnt(mask: Mask, event: bytes, at: int, usual: Callable[[bytes], int], end: bytes) -> Swap | None:
    """What is to be changed in events like this one, whose JSON begins at `at`; None: it is not so simple."""
    document = event[at:]
    edits = mask.edits(document) or []
    swap = Swap([(document[one.start : one.end], one.new) for one in edits], usual, end)
    once = all(event.count(old) == 1 for old, _ in swap._pairs)
    return swap if edits and once and swap.apply(event) == event[:at] + edited(document, edits) else None


class Rough:
    """Masks an answer that is too long to be kept, as it passes: names and builds wherever they stand."""

    __slots__ = ("_mask", "_rest")

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._rest = b""  # the end of what came, which may be the beginning of a member

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, return what may go on."""
        data = self._mask.rough(self._rest + data)
        self._rest = data[-LONGEST_NAME:]
        return data[:-LONGEST_NAME]

    def close(self) -> bytes:
        """What was held back."""
        rest, self._rest = self._rest, b""
        return rest


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """`data` with these changes, which are in its order; itself, if there are none."""
    if not edits:
        return data
    out, at = [], 0
    for start, end, new in edits:
        out += [data[at:start], new]
        at = max(at, end)
    return b"".join([*out, data[at:]])


@lru_cache(REMEMBERED)
def mask_of(name: str) -> Mask:
    """The mask for a model that was asked for by this name."""
    return Mask(name)


def _after(data: bytes, at: int, key: bytes, value: bytes) -> int | None:
    """The end of the member whose name stands at `at`, if it has this value."""
    colon = at + len(key)
    while data[colon : colon + 1] in (b" ", b"\t", b"\r", b"\n"):
        colon += 1
    start = colon + 1
    while data[start : start + 1] in (b" ", b"\t", b"\r", b"\n"):
        start += 1
    return start + len(value) if value and data[colon : colon + 1] == b":" and data.startswith(value, start) else None


def _without(data: bytes, key: int, end: int) -> Edit:
    """The member from `key` to `end` left out, with one of the commas around it."""
    after = end
    while data[after : after + 1] in (b" ", b"\t", b"\r", b"\n"):
        after += 1
    if data[after : after + 1] == b",":
        after += 1
        while data[after : after + 1] in (b" ", b"\t", b"\r", b"\n"):
            after += 1
        return Edit(key, after, b"")
    before = data[:key].rstrip(_BLANKS)
    return Edit(len(before) - 1 if before.endswith(b",") else key, end, b"")


def _emptied(data: bytes, key: int, value: int, end: int) -> Edit:
    """The member from `key` to `end` without its value."""
    return Edit(key, end, data[key:value] + b"null")
