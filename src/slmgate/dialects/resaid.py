"""An engine's refusal of a request, said again: what the client may do about it, and nothing of how the engine put it.

An engine's own words quote paths, classes, addresses and whole tracebacks. What helps a client is which field was wrong, or that
its text is too long and by how much: names that the client itself used, and numbers. The original is the operator's, quoted so
that it fits a line of a log and repeats nothing of the prompt. This module knows no instance, and not where the log is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from slmgate.dialects.figures import decoded
from slmgate.terms import Refuse

SHOWN = 400
"""Characters of an engine's words that a log line holds."""
SEARCHED = 64 * 1024
"""Bytes of a request's body, at most, in which an engine's words are looked for before they are shown."""
ECHO = 12
"""Characters in a row that also stand in the request: so much is an echo of it, and not shown."""

_TOO_LONG = re.compile(
    rb"(?i)context[ _-]?(?:length|size|window)|maximum (?:sequence|input|model) length|exceeds? (?:the )?(?:available )?context"
    rb"|too (?:long|many tokens)|longer than the (?:maximum|model)|max_total_tokens|`inputs` must have less"
)
_SIZE = re.compile(rb"(?:context (?:length|size|window)|n_ctx|max_total_tokens)[^0-9]{0,24}([0-9]{1,9})", re.IGNORECASE)
_SECRET = re.compile(
    r"\b(?:sk|pk|hf|api|key)[-_][A-Za-z0-9_-]{8,}|\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_.-]*|(?i:\bbearer +)[^\s'\"]{4,}"
)
"""What looks like a credential, whoever's it is."""
_ESCAPED = re.compile(r'(?:\\u[0-9A-Fa-f]{4})+|\\["\\/bfnrt]')
_LONGEST_ESCAPE = 12  # characters of JSON for one: a pair of surrogates
_STATUS = {413: "request_too_large", 415: "unsupported_media_type"}


class _Body(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw()
    param: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    detail: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw()
    param: msgspec.Raw = msgspec.Raw()


_BODY = msgspec.json.Decoder(_Body)
_ERROR = msgspec.json.Decoder(_Error)
_STRING = msgspec.json.Decoder(str)


def resaid(status: int, body: bytes, fields: Mapping[str, Any]) -> Refuse:
    """What the client is told when an engine answered with this status, below 500; `fields` are the request's own."""
    if status == 404:
        return Refuse("not_found", "The model does not offer this.")
    if status in _STATUS:
        return Refuse(_STATUS[status], "The model did not accept the request's body.")
    if _TOO_LONG.search(body):
        size = _SIZE.search(body)
        most = f" of {int(size[1])} tokens" if size else ""
        return Refuse("context_length_exceeded", f"The prompt, with what may be written, does not fit the model's context{most}.")
    param = _param(body, fields)
    which = f": {param} is missing or has a value that it does not take" if param else ""
    return Refuse("invalid_request", f"The model did not accept the request{which}.", param)


def quoted(body: bytes, asked: bytes) -> str:
    """An engine's words for the operator: one line, bounded, without what they repeat of the request, whose body is `asked`."""
    if len(asked) > SEARCHED:
        return f"{len(body)} bytes, not shown, as the request is too long to look for its text in them"
    # Both sides as they read without JSON's escapes, which each may write where the other does not.
    text = _SECRET.sub("[...]", _plain(_words(body)[: SHOWN * _LONGEST_ESCAPE])[:SHOWN])
    shown, at = [], 0
    known = _plain(asked.decode(errors="replace"))
    known += "\0" + _plain(known)  # a message was taken out of its own JSON already
    while at < len(text):
        end = at + ECHO
        if end <= len(text) and text[at:end] in known:
            while end < len(text) and text[end - ECHO + 1 : end + 1] in known:
                end += 1
            shown.append("[...]")
            at = end
        else:
            shown.append(text[at])
            at += 1
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in "".join(shown))


def _plain(text: str) -> str:
    """The text with what JSON escapes in it written out; what is no escape stays."""
    return _ESCAPED.sub(lambda found: decoded(_STRING, b'"%b"' % found[0].encode()) or found[0], text)


def _words(body: bytes) -> str:
    """The message in an error body of any API, else all of it."""
    top = decoded(_BODY, body)
    if top is not None:
        inner = decoded(_ERROR, top.error) if bytes(top.error) else None
        for raw in (inner.message if inner else top.error, top.message, top.detail):
            text = decoded(_STRING, raw) if bytes(raw) else None
            if text:
                return text
    return body[: 4 * SHOWN].decode(errors="replace")


def _param(body: bytes, fields: Mapping[str, Any]) -> str | None:
    """The field that the engine names as wrong, if it is one of the request's own, or one that all requests have."""
    top = decoded(_BODY, body)
    if top is None:
        return None
    inner = decoded(_ERROR, top.error) if bytes(top.error) else None
    for raw in (inner.param if inner else msgspec.Raw(), top.param):
        name = decoded(_STRING, raw) if bytes(raw) else None
        if name and name in fields:
            return name
    words = _words(body)
    # Quoted as engines quote them; a request has few names at its top, and a longer one is meant before a shorter.
    for name in sorted((*fields, "messages", "prompt", "input", "inputs"), key=len, reverse=True)[:64]:
        if len(name) <= 64 and any(f"{mark}{name}{mark}" in words for mark in "'\"`"):
            return name
    return None
