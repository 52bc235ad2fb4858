"""What instances say they serve: names as each engine compares them, lists that lie, and lists that cannot be read.

The answers are those that the engines' published APIs show; real ones are asked in tests/system.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.control.catalogue import IN_WORDS, LONGEST, MAX_BODY, PATHS, SHOWN, Catalogue, Wanted, ask, read
from slmgate.control.config.options import ENGINES, Engine


def openai(*ids: Any, **fields: Any) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": id, "object": "model", **fields} for id in ids]}).encode()


def ollama(*names: str) -> bytes:
    return json.dumps({"models": [{"name": name, "model": name, "digest": "0", "details": {}} for name in names]}).encode()


def said(body: bytes, engine: Engine = "openai", name: str = "tiny", named: bool = False, route: bool = True) -> Catalogue:
    return read(body, Wanted(engine=engine, name=name, named=named, route=route))


def test_every_engine_is_asked() -> None:
    assert set(PATHS) == set(ENGINES.values)


@pytest.mark.parametrize(
    ("engine", "name", "named", "body", "state", "absent"),
    [
        ("openai", "tiny", False, openai("big", "tiny"), "listed", False),
        ("openai", "tiny", False, openai("Tiny"), "missing", False),
        ("openai", "tiny", False, openai(), "missing", False),
        ("openai", "tiny", False, openai("tiny:latest", owned_by="library"), "listed", False),
        ("vllm", "tiny", False, openai("tiny:latest"), "missing", True),
        # vLLM lists aliases and adapters, and refuses every other name
        ("vllm", "tiny", False, openai("base", "tiny", owned_by="vllm"), "listed", False),
        ("vllm", "tiny", False, openai("base", owned_by="vllm"), "missing", True),
        ("vllm", "own", True, openai("base", owned_by="vllm"), "missing", True),
        # llama.cpp and SGLang answer to any name; so does what is configured as something else and turns out to be one of them
        ("llamacpp", "tiny", False, openai("/models/smollm2.gguf", owned_by="llamacpp", aliases=[]), "any", False),
        ("llamacpp", "tiny", False, openai("/models/smollm2.gguf", owned_by="llamacpp", aliases=["tiny"]), "listed", False),
        ("llamacpp", "own", True, openai("/models/smollm2.gguf", owned_by="llamacpp"), "missing", False),
        ("llamacpp", "tiny", False, openai("qwen", owned_by="llamacpp", status={"value": "unloaded"}), "missing", False),
        ("llamacpp", "qwen", False, openai("qwen", owned_by="llamacpp", status={"value": "unloaded"}), "listed", False),
        ("llamacpp", "tiny", False, openai("x", owned_by=None, aliases={"not": "a list"}), "any", False),
        ("llamacpp", "tiny", False, openai("x", aliases=[3, "tiny"]), "listed", False),
        ("openai", "tiny", False, openai("x.gguf", owned_by="llamacpp"), "any", False),
        ("vllm", "tiny", False, openai("x.gguf", owned_by="llamacpp"), "any", False),
        ("sglang", "tiny", False, openai("meta/x", owned_by="sglang"), "any", False),
        ("openai", "tiny", False, openai("meta/x", owned_by="sglang"), "any", False),
        ("tgi", "tiny", False, b'{"model_id": "meta/x", "version": "3"}', "any", False),
        ("tgi", "meta/x", True, b'{"model_id": "meta/x", "version": "3"}', "listed", False),
        ("tgi", "meta/y", True, b'{"model_id": "meta/x", "version": "3"}', "missing", False),
        # Ollama: the tag `latest`, the registry and the namespace may be left out, and capitals do not count
        ("ollama", "tiny", False, ollama("tiny:latest"), "listed", False),
        ("ollama", "tiny:latest", False, ollama("tiny:latest"), "listed", False),
        ("ollama", "Tiny", False, ollama("tiny:latest"), "listed", False),
        ("ollama", "registry.ollama.ai/library/tiny", True, ollama("tiny:latest"), "listed", False),
        ("ollama", "jane/tiny", False, ollama("jane/tiny:latest"), "listed", False),
        ("ollama", "hub.example:5000/jane/tiny", True, ollama("hub.example:5000/jane/tiny:latest"), "listed", False),
        ("ollama", "tiny:1b", False, ollama("tiny:latest"), "missing", True),
        ("ollama", "tiny", False, ollama("tiny:1b"), "missing", True),
        ("ollama", "tiny", False, ollama("jane/tiny:latest"), "missing", True),
        ("ollama", "tiny", False, ollama(), "missing", True),
        ("ollama", "tiny", False, b'{"models": [{"model": "tiny:latest"}]}', "listed", False),
    ],
)
def test_whether_it_is_there(engine: Engine, name: str, named: bool, body: bytes, state: str, absent: bool) -> None:
    found = said(body, engine, name, named)
    assert (found.state, found.absent) == (state, absent)
    assert not said(body, engine, name, named, route=False).absent


@pytest.mark.parametrize(
    ("engine", "body"),
    [
        (engine, body)
        for body in (b"", b"null", b"[]", b"{}", b"<html>", b'{"data": null, "models": null}', b'{"data": {}, "models": {}}')
        for engine in ENGINES.values
    ]
    + [
        ("openai", openai(5)),
        ("openai", openai("tiny")[:-2]),
        ("openai", b'{"data": ["tiny"]}'),
        ("openai", b'{"data": [{"id": "' + b"\xff" + b'"}]}'),
        ("openai", b'{"data": ' + b"[" * 100_000),
        ("openai", b'{"data": [{"aliases": ' + b"[" * 100_000),
        ("ollama", b'{"models": [{"name": 3}]}'),
        ("tgi", b'{"model_id": null}'),
    ],
)
def test_what_is_no_list(engine: Engine, body: bytes) -> None:
    """Never taken for a list without the model."""
    assert said(body, engine) == Catalogue(state="unknown", text=f"unknown: GET {PATHS[engine]}: the answer is no list of models")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("tiny"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["data", "models", "model_id", "id", "name", "model", "owned_by", "aliases", "status"]), inner
        )
    ),
    max_leaves=12,
)


@given(
    st.binary(max_size=64) | JSON.map(lambda value: json.dumps(value).encode()), st.sampled_from(ENGINES.values), st.booleans()
)
def test_any_answer(body: bytes, engine: Engine, named: bool) -> None:
    """Whatever it is, it is told in a bounded, harmless way, and only a list of names can be without the model."""
    found = said(body, engine, named=named)
    assert len(found.text) < 600
    assert found.text.isprintable()
    assert len(found.serves) <= SHOWN
    if found.state == "missing":
        json.loads(body)
        assert found.absent == (engine in ("ollama", "vllm"))  # of the owners that answer to any name, none was drawn
    else:
        assert not found.absent


def test_entries_without_names() -> None:
    assert said(b'{"data": [{}, {"id": ""}]}').text == "unknown: GET /v1/models: the models in the answer have no names"
    assert said(b'{"data": [{}, {"id": "tiny"}]}').state == "listed"


def test_how_it_is_told() -> None:
    assert said(openai("tiny", "b")) == Catalogue(state="listed", text="listed", serves=("tiny", "b"), count=2)
    assert said(openai()).text == "tiny is not there: it lists no model"
    names = [f"m{n}" for n in range(100)]
    many = said(openai(*names, *names))
    assert (many.count, many.serves) == (100, tuple(names[:SHOWN]))
    assert many.text == f"tiny is not there: it lists m0, m1, m2, m3 and {100 - IN_WORDS} more"
    assert said(openai("/models/x.gguf"), "llamacpp").text == "takes any name, lists /models/x.gguf"


def test_names_are_harmless_and_short() -> None:
    evil = "a\x1b[2J\u202ereversed\n<script>"
    (shown,) = said(openai(evil)).serves
    assert shown == "a\u00b7[2J\u00b7reversed\u00b7<script>"
    (shown,) = said(openai("/deep" * 100_000 + "/x.gguf")).serves
    assert (len(shown), shown[0], shown[-7:]) == (LONGEST, "…", "/x.gguf")
    assert len(said(openai(*(f"{n}" * 500 for n in range(1000)))).text) < 500


async def drips(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def asked(answer: Callable[[httpx.Request], httpx.Response], bearer: str | None = None, within: float = 2.0) -> Catalogue:
    async def asks() -> Catalogue:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), headers={"accept-encoding": "identity"}) as client:
            return await ask(client, "http://a:1", Wanted(engine="openai", name="tiny"), bearer, within)

    return asyncio.run(asks())


def test_the_question() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=openai("tiny"))

    assert asked(answer, "abcd").state == "listed"
    assert asked(answer).state == "listed"
    with_secret, without = seen
    assert (with_secret.method, str(with_secret.url), with_secret.content) == ("GET", "http://a:1/v1/models", b"")
    assert with_secret.headers["authorization"] == "Bearer abcd"
    assert "authorization" not in without.headers


@pytest.mark.parametrize("status", [204, 301, 302, 401, 403, 404, 500, 503])
def test_other_statuses(status: int) -> None:
    found = asked(lambda _: httpx.Response(status, content=openai("other"), headers={"location": "http://b/"}))
    assert found == Catalogue(state="unknown", text=f"unknown: GET /v1/models answered {status}")


def test_an_answer_that_is_too_large() -> None:
    """It is cut off at the bound, however long it is; one that just fits is read."""
    taken = 0

    async def flood() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65536
            yield bytes(65536)

    found = asked(lambda _: httpx.Response(200, content=flood()))
    assert found.text == f"unknown: GET /v1/models: the answer is larger than {MAX_BODY // 1024} KiB"
    assert taken <= MAX_BODY + 65536
    whole = openai("tiny")
    assert asked(lambda _: httpx.Response(200, content=whole + b" " * (MAX_BODY - len(whole)))).state == "listed"
    assert asked(lambda _: httpx.Response(200, content=whole + b" " * (MAX_BODY + 1 - len(whole)))).state == "unknown"
    assert asked(lambda _: httpx.Response(200, content=drips(*(bytes([byte]) for byte in whole)))).state == "listed"


def test_a_compressed_answer() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=drips(b"\x1f\x8b"), headers={"content-encoding": "gzip"})

    assert asked(answer).text == "unknown: GET /v1/models: the answer is compressed"


def raises(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


def test_no_answer() -> None:
    late = "unknown: GET /v1/models: no whole answer within 2 s"
    assert asked(raises(TimeoutError())).text == late
    assert asked(raises(httpx.ReadTimeout("no"))).text == late
    assert asked(raises(httpx.ConnectError("no"))).text == "unknown: GET /v1/models: no valid answer (ConnectError)"

    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert asked(lambda _: httpx.Response(200, content=stalls()), within=0.0).text.endswith("within 0 s")
