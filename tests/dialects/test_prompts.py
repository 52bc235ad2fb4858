"""Which texts a model reads of a request, in the bodies of each API; and what is no text and so has none."""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.dialects.prompts import Prompt, prompt_of

HI = {"role": "user", "content": "hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("access", "dialect", "fields", "prompt"),
    [
        ("chat", "openai", {"messages": [HI]}, Prompt(["hi"], 1)),
        ("chat", "openai", {"messages": [HI, {"role": "assistant", "content": None}]}, Prompt(["hi"], 2)),
        ("chat", "openai", {"messages": [{"role": "user", "name": "ann", "content": "hi"}]}, Prompt(["ann", "hi"], 1)),
        ("chat", "openai", {"messages": [{"content": [{"type": "text", "text": "a"}, "b"]}]}, Prompt(["a", "b"], 1)),
        ("chat", "openai", {"messages": [{"content": [{"type": "refusal", "refusal": "no"}]}]}, Prompt(["no"], 1)),
        ("chat", "openai", {"messages": [HI, {"role": "assistant", "tool_calls": [{"a": 1}]}]}, Prompt(["hi", '[{"a":1}]'], 2)),
        ("chat", "openai", {"messages": [{"role": "tool", "tool_call_id": "1", "content": "4"}]}, Prompt(["4"], 1)),
        ("chat", "openai", {"messages": [HI], "tools": [{"b": 2}], "functions": []}, Prompt(["hi", '[{"b":2}]'], 1)),
        ("chat", "openai", {}, Prompt([], 1)),
        ("chat", "anthropic", {"system": "be short", "messages": [HI]}, Prompt(["be short", "hi"], 2)),
        ("chat", "anthropic", {"system": [{"type": "text", "text": "s"}], "messages": [HI]}, Prompt(["s", "hi"], 2)),
        (
            "chat",
            "anthropic",
            {"messages": [{"content": [{"type": "tool_result", "content": [{"type": "text", "text": "4"}]}]}]},
            Prompt(['{"type":"tool_result","content":[{"type":"text","text":"4"}]}'], 1),
        ),
        ("responses", "openai", {"instructions": "i", "input": "hi"}, Prompt(["i", "hi"], 2)),
        (
            "responses",
            "openai",
            {"input": [HI, {"type": "function_call", "name": "f"}]},
            Prompt(["hi", '{"type":"function_call","name":"f"}'], 2),
        ),
        ("completions", "openai", {"prompt": "once", "suffix": "end"}, Prompt(["once", "end"])),
        ("completions", "openai", {"prompt": ["a", "b"]}, Prompt(["a", "b"])),
        ("completions", "openai", {"prompt": [1, 2, 3]}, Prompt([], 0, 3)),
        ("completions", "openai", {"prompt": [[1, 2], [3]]}, Prompt([], 0, 3)),
        ("completions", "llamacpp", {"prompt": [12, "mixed", [7, "deep"]]}, Prompt(["mixed", "deep"], 0, 2)),
        ("completions", "tgi", {"inputs": "once"}, Prompt(["once"])),
        ("completions", "ollama", {"prompt": "once"}, Prompt(["once"], 1)),
        ("completions", "ollama", {"prompt": "once", "system": "s"}, Prompt(["once", "s"], 2)),
        ("completions", "ollama", {"prompt": "once", "raw": True}, Prompt(["once"])),
        (
            "infill",
            "llamacpp",
            {"input_prefix": "a", "input_suffix": "b", "input_extra": [{"text": "c"}, "d"]},
            Prompt(["a", "b", "c", "d"]),
        ),
        ("embeddings", "openai", {"input": ["a", "b"]}, Prompt(["a", "b"])),
        ("rerank", "openai", {"query": "q", "documents": ["a", {"text": "b"}]}, Prompt(["q", "a", "q", "b"])),
    ],
    ids=str,
)
def test_texts(access: str, dialect: str, fields: dict[str, Any], prompt: Prompt) -> None:
    assert prompt_of(access, dialect, fields) == prompt


@pytest.mark.parametrize(
    ("access", "fields"),
    [
        ("chat", {"messages": [{"content": [PICTURE]}]}),
        ("chat", {"messages": [{"content": [{"type": "text", "text": 7}]}]}),
        ("chat", {"messages": [{"content": 7}]}),
        ("chat", {"messages": [{"content": "see", "images": ["AAAA"]}]}),
        ("chat", {"messages": [7]}),
        ("chat", {"messages": [{"content": [{"type": "tool_result", "content": [PICTURE]}]}]}),
        ("chat", {"system": 7, "messages": [HI]}),
        ("completions", {"prompt": "see", "images": ["AAAA"]}),
        ("completions", {"prompt": {"prompt_string": "see"}}),
        ("completions", {"prompt": [{"prompt_string": "see"}]}),
        ("completions", {"prompt": [True]}),
        ("embeddings", {"input": 7}),
        ("infill", {"input_extra": [{"text": 7}]}),
        ("infill", {"input_extra": 7}),
        ("rerank", {"query": "q", "documents": "a"}),
        ("rerank", {"query": "q", "documents": [7]}),
        ("rerank", {"query": 7, "documents": ["a"]}),
        ("speech", {"input": "read this"}),
        ("tokenize", {"content": "hi"}),
    ],
    ids=str,
)
def test_what_is_no_text_has_none(access: str, fields: dict[str, Any]) -> None:
    assert prompt_of(access, "openai", fields) is None
