"""The dialect of Hugging Face's text-generation-inference: `/generate` and `/generate_stream`.

The facts are those of its API document (huggingface.github.io/text-generation-inference) and router source. The engine
serves one model and its bodies name none. Figures come as `details`: the gate asks for them in streams and takes them
out again; an unstreamed answer has them in its headers only, which this module does not see.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from slmgate.dialects.body import bound, child, estimate, flag, read_request, replace
from slmgate.dialects.figures import believable, decoded
from slmgate.dialects.masking import Mask
from slmgate.dialects.openai import OpenAI
from slmgate.dialects.sse import SseScanner, event_data
from slmgate.errors import Fault
from slmgate.terms import Ask, Refuse, Usage

_BOUND = frozenset(("max_new_tokens",))


class _Details(msgspec.Struct):
    """`input_length` stands in streams of newer versions; `prefill`, one entry for each prompt token, in unstreamed answers."""

    generated_tokens: int | None = None
    input_length: int | None = None
    prefill: list[msgspec.Raw] = []


class _Answer(msgspec.Struct):
    generated_text: str | None = None
    details: msgspec.Raw = msgspec.Raw()


_ANSWER = msgspec.json.Decoder(_Answer)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DETAILS = msgspec.json.Decoder(_Details | None)


class TokenScanner(SseScanner):
    """Reads a stream of tokens; the event with the whole text is the last, and holds the details."""

    __slots__ = ("_estimate",)

    def __init__(self, strip: bool, prompt_estimate: int, mask: Mask | None = None) -> None:
        super().__init__(strip, mask)
        # For versions that do not say how long the prompt was.
        self._estimate = prompt_estimate

    def special(self, data: bytes) -> bool:
        return data.find(b'"generated_text":"') >= 0 or data.find(b'"generated_text": "') >= 0

    def count(self, data: bytes) -> int:
        return data.count(b'"token"')

    def look(self, event: bytes) -> bytes:
        data = event_data(event)
        seen = decoded(_ANSWER, data)
        if seen is None or seen.generated_text is None:
            return event
        self.finished = True
        details = decoded(_DETAILS, seen.details) if bytes(seen.details) else None
        if details is not None:
            known = details.input_length is not None
            told = believable(details.input_length if known else self._estimate, details.generated_tokens)
            self.usage = told if told is None or known else msgspec.structs.replace(told, estimated=True)
        if self._strip and bytes(seen.details) and decoded(_MEMBERS, data) is not None:  # else a name in it is no text
            return b"data: " + replace(data, {"details": None}) + b"\n\n"
        return event


class Tgi:
    """See `contract.Dialect`. Endpoints: generate generate_stream."""

    name = "tgi"

    def read(self, endpoint: str, body: bytes, content_type: str) -> Ask | Refuse:
        fields = read_request(body, content_type, form_label=True, named=False)
        if isinstance(fields, Refuse):
            return fields
        parameters = child(fields, "parameters")
        if isinstance(parameters, Refuse):
            return parameters
        limit = bound(parameters, _BOUND)
        if isinstance(limit, Refuse):
            return limit
        wants_usage = flag(parameters, "details")
        if isinstance(wants_usage, Refuse):
            return wants_usage
        return Ask(fields.get("model") or "", endpoint == "generate_stream", wants_usage, estimate(len(body)), limit, fields)

    def patch(self, endpoint: str, ask: Ask, body: bytes, upstream_model: str | None) -> bytes:
        changes: dict[str, object] = {} if upstream_model is None else {"model": upstream_model}
        if ask.stream and not ask.wants_usage:
            changes["parameters"] = {**(ask.fields.get("parameters") or {}), "details": True}
        return replace(body, changes) if changes else body

    def usage(self, endpoint: str, body: bytes) -> Usage | None:
        details = _details(body)
        return believable(len(details.prefill), details.generated_tokens) if details and details.prefill else None

    def told(self, endpoint: str, body: bytes) -> tuple[Usage | None, str | None]:
        return self.usage(endpoint, body), None

    def completion(self, endpoint: str, body: bytes) -> int | None:
        details = _details(body)
        known = believable(0, details.generated_tokens) if details else None
        return known.completion_tokens if known else None

    def scanner(self, endpoint: str, ask: Ask, mask: Mask | None = None) -> TokenScanner:
        return TokenScanner(not ask.wants_usage, ask.prompt_estimate, mask)

    def error(self, fault: Fault, refuse: Refuse, request_id: str) -> bytes:
        return msgspec.json.encode({"error": refuse.message, "error_type": fault.code})

    def stream_error(self, fault: Fault, message: str, mid_event: bool = False) -> bytes:
        event = b"data:" + msgspec.json.encode({"error": message, "error_type": fault.code}) + b"\n\n"
        return b"\n\n" + event if mid_event else event

    def list_models(self, endpoint: str, names: Sequence[str]) -> bytes:
        return OpenAI().list_models(endpoint, names)  # as the engine's own `/v1/models` does


def _details(body: bytes) -> _Details | None:
    answer = decoded(_ANSWER, body)
    return decoded(_DETAILS, answer.details) if answer and bytes(answer.details) else None
