"""Engines' figures made believable: the one place where a count that an engine says becomes a `Usage`.

An engine is not trusted: a figure that is absent, negative, absurdly large or no whole number is no figure. This
module knows neither where a dialect keeps its figures nor what they cost.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from slmgate.terms import Usage

MAX_COUNT = 2**31
"""Tokens. No request comes near it; a larger figure is a lie or a fault."""

_RAW = msgspec.json.Decoder(msgspec.Raw)

T = TypeVar("T")


def believable(prompt: int | None, completion: int | None) -> Usage | None:
    """The two figures as a `Usage`, or None where one is missing or cannot be true."""
    if prompt is None or completion is None or not 0 <= prompt <= MAX_COUNT or not 0 <= completion <= MAX_COUNT:
        return None
    return Usage(prompt, completion)


def decoded(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T | None:
    """What `decoder` makes of an engine's JSON, or None where it is no such thing. Never raises on data."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def is_document(data: bytes) -> bool:
    """Whether these bytes are one whole JSON document."""
    return decoded(_RAW, data) is not None


class OpenAIFigures(msgspec.Struct):
    """The `usage` object of the OpenAI API, with the names of chat, completions, embeddings and responses.

    Source: the API reference's CompletionUsage, ResponseUsage and the embeddings answer.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None

    def usage(self) -> Usage | None:
        prompt = self.input_tokens if self.prompt_tokens is None else self.prompt_tokens
        completion = self.output_tokens if self.completion_tokens is None else self.completion_tokens
        if completion is None:
            # Embeddings and rerankings complete nothing: they say the prompt, the total, or both.
            return believable(self.total_tokens if prompt is None else prompt, 0)
        if prompt is None and self.total_tokens is not None:
            prompt = self.total_tokens - completion
        return believable(prompt, completion)


_FIGURES = msgspec.json.Decoder(OpenAIFigures | None)
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class _UsualFigures(OpenAIFigures):
    """The figures of nearly every answer: both there, under their first names, and believable."""

    prompt_tokens: _Count = msgspec.field()
    completion_tokens: _Count = msgspec.field()


class _UsualAnswer(msgspec.Struct):
    """An answer with figures, and with nothing that `masking` would take out but perhaps the model's name."""

    usage: _UsualFigures
    model: str = ""
    system_fingerprint: None = None
    kv_transfer_params: None = None
    verbose: None = msgspec.field(default=None, name="__verbose")


class _Answer(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()


_USUAL_ANSWER = msgspec.json.Decoder(_UsualAnswer).decode
_ANSWER = msgspec.json.Decoder(_Answer)


def openai_answer(body: bytes) -> tuple[Usage | None, str | None]:
    """The `Usage` in a complete answer, and the model's name if that is all it tells of the inside (None: look again).

    What is not as usual is decoded again, with all the care it needs.
    """
    try:
        answer = _USUAL_ANSWER(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        careful = decoded(_ANSWER, body)
        return openai_usage(careful.usage) if careful else None, None
    figures = answer.usage
    return Usage(figures.prompt_tokens, figures.completion_tokens), answer.model


class _Failure(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw()
    object: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()


_FAILURE = msgspec.json.Decoder(_Failure)
_NO_ERROR = (b"", b"null", b"false", b'""', b"{}")


def says_error(body: bytes) -> bool:
    """Whether an answer without usage is an error body all the same, whatever its status said.

    All APIs have a member `error` in theirs, and vLLM had `"object": "error"`. A response of OpenAI that failed has an `error`
    too, but is an answer: it says what object it is.
    """
    if b'"error"' not in body:
        return False
    failure = decoded(_FAILURE, body)
    if failure is None:
        return False
    if bytes(failure.object):
        return bytes(failure.object) == b'"error"'
    return bytes(failure.error) not in _NO_ERROR


def says_failure(data: bytes) -> bool:
    """Whether one event of a stream, given without its framing, is no part of an answer but an engine's word that it failed."""
    failure = decoded(_FAILURE, data)
    if failure is None:
        return False
    return bytes(failure.error) not in (b"", *_NO_ERROR) or bytes(failure.type) in (b'"error"', b'"response.failed"')


def openai_usage(raw: msgspec.Raw) -> Usage | None:
    """The `Usage` in the bytes of a `usage` member (no bytes: the member is absent)."""
    figures = decoded(_FIGURES, raw) if bytes(raw) else None
    return figures.usage() if figures else None
