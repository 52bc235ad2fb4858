"""Asks a running server what it is: which engine, which models, which version.

Each engine is told by what only it answers, as its published API describes it. A probe sends plain GETs, follows no
redirect, takes at most `MAX_BODY` bytes of an answer and ends with its time limit. It knows no configuration file.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from slmgate.control.config.addresses import Url
from slmgate.control.config.faults import BadValueError, printable
from slmgate.control.config.options import Engine
from slmgate.link.trust import client_context, why_not
from slmgate.policy.specs import TrustSpec

MAX_BODY = 1024 * 1024
MAX_MODELS = 1000
_GO_ON = "or name both --engine and --model to go on without asking"


class Probe(msgspec.Struct, frozen=True):
    """What answered. `models` are the server's own names; `detail` says in one line how the engine was recognised."""

    url: str
    engine: Engine
    models: tuple[str, ...]
    version: str | None
    detail: str


class ProbeError(Exception):
    """Nothing useful answers; the message says what to do about it."""


class Answer(msgspec.Struct, frozen=True):
    """`body` is the decoded JSON, or the text where it is none."""

    status: int
    server: str
    body: Any

    @property
    def json(self) -> dict[str, Any]:
        return self.body if self.status == 200 and isinstance(self.body, dict) else {}


async def probe(url: str, within: float = 5.0, transport: httpx.AsyncBaseTransport | None = None, ca: str = "") -> Probe:
    """Find out what serves at `url`; `within` is the time for it all, in seconds. `transport` stands for the network in tests;
    `ca` is the file of the authorities that are believed over TLS, in place of the system's.

    Raises `ProbeError` when the URL is none, nothing answers, or no model server does.
    """
    try:
        base = str(Url().take(url, "quoted"))
    except BadValueError as error:
        raise ProbeError(f"the URL {error.problem}: {error.hint}") from None
    # The gate reaches instances directly, so the probe leaves proxies of the environment aside too.
    client = httpx.AsyncClient(
        base_url=base,
        transport=transport,
        verify=client_context(TrustSpec(ca=ca)) if transport is None else True,
        timeout=within,
        follow_redirects=False,
        trust_env=False,
        headers={"accept-encoding": "identity"},
    )
    try:
        async with client, asyncio.timeout(within):
            return await _recognise(base, client)
    except (TimeoutError, httpx.TimeoutException):
        raise ProbeError(f"no answer from {base} within {within:g} s: is the server still loading? Try again, {_GO_ON}") from None
    except httpx.ConnectError as error:
        if base.startswith("https:") and (why := why_not(error, urlsplit(base).hostname or "")) is not None:
            raise ProbeError(f"{base} is not asked: {why}. Name its authority with --ca, {_GO_ON}") from None
        raise ProbeError(f"nothing answers at {base}: is the server running? Start it, {_GO_ON}") from None
    except (httpx.HTTPError, ssl.SSLError) as error:  # what comes of TLS later than its handshake, httpx lets pass
        if base.startswith("https:") and (why := why_not(error, "", opening=False)) is not None:
            raise ProbeError(f"{base} is not asked: {why}. Write the file by hand, {_GO_ON}") from None
        what = type(error).__name__
        raise ProbeError(
            f"{base} does not answer as HTTP should ({what}): is it the right port, http or https? Else {_GO_ON[3:]}"
        ) from None


async def _get(client: httpx.AsyncClient, path: str) -> Answer:
    async with client.stream("GET", path) as response:
        if response.headers.get("content-encoding", "identity") != "identity":
            return Answer(
                response.status_code, response.headers.get("server", ""), None
            )  # not asked for, and unbounded once unpacked
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BODY:
                raise ProbeError(
                    f"the answer at {path} is larger than {MAX_BODY // 1024} KiB: is this a model server? If so, {_GO_ON[3:]}"
                )
        try:
            decoded = msgspec.json.decode(bytes(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = body[:200].decode(errors="replace")
        return Answer(response.status_code, response.headers.get("server", ""), decoded)


async def _recognise(base: str, client: httpx.AsyncClient) -> Probe:
    listed = await _get(client, "/v1/models")
    models = _names(listed.json.get("data"), "id")
    owners = {entry.get("owned_by") for entry in _objects(listed.json.get("data"))}

    if "llamacpp" in owners or listed.server == "llama.cpp":
        props = (await _get(client, "/props")).json
        return Probe(base, "llamacpp", models, _text(props, "build_info"), "its model list says llama.cpp")
    if "vllm" in owners:
        return Probe(base, "vllm", models, _text((await _get(client, "/version")).json, "version"), "its model list is vLLM's")
    if "sglang" in owners:
        return Probe(base, "sglang", models, await _sglang_version(client), "its model list is SGLang's")
    return (
        await _ollama(base, client)
        or await _tgi(base, client, models)
        or await _llamacpp(base, client, models)
        or await _sglang(base, client, models)
        or await _vllm(base, client, models, listed)
        or _openai(base, models, listed)
    )


async def _ollama(base: str, client: httpx.AsyncClient) -> Probe | None:
    root = await _get(client, "/")
    if root.body != "Ollama is running":
        return None
    version = (await _get(client, "/api/version")).json
    tags = (await _get(client, "/api/tags")).json
    return Probe(base, "ollama", _names(tags.get("models"), "name"), _text(version, "version"), "it says that Ollama is running")


async def _tgi(base: str, client: httpx.AsyncClient, models: tuple[str, ...]) -> Probe | None:
    info = (await _get(client, "/info")).json
    model, version = _text(info, "model_id"), _text(info, "version")
    if model is None or version is None:
        return None
    return Probe(base, "tgi", models or (model,), version, "/info is Text Generation Inference's")


async def _llamacpp(base: str, client: httpx.AsyncClient, models: tuple[str, ...]) -> Probe | None:
    props = (await _get(client, "/props")).json
    if "default_generation_settings" not in props:
        return None
    own = _text(props, "model_alias") or _text(props, "model_path")
    return Probe(base, "llamacpp", models or ((own,) if own else ()), _text(props, "build_info"), "/props is llama.cpp's")


async def _sglang(base: str, client: httpx.AsyncClient, models: tuple[str, ...]) -> Probe | None:
    own = _text((await _get(client, "/get_model_info")).json, "model_path")
    if own is None:
        return None
    return Probe(base, "sglang", models or (own,), await _sglang_version(client), "/get_model_info is SGLang's")


async def _sglang_version(client: httpx.AsyncClient) -> str | None:
    return _text((await _get(client, "/get_server_info")).json, "version")


async def _vllm(base: str, client: httpx.AsyncClient, models: tuple[str, ...], listed: Answer) -> Probe | None:
    # With a key set, vLLM guards /v1 but not /version; a server whose models can be read and are not vLLM's is another.
    version = _text((await _get(client, "/version")).json, "version") if listed.status in (401, 403) else None
    if version is None:
        return None
    return Probe(base, "vllm", models, version, "/version is vLLM's; its model list asks for a key")


def _openai(base: str, models: tuple[str, ...], listed: Answer) -> Probe:
    if listed.status in (401, 403):
        raise ProbeError(
            f"{base} asks for a key at /v1/models: name both --engine and --model, and give the key in the file (`bearer`)"
        )
    if 300 <= listed.status < 400:
        raise ProbeError(
            f"{base} sends elsewhere (HTTP {listed.status}), which is not followed: give the final address, {_GO_ON}"
        )
    if listed.status != 200 or not isinstance(listed.json.get("data"), list):
        raise ProbeError(
            f"{base} answers, but not as a model server (HTTP {listed.status} at /v1/models): "
            f"is it the right port? Correct it, {_GO_ON}"
        )
    return Probe(base, "openai", models, None, "it lists models as OpenAI's API does")


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _names(value: Any, field: str) -> tuple[str, ...]:
    """The names in a list of objects, each once, without those that no configuration could hold."""
    found = [name for entry in _objects(value)[:MAX_MODELS] if (name := _text(entry, field))]
    return tuple(dict.fromkeys(found))


def _text(value: dict[str, Any], field: str) -> str | None:
    """A short, printable text field, else None: what a server says of itself ends on a terminal and in a file."""
    text = value.get(field)
    return text if isinstance(text, str) and 0 < len(text) <= 512 and printable(text) == text else None
