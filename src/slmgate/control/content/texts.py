"""The texts in bodies, masked: a request's JSON with its form kept, an answer's, and the text of a stream put together again.

What a stream says comes in many events; it is masked as one text for each thing that it says, so that nothing hides between two
of them. What cannot be read in the form it should have is masked as plain text, or left out. Pure; of dialects it knows where
their streams keep text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from slmgate.control.content.masks import Masks
from slmgate.dialects.sse import event_data

LONGEST = 64 * 1024
"""Characters of one text that are kept."""
_EDGE = 512
"""Characters before a cut that are left out: what was cut in half there could not be told."""
_NUMBERS = 16
"""So many numbers in a row are vectors or tokens, of which only their count is kept."""
_TEXTS = frozenset(
    ("content", "text", "delta", "response", "thinking", "reasoning", "reasoning_content", "refusal", "arguments", "partial_json")
)
"""What streams call the pieces of what they say."""
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_PLAIN = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_EVENT_ENDS = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")


class Text(NamedTuple):
    """A masked text. `cut`: there was more. `found`: how much was masked."""

    text: str
    cut: bool
    found: int


def body(raw: bytes, cut: bool, masks: Masks) -> Text:
    """A request's body, or an answer that is no stream. `cut`: its end is missing."""
    if not cut:
        try:
            found: Any = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = None
        if isinstance(found, dict | list):
            walk = _Walk(masks)
            text = msgspec.json.encode(walk.value(found)).decode()
            return _bounded(text, walk.cut, walk.found)
    return _loose(raw, cut, masks)


def stream(raw: bytes, cut: bool, masks: Masks) -> Text:
    """What a streamed answer says, each thing (an answer's text, its reasoning, a tool's arguments) put together."""
    said: dict[str, list[str]] = {}
    for event in _events(raw):
        for where, text in _pieces(event, ""):
            said.setdefault(where, []).append(text)
    parts: list[str] = []
    found = 0
    for where, pieces in said.items():
        masked = _masked("".join(pieces), cut, masks)
        found += masked.found
        cut = cut or masked.cut
        parts.append(masked.text if len(said) == 1 else f"[{where}]\n{masked.text}")
    return _bounded("\n\n".join(parts), cut, found)


def _masked(text: str, cut: bool, masks: Masks) -> Text:
    """A text masked, or the beginning of one: what its end cuts in half cannot be told, and goes."""
    if len(text) > LONGEST + _EDGE:
        text, cut = text[: LONGEST + _EDGE], True
    masked = masks.mask(text)
    return Text(masked.text[: max(0, len(masked.text) - _EDGE)] if cut else masked.text, cut, masked.found)


def _bounded(text: str, cut: bool, found: int) -> Text:
    text = text.replace("\0", "\ufffd")  # which not every database can hold
    return Text(text[:LONGEST], cut or len(text) > LONGEST, found)


def _loose(raw: bytes, cut: bool, masks: Masks) -> Text:
    """What is no JSON, or only its beginning, as plain text: escapes read, so that none hides anything."""
    try:
        text = raw.decode("utf-8", "ignore" if cut else "strict")
    except UnicodeDecodeError:
        return Text(f"({len(raw)} bytes that are no text)", cut, 0)
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _PLAIN.get(found[2], found[2]), text)
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    masked = _masked(text, cut, masks)
    return _bounded(masked.text, masked.cut, masked.found)


class _Walk:
    """One way through a document, masking as it goes."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self.found = 0
        self.cut = False

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {self._text(name): self.value(below) for name, below in value.items()}
        if isinstance(value, list):
            return self._list(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            masked = self._masks.mask(str(value))
            self.found += masked.found
            return masked.text if masked.found else value
        return value

    def _text(self, text: str) -> str:
        if text.startswith("data:") and ";base64," in text[:256]:
            return f"({len(text)} characters of data)"
        masked = _masked(text, False, self._masks)
        self.found += masked.found
        self.cut = self.cut or masked.cut
        return masked.text

    def _list(self, values: list[Any]) -> Any:
        if len(values) > _NUMBERS and all(isinstance(value, int | float) for value in values):
            return f"({len(values)} numbers)"
        made = [self.value(value) for value in values]
        parts = [part for part in made if isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str))]
        if len(parts) > 1:  # what a model reads as one text, if it stands in several parts
            texts, found = self._masks.mask_joined([part if isinstance(part, str) else part["text"] for part in parts])
            self.found += found
            given = iter(texts)
            for place, part in enumerate(made):
                if isinstance(part, str):
                    made[place] = next(given)
                elif isinstance(part, dict) and isinstance(part.get("text"), str):
                    part["text"] = next(given)
        return made


def _events(raw: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream: of server-sent events, or one a line."""
    lines = raw.lstrip()
    parts = lines.splitlines() if lines.startswith(b"{") else [event_data(part) for part in _EVENT_ENDS.split(raw)]
    for part in parts:
        try:
            event = msgspec.json.decode(part)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # `[DONE]`, a comment, or what was cut
        if not isinstance(event, dict):
            continue
        kind = event.get("type")
        if isinstance(kind, str) and kind.startswith("response.") and not kind.endswith(".delta"):
            continue  # says again, as a whole, what had come in pieces
        yield event


def _pieces(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """The pieces of text in an event, each with what it is a piece of: its names, and the numbers that things have."""
    if isinstance(value, list):
        for place, below in enumerate(value):
            number = below.get("index", place) if isinstance(below, dict) else place
            yield from _pieces(below, f"{where}.{number}" if number else where)
        return
    if not isinstance(value, dict):
        return
    numbers = "".join(f".{value[name]}" for name in ("index", "output_index", "content_index") if value.get(name) and not where)
    for name, below in value.items():
        path = f"{where}{numbers}.{name}".removeprefix(".")
        if isinstance(below, str):
            if name in _TEXTS and below:
                yield path, below
        else:
            yield from _pieces(below, path)
