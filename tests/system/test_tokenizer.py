"""Prompts counted with the model's own tokenizer, beside the real engine: what is taken of a limit is what the engine counts.

The tokenizer's file is made from the weights' own tables, and the template of chats with it. What is taken before the answer is
read from the headers; what the engine counted from its answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slmgate.cli.engine import weights
from tests.system.conftest import SHARED, running
from tests.system.limited import key, secret_of
from tests.tools.engine import Engine
from tests.tools.gate import Gate, model
from tests.tools.gguf import write_tokenizer
from tests.tools.wire import Answer, ask, request

AMOUNT = 1_000_000
MOST = 3
TEXTS = {
    "plain": "In one sentence, why are small language models useful?",
    "figures": "3.14159 and 2,718 and 1_000_000 are numbers of 2026-11-28.",
    "code": "def f(x):\n    return {'a': [x ** 2, None]}  # ok?\n\n\n",
    "others": "Żółć, smörgåsbord, 東京タワー, Привет, 👩‍👩‍👧‍👦 \u200b\u00a0.",
    "spaces": "   lots     of      \t\t  space   ",
    "long": "The quick brown fox jumps over the lazy dog, again and again. " * 60,
}


@pytest.fixture(scope="module")
def counting(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    path = weights()
    assert path is not None
    tokenizer = write_tokenizer(path, tmp_path_factory.mktemp("tokenizer"))
    timeouts = {"connect": "2s", "first_byte": "60s", "idle": "30s"}
    models = {"smollm2": model(engine.url, engine="llamacpp", tokenizer=str(tokenizer), timeouts=timeouts)}
    role = {"models": ["*"], "endpoints": ["*"], "limits": [f"{AMOUNT} tokens/day"]}
    options = {**SHARED, "workers": 1, "keys": [key("counted", roles=["r"])], "roles": {"r": role}}
    made = Gate(tmp_path_factory.mktemp("gate"), models, **options)
    running.append(made)
    yield made
    running.remove(made)
    made.stop()


def asked(gate: Gate, path: str, **fields: Any) -> Answer:
    body = json.dumps({"model": "smollm2", "max_tokens": MOST, **fields}, ensure_ascii=False).encode()
    headers = ("Content-Type: application/json",)
    return ask(gate.port, request(body, secret=secret_of("counted"), path=path, headers=headers), timeout=60)


def taken(gate: Gate, path: str, **fields: Any) -> tuple[int, int]:
    """Of the prompt: what was taken before, and what the engine counted."""
    before = spent(gate)
    answer = asked(gate, path, **fields)
    assert answer.status == 200, answer
    left = int(answer.header("x-ratelimit-remaining-tokens") or "")
    return AMOUNT - left - before - MOST, answer.json()["usage"]["prompt_tokens"]


def spent(gate: Gate) -> int:
    """What is used, told by a request that is refused."""
    answer = asked(gate, "/v1/completions", prompt="x", max_tokens=AMOUNT)
    assert answer.status in (413, 429), answer
    return AMOUNT - int(answer.header("x-ratelimit-remaining-tokens") or "")


@pytest.mark.parametrize("text", TEXTS)
def test_chat_is_counted_as_the_engine_does(counting: Gate, text: str) -> None:
    held, real = taken(counting, "/v1/chat/completions", messages=[{"role": "user", "content": TEXTS[text]}])
    print(f"{text}: {held} taken, {real} counted by the engine")
    assert real <= held <= real + 2


@pytest.mark.parametrize("text", TEXTS)
def test_completion_is_counted_as_the_engine_does(counting: Gate, text: str) -> None:
    held, real = taken(counting, "/v1/completions", prompt=TEXTS[text])
    assert abs(held - real) <= 1, "a piece ends before a space: at most one token is another"


def test_turns_of_a_chat(counting: Gate) -> None:
    """Each turn sends all of those before; the template's marks are counted for each."""
    messages: list[dict[str, str]] = []
    for number, text in enumerate(TEXTS.values()):
        messages.append({"role": "user", "content": text})
        held, real = taken(counting, "/v1/chat/completions", messages=messages)
        assert real <= held <= real + 2 * (number + 1), (number, held, real)
        messages.append({"role": "assistant", "content": "Yes."})


def test_settled_to_the_engines_figures(counting: Gate) -> None:
    before = spent(counting)
    answer = asked(counting, "/v1/chat/completions", messages=[{"role": "user", "content": TEXTS["others"]}])
    time.sleep(0.1)
    assert spent(counting) - before == answer.json()["usage"]["total_tokens"]


def test_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    """A gate does not start with it, and says why."""
    bad = tmp_path / "tokenizer.json"
    bad.write_text("{}")
    gate = Gate(tmp_path, {"tiny": model("http://127.0.0.1:9", tokenizer=str(bad))}, wait=False)
    try:
        assert gate.process.wait(20) == 1
        assert "is no tokenizer that the library tokenizers can read" in gate.text()
    finally:
        gate.stop()
