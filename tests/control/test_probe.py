"""The probe against engines scripted from their published APIs, and against everything that is none of them.

llama.cpp's answers are those of a real server, cut to what matters. No socket is opened: httpx's mock transport stands
for the network.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from slmgate.control.probe import MAX_BODY, MAX_MODELS, Probe, ProbeError, probe

URL = "http://10.0.0.5:8000"
GGUF = "/models/SmolLM2-135M-Instruct.Q4_1.gguf"


def models(owner: str, *names: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 1, "owned_by": owner} for name in names]}


LLAMACPP = {
    "/v1/models": models("llamacpp", GGUF),
    "/props": {
        "default_generation_settings": {"n_ctx": 512},
        "total_slots": 1,
        "model_path": GGUF,
        "build_info": "b6800-1a2b3c4",
    },
}
ENGINES: dict[str, tuple[dict[str, Any], tuple[str, tuple[str, ...], str | None]]] = {
    "vllm": (
        {"/v1/models": models("vllm", "HuggingFaceTB/SmolLM2-135M-Instruct", "my-lora"), "/version": {"version": "0.11.0"}},
        ("vllm", ("HuggingFaceTB/SmolLM2-135M-Instruct", "my-lora"), "0.11.0"),
    ),
    "vllm with a key": ({"/v1/models": 401, "/version": {"version": "0.11.0"}}, ("vllm", (), "0.11.0")),
    "llama.cpp": (LLAMACPP, ("llamacpp", (GGUF,), "b6800-1a2b3c4")),
    "llama.cpp of old": ({"/props": LLAMACPP["/props"]}, ("llamacpp", (GGUF,), "b6800-1a2b3c4")),
    "llama.cpp without props": ({"/v1/models": models("llamacpp", "a")}, ("llamacpp", ("a",), None)),
    "ollama": (
        {
            "/": "Ollama is running",
            "/api/version": {"version": "0.12.6"},
            "/api/tags": {"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest", "size": 1}, {"name": "gemma3:1b"}]},
            "/v1/models": models("library", "llama3.2:latest", "gemma3:1b"),
        },
        ("ollama", ("llama3.2:latest", "gemma3:1b"), "0.12.6"),
    ),
    "ollama without models": ({"/": "Ollama is running", "/api/tags": {"models": []}}, ("ollama", (), None)),
    "sglang": (
        {"/v1/models": models("sglang", "qwen/qwen2.5-0.5b"), "/get_server_info": {"model_path": "x", "version": "0.5.3"}},
        ("sglang", ("qwen/qwen2.5-0.5b",), "0.5.3"),
    ),
    "sglang by its own API": (
        {"/get_model_info": {"model_path": "qwen/qwen2.5-0.5b", "is_generation": True}},
        ("sglang", ("qwen/qwen2.5-0.5b",), None),
    ),
    "tgi": (
        {"/info": {"model_id": "HuggingFaceTB/SmolLM2-135M-Instruct", "version": "3.3.4", "docker_label": "sha-1", "sha": "0"}},
        ("tgi", ("HuggingFaceTB/SmolLM2-135M-Instruct",), "3.3.4"),
    ),
    "another": ({"/v1/models": models("someone", "a", "b", "a")}, ("openai", ("a", "b"), None)),
    "another without models": ({"/v1/models": {"data": []}}, ("openai", (), None)),
    "another with strange names": (
        {"/v1/models": {"data": [{"id": "ok"}, {"id": 1}, {"id": ""}, {"id": "a\x1b[31m"}, {"id": "x" * 513}, "y", None]}},
        ("openai", ("ok",), None),
    ),
    "another with too many": (
        {"/v1/models": models("x", *(str(i) for i in range(MAX_MODELS + 1)))},
        ("openai", tuple(map(str, range(MAX_MODELS))), None),
    ),
}


def serving(answers: dict[str, Any], server: str = "") -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET"
        assert request.headers["accept-encoding"] == "identity"
        found = answers.get(request.url.path, 404)
        if isinstance(found, int):
            return httpx.Response(found, json={"error": {"message": "no"}}, headers={"server": server})
        return httpx.Response(200, json=found) if not isinstance(found, str | bytes) else httpx.Response(200, content=found)

    return httpx.MockTransport(answer)


def run(transport: httpx.AsyncBaseTransport, url: str = URL, within: float = 5.0) -> Probe:
    return asyncio.run(probe(url, within, transport))


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_recognised(name: str) -> None:
    answers, (engine, names, version) = ENGINES[name]
    found = run(serving(answers))
    assert (found.engine, found.models, found.version) == (engine, names, version)
    assert found.detail
    assert found.url == URL


def test_llama_cpp_by_its_server_header() -> None:
    assert run(serving({}, "llama.cpp")).engine == "llamacpp"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({}, "not as a model server (HTTP 404"),
        ({"/v1/models": "<html>"}, "not as a model server (HTTP 200"),
        ({"/v1/models": "[" * 100_000}, "not as a model server"),
        ({"/v1/models": []}, "not as a model server"),
        ({"/v1/models": b'{"data": [{"id": "\xff"}]}'}, "not as a model server"),
        ({"/v1/models": {"data": {}}}, "not as a model server"),
        ({"/v1/models": 500}, "not as a model server (HTTP 500"),
        ({"/v1/models": 401}, "asks for a key"),
        ({"/v1/models": 403}, "asks for a key"),
        ({"/v1/models": 302}, "sends elsewhere (HTTP 302)"),
        ({"/v1/models": "x" * (MAX_BODY + 1)}, "larger than 1024 KiB"),
    ],
)
def test_not_a_model_server(answers: dict[str, Any], words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        run(serving(answers))
    assert words in str(caught.value)
    assert "--engine" in str(caught.value)


@pytest.mark.parametrize(("size", "fits"), [(MAX_BODY, True), (MAX_BODY + 1, False)])
def test_the_bound_of_a_body(size: int, fits: bool) -> None:
    body = '{"data": []}'.ljust(size)
    if fits:
        assert run(serving({"/v1/models": body})).engine == "openai"
    else:
        with pytest.raises(ProbeError):
            run(serving({"/v1/models": body}))


def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(307, headers={"location": "http://169.254.169.254/"})

    with pytest.raises(ProbeError):
        run(httpx.MockTransport(answer))
    assert all(url.startswith(URL) for url in asked)


def caused(failure: Exception, cause: Exception) -> Exception:
    failure.__cause__ = cause
    return failure


def not_verified() -> ssl.SSLError:
    error = ssl.SSLCertVerificationError(1, "no")
    error.verify_code = 20
    return error


def alert() -> ssl.SSLError:
    error = ssl.SSLError(1, "no")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    return error


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (
            caused(httpx.ConnectError("no"), not_verified()),
            "is not asked: its certificate is from an unknown authority. Name its authority with --ca, or name",
        ),
        (
            alert(),
            "https://10.0.0.5:8000 is not asked: it needs a client certificate (tls.cert), and was shown none. Write the file",
        ),
        (ssl.SSLError(1, "no"), "https://10.0.0.5:8000 is not asked: TLS fails: for no reason that is known. Write the file"),
        (httpx.ConnectError("refused"), "nothing answers at https://10.0.0.5:8000"),
    ],
)
def test_failures_of_tls(failure: Exception, words: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(ProbeError) as caught:
        asyncio.run(probe("https://10.0.0.5:8000", transport=httpx.MockTransport(answer)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ConnectError("refused"), "nothing answers at http://10.0.0.5:8000: is the server running?"),
        (httpx.ConnectTimeout("late"), "no answer from http://10.0.0.5:8000 within 5 s"),
        (httpx.ReadTimeout("late"), "no answer from http://10.0.0.5:8000 within 5 s"),
        (httpx.RemoteProtocolError("garbage"), "does not answer as HTTP should (RemoteProtocolError)"),
        (httpx.ReadError("reset"), "does not answer as HTTP should (ReadError)"),
    ],
)
def test_failures(failure: Exception, words: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(ProbeError) as caught:
        run(httpx.MockTransport(answer))
    assert words in str(caught.value)


def test_what_is_packed_is_not_unpacked() -> None:
    packed = httpx.MockTransport(lambda request: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Never()))
    with pytest.raises(ProbeError, match="not as a model server"):
        run(packed)


class Never(httpx.AsyncByteStream):
    """A body that must not be read."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""


def test_a_server_that_trickles_ends_with_the_time_limit() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(ProbeError, match="still loading"):
        run(httpx.MockTransport(answer), within=0.0)


@pytest.mark.parametrize("url", ["", "10.0.0.5:8000", "http://10.0.0.5:8000/v1", "ftp://x", "http://u:p@x"])
def test_not_a_url(url: str) -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError("asked")

    with pytest.raises(ProbeError, match="the URL"):
        run(httpx.MockTransport(never), url)
