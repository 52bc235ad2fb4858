"""What each field of a line of the access log means: the sentences of docs/access-log.md.

The fields are those of `terms.Receipt`, in their order; a test holds this table to it. Once released, a field keeps its name,
its type and its meaning; new ones may come.
"""

from __future__ import annotations

import msgspec

from slmgate.terms import Receipt

FIELDS: dict[str, str] = {
    "id": "The gate's own id of the request, unique.",
    "request_id": "What the client saw in `x-request-id`: its own, when sane, so that it may repeat.",
    "time": "When the request's first byte came: RFC 3339, UTC, microseconds.",
    "prompt_tokens": "Tokens of the prompt.",
    "completion_tokens": "Tokens of the answer.",
    "bytes_in": "Bytes of the request's body.",
    "bytes_out": "Bytes of the answer's body that were written to the client.",
    "queue_us": "Microseconds until an instance was asked; of a request that waited in vain, how long it waited.",
    "first_byte_us": "Microseconds until the first byte of the answer, or the first piece of a stream; null: none came.",
    "total_us": "Microseconds until the client's last byte was written.",
    "attempts": "How many instances were asked.",
    "address": "Where it came from; behind trusted proxies, whom they say.",
    "worker": "The worker process that served it.",
    "parameters": "What the request set, as far as it is kept for explaining and replaying; never prompts.",
    "cost": "What it costs, in billionths of the currency in `price`.",
    "receive_us": "Of those, microseconds until the request was whole and its caller known.",
    "connect_us": "Of those, microseconds while a connection was opened; 0: a kept one served.",
    "overhead_us": "Of those, the gate's own share; docs/observability.md has all times in a row.",
    "trace": "The trace that it is part of, where that is recorded or the client's own; docs/tracing.md. Empty: none.",
    "method": "The request's method.",
    "path": "The request's path as it came.",
    "status": "The HTTP status of the answer; 499: the client left before one; 0: nobody knows any more.",
    "verdict": "`admit`, `refuse`, `none` (it ended before there was one), or `shadow`: that of a copy, for which nobody pays.",
    "reason": "The code of docs/errors.md when it was refused or failed; empty when all is well.",
    "ended": (
        "Why it ended: `complete`, `refused`, `client_left`, `upstream_error`, `upstream_timeout`, `gate_failed`, "
        "`gate_stopped`, or `unknown` after a crash."
    ),
    "principal": "Who called, by name.",
    "key": "Who called, by the id of the key, token or certificate; null: nobody who is known.",
    "team": "The caller's team; null: none.",
    "roles": "The caller's roles, its team's among them, with commas between.",
    "rule": "The role that admitted, or the rule that refused.",
    "dialect": "The API: `openai`, `anthropic`, `ollama`, `llamacpp` or `tgi`.",
    "endpoint": "What was asked of it, by the API's own name.",
    "model": "The model that served, by its name for clients.",
    "instance": "The instance that answered, or was asked last.",
    "stream": "Whether the answer was asked for as a stream.",
    "estimated": "Whether tokens were counted by the gate, because the engine did not say.",
    "plan": "The team's billing plan.",
    "price": "What was asked then: currency, and billionths of it for each prompt and each completion token; empty: nothing.",
}
"""Field -> what it says, in the order of the lines."""


def table() -> str:
    """The table of all fields, in Markdown."""
    kinds = {field.name: _kind(field.type) for field in msgspec.structs.fields(Receipt)}
    rows = [f"| `{name}` | {kinds[name]} | {said} |" for name, said in FIELDS.items()]
    return "\n".join(["| field | type | what it says |", "| --- | --- | --- |", *rows])


def _kind(type: object) -> str:
    """A field's type, as JSON has it."""
    text = str(type)
    kind = "number" if "int" in text else "boolean" if "bool" in text else "text"
    return f"{kind} or null" if "None" in text else kind
