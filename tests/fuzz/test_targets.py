"""The fuzz targets themselves: what they begin with passes, and each finds a fault that is made on purpose.

A target that can find nothing would run clean for ever. The runs are `make fuzz` and `tests/system/test_fuzz.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fuzz.mutate import mutated
from fuzz.target import Target, pieces, ways
from fuzz.targets import NAMES, answers, requests, target
from slmgate.control.config import document
from slmgate.control.identity.keyset import PublicKey
from slmgate.dataplane import upstream
from slmgate.dialects import body, multipart, sse
from slmgate.http1 import framing, heads, trace_context
from slmgate.terms import Refuse
from tests.tools.stage import request

WHOLE_GATES = ("requests", "answers")
"""Targets on a stage: of their many seeds, every twelfth here."""


@pytest.fixture(autouse=True)
def stages() -> Iterator[None]:
    """What a test opened is closed: a stage has its own clock in the modules of the data plane."""
    yield
    for fakes in (requests.FAKES, answers.FAKES):
        fakes.close(owing=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_begins_with_passes(name: str) -> None:
    found = target(name)
    seeds = list(found.seeds())
    assert len(seeds) > 5
    for seed in seeds[:: 12 if name in WHOLE_GATES else 1]:
        found.check(seed[: found.largest])
    for fakes in (requests.FAKES, answers.FAKES):
        fakes.close()


def test_who_is_told_to_go_on_may_have_no_answer_yet() -> None:
    """Whether an interim answer comes depends on whether its body began to come with the head (RFC 9110 section 10.1.1)."""
    requests.check(request(b'{"model":"m"}').replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")[:-5])


def all_pass(found: Target) -> None:
    for seed in found.seeds():
        found.check(seed[: found.largest])


def lenient_sizes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(framing, "_CHUNK_LINE", re.compile(rb"\+?([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?"))


def short_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sse, "_OVERLAP", 0)


def doubles_pass(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(body, "_read_again", lambda _: None)


def files_are_fields(patch: pytest.MonkeyPatch) -> None:
    real = multipart._part

    def part(*given: Any) -> multipart.Part | Refuse:
        made = real(*given)
        return made if isinstance(made, Refuse) else multipart.Part(made.name, False, made.start, made.value, made.end)

    patch.setattr(multipart, "_part", part)


def last_entry_lost(patch: pytest.MonkeyPatch) -> None:
    real = document._Builder._mapping

    def mapping(self: document._Builder, start: Any, depth: int) -> document.Mapping:
        made = real(self, start, depth)
        return document.Mapping(made.span, made.entries[:-1], made.size)

    patch.setattr(document._Builder, "_mapping", mapping)


def any_signature(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PublicKey, "verifies", lambda *_: True)


def paths_normalised(patch: pytest.MonkeyPatch) -> None:
    real = heads.HeadReader.read

    def read(self: heads.HeadReader, head: bytes, raw: Any) -> heads.RequestHead | Refuse:
        made = real(self, head, raw)
        if not isinstance(made, Refuse):
            made.path = made.path.replace("//", "/")
        return made

    patch.setattr(heads.HeadReader, "read", read)


def keys_are_sent_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(heads, "REQUEST_FIELDS_PASSED", (*heads.REQUEST_FIELDS_PASSED, b"authorization"))


def cookies_pass(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(upstream, "_NAMES", heads.FieldNames((*heads.ANSWER_FIELDS_PASSED, b"set-cookie")))


def ids_of_zeros_are_ids(patch: pytest.MonkeyPatch) -> None:
    lenient = trace_context._PARENT.pattern.replace(b"(?!0{32})", b"")
    patch.setattr(trace_context, "_PARENT", re.compile(lenient))


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "chunks": lenient_sizes,
    "scanners": short_memory,
    "bodies": doubles_pass,
    "forms": files_are_fields,
    "configuration": last_entry_lost,
    "tokens": any_signature,
    "routes": paths_normalised,
    "requests": keys_are_sent_on,
    "answers": cookies_pass,
    "traces": ids_of_zeros_are_ids,
}


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_what_is_broken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS[name](monkeypatch)
    found = target(name)
    with pytest.raises(AssertionError):
        all_pass(found)


def test_cuts_follow_from_the_input() -> None:
    data = bytes(range(100))
    assert pieces(data) == pieces(data)
    assert pieces(data) != pieces(data, 1)
    assert {b"".join(parts) for parts in ways(data)} == {data}
    assert len(ways(data)[-1]) == 100
    assert [parts for parts in ways(b"") if any(parts)] == []


def test_mutations_follow_from_the_seed() -> None:
    seeds = [b"one", b"another one"]
    made = [[mutated(seeds, chance, 64) for _ in range(200)] for chance in (random.Random(1), random.Random(1), random.Random(2))]
    assert made[0] == made[1] != made[2]
    assert len(set(made[0])) > 150
    assert max(len(data) for data in made[0]) <= 64
