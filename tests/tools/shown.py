"""How a transcript shows what was sent and recorded: short, and whole in what can differ from case to case.

It leaves out the fields that every head has, after checking that their figures are right. It knows no road and no stage.
"""

from __future__ import annotations

import json
from typing import Any

SHORT = {
    "<x>": r'data: {"choices":[{"delta":{"content":"x"}}]}\n\n',
    "<5+2>": r'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n',
    "<done>": r"data: [DONE]\n\n",
    "<used>": r'{"usage":{"prompt_tokens":5,"completion_tokens":7}}',
    "<chat>": r'POST /v1/chat/completions | {"model": "m"}',
    "<stream>": r'POST /v1/chat/completions | {"stream_options":{"include_usage":true},"model": "m", "stream": true}',
    "<sse>": r"200 content-type: text/event-stream transfer-encoding: chunked |",
}
"""Words for texts that stand in many transcripts, understood in what is sent and used in what is shown."""
USUAL = ("date: ", "content-type: application/json", "x-request-id: ", "server-timing: ", "host: ", "accept-encoding: identity")


def meant(text: str) -> bytes:
    """The bytes that a transcript's text stands for: words of `SHORT`, and escapes as Python writes them."""
    for word, long in SHORT.items():
        text = text.replace(word, long)
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def escaped(data: bytes) -> str:
    return data.decode("latin-1").encode("unicode_escape").decode()


def shown(data: bytes) -> str:
    """Bytes as a transcript shows them, with the words of `SHORT`."""
    text = _shown(data)
    for word, long in SHORT.items():
        text = text.replace(long, word)
    return text


def _shown(data: bytes) -> str:
    """Bytes of a request or an answer: the request line or status, unusual fields, and ` | ` before a body.

    Of an error body the code is shown (`!invalid_api_key`). A content-length is left out where it is the body's.
    """
    head, found, body = data.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    if not found or "HTTP/1.1" not in first:
        return escaped(data)
    said = first[9:12] if first.startswith("HTTP/1.1 ") else first.removesuffix(" HTTP/1.1")
    if said[0] in "45" and body[:1] == b"{" and isinstance(error := json.loads(body).get("error"), dict) and "code" in error:
        said, body, fields = f"{said} !{error['code']}", b"", [one for one in fields if one != f"content-length: {len(body)}"]
    rest = [one for one in fields if not one.startswith(USUAL) and one != f"content-length: {len(body)}"]
    return " ".join([said, *rest, *(["|", escaped(body)] if body else [])])


def shown_record(kind: bytes, said: dict[str, Any]) -> str:
    """A record of the journal: an intent's instance; a receipt's status, how it ended, where, why, and tokens in + out.

    `~` behind the tokens: estimated.
    """
    if kind == b"I":
        return f"intent {said['instance']}"
    tokens = f"{said['prompt_tokens']}+{said['completion_tokens']}{'~' if said['estimated'] else ''}"
    reason = f"!{said['reason']}" if said["reason"] else ""
    return " ".join(filter(None, [str(said["status"]), said["ended"], said["instance"], reason, tokens.removeprefix("0+0")]))
