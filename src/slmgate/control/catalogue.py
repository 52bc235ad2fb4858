"""What an instance says it serves: asked of its list of models, read within bounds, and held against the name it is sent.

What cannot be read is `unknown`, never `missing`: a list may ask for a key, be too long or not be there. Some engines answer to
any name, so that nothing can be missing there, unless the configuration names a model of theirs. Only Ollama and vLLM are known
to refuse each name that they do not list, and vLLM can be set up to fetch adapters under others. It keeps nothing and knows no
worker; the caller says when to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from slmgate.control.config.faults import printable
from slmgate.control.config.options import Engine

if TYPE_CHECKING:
    import httpx

MAX_BODY = 1024 * 1024
"""Bytes of a list of models: some thousand entries."""
SHOWN = 20
"""Names that are kept to be shown; of them `IN_WORDS` stand in sentences."""
IN_WORDS = 4
LONGEST = 96
"""Characters of a name that are shown: the last ones, since some engines call a model by the path of its file."""

PATHS: dict[Engine, str] = {
    "vllm": "/v1/models",
    "llamacpp": "/v1/models",
    "ollama": "/api/tags",
    "sglang": "/v1/models",
    "tgi": "/info",
    "openai": "/v1/models",
}
_ANY_NAME = ("llamacpp", "sglang", "tgi")
"""Engines that serve what they have under whatever name they are asked for; llama.cpp does unless it routes to several."""
_STRICT: dict[str, bool] = {"ollama": True, "vllm": False}
"""Engines that refuse names that they do not list: whether that is sure."""

State = Literal["listed", "missing", "any", "unknown"]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be there: the model's `name` as the instance is sent it. `named`: the configuration says that it is called so
    there, and not only what clients call it. `route`: an instance that would refuse the name is not to be asked. `model` is
    what clients call it: instances of one model are compared."""

    engine: Engine
    name: str
    model: str = ""
    named: bool = False
    route: bool = True

    @property
    def sure(self) -> bool:
        """Whether an instance that does not list the name is sure to refuse it."""
        return _STRICT.get(self.engine, False)


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance has said. `listed`: the model is there. `missing`: it is not among what the instance lists. `any`: the
    instance lists another name, and answers to any. `unknown`: its list cannot be read.

    `text` says it in words. `serves` are the first of the `count` names that it lists, harmless to show.
    `absent`: it is missing, and requests for it would be refused there.
    """

    state: State
    text: str
    serves: tuple[str, ...] = ()
    count: int = 0
    absent: bool = False


class _Entry(msgspec.Struct, frozen=True):
    """A model in a list of OpenAI's form. llama.cpp gives each a `status` where it routes to several, and then refuses others."""

    id: str = ""
    owned_by: str | None = None
    aliases: Any = None
    status: msgspec.Raw = msgspec.Raw()


class _List(msgspec.Struct, frozen=True):
    data: list[_Entry]


class _Tag(msgspec.Struct, frozen=True):
    name: str = ""
    model: str = ""


class _Tags(msgspec.Struct, frozen=True):
    models: list[_Tag]


class _Info(msgspec.Struct, frozen=True):
    model_id: str


_read_list = msgspec.json.Decoder(_List).decode
_read_tags = msgspec.json.Decoder(_Tags).decode
_read_info = msgspec.json.Decoder(_Info).decode


async def ask(client: httpx.AsyncClient, url: str, wanted: Wanted, bearer: str | None, within: float) -> Catalogue:
    """Ask an instance for its list; `within` seconds for it all. `client` follows no redirect and asks for no compression."""
    import httpx  # not above: commands know what an instance has said, and ask none

    what = f"GET {PATHS[wanted.engine]}"
    fields = {"accept": "application/json"} | ({} if bearer is None else {"authorization": f"Bearer {bearer}"})
    try:
        async with (
            asyncio.timeout(within),
            client.stream("GET", url + PATHS[wanted.engine], headers=fields, timeout=within) as answer,
        ):
            if answer.status_code != 200:
                return _unknown(f"{what} answered {answer.status_code}")
            if answer.headers.get("content-encoding", "identity") != "identity":
                return _unknown(f"{what}: the answer is compressed")  # not asked for, and unbounded once unpacked
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    return _unknown(f"{what}: the answer is larger than {MAX_BODY // 1024} KiB")
    except (TimeoutError, httpx.TimeoutException):
        return _unknown(f"{what}: no whole answer within {within:g} s")
    except httpx.HTTPError as error:
        return _unknown(f"{what}: no valid answer ({type(error).__name__})")
    return read(bytes(body), wanted)


def read(body: bytes, wanted: Wanted) -> Catalogue:
    """What the answer to the question of this engine says of the model that is wanted."""
    what = f"GET {PATHS[wanted.engine]}"
    any_name = wanted.engine in _ANY_NAME
    try:
        if wanted.engine == "ollama":
            names = [name for tag in _read_tags(body).models for name in (tag.name, tag.model)]
        elif wanted.engine == "tgi":
            names = [_read_info(body).model_id]
        else:
            entries = _read_list(body).data
            names = [name for entry in entries for name in (entry.id, *_texts(entry.aliases))]
            any_name = _takes_any(wanted.engine, entries)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _unknown(f"{what}: the answer is no list of models")
    given = [name for name in dict.fromkeys(names) if name]
    if names and not given:
        return _unknown(f"{what}: the models in the answer have no names")
    return _held_against(wanted, given, any_name)


def _takes_any(engine: Engine, entries: Sequence[_Entry]) -> bool:
    """Whether it answers to any name. Many are configured as `openai` or run behind another's API: the list says who owns it."""
    owners = {engine, *(entry.owned_by for entry in entries)}
    if "llamacpp" in owners:
        return all(not bytes(entry.status) for entry in entries)
    return "sglang" in owners


def _held_against(wanted: Wanted, names: Sequence[str], any_name: bool) -> Catalogue:
    serves, count = tuple(_shown(name) for name in names[:SHOWN]), len(names)
    if _same(wanted) in {_same(wanted, name) for name in names}:
        return Catalogue(state="listed", text="listed", serves=serves, count=count)
    if any_name and not wanted.named:
        text = f"takes any name, lists {_some(serves, count)}"
        return Catalogue(state="any", text=text, serves=serves, count=count)
    text = f"{_shown(wanted.name)} is not there: it lists {_some(serves, count)}"
    absent = wanted.route and wanted.engine in _STRICT and not any_name
    return Catalogue(state="missing", text=text, serves=serves, count=count, absent=absent)


def _same(wanted: Wanted, name: str | None = None) -> str:
    """A name as the engine compares it. Ollama's has a tag, `latest` where none is given, a registry and a namespace that may
    be left out, and no capitals that count. What is configured as `openai` may be an Ollama."""
    name = wanted.name if name is None else name
    if wanted.engine == "openai":
        return name.removesuffix(":latest")
    if wanted.engine != "ollama":
        return name
    name = name.casefold().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _shown(name: str) -> str:
    return printable(name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}")


def _some(serves: Sequence[str], count: int) -> str:
    if not count:
        return "no model"
    more = f" and {count - IN_WORDS} more" if count > IN_WORDS else ""
    return ", ".join(serves[:IN_WORDS]) + more


def _unknown(text: str) -> Catalogue:
    return Catalogue(state="unknown", text=f"unknown: {text}")
