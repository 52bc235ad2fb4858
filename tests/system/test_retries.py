"""Retries, deadlines and fallback models with real processes: what reaches the instances, and what clients and receipts are told.

How each is decided is told by `tests/policy/test_retries.py` and `tests/dataplane/test_deadlines.py` and `test_fallback.py`; here
the mock instance's journal says what was really asked of it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.conftest import Launch
from tests.system.scenes import plain
from tests.tools.gate import OTHER, SECRET, Gate, digest, eventually, free_port, model
from tests.tools.load import Background, Loader
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, Wire, ask, chat, numbers, request

LATE = 1.5
"""Seconds by which something may be late on a busy machine."""


# --- a pool that dies


def test_a_pool_that_dies_gets_a_fifth_more_at_most(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """Under load both instances close before they answer: each request would be tried three times, and nearly none is."""
    gate = launch({"tiny": model(upstream.url, second.url, retry={"attempts": 3})}, workers=1)
    loader = Loader(gate.port, SECRET, seed=51)

    async def dies() -> None:
        load = asyncio.create_task(loader.run(100, 3.0, delay=0.02))
        await asyncio.sleep(0.5)
        for one in (upstream, second):
            await asyncio.to_thread(one.default, do="raw", bytes="", then="close")
        await load

    with Background(dies()):
        pass
    upstream.default()
    second.default()
    asked = len(upstream.journal()) + len(second.journal())
    failed = loader.bad()
    rows = gate.receipts(each.id for each in loader.journal)
    attempts = [row["attempts"] for row in rows.values()]
    print(f"{len(loader.journal)} requests, {len(failed)} failed, {asked} at the instances, {sum(attempts)} attempts")
    assert len(failed) > 150, f"void: only {len(failed)} failed"
    assert {each.status for each in failed} <= {502, 503}, loader.told()
    assert max(attempts) > 1, "void: nothing was tried again"
    assert asked <= 1.2 * len(loader.journal)
    assert asked <= sum(attempts)


# --- deadlines


def timed(value: str, **fields: Any) -> bytes:
    return request(chat(**fields), headers=(f"X-Request-Timeout: {value}",), secret=SECRET)


@pytest.fixture(scope="module")
def shared_narrow(shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    models = model(shared_upstream.url)
    models["instances"][0]["max_in_flight"] = 1
    made = Gate(tmp_path_factory.mktemp("narrow"), {"tiny": models}, workers=1)
    yield made
    made.stop()


@pytest.fixture
def narrow(shared_narrow: Gate, upstream: MockUpstream) -> Gate:
    """A gate whose one instance takes one request at a time."""
    return shared_narrow


def assert_over(gate: Gate, answer: Answer, seconds: float, began: float) -> dict[str, Any]:
    took = time.monotonic() - began
    assert (answer.status, answer.code) == (504, "upstream_timeout"), answer
    assert f"within the {seconds:g} s" in answer.json()["error"]["message"]
    assert seconds <= took < seconds + LATE, took
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["ended"], row["rule"], row["status"]) == ("upstream_timeout", "x-request-timeout", 504), row
    return row


def test_a_deadline_before_the_first_byte_and_in_line(narrow: Gate, upstream: MockUpstream) -> None:
    """The instance's work is stopped at once, what stood in line never gets there, and the next in line is served."""
    with Wire(narrow.port) as first, Wire(narrow.port) as waiting, Wire(narrow.port) as last:
        began = time.monotonic()
        first.send(timed("700ms", tag="first", delay=20.0))
        eventually(upstream.journal, 5, "the first is at work")
        waiting.send(timed("0.3", tag="waiting"))
        answer = waiting.answer()
        assert_over(narrow, answer, 0.3, began)
        last.send(plain("last"))
        row = assert_over(narrow, first.answer(), 0.7, began)
        assert row["attempts"] == 1
        assert last.answer().json()["tag"] == "last"
    asked = upstream.journal()
    assert [json.loads(one["body"])["script"]["tag"] for one in asked] == ["first", "last"]
    assert asked[0]["ended"] == "peer_closed" and asked[0]["end_time"] - asked[0]["time"] < 0.7 + LATE
    assert not any(name == "x-request-timeout" for one in asked for name, _ in one["headers"]), "it went to the instance"


def test_a_deadline_within_a_stream(narrow: Gate, upstream: MockUpstream) -> None:
    began = time.monotonic()
    answer = ask(narrow.port, timed("0.8s", stream=True, events=1000, rate=20))
    assert 0.8 <= time.monotonic() - began < 0.8 + LATE
    *events, last = answer.events()
    assert answer.status == 200 and not answer.complete
    assert json.loads(last)["error"]["code"] == "upstream_timeout"
    assert numbers(events) == list(range(len(events))) and events, answer
    row = narrow.receipt(answer.header("x-request-id"))
    assert (row["ended"], row["rule"]) == ("upstream_timeout", "x-request-timeout")
    assert row["completion_tokens"] >= len(events)
    asked = eventually(lambda: [one for one in upstream.journal() if one["ended"]], 2, "the instance's work is stopped")
    assert asked[0]["ended"] == "peer_closed"
    assert ask(narrow.port, plain("after")).status == 200


def test_a_bad_deadline_says_what_is_accepted(narrow: Gate, upstream: MockUpstream) -> None:
    answer = ask(narrow.port, timed("soon"))
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert "500ms or 2m" in answer.json()["error"]["message"]
    assert not upstream.journal()


def test_the_official_clients_own_headers_are_no_deadline(narrow: Gate, upstream: MockUpstream) -> None:
    fields = ("X-Stainless-Timeout: 0.01", "X-Stainless-Read-Timeout: 0.01")
    answer = ask(narrow.port, request(chat(delay=0.1), headers=fields, secret=SECRET))
    assert answer.status == 200


# --- fallback models


def test_another_model_serves_those_who_may_use_it(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """While the first is dead, killed under load among other things, and until it is back; the price is the other's."""
    roles = {"all": {"models": ["*"]}, "first": {"models": ["tiny"]}}
    keys = [
        {"name": "main", "hash": digest(SECRET), "roles": ["all"], "team": "acme"},
        {"name": "other", "hash": digest(OTHER), "roles": ["first"]},
    ]
    prices = {"tiny": {"prompt": "1/1M", "completion": "1/1M"}, "big": {"prompt": "7/1M", "completion": "9/1M"}}
    gate = launch(
        {
            "tiny": model(upstream.url, fallback=["gone", "big"]),
            "gone": model(f"http://127.0.0.1:{free_port()}"),
            "big": model(second.url, parameters={"max_tokens": {"max": 30}}, fallback=["tiny"]),
        },
        roles=roles,
        keys=keys,
        teams={"acme": {"plan": "gold"}},
        plans={"gold": {"currency": "EUR", "prices": prices}},
        workers=1,
    )
    answer = ask(gate.port, plain("a"))
    assert (answer.status, answer.header("x-slmgate-model")) == (200, None)
    upstream.kill()
    answer = ask(gate.port, plain("b"))
    assert (answer.status, answer.header("x-slmgate-model"), answer.json()["tag"]) == (200, "big", "b")
    (asked,) = second.journal()
    fields = json.loads(asked["body"])
    assert (fields["model"], fields["max_tokens"]) == ("big", 30)
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["model"], row["parameters"], row["price"]) == ("big", "model=tiny", "EUR 7000 9000"), row
    assert row["cost"] == 7000 * row["prompt_tokens"] + 9000 * row["completion_tokens"] > 0
    answer = ask(gate.port, request(chat(tag="c"), secret=OTHER))
    assert (answer.status, answer.code, answer.header("x-slmgate-model")) == (502, "upstream_error", None)
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["model"], row["parameters"]) == ("tiny", "")
    assert len(second.journal()) == 1, "who may not use it got there"
    upstream.start()
    eventually(lambda: ask(gate.port, plain("d")).header("x-slmgate-model") is None, 12, "the first serves again", 0.2)
    found = gate.rows()
    assert {one["model"] for one in found} == {"tiny", "big"}
