"""How the mock instance speaks each API: good answers, and numbered events of a stream with its opening and its end.

Shapes follow the published examples of the OpenAI, Anthropic and Ollama APIs. A script (see `upstream.py`) says how many events,
which figures and which tag; this module knows no socket and no framing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any


def figures(script: dict[str, Any]) -> Any:
    prompt, count = script.get("prompt", 7), script.get("events", 5)
    return script.get("usage", {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count})


def ollama_end(script: dict[str, Any]) -> dict[str, Any]:
    """The figures in the last object of an Ollama answer (durations are nanoseconds)."""
    said = {"prompt_eval_count": script.get("prompt", 7), "eval_count": script.get("events", 5)}
    return {"done": True, "done_reason": "stop", "total_duration": 5, "load_duration": 1, "eval_duration": 3, **said}


def answer(path: str, script: dict[str, Any]) -> bytes:
    """A good unstreamed answer in the dialect of the path, after that dialect's published examples."""
    tag, model = script.get("tag", ""), script["fields"].get("model")
    text = "x" * script["pad"] if "pad" in script else " ".join(str(n) for n in range(script.get("events", 5)))
    message = {"role": "assistant", "content": text}
    base: dict[str, Any] = {"id": f"mock-{tag}", "tag": tag, "model": model, "created": 1}
    if script.get("status", 200) >= 400:
        base = {"error": {"message": "mock failure", "type": "server_error", "code": None, "param": None}, "tag": tag}
    elif path == "/v1/embeddings":
        usage = {"prompt_tokens": script.get("prompt", 7), "total_tokens": script.get("prompt", 7)}
        base |= {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}], "usage": usage}
    elif path == "/v1/messages":
        said = {"input_tokens": script.get("prompt", 7), "output_tokens": script.get("events", 5)}
        content = [{"type": "text", "text": text}]
        base |= {"type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn", "usage": said}
    elif path == "/api/chat":
        base |= {"created_at": "2026-11-23T12:00:00Z", "message": message, **ollama_end(script)}
    elif path == "/api/generate":
        base |= {"created_at": "2026-11-23T12:00:00Z", "response": text, **ollama_end(script)}
    elif path == "/api/embed":
        base |= {
            "embeddings": [[0.5, 0.25]],
            "total_duration": 5,
            "load_duration": 1,
            "prompt_eval_count": script.get("prompt", 7),
        }
    else:
        choice = {"index": 0, "message": message, "text": text, "finish_reason": "stop"}
        base |= {"object": "chat.completion", "choices": [choice], "usage": figures(script)}
    return json.dumps(base).encode()


def listing(path: str, names: list[str]) -> bytes:
    """A list of models in the form of the path."""
    if path == "/info":
        return json.dumps({"model_id": names[0], "version": "3.3.4"}).encode()
    if path == "/api/tags":
        return json.dumps({"models": [{"name": name, "model": name, "size": 1, "details": {}} for name in names]}).encode()
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model", "created": 1} for name in names]}).encode()


def voice(path: str, script: dict[str, Any]) -> tuple[list[bytes], Callable[[int], bytes], list[bytes]]:
    """How a stream of the path's dialect opens, how its n-th event looks, and how it closes."""
    tag, model, pad = script.get("tag", ""), script["fields"].get("model"), "x" * script.get("pad", 0)

    def sse(fields: Any) -> bytes:
        return b"data: %s\n\n" % json.dumps(fields).encode()

    def named(name: str, **fields: Any) -> bytes:
        return b"event: %s\ndata: %s\n\n" % (name.encode(), json.dumps({"type": name, **fields}).encode())

    def stamp(number: int) -> dict[str, Any]:
        return {"n": number, "tag": tag, "t": time.monotonic(), **({"pad": pad} if pad else {})}

    if path == "/v1/messages":
        said = {"input_tokens": script.get("prompt", 7), "output_tokens": 1}
        start = {"id": f"mock-{tag}", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None}
        block = {"type": "text", "text": ""}
        opening = [
            named("message_start", message={**start, "stop_sequence": None, "usage": said}),
            named("content_block_start", index=0, content_block=block),
        ]
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        closing = [
            named("content_block_stop", index=0),
            named("message_delta", delta=stop, usage={"output_tokens": script.get("events", 5)}),
            named("message_stop"),
        ]
        return (
            opening,
            lambda n: named("content_block_delta", index=0, delta={"type": "text_delta", "text": f"{n} "}, **stamp(n)),
            closing,
        )
    if path.startswith("/api/"):

        def line(fields: dict[str, Any]) -> bytes:
            return json.dumps({"model": model, "created_at": "2026-11-23T12:00:00Z", "tag": tag, **fields}).encode() + b"\n"

        def said_in(text: str) -> dict[str, Any]:
            return {"message": {"role": "assistant", "content": text}} if path == "/api/chat" else {"response": text}

        return [], lambda n: line({**said_in(f"{n} "), **stamp(n), "done": False}), [line({**said_in(""), **ollama_end(script)})]

    base = {"id": f"mock-{tag}", "object": "chat.completion.chunk", "created": 1, "model": model, "tag": tag}
    asked_for_usage = (script["fields"].get("stream_options") or {}).get("include_usage")
    closing = [sse({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})]
    if asked_for_usage or script.get("always_usage"):
        closing.append(sse({**base, "choices": [], "usage": figures(script)}))
    closing.append(b"data: [DONE]\n\n")

    def event(number: int) -> bytes:
        choice = {"index": 0, "delta": {"content": f"{number} "}, "text": f"{number} ", "finish_reason": None}
        return sse({**base, **stamp(number), "choices": [choice]})

    return [], event, closing
