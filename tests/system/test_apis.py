"""The APIs beside chat, end to end: audio, rerank, llama.cpp's own calls to the real engine, and TGI's.

Answers pass as they came; each receipt holds the engine's own count, or says that it is estimated. Chat and embeddings are
tested with the official clients in `test_clients.py`; audio is here, since a scripted instance stands for an engine that hears.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.system.conftest import SHARED
from tests.tools.engine import Engine
from tests.tools.gate import SECRET, Gate, model
from tests.tools.upstream import STREAM_HEAD, MockUpstream, chunk, sized
from tests.tools.wire import Answer, ask, request

HEARD = {"text": "one two", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17}}
SOUND = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def apis(engine: Engine, shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate over the real engine, and over a scripted instance that calls its model by another name."""
    other = model(shared_upstream.url)
    other["instances"][0]["upstream_model"] = "own/name"
    limits = {"connect": "2s", "first_byte": "60s", "idle": "30s"}
    models = {"smollm2": model(engine.url, engine="llamacpp", timeouts=limits), "tiny": other}
    made = Gate(tmp_path_factory.mktemp("apis"), models, **SHARED)
    yield made
    made.stop()


@pytest.fixture
def client(apis: Gate) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{apis.port}/v1", api_key=SECRET, max_retries=0, timeout=30) as made:
        yield made


def post(gate: Gate, path: str, fields: dict[str, Any]) -> Answer:
    return ask(gate.port, request(json.dumps(fields).encode(), path=path, secret=SECRET))


def booked(gate: Gate, answer: Answer) -> tuple[int, int, bool]:
    """Prompt and completion tokens of the answer's receipt, and whether they are estimated."""
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["status"], row["ended"]) == (200, "complete"), row
    return row["prompt_tokens"], row["completion_tokens"], bool(row["estimated"])


def answers(upstream: MockUpstream, body: bytes, content_type: str = "application/json") -> None:
    upstream.default(do="raw", bytes=sized(200, body, content_type).decode("latin-1"))


def streams(upstream: MockUpstream, *events: str) -> None:
    whole = STREAM_HEAD % b"text/event-stream" + b"".join(chunk(f"data:{event}\n\n".encode()) for event in events)
    upstream.default(do="raw", bytes=(whole + b"0\r\n\r\n").decode("latin-1"))


# --- audio -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # newer models of OpenAI's have no translations; engines do
@pytest.mark.parametrize("call", ["transcriptions", "translations"])
def test_a_recording_goes_through_as_it_came(apis: Gate, upstream: MockUpstream, client: Any, call: str) -> None:
    answers(upstream, json.dumps(HEARD).encode())
    name = {"x-request-id": f"{call}-{time.monotonic_ns()}"}
    heard = getattr(client.audio, call).create(
        model="tiny", file=("a.wav", SOUND), prompt="digits", temperature=0.5, extra_headers=name
    )
    assert heard.text == "one two"
    (asked,) = upstream.journal()
    body = asked["body"].encode("latin-1")
    assert asked["path"] == f"/v1/audio/{call}"
    assert SOUND in body and body.count(b'name="model"') == 1
    assert b'name="model"\r\n\r\nown/name\r\n' in body and b"tiny" not in body
    assert b'name="prompt"\r\n\r\ndigits\r\n' in body
    assert dict(asked["headers"])["content-type"].startswith("multipart/form-data; boundary=")
    row = apis.receipt(name["x-request-id"])
    assert (row["endpoint"], row["model"], row["ended"]) == (call, "tiny", "complete")
    assert (row["prompt_tokens"], row["completion_tokens"], row["estimated"]) == (14, 3, 0)
    assert row["bytes_in"] > len(SOUND)


def test_a_transcription_is_streamed(apis: Gate, upstream: MockUpstream, client: Any) -> None:
    done = {"type": "transcript.text.done", **HEARD}
    streams(upstream, json.dumps({"type": "transcript.text.delta", "delta": "one"}), json.dumps(done))
    name = f"heard-{time.monotonic_ns()}"
    heard = client.audio.transcriptions.create(
        model="tiny", file=("a.wav", SOUND), stream=True, extra_headers={"x-request-id": name}
    )
    assert [event.type for event in heard] == ["transcript.text.delta", "transcript.text.done"]
    row = apis.receipt(name)
    assert (row["stream"], row["ended"], row["prompt_tokens"], row["completion_tokens"]) == (1, "complete", 14, 3)


def test_speech_is_sound(apis: Gate, upstream: MockUpstream, client: Any) -> None:
    answers(upstream, SOUND, "audio/mpeg")
    spoken = client.audio.speech.with_raw_response.create(model="tiny", voice="alloy", input="hello")
    assert (spoken.content, spoken.headers["content-type"]) == (SOUND, "audio/mpeg")
    assert json.loads(upstream.journal()[0]["body"])["model"] == "own/name"
    row = apis.receipt(spoken.headers["x-request-id"])
    assert (row["endpoint"], row["ended"], row["estimated"]) == ("speech", "complete", 1)


def test_a_recording_for_no_model(apis: Gate, upstream: MockUpstream, client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.audio.transcriptions.create(model="nobody", file=("a.wav", SOUND))
    assert refused.value.code == "model_not_found"
    assert upstream.journal() == []


# --- rerank ------------------------------------------------------------------------------------------------------------


def test_rerank(apis: Gate, upstream: MockUpstream) -> None:
    ranked = {"results": [{"index": 1, "relevance_score": 0.9}], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    answers(upstream, json.dumps(ranked).encode())
    answer = post(apis, "/v1/rerank", {"model": "tiny", "query": "q", "documents": ["a", "b"]})
    assert answer.json() == ranked
    assert booked(apis, answer) == (9, 0, False)


# --- llama.cpp, the real one -------------------------------------------------------------------------------------------

COUNT: dict[str, Any] = {"model": "smollm2", "prompt": "One, two,", "n_predict": 6, "temperature": 0, "cache_prompt": False}


@pytest.mark.parametrize("path", ["/completion", "/completions"])
def test_llamacpp_completion(apis: Gate, path: str) -> None:
    answer = post(apis, path, COUNT)
    said = answer.json()
    assert said["content"]
    assert booked(apis, answer) == (said["tokens_evaluated"], said["tokens_predicted"], False)
    streamed = post(apis, path, {**COUNT, "stream": True})
    events = [json.loads(event) for event in streamed.events()]
    assert "".join(event["content"] for event in events) == said["content"]
    assert events[-1]["stop"] is True
    assert booked(apis, streamed) == booked(apis, answer)


def test_llamacpp_infill(apis: Gate) -> None:
    """This model has no tokens for it, which the engine says with 501: the gate says it in its own words, and books nothing."""
    answer = post(apis, "/infill", {"model": "smollm2", "input_prefix": "def ", "input_suffix": "\n", "n_predict": 4})
    assert (answer.status, answer.json()["error"]["type"]) == (502, "upstream_error")
    row = apis.receipt(answer.header("x-request-id"))
    assert (row["endpoint"], row["prompt_tokens"], row["completion_tokens"], row["attempts"]) == ("infill", 0, 0, 1)


def test_llamacpp_tokenizer(apis: Gate) -> None:
    tokens = post(apis, "/tokenize", {"model": "smollm2", "content": "One, two"})
    assert booked(apis, tokens) == (0, 0, False)
    text = post(apis, "/detokenize", {"model": "smollm2", "tokens": tokens.json()["tokens"]})
    assert text.json()["content"] == "One, two"


# --- TGI ---------------------------------------------------------------------------------------------------------------

DETAILS = {"finish_reason": "length", "generated_tokens": 2, "input_length": 4, "seed": None}


def token(text: str, **more: Any) -> str:
    return json.dumps({"index": 1, "token": {"id": 1, "text": text}, "generated_text": None, "details": None, **more})


@pytest.mark.parametrize("wanted", [True, False, None])
def test_tgi_stream(apis: Gate, upstream: MockUpstream, wanted: bool | None) -> None:
    """Figures are asked for, and in the stream only where the client asked for them."""
    streams(upstream, token("a"), token("b", generated_text="ab", details=DETAILS))
    parameters = {"max_new_tokens": 2, **({} if wanted is None else {"details": wanted})}
    answer = post(apis, "/generate_stream", {"model": "tiny", "inputs": "hello", "parameters": parameters})
    sent = [json.loads(event.partition(":")[2]) for event in answer.body.decode().split("\n\n") if event]
    assert "".join(event["token"]["text"] for event in sent) == sent[-1]["generated_text"] == "ab"
    assert sent[-1]["details"] == (DETAILS if wanted else None)
    (asked,) = upstream.journal()
    assert json.loads(asked["body"])["parameters"] == {"max_new_tokens": 2, "details": True}
    assert booked(apis, answer) == (4, 2, False)


def test_tgi_whole(apis: Gate, upstream: MockUpstream) -> None:
    answers(upstream, json.dumps({"generated_text": "ab", "details": {**DETAILS, "prefill": [{}, {}, {}]}}).encode())
    details = {"details": True, "decoder_input_details": True}
    answer = post(apis, "/generate", {"model": "tiny", "inputs": "hello", "parameters": details})
    assert answer.json()["generated_text"] == "ab"
    assert booked(apis, answer) == (3, 2, False)
