"""The Anthropic dialect: messages and their token count, as Anthropic, vLLM, llama.cpp, SGLang and Ollama speak it.

The facts are those of the API reference (docs.anthropic.com/en/api/messages, /messages-streaming, /errors). Usage needs
no asking: it comes in parts, the prompt's with the first event and the completion's with the last but one. This module
does not know which engine answers, nor who asks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from slmgate.dialects.body import bound, estimate, flag, read_request, replace
from slmgate.dialects.figures import believable, decoded
from slmgate.dialects.masking import Mask
from slmgate.dialects.openai import BOUNDS, OpenAI
from slmgate.dialects.sse import SseScanner, event_data
from slmgate.errors import Fault
from slmgate.terms import Ask, Refuse, Usage

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Anthropic's name for an error by its status; of the rest, 4xx are `invalid_request_error` and 5xx `api_error`."""


class _Figures(msgspec.Struct):
    """Anthropic's `usage`: the prompt is what was read, written to the cache and taken from the cache, together."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None

    def prompt(self) -> int | None:
        if self.input_tokens is None:
            return None
        counts = (self.input_tokens, self.cache_creation_input_tokens or 0, self.cache_read_input_tokens or 0)
        return sum(counts) if min(counts) >= 0 else -1


class _Answer(msgspec.Struct):
    usage: _Figures | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()


_ANSWER = msgspec.json.Decoder(_Answer)
_EVENT = msgspec.json.Decoder(_Event)
_FIGURES = msgspec.json.Decoder(_Figures | None)


class MessageScanner(SseScanner):
    """Reads a stream of message events; nothing is ever stripped."""

    __slots__ = ("_estimate", "_prompt")

    def __init__(self, prompt_estimate: int, mask: Mask | None = None) -> None:
        super().__init__(mask=mask)
        # llama.cpp leaves `message_start` out when its first token is half a character: then only an estimate is to be had.
        self._estimate = prompt_estimate
        self._prompt: int | None = None

    def special(self, data: bytes) -> bool:
        return data.find(b'"message_') >= 0

    def count(self, data: bytes) -> int:
        return data.count(b'"content_block_delta"')

    def look(self, event: bytes) -> bytes:
        seen = decoded(_EVENT, event_data(event))
        if seen is None:
            return event
        if seen.type == "message_start":
            message = decoded(_ANSWER, seen.message) if bytes(seen.message) else None
            self._prompt = message.usage.prompt() if message and message.usage else None
        elif seen.type == "message_delta" and bytes(seen.usage):
            self.usage = self._told(decoded(_FIGURES, seen.usage))
        elif seen.type == "message_stop":
            self.finished = True
        return event

    def _told(self, figures: _Figures | None) -> Usage | None:
        if figures is None:
            return None
        # The figures of a `message_delta` are totals, and newer ones repeat the prompt's.
        prompt = self._prompt if figures.prompt() is None else figures.prompt()
        if prompt is not None:
            return believable(prompt, figures.output_tokens)
        told = believable(self._estimate, figures.output_tokens)
        return msgspec.structs.replace(told, estimated=True) if told else None


class Anthropic:
    """See `contract.Dialect`. Endpoints: messages count_tokens."""

    name = "anthropic"

    def read(self, endpoint: str, body: bytes, content_type: str) -> Ask | Refuse:
        fields = read_request(body, content_type)
        if isinstance(fields, Refuse):
            return fields
        stream = flag(fields, "stream")
        if isinstance(stream, Refuse):
            return stream
        limit = bound(fields, BOUNDS)
        if isinstance(limit, Refuse):
            return limit
        return Ask(fields["model"], stream, True, estimate(len(body)), limit, fields)

    def patch(self, endpoint: str, ask: Ask, body: bytes, upstream_model: str | None) -> bytes:
        return body if upstream_model is None else replace(body, {"model": upstream_model})

    def usage(self, endpoint: str, body: bytes) -> Usage | None:
        if endpoint == "count_tokens":
            return Usage()  # nothing is generated or read by the model: the answer is a count, not a cost
        answer = decoded(_ANSWER, body)
        figures = answer.usage if answer else None
        return believable(figures.prompt(), figures.output_tokens) if figures else None

    def told(self, endpoint: str, body: bytes) -> tuple[Usage | None, str | None]:
        return self.usage(endpoint, body), None

    def completion(self, endpoint: str, body: bytes) -> int | None:
        return None

    def scanner(self, endpoint: str, ask: Ask, mask: Mask | None = None) -> MessageScanner:
        return MessageScanner(ask.prompt_estimate, mask)

    def error(self, fault: Fault, refuse: Refuse, request_id: str) -> bytes:
        return msgspec.json.encode({"type": "error", "error": _error(fault, refuse.message), "request_id": request_id})

    def stream_error(self, fault: Fault, message: str, mid_event: bool = False) -> bytes:
        event = b"event: error\ndata: " + msgspec.json.encode({"type": "error", "error": _error(fault, message)}) + b"\n\n"
        return b"\n\n" + event if mid_event else event

    def list_models(self, endpoint: str, names: Sequence[str]) -> bytes:
        return OpenAI().list_models(endpoint, names)  # one path, `/v1/models`, for both: one list that both can read


def _error(fault: Fault, message: str) -> dict[str, str]:
    kind = _TYPES.get(fault.status, "invalid_request_error" if fault.status < 500 else "api_error")
    return {"type": kind, "message": message, "code": fault.code}
