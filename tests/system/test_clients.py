"""The official clients through the gate: against the real llama.cpp server, and for Ollama a scripted instance.

Clients change nothing but the base URL and the key. Every receipt's tokens are compared with the engine's own count, as the
client was told it or, where the client did not ask for it, as the engine tells it without the gate.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest

from tests.system.conftest import SHARED
from tests.tools.engine import Engine
from tests.tools.gate import SECRET, Gate, model
from tests.tools.provider import node_packages
from tests.tools.upstream import MockUpstream

ASK: list[Any] = [{"role": "user", "content": "Name three colours."}]
FIXED: dict[str, Any] = {"model": "smollm2", "max_tokens": 8, "temperature": 0}
LIMITS = {"connect": "2s", "first_byte": "60s", "idle": "30s"}


@pytest.fixture(scope="module")
def real(engine: Engine, shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate over the real engine, and over the scripted instance for Ollama's dialect."""
    models = {
        "smollm2": model(engine.url, engine="llamacpp", timeouts=LIMITS),
        "tiny": model(shared_upstream.url, engine="ollama"),
    }
    made = Gate(tmp_path_factory.mktemp("real"), models, **{**SHARED, "workers": 2})
    yield made
    made.stop()


# The clients are `Any` to the type checker: their overloads cannot be chosen for arguments that come from a dictionary.


@pytest.fixture
def client(real: Gate) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{real.port}/v1", api_key=SECRET, max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
def direct(engine: Engine) -> Iterator[Any]:
    """The same client without the gate: the engine's own word."""
    with openai.OpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
def claude(real: Gate) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{real.port}", api_key=SECRET, max_retries=0, timeout=60) as made:
        yield made


def named() -> dict[str, dict[str, str]]:
    """A request id of one's own, by which the receipt is found."""
    return {"extra_headers": {"x-request-id": f"client-{uuid.uuid4().hex}"}}


def booked(gate: Gate, name: dict[str, dict[str, str]]) -> tuple[int, int]:
    """Prompt and completion tokens of that request's receipt, which must be complete and exact."""
    row = gate.receipt(name["extra_headers"]["x-request-id"])
    assert (row["status"], row["ended"], row["estimated"]) == (200, "complete", 0), row
    return row["prompt_tokens"], row["completion_tokens"]


# --- openai ------------------------------------------------------------------------------------------------------------


def test_openai_chat(real: Gate, client: Any, direct: Any) -> None:
    name = named()
    answer = client.chat.completions.create(messages=ASK, **FIXED, **name)
    alone = direct.chat.completions.create(messages=ASK, **FIXED)
    assert answer.choices[0].message.content == alone.choices[0].message.content
    assert answer.usage
    assert booked(real, name) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert alone.usage
    assert alone.usage.prompt_tokens == answer.usage.prompt_tokens


@pytest.mark.parametrize("wanted", [True, False, None])
def test_openai_stream(real: Gate, client: Any, direct: Any, wanted: bool | None) -> None:
    """Usage is in the stream if and only if the client asked for it; the receipt always has it."""
    options: dict[str, Any] = {} if wanted is None else {"stream_options": {"include_usage": wanted}}
    name = named()
    chunks = list(client.chat.completions.create(messages=ASK, stream=True, **options, **FIXED, **name))
    alone = direct.chat.completions.create(messages=ASK, **FIXED)
    text = "".join(choice.delta.content or "" for each in chunks for choice in each.choices)
    assert text == alone.choices[0].message.content
    told = [each.usage for each in chunks if each.usage]
    assert len(told) == (1 if wanted else 0)
    assert wanted or all(each.choices for each in chunks), "the chunk with usage alone is the gate's and must be stripped"
    assert alone.usage
    assert booked(real, name) == (alone.usage.prompt_tokens, alone.usage.completion_tokens)
    if told and told[0]:
        assert booked(real, name) == (told[0].prompt_tokens, told[0].completion_tokens)


def test_openai_completions(real: Gate, client: Any) -> None:
    name = named()
    answer = client.completions.create(prompt="Once upon a time", **FIXED, **name)
    assert answer.usage
    assert booked(real, name) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def test_openai_embeddings(real: Gate, client: Any, direct: Any) -> None:
    name = named()
    answer = client.embeddings.create(model="smollm2", input=["hello there", "goodbye"], **name)
    alone = direct.embeddings.create(model="smollm2", input=["hello there", "goodbye"])
    assert len(answer.data) == 2
    assert answer.data[0].embedding == pytest.approx(alone.data[0].embedding, abs=1e-3)
    assert booked(real, name) == (answer.usage.prompt_tokens, 0)


def test_openai_models(client: Any) -> None:
    assert sorted(each.id for each in client.models.list()) == ["smollm2", "tiny"]


def test_openai_responses(real: Gate, client: Any) -> None:
    name = named()
    answer = client.responses.create(model="smollm2", input="Name three colours.", max_output_tokens=8, **name)
    assert answer.output_text
    assert answer.usage
    assert booked(real, name) == (answer.usage.input_tokens, answer.usage.output_tokens)


def test_openai_responses_stream(real: Gate, client: Any) -> None:
    name = named()
    events = list(client.responses.create(model="smollm2", input="Name three colours.", max_output_tokens=8, stream=True, **name))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.usage
    assert booked(real, name) == (last.response.usage.input_tokens, last.response.usage.output_tokens)


def test_openai_tools_and_json_pass(real: Gate, client: Any) -> None:
    schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}
    answer = client.chat.completions.create(messages=ASK, response_format=wanted, **{**FIXED, "max_tokens": 40})
    assert json.loads(answer.choices[0].message.content or "")["colour"] in ("red", "blue")


def test_openai_errors(real: Gate, client: Any) -> None:
    """The client's own exception types, chosen by status, with our code inside."""
    with pytest.raises(openai.AuthenticationError) as refused:
        client.with_options(api_key="sk-nobody-000000000000000").chat.completions.create(messages=ASK, **FIXED)
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(messages=ASK, **{**FIXED, "model": "nobody"})
    assert unknown.value.code == "model_not_found"


def test_openai_stream_that_the_client_leaves(real: Gate, client: Any) -> None:
    name = named()
    stream = client.chat.completions.create(messages=ASK, stream=True, **{**FIXED, "max_tokens": 400}, **name)
    for count, _ in enumerate(stream):
        if count == 5:
            break
    stream.close()
    row = real.receipt(name["extra_headers"]["x-request-id"])
    assert row["ended"] == "client_left"
    assert row["estimated"]
    assert row["completion_tokens"] >= 4


# --- openai for node ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def node_client() -> Path:
    """The directory with the script and the pinned package, installed once into the user's cache."""
    return node_packages()


def test_node_openai(real: Gate, node_client: Path) -> None:
    prefix = f"node-{uuid.uuid4().hex[:12]}"
    command = ["node", "client.mjs", f"http://127.0.0.1:{real.port}/v1", SECRET, prefix]
    done = subprocess.run(command, cwd=node_client, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    assert sorted(seen["models"]) == ["smollm2", "tiny"]
    assert seen["chat"]["text"]
    assert seen["stream"]["text"] == seen["chat"]["text"] == seen["silent"]["text"]
    assert seen["silent"]["usage"] is None
    assert seen["embeddings"]["length"] > 0
    assert (seen["stranger"]["status"], seen["stranger"]["code"]) == (401, "invalid_api_key")
    for step in ("chat", "stream", "silent", "embeddings"):
        row = real.receipt(f"{prefix}-{step}")
        usage = seen[step]["usage"] or seen["chat"]["usage"]
        assert (row["prompt_tokens"], row["completion_tokens"]) == (usage["prompt_tokens"], usage.get("completion_tokens", 0)), (
            step
        )


# --- anthropic ---------------------------------------------------------------------------------------------------------


BRIEF: dict[str, Any] = {"model": "smollm2", "max_tokens": 8, "extra_body": {"temperature": 0}}


def prompt_of(usage: Any) -> int:
    """All prompt tokens: this API counts those read from and written to a cache apart from `input_tokens`."""
    return int(usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0))


def test_anthropic_messages(real: Gate, claude: Any) -> None:
    name = named()
    answer = claude.messages.create(messages=ASK, **BRIEF, **name)
    assert answer.content[0].type == "text"
    assert answer.content[0].text
    assert booked(real, name) == (prompt_of(answer.usage), answer.usage.output_tokens)


def test_anthropic_stream(real: Gate, claude: Any) -> None:
    name = named()
    with claude.messages.stream(messages=ASK, **BRIEF, **name) as stream:
        text = "".join(stream.text_stream)
        last = stream.get_final_message()
    assert text
    assert last.stop_reason
    assert booked(real, name) == (prompt_of(last.usage), last.usage.output_tokens)


def test_anthropic_count_tokens(claude: Any, direct: Any) -> None:
    counted = claude.messages.count_tokens(model="smollm2", messages=ASK)
    alone = direct.chat.completions.create(messages=ASK, **FIXED)
    assert alone.usage
    assert counted.input_tokens == alone.usage.prompt_tokens


def test_anthropic_errors(claude: Any) -> None:
    with pytest.raises(anthropic.AuthenticationError) as refused:
        claude.with_options(api_key="sk-nobody-000000000000000").messages.create(messages=ASK, **BRIEF)
    assert "authentication_error" in str(refused.value)
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(messages=ASK, **{**BRIEF, "model": "nobody"})


def test_anthropic_stream_that_breaks(real: Gate, claude: Any, upstream: MockUpstream) -> None:
    """The official client raises on the error event: a broken stream is no success."""
    upstream.default(events=5, after=3, rate=50)
    with pytest.raises(anthropic.APIStatusError), claude.messages.stream(messages=ASK, max_tokens=9, model="tiny") as stream:
        list(stream)


def test_openai_stream_that_breaks(client: Any, upstream: MockUpstream) -> None:
    upstream.default(events=5, after=3, rate=50)
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(messages=ASK, stream=True, model="tiny"))


# --- ollama ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def llama(real: Gate, upstream: MockUpstream) -> Iterator[tuple[ollama.Client, str]]:
    """The official client with its own request id; the scripted instance counts 7 prompt and 5 completion tokens."""
    name = f"ollama-{uuid.uuid4().hex}"
    headers = {"Authorization": f"Bearer {SECRET}", "x-request-id": name}
    with closing(ollama.Client(host=f"http://127.0.0.1:{real.port}", headers=headers)) as made:
        yield made, name


def exact(gate: Gate, name: str) -> tuple[int, int]:
    return booked(gate, {"extra_headers": {"x-request-id": name}})


def test_ollama_chat(real: Gate, llama: tuple[ollama.Client, str]) -> None:
    answer = llama[0].chat(model="tiny", messages=ASK)
    assert answer.message.content == "0 1 2 3 4"
    assert answer.done
    assert (answer.prompt_eval_count, answer.eval_count) == (7, 5)
    assert exact(real, llama[1]) == (7, 5)


def test_ollama_stream(real: Gate, llama: tuple[ollama.Client, str]) -> None:
    parts = list(llama[0].chat(model="tiny", messages=ASK, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "0 1 2 3 4 "
    assert parts[-1].done
    assert exact(real, llama[1]) == (7, 5)


def test_ollama_generate(real: Gate, llama: tuple[ollama.Client, str]) -> None:
    parts = list(llama[0].generate(model="tiny", prompt="hi", stream=True))
    assert "".join(part.response or "" for part in parts) == "0 1 2 3 4 "
    assert exact(real, llama[1]) == (7, 5)


def test_ollama_embed(real: Gate, llama: tuple[ollama.Client, str]) -> None:
    answer = llama[0].embed(model="tiny", input=["hi"])
    assert [list(each) for each in answer.embeddings] == [[0.5, 0.25]]
    assert exact(real, llama[1]) == (7, 0)


def test_ollama_list(llama: tuple[ollama.Client, str]) -> None:
    assert sorted(each.model or "" for each in llama[0].list().models) == ["smollm2", "tiny"]


def test_ollama_errors(llama: tuple[ollama.Client, str], real: Gate) -> None:
    with pytest.raises(ollama.ResponseError) as unknown:
        llama[0].chat(model="nobody", messages=ASK)
    assert unknown.value.status_code == 404
    stranger = ollama.Client(host=f"http://127.0.0.1:{real.port}")
    with closing(stranger), pytest.raises(ollama.ResponseError) as refused:
        stranger.chat(model="tiny", messages=ASK)
    assert refused.value.status_code == 401
    with pytest.raises(ollama.ResponseError) as denied:
        llama[0].pull("tiny")
    assert denied.value.status_code == 404
