"""The OpenAI dialect: chat, completions, embeddings, responses, rerank, audio and the list of models.

Spoken by OpenAI and, with small differences, by vLLM, llama.cpp, SGLang, TGI and Ollama under `/v1`. The facts are
those of the API reference (platform.openai.com/docs/api-reference) and of what these engines were seen to send.
This module does not know which engine answers, nor who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from slmgate.dialects import multipart
from slmgate.dialects.body import (
    bound,
    child,
    estimate,
    flag,
    model_refusal,
    read_request,
    replace,
    splice,
    unreadable,
)
from slmgate.dialects.figures import MAX_COUNT, decoded, openai_answer, openai_usage
from slmgate.dialects.masking import Mask
from slmgate.dialects.sse import ENDS, SseScanner, event_data
from slmgate.errors import Fault
from slmgate.terms import Ask, Refuse, Usage

FORMS = frozenset(("transcriptions", "translations"))
"""Endpoints whose body is a multipart form."""

BOUNDS = frozenset(("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"))
"""The names of the completion bound: chat's old and new one, responses', and the one that llama.cpp takes as well."""

_OTHER_BOUNDS = BOUNDS - {"max_tokens"}
_UNBOUNDED = frozenset(("max_tokens", "max_completion_tokens", "n_predict"))  # where llama.cpp takes -1
_ASKING = b'"stream_options":{"include_usage":true}'
# The endpoints whose streams carry usage only if asked; the others always do, or have none.
_ON_DEMAND = frozenset(("chat", "completions"))
# Types of the last event of a responses, speech or transcription stream.
_LAST = frozenset(("response.completed", "response.failed", "response.incomplete", "speech.audio.done", "transcript.text.done"))
_LAST_MARKS = tuple(b'"%b"' % name.encode() for name in sorted(_LAST))


# Where generated text stands in a chunk, and how it looks when there is none; the last two as Python's encoder writes.
_TEXTS = tuple((name, name + b'"') for name in (b'text":"', b'reasoning":"', b'arguments":"', b'content": "', b'text": "'))


class _Event(msgspec.Struct):
    """What matters in one event of any OpenAI stream. `usage` stays raw: its presence alone matters too."""

    type: str = ""
    choices: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()


class _Model(msgspec.Struct):
    """One model as both the OpenAI and the Anthropic client read it: their lists share a path."""

    id: str
    display_name: str
    object: str = "model"
    created: int = 0
    owned_by: str = "slmgate"
    type: str = "model"
    created_at: str = "1970-01-01T00:00:00Z"


_EVENT = msgspec.json.Decoder(_Event)
_ANSWER = msgspec.json.Decoder(_Answer)


_ODD_MARKS = (b"error", b'"system_fingerprint"', b'"__verbose"', b'"kv_transfer_params"')


def _special(data: bytes) -> bool:
    """See `SseScanner.special`, of a stream of chunks."""
    if data.find(b"[DONE]") >= 0:
        return True
    # Some engines write `"usage":null` into every chunk: that is not worth a look.
    return data.find(b'"usage"') >= 0 and data.count(b'"usage"') != data.count(b'"usage":null')


def _odd(data: bytes) -> bool:
    """See `SseScanner.odd`, of a stream of chunks."""
    return any(data.find(mark) >= 0 for mark in _ODD_MARKS)


def _count(data: bytes) -> int:
    """See `SseScanner.count`, of a stream of chunks."""
    if written := data.count(b'content":"'):  # `content` and `reasoning_content`
        return written - data.count(b'content":""')
    for name, empty in _TEXTS:
        if written := data.count(name):
            return written - data.count(empty)
    return 0


class ChunkScanner(SseScanner):
    """Reads a stream of chunks (chat, completions, and audio as some engines stream it): it ends with `[DONE]`."""

    __slots__ = ()
    swaps = True

    @staticmethod
    def usual(chunk: bytes) -> int:
        # The base's way, written out for the chunk of which there are most: calls would double its cost. `find`, because
        # `in` tries its left side as a number first, which takes as long again. Static: so the scanner itself, one of
        # thousands that fit no near cache, is left alone.
        # One event of one line that carries text is neither the end nor a failure.
        if (
            chunk.find(b'"usage"') < 0
            and chunk.find(b'"system_fingerprint"') < 0
            and chunk.find(b"\n") == len(chunk) - 2
            and chunk.endswith(b"\n\n")
        ):
            written = chunk.count(b'content":"')
            if written:
                return written - chunk.count(b'content":""')
            if written := _count(chunk):
                return written
        return _count(chunk) if chunk.endswith(ENDS) and not _special(chunk) and not _odd(chunk) else -1

    def special(self, data: bytes) -> bool:
        return _special(data)

    def odd(self, data: bytes) -> bool:
        return _odd(data)

    def count(self, data: bytes) -> int:
        return _count(data)

    def look(self, event: bytes) -> bytes:
        data = event_data(event)
        if data == b"[DONE]":
            self.finished = True
            return event
        seen = decoded(_EVENT, data)
        if seen is None or bytes(seen.usage) in (b"", b"null"):
            return event
        self.usage = openai_usage(seen.usage)
        return b"" if self._strip and not seen.choices else event


class TypedScanner(SseScanner):
    """Reads a stream of typed events (responses, speech, transcriptions): it ends with an event that holds the usage."""

    __slots__ = ()

    def special(self, data: bytes) -> bool:
        return b"[DONE]" in data or any(mark in data for mark in _LAST_MARKS)

    def odd(self, data: bytes) -> bool:
        return data.find(b"error") >= 0 or data.find(b'"model"') >= 0

    def count(self, data: bytes) -> int:
        return data.count(b'.delta"')

    def look(self, event: bytes) -> bytes:
        data = event_data(event)
        seen = decoded(_EVENT, data)
        if seen is not None and seen.type in _LAST:
            self.finished = True
            response = decoded(_ANSWER, seen.response) if bytes(seen.response) else None
            self.usage = openai_usage(response.usage if response else seen.usage)
        elif data == b"[DONE]":
            self.finished = True
        return event

    def skim(self, head: bytes) -> None:
        # The last event repeats the whole answer, so it can be too long to keep. Its type stands at its beginning.
        self.finished = self.finished or any(mark in head for mark in _LAST_MARKS)


class AudioScanner(TypedScanner):
    """Transcriptions stream as typed events, or, by vLLM, as chunks."""

    __slots__ = ()

    def special(self, data: bytes) -> bool:
        return data.find(b'"usage"') >= 0 or data.find(b'"model"') >= 0 or super().special(data)

    def count(self, data: bytes) -> int:
        return super().count(data) or data.count(b'content":"') - data.count(b'content":""')

    def look(self, event: bytes) -> bytes:
        seen = decoded(_EVENT, event_data(event))
        if seen is not None and seen.choices is not None and bytes(seen.usage) not in (b"", b"null"):
            self.usage = openai_usage(seen.usage)
        return super().look(event)


class OpenAI:
    """See `contract.Dialect`.

    Endpoints: chat completions embeddings responses rerank speech transcriptions translations models.
    """

    name = "openai"

    def read(self, endpoint: str, body: bytes, content_type: str) -> Ask | Refuse:
        if endpoint in FORMS:
            return self._read_form(body, content_type)
        fields = read_request(body, content_type)
        if isinstance(fields, Refuse):
            return fields
        # The usual values are told here; whatever else stands there is `flag`'s and `bound`'s to judge.
        stream = fields.get("stream", False)
        if stream is not False and stream is not True:
            stream = flag(fields, "stream")
            if isinstance(stream, Refuse):
                return stream
        limit = fields.get("max_tokens")
        if type(limit) is not int or not 0 <= limit <= MAX_COUNT or not _OTHER_BOUNDS.isdisjoint(fields):
            limit = bound(fields, BOUNDS, _UNBOUNDED)
            if isinstance(limit, Refuse):
                return limit
        wants_usage = False
        if "stream_options" in fields:
            asked = _asked(fields)
            if isinstance(asked, Refuse):
                return asked
            wants_usage = asked
        if endpoint == "speech":
            stream = fields.get("stream_format") == "sse"
        return Ask(fields["model"], stream, wants_usage, estimate(len(body)), limit, fields)

    def patch(self, endpoint: str, ask: Ask, body: bytes, upstream_model: str | None) -> bytes:
        if endpoint in FORMS:
            return body if upstream_model is None else _rename_form(body, upstream_model)
        ask_for_usage = ask.stream and not ask.wants_usage and endpoint in _ON_DEMAND
        changes: dict[str, Any] = {} if upstream_model is None else {"model": upstream_model}
        if ask_for_usage and "stream_options" in ask.fields:
            options = ask.fields["stream_options"] or {}
            kept = {key: value for key, value in options.items() if key.casefold() != "include_usage"}
            changes["stream_options"] = {**kept, "include_usage": True}
        if changes:
            body = replace(body, changes)
        return splice(body, _ASKING) if ask_for_usage and "stream_options" not in ask.fields else body

    def usage(self, endpoint: str, body: bytes) -> Usage | None:
        if endpoint == "speech":
            return None
        return openai_answer(body)[0]

    def told(self, endpoint: str, body: bytes) -> tuple[Usage | None, str | None]:
        return openai_answer(body)

    def completion(self, endpoint: str, body: bytes) -> int | None:
        return None

    def scanner(self, endpoint: str, ask: Ask, mask: Mask | None = None) -> SseScanner:
        if endpoint in _ON_DEMAND:
            return ChunkScanner(not ask.wants_usage, mask)
        return AudioScanner(mask=mask) if endpoint in FORMS else TypedScanner(mask=mask)

    def error(self, fault: Fault, refuse: Refuse, request_id: str) -> bytes:
        return msgspec.json.encode({"error": _error(fault, refuse.message, refuse.param)})

    def stream_error(self, fault: Fault, message: str, mid_event: bool = False) -> bytes:
        event = b"data: " + msgspec.json.encode({"error": _error(fault, message, None)}) + b"\n\n"
        return b"\n\n" + event if mid_event else event

    def list_models(self, endpoint: str, names: Sequence[str]) -> bytes:
        first, last = (names[0], names[-1]) if names else (None, None)
        data = [_Model(name, name) for name in names]
        return msgspec.json.encode({"object": "list", "data": data, "has_more": False, "first_id": first, "last_id": last})

    def _read_form(self, body: bytes, content_type: str) -> Ask | Refuse:
        boundary = multipart.boundary_of(content_type)
        if isinstance(boundary, Refuse):
            return boundary
        form = multipart.parts(body, boundary)
        if isinstance(form, Refuse):
            return form
        fields = multipart.texts(body, form)
        if isinstance(fields, Refuse):
            return fields
        model = fields.get("model")
        if (refused := model_refusal(model)) is not None:
            return refused
        stream = {"true": True, "1": True, "false": False, "0": False, "": False}.get(str(fields.get("stream", "")).lower())
        if stream is None:
            return unreadable("The form field stream must be true or false.", "stream")
        # The bytes of a recording say nothing about tokens: only text is estimated.
        size = sum(part.end - part.value for part in form if not part.file)
        return Ask(str(model), stream, False, estimate(size), None, dict(fields))


def _error(fault: Fault, message: str, param: str | None) -> dict[str, str | None]:
    return {"message": message, "type": fault.kind, "param": param, "code": fault.code}


def _asked(fields: dict[str, Any]) -> bool | Refuse:
    options = child(fields, "stream_options")
    return options if isinstance(options, Refuse) else flag(options, "include_usage")


def _rename_form(body: bytes, upstream_model: str) -> bytes:
    # `read` has accepted the form, so it begins with its boundary and can be read again.
    form = multipart.parts(body, body[2 : body.index(b"\r\n")])
    return body if isinstance(form, Refuse) else multipart.rebuild(body, form, "model", upstream_model)
