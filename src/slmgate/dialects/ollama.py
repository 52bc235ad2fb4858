"""The Ollama dialect: chat, generate, the two embeddings calls and the list of models.

The facts are those of Ollama's API document (github.com/ollama/ollama, docs/api.md). Streaming is the default there,
and the last object of a stream holds the figures without being asked. This module does not know who asks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from slmgate.dialects.body import bound, child, estimate, flag, read_request, replace
from slmgate.dialects.figures import believable, decoded
from slmgate.dialects.masking import Mask
from slmgate.dialects.ndjson import NdjsonScanner
from slmgate.errors import Fault
from slmgate.terms import Ask, Refuse, Usage

_BOUND = frozenset(("num_predict",))
_STREAMING = frozenset(("chat", "generate"))


class _Answer(msgspec.Struct):
    done: bool = False
    prompt_eval_count: msgspec.Raw = msgspec.Raw()
    eval_count: msgspec.Raw = msgspec.Raw()


_ANSWER = msgspec.json.Decoder(_Answer)
_INT = msgspec.json.Decoder(int)


class ObjectScanner(NdjsonScanner):
    """Reads a stream of objects; the one that is `done` is the last and holds the figures."""

    __slots__ = ()

    def special(self, data: bytes) -> bool:
        # The arguments of a tool are an object here: a `model` among them is the model's own, and must be told from the others.
        return data.find(b'"done":true') >= 0 or data.find(b'"done": true') >= 0 or data.find(b'"arguments"') >= 0

    def count(self, data: bytes) -> int:
        return data.count(b'"done":false') or data.count(b'"done": false')

    def look(self, line: bytes) -> None:
        seen = decoded(_ANSWER, line)
        if seen is not None and seen.done:
            self.finished = True
            self.usage = believable(_figure(seen.prompt_eval_count), _figure(seen.eval_count))


class Ollama:
    """See `contract.Dialect`. Endpoints: chat generate embed embeddings models."""

    name = "ollama"

    def read(self, endpoint: str, body: bytes, content_type: str) -> Ask | Refuse:
        fields = read_request(body, content_type, form_label=True)
        if isinstance(fields, Refuse):
            return fields
        stream = flag(fields, "stream", default=endpoint in _STREAMING)
        if isinstance(stream, Refuse):
            return stream
        options = child(fields, "options")
        if isinstance(options, Refuse):
            return options
        limit = bound(options, _BOUND, _BOUND)
        if isinstance(limit, Refuse):
            return limit
        return Ask(fields["model"], stream and endpoint in _STREAMING, True, estimate(len(body)), limit, fields)

    def patch(self, endpoint: str, ask: Ask, body: bytes, upstream_model: str | None) -> bytes:
        return body if upstream_model is None else replace(body, {"model": upstream_model})

    def usage(self, endpoint: str, body: bytes) -> Usage | None:
        answer = decoded(_ANSWER, body)
        if answer is None:
            return None
        completion = _figure(answer.eval_count) if endpoint in _STREAMING else 0
        return believable(_figure(answer.prompt_eval_count), completion)

    def told(self, endpoint: str, body: bytes) -> tuple[Usage | None, str | None]:
        return self.usage(endpoint, body), None

    def completion(self, endpoint: str, body: bytes) -> int | None:
        answer = decoded(_ANSWER, body)
        known = believable(0, _figure(answer.eval_count)) if answer and endpoint in _STREAMING else None
        return known.completion_tokens if known else None

    def scanner(self, endpoint: str, ask: Ask, mask: Mask | None = None) -> ObjectScanner:
        return ObjectScanner(mask)

    def error(self, fault: Fault, refuse: Refuse, request_id: str) -> bytes:
        return msgspec.json.encode({"error": refuse.message, "code": fault.code})

    def stream_error(self, fault: Fault, message: str, mid_event: bool = False) -> bytes:
        # No blank line before it: Ollama's clients parse every line.
        line = msgspec.json.encode({"error": message, "code": fault.code}) + b"\n"
        return b"\n" + line if mid_event else line

    def list_models(self, endpoint: str, names: Sequence[str]) -> bytes:
        details = {"parent_model": "", "format": "", "family": "", "families": [], "parameter_size": "", "quantization_level": ""}
        rest = {"modified_at": "1970-01-01T00:00:00Z", "size": 0, "digest": "", "details": details}
        return msgspec.json.encode({"models": [{"name": name, "model": name, **rest} for name in names]})


def _figure(raw: msgspec.Raw) -> int | None:
    return decoded(_INT, raw) if bytes(raw) else None
