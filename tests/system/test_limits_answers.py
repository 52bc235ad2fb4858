"""What a client is told under a limit is true, and bad input gets no free quota: waits, headers, engines' lies, clocks, sizes.

One client at a time, so that every figure can be foretold. Limits stand on one role and hold for one key; the gate is a black box
with documented options, and the mock instance says whatever a test has it say.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Launch, running
from tests.system.limited import key, secret_of
from tests.system.test_resources import faketime
from tests.tools.gate import Gate, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import CHAT, Answer, Wire, ask, request

__all__ = ["faketime"]  # a fixture: pytest finds it here by its name

WHO = "alone"
AMOUNT = 10_000_000


def options(*limits: Any, **more: Any) -> dict[str, Any]:
    """Options for the one key under these limits."""
    role = {"models": ["*"], "endpoints": ["*"], "limits": list(limits)}
    return {"keys": [key(WHO, roles=["r"])], "roles": {"r": role}, **more}


def wish(stream: bool = False, path: str = CHAT, script: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """A chat request of the key; `script` is for the mock instance."""
    whole = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, **fields, "script": script or {}}
    fields = {name: value for name, value in whole.items() if value is not ...}
    body = json.dumps({**fields, "stream": True} if stream else fields)
    return request(body.encode(), secret=secret_of(WHO), path=path, headers=("Content-Type: application/json",))


def left(answer: Answer, what: str = "tokens") -> int:
    found = answer.header(f"x-ratelimit-remaining-{what}")
    assert found is not None and found.isdecimal(), answer.headers
    return int(found)


def spent(gate: Gate) -> int:
    """What is used of `AMOUNT` tokens, told by a request that is refused: it takes nothing, so it tells what is."""
    answer = ask(gate.port, wish(max_tokens=AMOUNT))
    assert answer.status in (413, 429), answer
    return AMOUNT - left(answer)


def booked(gate: Gate, answer: Answer) -> int:
    """The tokens on an answer's receipt."""
    row = gate.receipt(answer.header("x-request-id"))
    return int(row["prompt_tokens"] + row["completion_tokens"])


@pytest.fixture(scope="module")
def metered_gate(shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    made = Gate(
        tmp_path_factory.mktemp("gate"), {"tiny": model(shared_upstream.url)}, workers=1, **options(f"{AMOUNT} tokens/day")
    )
    running.append(made)
    yield made
    running.remove(made)
    made.stop()


@pytest.fixture
def metered(metered_gate: Gate, upstream: MockUpstream) -> Gate:
    """The module's gate, with a quota of `AMOUNT` tokens a day, of which earlier tests have used some."""
    assert upstream.port
    return metered_gate


# --- waits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        ("3 requests/2 seconds",),
        ("1 requests/second",),
        ("2 requests/second burst 5",),
        ("300 tokens/2 seconds",),
        ("12 completion tokens/2 seconds",),
        ("150 prompt tokens/2 seconds",),
        ("100 tokens/second burst 250",),
        ("1 requests/second", "4 requests/4 seconds"),
        ("5 requests/4 seconds", "300 tokens/3 seconds", "10 requests/second burst 11"),
    ],
    ids=" and ".join,
)
def test_who_waits_as_told_is_let_through(launch: Launch, upstream: MockUpstream, limits: tuple[str, ...]) -> None:
    """`Retry-After` is true, again and again, and no longer than a window and a second."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, **options(*limits))
    refused = 0
    while refused < 3:
        answer = ask(gate.port, wish())
        if answer.status == 200:
            continue
        assert answer.status == 429 and answer.code == "rate_limit_exceeded", answer
        refused += 1
        wait = int(answer.header("retry-after") or "0")
        assert 1 <= wait <= 5, answer
        time.sleep(wait)
        again = ask(gate.port, wish())
        assert again.status == 200, f"waited {wait} s as told: {again}"
        time.sleep(0.3 * refused)
    assert len(upstream.journal()) >= 4


def test_quota_tells_the_seconds_to_its_end(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, **options({"limit": "1 requests/day", "timezone": "UTC"}))
    assert ask(gate.port, wish()).status == 200
    answer = ask(gate.port, wish())
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert (answer.status, answer.code) == (429, "quota_exceeded")
    assert abs(int(answer.header("retry-after") or "0") - math.ceil((midnight - now).total_seconds())) <= 1


def test_concurrency_is_free_when_the_other_has_ended(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, **options("1 concurrent"))
    with Wire(gate.port) as busy:
        busy.send(wish(script={"delay": 0.7}))
        eventually(lambda: upstream.gauges()["in_flight"], 2, "it is under way")
        answer = ask(gate.port, wish())
        assert (answer.status, answer.code) == (429, "rate_limit_exceeded")
        time.sleep(int(answer.header("retry-after") or "0"))
        assert ask(gate.port, wish()).status == 200
        assert busy.answer().status == 200


# --- headers -----------------------------------------------------------------------------------------------------------


def test_headers_count_down_and_are_on_refusals_too(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2, **options("3 requests/hour", "100k tokens/day"))
    told = [ask(gate.port, wish()) for _ in range(5)]
    assert [answer.status for answer in told] == [200, 200, 200, 429, 429]
    assert [left(answer, "requests") for answer in told] == [2, 1, 0, 0, 0]
    assert {answer.header("x-ratelimit-limit-requests") for answer in told} == {"3"}
    for answer in told:
        assert answer.header("ratelimit-policy") and answer.header("ratelimit"), answer.headers
        assert answer.header("x-ratelimit-reset-requests"), answer.headers
    assert "3 requests/hour" in told[3].json()["error"]["message"]
    assert (told[0].header("retry-after"), told[3].header("retry-after") is None) == (None, False)


def test_streams_and_other_dialects_carry_them(metered: Gate) -> None:
    for path in (CHAT, "/v1/completions", "/v1/messages"):
        more: dict[str, Any] = {"prompt": "hi", "messages": ...} if path == "/v1/completions" else {}
        for stream in (False, True):
            answer = ask(metered.port, wish(stream, path, **more))
            assert answer.status == 200 and answer.complete, answer
            assert 0 < left(answer) < AMOUNT


# --- engines that lie --------------------------------------------------------------------------------------------------

USAGES: dict[str, Any] = {
    "absent": None,
    "empty": {},
    "negative": {"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12},
    "far over": {"prompt_tokens": 7, "completion_tokens": 4000, "total_tokens": 4007},
    "absurd": {"prompt_tokens": 10**30, "completion_tokens": 10**30},
    "text": {"prompt_tokens": "7", "completion_tokens": "5"},
    "fractions": {"prompt_tokens": 7.5, "completion_tokens": 5.5},
    "nothing": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("usage", USAGES, ids=str)
def test_what_an_engine_says_is_charged_as_it_is_booked(metered: Gate, usage: str, stream: bool) -> None:
    """The quota and the receipt are of one mind, whatever the engine says; what was missed is charged."""
    before = spent(metered)
    answer = ask(metered.port, wish(stream, script={"usage": USAGES[usage], "always_usage": True}))
    assert answer.status == 200
    tokens = booked(metered, answer)
    assert spent(metered) - before == tokens
    if usage == "far over":
        assert tokens == 4007
    elif usage != "nothing":
        assert tokens > 0, "work that nobody counted is not free"


def test_usage_twice_in_a_stream_is_charged_once(metered: Gate) -> None:
    event = 'data: {"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d}}\n\n'
    body = event % (7, 10) + event % (7, 20) + "data: [DONE]\n\n"
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: "
    before = spent(metered)
    answer = ask(metered.port, wish(True, script={"do": "raw", "bytes": f"{head}{len(body)}\r\n\r\n{body}"}))
    assert answer.status == 200
    tokens = booked(metered, answer)
    assert tokens in (17, 27)
    assert spent(metered) - before == tokens


def test_what_was_missed_is_owed(launch: Launch, upstream: MockUpstream) -> None:
    """An engine that generates far more than it was allowed: the next request waits until the window has forgotten it."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, **options("500 tokens/2 seconds"))
    for _ in range(2):
        assert ask(gate.port, wish(script={"events": 2000})).status == 200
        answer = ask(gate.port, wish())
        assert answer.status == 429 and left(answer) == 0
        time.sleep(int(answer.header("retry-after") or "0"))
        assert ask(gate.port, wish()).status == 200
        time.sleep(2.1)


def test_long_stream_owes_at_its_end(launch: Launch, upstream: MockUpstream) -> None:
    """A stream longer than the window is charged what it missed when it ends, not when it began."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, **options("500 tokens/2 seconds"))
    long = wish(True, script={"events": 3000, "rate": 1000, "always_usage": True})
    assert ask(gate.port, long).status == 200
    assert ask(gate.port, wish()).status == 429


def test_instance_that_fails_is_not_charged_for(metered: Gate) -> None:
    before = spent(metered)
    answer = ask(metered.port, wish(script={"status": 500}))
    assert answer.status >= 500
    assert spent(metered) - before == booked(metered, answer) == 0


def test_client_that_leaves_is_charged_what_was_generated(metered: Gate) -> None:
    """It stops reading after some events: what was generated until then is booked and charged, and no more is held."""
    before = spent(metered)
    with Wire(metered.port) as wire:
        wire.send(wish(True, max_tokens=5000, script={"events": 1000, "rate": 100}))
        assert wire.head()[0] == 200
        for _ in range(20):
            wire.event()
        wire.reset()

    def charged() -> int:
        rows = [row for row in metered.rows() if row["ended"] == "client_left"]
        return int(rows[0]["prompt_tokens"] + rows[0]["completion_tokens"]) if rows else 0

    tokens = eventually(charged, 3, "its receipt is there")
    assert 20 <= tokens < 1000
    assert spent(metered) - before == tokens


# --- clamping ----------------------------------------------------------------------------------------------------------


def test_clamp_gives_what_is_left(launch: Launch, upstream: MockUpstream) -> None:
    """With less left than `max_tokens` the instance is asked for what is left; with nothing left the client is refused."""
    gate = launch({"tiny": model(upstream.url)}, **options({"limit": "50 completion tokens/hour", "on_excess": "clamp"}))
    assert ask(gate.port, wish(max_tokens=40, script={"events": 40})).status == 200
    assert ask(gate.port, wish(max_tokens=40, script={"events": 10})).status == 200
    asked = [json.loads(each["body"])["max_tokens"] for each in upstream.journal()]
    assert asked == [40, 10]
    assert ask(gate.port, wish(max_tokens=40)).status == 429


# --- odd sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", ["0 requests/minute", "0 tokens/day", "0 concurrent", "0 completion tokens/hour", "0 tokens/minute burst 0"]
)
def test_limit_of_nothing_lets_nothing_through(launch: Launch, upstream: MockUpstream, limit: str) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=1, wait=False, **options(limit))
    try:
        gate.wait_ready()
    except AssertionError:
        assert limit.split()[0] in gate.text()  # a limit that a configuration may not have is said at the start
        return
    for _ in range(3):
        answer = ask(gate.port, wish())
        assert answer.status in (413, 429), answer
    assert not upstream.journal()


@pytest.mark.parametrize("words", ["requests/minute", "tokens/day", "concurrent", "completion tokens/hour"])
def test_limit_of_a_quintillion(launch: Launch, upstream: MockUpstream, words: str) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=1, **options(f"{10**18} {words}"))
    for _ in range(3):
        assert ask(gate.port, wish()).status == 200
    lie = {"prompt_tokens": 2**31, "completion_tokens": 2**31}
    for _ in range(3):
        assert ask(gate.port, wish(script={"usage": lie})).status == 200
    assert ask(gate.port, wish()).status == 200


@pytest.mark.parametrize("value", [-1, -(10**18), 1.5, 1e300, "5", "", None, [], {}, True, 10**18, 2**63, 10**40, 0], ids=repr)
def test_odd_max_tokens_gets_nothing_for_free(metered: Gate, upstream: MockUpstream, value: Any) -> None:
    """Refused with words and at no charge, or let through and charged what it came to; never more in the instance's hands
    than was taken."""
    before = spent(metered)
    answer = ask(metered.port, wish(max_tokens=value))
    assert answer.status in (200, 400, 413, 429), answer
    if answer.status == 200:
        asked = json.loads(upstream.journal()[-1]["body"])
        bound = asked.get("max_tokens")
        assert bound is None or (isinstance(bound, int) and 0 <= bound <= AMOUNT), asked
        assert spent(metered) - before == booked(metered, answer)
    else:
        assert not upstream.journal()
        assert spent(metered) == before
    assert ask(metered.port, wish()).status == 200


def test_absent_max_tokens_is_bounded(metered: Gate, upstream: MockUpstream) -> None:
    """Without the client's bound the instance is given one: what is held is what it may generate."""
    before = spent(metered)
    answer = ask(metered.port, wish(max_tokens=...))
    assert answer.status == 200
    asked = json.loads(upstream.journal()[-1]["body"])
    bound = asked.get("max_tokens") or asked.get("max_completion_tokens")
    assert bound, "nothing bounds the answer"
    assert AMOUNT - left(answer) - before >= bound
    assert spent(metered) - before == booked(metered, answer)


def test_several_answers_are_all_held(metered: Gate) -> None:
    before = spent(metered)
    answer = ask(metered.port, wish(max_tokens=100, n=5))
    assert answer.status == 200 and AMOUNT - left(answer) - before >= 500
    assert ask(metered.port, wish(max_tokens=AMOUNT // 4, n=5)).status in (413, 429)


# --- clocks ------------------------------------------------------------------------------------------------------------


def test_clock_that_jumps_gives_nothing_and_takes_nothing(
    launch: Launch, upstream: MockUpstream, faketime: str, tmp_path: Path
) -> None:
    """An hour forward, an hour back: rolling windows go on as if nothing had been, a day's quota stays a day's."""
    stamp = tmp_path / "clock"
    now = datetime.now(UTC)
    noon = int((now.replace(hour=12, minute=0, second=0) - now).total_seconds())  # so that no jump crosses midnight
    stamp.write_text(f"{noon:+d}")
    env = {
        "LD_PRELOAD": faketime,
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    limits = ("3 requests/6 seconds", "4 requests/day", "100 requests/second burst 100")
    gate = launch({"tiny": model(upstream.url)}, workers=2, env=env, **options(*limits))
    assert [ask(gate.port, wish()).status for _ in range(4)] == [200, 200, 200, 429]
    began = time.monotonic()
    for step in (3600, -3600, 0):
        stamp.write_text(f"{noon + step:+d}")
        time.sleep(1.2)
        if time.monotonic() - began < 4.5:  # the first of them may be a second older
            answer = ask(gate.port, wish())
            assert (answer.status, answer.code) == (429, "rate_limit_exceeded"), (step, answer)
            assert int(answer.header("retry-after") or "0") <= 7
    time.sleep(max(0.0, began + 6.3 - time.monotonic()))
    assert ask(gate.port, wish()).status == 200, "the window is over, whatever the clock on the wall did"
    for step in (3600, -3600, 0):
        stamp.write_text(f"{noon + step:+d}")
        time.sleep(1.2)
        answer = ask(gate.port, wish())
        assert (answer.status, answer.code) == (429, "quota_exceeded"), (step, answer)
    stamp.write_text(f"{noon + 86_400:+d}")
    time.sleep(1.2)
    assert ask(gate.port, wish()).status == 200, "the next day has its own quota"
