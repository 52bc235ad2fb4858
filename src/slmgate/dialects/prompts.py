"""What of a request a model reads: its texts, for those who can count their tokens.

Found alike for all APIs, by where each keeps them. A request with something in it that is no text (a picture, sound, a file) has
none here: how many tokens that makes only its engine knows. This module counts nothing and knows no tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

Fields = Mapping[str, Any]

CHATS = frozenset(("chat", "responses"))
"""Endpoints, under the names that all APIs share, whose texts are put into the model's template of a chat."""

_PLAIN = {
    "completions": ("prompt", "inputs", "suffix"),
    "infill": ("input_prefix", "input_suffix", "prompt"),
    "embeddings": ("input", "prompt", "inputs"),
}
_ABOUT = frozenset(("role", "type", "id", "status", "tool_call_id", "call_id", "cache_control", "annotations"))
# Parts of a message that are text, and those that templates write as JSON.
_TEXTS = frozenset(("text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text"))
_STRUCTURES = frozenset(("tool_use", "tool_result", "function_call", "function_call_output", "thinking", "reasoning"))
_encode = msgspec.json.Encoder().encode


class Prompt(NamedTuple):
    """`messages` is how many the template of a chat wraps, 0 where there is none. `tokens` came as numbers already."""

    texts: list[str]
    messages: int = 0
    tokens: int = 0


class _NotTextError(Exception):
    """There is something in it that is no text; never leaves this module."""


def prompt_of(access: str, dialect: str, fields: Fields) -> Prompt | None:
    """What the model reads of a request for the endpoint `access`; None where that cannot be told in texts."""
    try:
        if access in CHATS:
            return _chat(fields)
        if access == "rerank":
            return _rerank(fields)
        if access in _PLAIN:
            return _plain(access, dialect, fields)
    except _NotTextError:
        pass
    return None


def _chat(fields: Fields) -> Prompt:
    texts: list[str] = []
    messages = 0
    for name in ("system", "instructions"):  # a message of its own in the template
        if fields.get(name):
            messages += 1
            _content(fields[name], texts)
    given = fields.get("messages")
    if given is None:
        given = fields.get("input")
    for message in given if isinstance(given, list) else [given]:
        messages += 1
        if isinstance(message, str):
            texts.append(message)
        elif isinstance(message, dict):
            _message(message, texts)
        elif message is not None:
            raise _NotTextError
    texts += (_encode(fields[name]).decode() for name in ("tools", "functions") if fields.get(name))
    return Prompt(texts, messages)


def _message(message: Fields, texts: list[str]) -> None:
    if message.get("type") in _STRUCTURES:
        texts.append(_encode(message).decode())
        return
    for name, value in message.items():
        if name in _ABOUT or not value:
            continue
        if name == "content":
            _content(value, texts)
        elif isinstance(value, str):
            texts.append(value)
        elif name in ("tool_calls", "function_call"):
            texts.append(_encode(value).decode())
        else:
            raise _NotTextError  # `images` of Ollama, `audio` of OpenAI


def _content(value: Any, texts: list[str]) -> None:
    """A text, or parts of one."""
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if kind in _TEXTS and isinstance(part.get("text", part.get("refusal")), str):
            texts.append(part.get("text", part.get("refusal")))
        elif kind in _STRUCTURES and not _holds_more(part.get("content")):
            texts.append(_encode(part).decode())
        else:
            raise _NotTextError


def _holds_more(content: Any) -> bool:
    """Whether a tool's result has a part in it that is no text."""
    return isinstance(content, list) and any(not isinstance(part, dict) or part.get("type") not in _TEXTS for part in content)


def _rerank(fields: Fields) -> Prompt:
    """The question is read again with each document."""
    documents = fields.get("documents") or fields.get("texts")
    question = fields.get("query")
    if not isinstance(documents, list) or not isinstance(question, str):
        raise _NotTextError
    texts: list[str] = []
    for document in documents:
        text = document.get("text") if isinstance(document, dict) else document
        if not isinstance(text, str):
            raise _NotTextError
        texts += (question, text)
    return Prompt(texts)


def _plain(access: str, dialect: str, fields: Fields) -> Prompt:
    if fields.get("images"):
        raise _NotTextError
    texts: list[str] = []
    tokens = 0
    for name in _PLAIN[access]:
        value = fields.get(name)
        if value is not None:
            tokens += _sequences(value, texts)
    extras = fields.get("input_extra")
    for extra in extras if isinstance(extras, list) else [] if extras is None else [extras]:
        tokens += _sequences(extra.get("text") if isinstance(extra, dict) else extra, texts)
    messages = 0
    if dialect == "ollama" and access == "completions" and not fields.get("raw"):  # it puts the prompt into the template
        messages = 1
        if fields.get("system"):
            messages = 2
            tokens += _sequences(fields["system"], texts)
    return Prompt(texts, messages, tokens)


def _sequences(value: Any, texts: list[str]) -> int:
    """Texts, or tokens as numbers, each alone or in a list; the tokens' count."""
    if isinstance(value, str):
        texts.append(value)
        return 0
    if not isinstance(value, list):
        raise _NotTextError
    return _listed(value, texts)


def _listed(value: Iterable[Any], texts: list[str]) -> int:
    tokens = 0
    for one in value:
        if type(one) is int:
            tokens += 1
        elif isinstance(one, str):
            texts.append(one)
        elif isinstance(one, list) and all(type(each) is int or isinstance(each, str) for each in one):
            tokens += _listed(one, texts)
        else:
            raise _NotTextError
    return tokens
