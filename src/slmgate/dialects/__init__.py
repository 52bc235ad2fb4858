"""The table of what may be asked: (method, path) -> dialect and endpoint. What is not in it does not exist.

Default deny is the engine firewall: control routes of an engine are unreachable because they have no row.
The table knows paths exactly as they arrive; there is no normalising and no prefix match, so that the path
that was decided on is the path that is sent.
"""

from __future__ import annotations

from slmgate.dialects.anthropic import Anthropic
from slmgate.dialects.contract import Dialect, Route
from slmgate.dialects.llamacpp import LlamaCpp
from slmgate.dialects.ollama import Ollama
from slmgate.dialects.openai import OpenAI
from slmgate.dialects.tgi import Tgi

_OPENAI = OpenAI()
_ANTHROPIC = Anthropic()
_OLLAMA = Ollama()
_LLAMACPP = LlamaCpp()
_TGI = Tgi()

# Left out on purpose: `/v1/models/{id}` (no fixed path), `/api/show` (it shows templates and file names), every call
# that loads, unloads, pulls or tunes.
_ROWS: tuple[Route, ...] = (
    Route("POST", "/v1/chat/completions", _OPENAI, "chat", access="chat"),
    Route("POST", "/v1/completions", _OPENAI, "completions", access="completions"),
    Route("POST", "/v1/embeddings", _OPENAI, "embeddings", access="embeddings"),
    Route("POST", "/v1/responses", _OPENAI, "responses", access="responses"),
    Route("POST", "/v1/rerank", _OPENAI, "rerank", access="rerank"),
    Route("POST", "/v1/audio/transcriptions", _OPENAI, "transcriptions", "multipart", access="transcriptions"),
    Route("POST", "/v1/audio/translations", _OPENAI, "translations", "multipart", access="translations"),
    Route("POST", "/v1/audio/speech", _OPENAI, "speech", access="speech"),
    Route("GET", "/v1/models", _OPENAI, "models", "list", access="models"),
    Route("POST", "/v1/messages", _ANTHROPIC, "messages", access="chat"),
    Route("POST", "/v1/messages/count_tokens", _ANTHROPIC, "count_tokens", access="tokenize"),
    Route("POST", "/api/chat", _OLLAMA, "chat", access="chat"),
    Route("POST", "/api/generate", _OLLAMA, "generate", access="completions"),
    Route("POST", "/api/embed", _OLLAMA, "embed", access="embeddings"),
    Route("POST", "/api/embeddings", _OLLAMA, "embeddings", access="embeddings"),
    Route("GET", "/api/tags", _OLLAMA, "models", "list", access="models"),
    Route("POST", "/completion", _LLAMACPP, "completion", access="completions"),
    Route("POST", "/completions", _LLAMACPP, "completion", access="completions"),
    Route("POST", "/infill", _LLAMACPP, "infill", access="infill"),
    Route("POST", "/tokenize", _LLAMACPP, "tokenize", access="tokenize"),
    Route("POST", "/detokenize", _LLAMACPP, "detokenize", access="tokenize"),
    Route("POST", "/generate", _TGI, "generate", access="completions"),
    Route("POST", "/generate_stream", _TGI, "generate_stream", access="completions"),
)

TABLE: dict[tuple[str, str], Route] = {(row.method, row.path): row for row in _ROWS}
"""What may be asked, by method and path."""

ENDPOINTS: tuple[str, ...] = tuple(dict.fromkeys(row.access for row in _ROWS))
"""What roles can speak of: the names under which all APIs' endpoints go."""

PATHS: dict[str, tuple[str, ...]] = {
    path: tuple(row.method for row in _ROWS if row.path == path) for path in dict.fromkeys(row.path for row in _ROWS)
}
"""The methods of each path, for the `Allow` of a 405 (RFC 9110 section 15.5.6)."""


def error_dialect(path: str) -> Dialect:
    """The dialect in which an error is said about a path that may be in no row."""
    if path.startswith("/api/"):
        return _OLLAMA
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return _ANTHROPIC
    for method in PATHS.get(path, ()):
        return TABLE[method, path].dialect
    return _OPENAI
