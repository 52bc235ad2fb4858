"""The table of paths: what is in it, what must never be, and in which dialect an error is said."""

from __future__ import annotations

import pytest

from slmgate.dialects import PATHS, TABLE, error_dialect
from slmgate.dialects.contract import Dialect

PRODUCT = [
    ("POST", "/v1/chat/completions", "openai", "json"),
    ("POST", "/v1/completions", "openai", "json"),
    ("POST", "/v1/embeddings", "openai", "json"),
    ("POST", "/v1/responses", "openai", "json"),
    ("GET", "/v1/models", "openai", "list"),
    ("POST", "/v1/rerank", "openai", "json"),
    ("POST", "/v1/audio/transcriptions", "openai", "multipart"),
    ("POST", "/v1/audio/translations", "openai", "multipart"),
    ("POST", "/v1/audio/speech", "openai", "json"),
    ("POST", "/v1/messages", "anthropic", "json"),
    ("POST", "/api/chat", "ollama", "json"),
    ("POST", "/api/generate", "ollama", "json"),
    ("POST", "/api/embed", "ollama", "json"),
    ("GET", "/api/tags", "ollama", "list"),
    ("POST", "/completion", "llamacpp", "json"),
    ("POST", "/infill", "llamacpp", "json"),
    ("POST", "/tokenize", "llamacpp", "json"),
    ("POST", "/generate", "tgi", "json"),
    ("POST", "/generate_stream", "tgi", "json"),
]


@pytest.mark.parametrize(("method", "path", "dialect", "kind"), PRODUCT)
def test_what_may_be_asked(method: str, path: str, dialect: str, kind: str) -> None:
    row = TABLE[method, path]
    assert (row.method, row.path, row.dialect.name, row.kind) == (method, path, dialect, kind)
    assert method in PATHS[path]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/sleep",
        "/wake_up",
        "/slots",
        "/props",
        "/metrics",
        "/health",
        "/api/pull",
        "/api/push",
        "/api/create",
        "/api/delete",
        "/api/copy",
        "/api/ps",
        "/api/show",
        "/v1/load_lora_adapter",
        "/lora-adapters",
        "/reset_prefix_cache",
        "/invocations",
        "/pooling",
        "/score",
        "/info",
        "/models/load",
        "/v1/models/m",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/V1/chat/completions",
        "/v1/chat%2Fcompletions",
    ],
)
def test_what_does_not_exist(path: str) -> None:
    assert path not in PATHS
    assert not any(row.path == path for row in TABLE.values())


def test_the_table_is_of_one_piece() -> None:
    assert {path for _, path in TABLE} == set(PATHS)
    for (method, path), row in TABLE.items():
        assert (row.method, row.path) == (method, path)
        assert row.kind in ("json", "multipart", "list")
        dialect: Dialect = row.dialect
        assert dialect is error_dialect(path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/chat", "ollama"),
        ("/api/none", "ollama"),
        ("/apis", "openai"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/batches", "anthropic"),
        ("/v1/messagesx", "openai"),
        ("/v1/none", "openai"),
        ("/", "openai"),
        ("", "openai"),
        ("/completion", "llamacpp"),
        ("/generate", "tgi"),
    ],
)
def test_the_dialect_of_an_error(path: str, name: str) -> None:
    assert error_dialect(path).name == name
