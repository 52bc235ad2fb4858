"""The llama.cpp dialect: its own completion, infill and tokenizer calls.

The facts are those of its README (github.com/ggml-org/llama.cpp, tools/server) and of recorded answers. A body need not
name a model, for an instance of one model has only that one. This module does not know which models there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from slmgate.dialects.body import bound, estimate, flag, read_request, replace
from slmgate.dialects.figures import believable, decoded
from slmgate.dialects.masking import Mask
from slmgate.dialects.openai import OpenAI
from slmgate.dialects.sse import SseScanner, event_data
from slmgate.errors import Fault
from slmgate.terms import Ask, Refuse, Usage

BOUNDS = frozenset(("n_predict", "max_tokens"))
_GENERATING = frozenset(("completion", "infill"))


class _Result(msgspec.Struct):
    """One finished completion. `tokens_evaluated` is the whole prompt, also where the cache had most of it."""

    stop: bool = False
    index: int = 0
    tokens_evaluated: msgspec.Raw = msgspec.Raw()
    tokens_predicted: msgspec.Raw = msgspec.Raw()

    def usage(self) -> Usage | None:
        return believable(_figure(self.tokens_evaluated), _figure(self.tokens_predicted))


_RESULT = msgspec.json.Decoder(_Result)
_ANSWER = msgspec.json.Decoder(_Result | list[_Result])
_INT = msgspec.json.Decoder(int)


class CompletionScanner(SseScanner):
    """Reads a stream of partial completions. A request with several prompts ends when each has had its last event."""

    __slots__ = ("_ended", "_expected")

    def __init__(self, expected: int, mask: Mask | None = None) -> None:
        super().__init__(mask=mask)
        # The figures of each completion by its index: one that is said again replaces, it does not add.
        self._ended: dict[int, Usage | None] = {}
        self._expected = expected

    def special(self, data: bytes) -> bool:
        return data.find(b'"stop":true') >= 0 or data.find(b'"stop": true') >= 0

    def count(self, data: bytes) -> int:
        written = data.count(b'"stop":false')
        if not written:
            return data.count(b'"stop": false')
        written -= data.count(b'"content":""')
        return max(0, written)  # an instance that writes the one without the other owes its client nothing

    def look(self, event: bytes) -> bytes:
        seen = decoded(_RESULT, event_data(event))
        if seen is not None and seen.stop and (seen.index in self._ended or len(self._ended) < self._expected):
            self._ended[seen.index] = seen.usage()
            self.finished = len(self._ended) >= self._expected
            self.usage = _sum(list(self._ended.values()))
        return event


class LlamaCpp:
    """See `contract.Dialect`. Endpoints: completion infill tokenize detokenize."""

    name = "llamacpp"

    def read(self, endpoint: str, body: bytes, content_type: str) -> Ask | Refuse:
        fields = read_request(body, content_type, form_label=True, named=False)
        if isinstance(fields, Refuse):
            return fields
        stream = flag(fields, "stream")
        if isinstance(stream, Refuse):
            return stream
        limit = bound(fields, BOUNDS, BOUNDS)
        if isinstance(limit, Refuse):
            return limit
        return Ask(fields.get("model") or "", stream and endpoint in _GENERATING, True, estimate(len(body)), limit, fields)

    def patch(self, endpoint: str, ask: Ask, body: bytes, upstream_model: str | None) -> bytes:
        return body if upstream_model is None else replace(body, {"model": upstream_model})

    def usage(self, endpoint: str, body: bytes) -> Usage | None:
        if endpoint not in _GENERATING:
            return Usage()  # the tokenizer alone works: the model neither reads nor writes
        answer = decoded(_ANSWER, body)
        if isinstance(answer, list):
            return _sum([result.usage() for result in answer])
        return answer.usage() if answer else None

    def told(self, endpoint: str, body: bytes) -> tuple[Usage | None, str | None]:
        return self.usage(endpoint, body), None

    def completion(self, endpoint: str, body: bytes) -> int | None:
        return None

    def scanner(self, endpoint: str, ask: Ask, mask: Mask | None = None) -> CompletionScanner:
        return CompletionScanner(_completions(ask.fields), mask)

    def error(self, fault: Fault, refuse: Refuse, request_id: str) -> bytes:
        return msgspec.json.encode({"error": _error(fault, refuse.message)})

    def stream_error(self, fault: Fault, message: str, mid_event: bool = False) -> bytes:
        event = b"data: " + msgspec.json.encode({"error": _error(fault, message)}) + b"\n\n"
        return b"\n\n" + event if mid_event else event

    def list_models(self, endpoint: str, names: Sequence[str]) -> bytes:
        return OpenAI().list_models(endpoint, names)  # the engine itself lists in this shape


def _error(fault: Fault, message: str) -> dict[str, str | int]:
    return {"code": fault.status, "message": message, "type": fault.code}


def _figure(raw: msgspec.Raw) -> int | None:
    return decoded(_INT, raw) if bytes(raw) else None


def _sum(usages: Sequence[Usage | None]) -> Usage | None:
    known = [usage for usage in usages if usage is not None]
    if not known or len(known) < len(usages):
        return None
    return believable(sum(usage.prompt_tokens for usage in known), sum(usage.completion_tokens for usage in known))


def _completions(fields: dict[str, Any]) -> int:
    """How many completions a request asks for. A list that holds token numbers is one prompt, any other is a prompt each."""
    prompt = fields.get("prompt")
    prompts = 1
    if isinstance(prompt, list) and not any(isinstance(item, int) for item in prompt):
        prompts = max(1, len(prompt))
    copies = fields.get("n_cmpl", fields.get("n"))
    return prompts * copies if type(copies) is int and copies > 1 else prompts
