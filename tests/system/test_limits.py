"""Limits are exact: five hundred clients, several workers, kill -9 at random; no window over its limit, nothing held after.

`limited.py` says who observes and how it is counted. The short form has two workers on a small machine and lasts seconds;
`SLMGATE_LONG=1` has eight and lasts minutes. Every random choice is seeded. The gate is a black box with documented options.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from tests.system.conftest import Launch
from tests.system.limited import (
    CLIENTS,
    LENGTH,
    SECONDS,
    SIZES,
    WORKERS,
    Deaths,
    Proof,
    check_headers,
    key,
    named,
    rows,
    secret_of,
    settings,
)
from tests.tools.crowd import Caller, Crowd, Told
from tests.tools.gate import Gate, eventually, model
from tests.tools.load import LONG, Background
from tests.tools.upstream import MockUpstream
from tests.tools.windows import at_once, surely
from tests.tools.wire import Wire, request

T = TypeVar("T")
RUN = 60.0 if LONG else 7.0
CONCURRENT = (1, 7, 100)
ANY = {"models": ["*"], "endpoints": ["*"]}


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def passed(told: list[Told]) -> int:
    return sum(each.status == 200 for each in told)


# --- rolling windows ---------------------------------------------------------------------------------------------------


def test_no_window_holds_more_and_hardly_less(launch: Launch, upstream: MockUpstream) -> None:
    """Every kind in every size at once, each under a key of its own: exact, and at least 98 % of what could pass."""
    limited = rows()
    gate = launch({"tiny": model(upstream.url)}, workers=WORKERS, **settings(limited))
    crowd = Crowd(gate.port, [row.caller for row in limited], seed=401)
    with Background(crowd.press(CLIENTS, RUN), RUN + 60):
        pass
    wrong = [each for each in crowd.journal if each.status not in (200, 429, 413)]
    assert not wrong, f"{len(wrong)} of {len(crowd.journal)}: {wrong[0]}"
    check_headers(crowd.journal)
    proof = Proof(gate, crowd, upstream)
    assert len(proof.asked) == passed(crowd.journal)
    proof.check(limited)
    print(f"{len(crowd.journal)} asked, {len(proof.asked)} passed; uncertain by at most {proof.delays()[-1]} us")
    shares = {row.name: proof.share(row) for row in limited}
    print(shares)
    for name, (found, least) in shares.items():
        assert found >= least, f"{name}: {found} passed, and 98 % of what could are {least}"
    assert {"requests-1", "requests-7", "requests-100", "completion-100", "tokens-100", "cost-10000"} <= {
        name for name, (found, _) in shares.items() if found
    }, "void"


def test_no_window_holds_more_while_workers_die(launch: Launch, upstream: MockUpstream) -> None:
    """The same while workers are killed: nothing more in any window, and all of each limit is there again after."""
    limited = rows(sizes=(1, 7, 100), delay=0.05)
    gate = launch({"tiny": model(upstream.url)}, workers=WORKERS, **settings(limited))
    crowd = Crowd(gate.port, [row.caller for row in limited], seed=402)
    deaths = Deaths(gate, 402)
    with Background(crowd.press(CLIENTS, RUN + 1), RUN + 60):
        deaths.strike(RUN)
    assert len(deaths.times) >= 3, "void: hardly any worker was killed"
    check_headers(crowd.journal)
    proof = Proof(gate, crowd, upstream)
    proof.check(limited)
    time.sleep(2.1)
    caller = next(row.caller for row in limited if row.name == "requests-100")
    assert passed(run(Crowd(gate.port, [caller], seed=403).rush(caller, 110))) == 100


@pytest.mark.parametrize("counted", ["team", "all"])
def test_keys_that_count_together(launch: Launch, upstream: MockUpstream, counted: str) -> None:
    """One limit over several keys: of a team, or of everybody, through every worker."""
    limit: Any = {"limit": "100 requests/2 seconds", "per": counted}
    options: dict[str, Any] = {"teams": {"acme": {"limits": [limit]}}} if counted == "team" else {"limits": [limit]}
    names = [f"member-{n}" for n in range(5)]
    keys = [key(name, roles=["any"], **({"team": "acme"} if counted == "team" else {})) for name in names]
    gate = launch({"tiny": model(upstream.url)}, workers=WORKERS, keys=keys, roles={"any": ANY}, **options)
    crowd = Crowd(gate.port, [Caller(name, secret_of(name)) for name in names], seed=404)
    deaths = Deaths(gate, 404)
    with Background(crowd.press(CLIENTS, RUN), RUN + 60):
        deaths.strike(RUN - 2)
    Proof(gate, crowd, upstream).none_over(names, 100, lambda told: 1)
    assert passed(crowd.journal) >= 200, "void"


# --- at once -----------------------------------------------------------------------------------------------------------


def test_never_more_at_once_and_nothing_held_after(launch: Launch, upstream: MockUpstream) -> None:
    """The instance never sees more at once than the limit; within a second of the last death all of it can be used again."""
    callers = [Caller(f"at-once-{size}", secret_of(f"at-once-{size}"), delay=0.2) for size in CONCURRENT]
    roles = {f"at-once-{size}": {**ANY, "limits": [f"{size} concurrent"]} for size in CONCURRENT}
    keys = [key(name, roles=[name]) for name in roles]
    gate = launch({"tiny": model(upstream.url)}, workers=WORKERS, keys=keys, roles=roles)
    crowd = Crowd(gate.port, callers, seed=405)
    deaths = Deaths(gate, 405)
    with Background(crowd.press(CLIENTS, RUN, pause=0.4), RUN + 60):
        time.sleep(RUN / 3)
        deaths.strike(RUN / 2)
    told = {each.id: each for each in crowd.journal}
    for size in CONCURRENT:
        mine = [each for each in upstream.journal() if told[named(each)].who == f"at-once-{size}"]
        pairs = [(int(each["time"] * 1e6), int(deaths.ended(each) * 1e6)) for each in mine]
        assert at_once(pairs) <= size, f"{at_once(pairs)} at once of {size}"
        assert at_once(pairs) == size, f"void: {at_once(pairs)} at once at the most, of {size}"
    eventually(lambda: len(gate.workers()) == WORKERS, 5, "all workers are back")
    time.sleep(1)
    for size, caller in zip(CONCURRENT, callers, strict=True):
        after = run(Crowd(gate.port, [caller], seed=406).rush(caller, size))
        assert passed(after) == size, f"{passed(after)} of {size}: {next(each for each in after if each.status != 200)}"


def test_dead_worker_gives_back_within_a_second(launch: Launch, upstream: MockUpstream) -> None:
    """A worker dies with all of a limit in its hands: a second later all of it is free."""
    caller = Caller("seven", secret_of("seven"), delay=0.1)
    slow = Caller("seven", secret_of("seven"), delay=30.0)
    gate = launch(
        {"tiny": model(upstream.url)},
        workers=2,
        keys=[key("seven", roles=["r"])],
        roles={"r": {**ANY, "limits": ["7 concurrent"]}},
    )

    async def scene() -> list[Told]:
        crowd = Crowd(gate.port, [caller], seed=407)
        waiting = [asyncio.create_task(crowd.one(slow)) for _ in range(7)]
        await asyncio.to_thread(eventually, lambda: upstream.gauges()["in_flight"] == 7, 5, "all seven are under way")
        assert (await crowd.one(caller)).status == 429
        for pid in gate.workers():
            Deaths.kill(pid)
        await asyncio.gather(*waiting)
        await asyncio.sleep(1.0)
        return await crowd.rush(caller, 7)

    assert passed(run(scene())) == 7


def test_client_that_leaves_gives_back(launch: Launch, upstream: MockUpstream) -> None:
    caller = Caller("three", secret_of("three"), delay=30.0)
    quick = Caller("three", secret_of("three"))
    gate = launch(
        {"tiny": model(upstream.url)}, keys=[key("three", roles=["r"])], roles={"r": {**ANY, "limits": ["3 concurrent"]}}
    )

    async def scene() -> list[Told]:
        crowd = Crowd(gate.port, [caller], seed=408)
        await asyncio.gather(*(crowd.one(caller, limit=0.5) for _ in range(3)))
        await asyncio.sleep(1.0)
        return await crowd.rush(quick, 3)

    assert passed(run(scene())) == 3


# --- the instance's time ---------------------------------------------------------------------------------------------------


def test_no_window_holds_more_of_the_instances_time(launch: Launch, upstream: MockUpstream) -> None:
    """Seconds of work as the instance itself saw them. A second is held for each request, and what it took is charged."""
    gate = launch({"tiny": model(upstream.url)}, workers=WORKERS, **quota("engine", f"7 gpu-seconds/{SECONDS} seconds"))
    caller = Caller("engine", secret_of("engine"), delay=0.2)
    crowd = Crowd(gate.port, [caller], seed=417)
    with Background(crowd.press(100, RUN, pause=0.4), RUN + 60):
        pass
    proof = Proof(gate, crowd, upstream)
    spans = [proof.seen[name]._replace(weight=int((row["end_time"] - row["time"]) * 1e6)) for name, row in proof.asked.items()]
    found, whole = surely(spans, LENGTH), sum(span.weight for span in spans)
    print(f"{len(spans)} requests, {whole / 1e6:.1f} s of work, {found / 1e6:.2f} s of 7 in the worst {SECONDS} s")
    assert found <= 7_000_000
    assert whole >= 0.4 * 7_000_000 * RUN / SECONDS, "void: much less than could be"
    time.sleep(SECONDS + 0.1)
    assert passed(run(crowd.rush(caller, 9))) == 7, "a second of seven for each, and nothing held from before"


def test_instances_time_that_was_missed_is_owed(launch: Launch, upstream: MockUpstream) -> None:
    """A request that takes longer than the second held for it: the next one waits until the window has forgotten it."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, **quota("slow", "1 gpu-seconds/2 seconds"))
    slow, quick = Caller("slow", secret_of("slow"), delay=2.5), Caller("slow", secret_of("slow"))
    crowd = Crowd(gate.port, [slow], seed=418)
    assert run(crowd.one(slow)).status == 200
    told = run(crowd.one(quick))
    assert told.status == 429 and told.retry_after in ("2", "3"), told
    time.sleep(int(told.retry_after or ""))
    assert run(crowd.one(quick)).status == 200


# --- quotas ------------------------------------------------------------------------------------------------------------


def quota(name: str, *limits: Any, **options: Any) -> dict[str, Any]:
    """Options for one key of this name under these limits."""
    return {"keys": [key(name, roles=["r"])], "roles": {"r": {**ANY, "limits": list(limits)}}, **options}


@pytest.mark.parametrize("size", SIZES)
def test_day_quota_is_let_through_to_the_last(launch: Launch, upstream: MockUpstream, size: int) -> None:
    """As many requests as the day has, and not one more, though workers die; all of them where none does."""
    if size == 10_000 and not LONG:
        size = 1000
    gate = launch({"tiny": model(upstream.url)}, workers=WORKERS, **quota("daily", f"{size} requests/day"))
    crowd = Crowd(gate.port, [Caller("daily", secret_of("daily"))], seed=409)
    seconds = 90.0 if size == 10_000 else 4.0
    deaths = Deaths(gate, 409)
    with Background(crowd.press(100, seconds, pause=0.5), seconds + 60):
        deaths.strike(seconds / 2)
    assert len(Proof(gate, crowd, upstream).asked) <= size
    after = run(Crowd(gate.port, crowd.callers, seed=410).rush(crowd.callers[0], 3))
    used = len({named(each) for each in upstream.journal()})
    assert used <= size
    assert [each.code for each in after if each.status != 200] == ["quota_exceeded"] * (3 - passed(after))


def test_token_quota_is_what_the_receipts_say(launch: Launch, upstream: MockUpstream) -> None:
    """What is left of a quota is its amount less the tokens of the receipts, read from the headers of one more request."""
    gate = launch({"tiny": model(upstream.url)}, workers=WORKERS, **quota("tokens", "100M tokens/day"))
    caller = Caller("tokens", secret_of("tokens"), 20, most=50)
    crowd = Crowd(gate.port, [caller, Caller("tokens", secret_of("tokens"), 9, stream=True)], seed=411)
    with Background(crowd.press(50, RUN / 2)):
        pass
    check_headers(crowd.journal)
    assert passed(crowd.journal) == len(crowd.journal)
    time.sleep(1)  # within which no worker holds anything any more that no live request needs
    spent = left_of(gate, "tokens", 100_000_000)
    receipts = gate.receipts(each.id for each in crowd.journal)
    assert spent == sum(row["prompt_tokens"] + row["completion_tokens"] for row in receipts.values())
    assert spent == sum(each.tokens for each in crowd.journal)


def left_of(gate: Gate, name: str, amount: int) -> int:
    """What is used of a token limit, by the headers of one more request, which itself takes what it may come to."""
    caller = Caller(name, secret_of(name), 1)
    told = run(Crowd(gate.port, [caller], seed=412).one(caller))
    assert told.status == 200, told
    return amount - int(told.headers["x-ratelimit-remaining-tokens"]) - told.tokens


def test_stream_of_a_killed_worker_is_charged_what_it_came_to(launch: Launch, upstream: MockUpstream) -> None:
    """Of what was generated until a worker is killed, all but the last moment's is charged, and no more is held."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, **quota("cut", "1M tokens/day"))
    fields = {"model": "tiny", "stream": True, "max_tokens": 5000, "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps({**fields, "script": {"events": 1000, "rate": 100}}).encode()
    with Wire(gate.port) as wire:
        wire.send(request(body, secret=secret_of("cut")))
        assert wire.head()[0] == 200
        for _ in range(80):
            wire.event()
        (worker,) = gate.workers()
        Deaths.kill(worker)
        until = time.monotonic() + 10
        while worker in gate.workers() or not gate.workers():
            assert time.monotonic() < until
            time.sleep(0.1)
    prompt = -(-len(body) // 4)
    spent = left_of(gate, "cut", 1_000_000)
    assert prompt + 50 <= spent <= prompt + 90, f"{spent} with {prompt} of the prompt"


@pytest.mark.parametrize("end", ["terminate", "kill_everything"])
def test_restart_keeps_what_was_used(launch: Launch, upstream: MockUpstream, end: str) -> None:
    gate = launch({"tiny": model(upstream.url)}, **quota("kept", "7 requests/day", "7 requests/hour"))
    caller = Caller("kept", secret_of("kept"))
    assert passed(run(Crowd(gate.port, [caller], seed=413).rush(caller, 5))) == 5
    getattr(gate, end)()
    gate.start()
    assert passed(run(Crowd(gate.port, [caller], seed=414).rush(caller, 5))) == 2


def test_changed_limit_keeps_what_was_used(launch: Launch, upstream: MockUpstream) -> None:
    """Raised: what is more can be used. Lowered under what was used: nothing passes, and what is left is 0, not less."""
    caller = Caller("changed", secret_of("changed"))
    gate = launch({"tiny": model(upstream.url)}, **quota("changed", "5 requests/hour"))

    def more(count: int) -> list[Told]:
        return run(Crowd(gate.port, [caller], seed=415).rush(caller, count))

    def change(limit: str) -> None:
        gate.write(**quota("changed", limit))
        time.sleep(1.5)  # a change is in force on all workers within a second of its being noticed

    assert passed(more(7)) == 5
    change("8 requests/hour")
    assert passed(more(7)) == 3
    change("4 requests/hour")
    refused = more(1)[0]
    assert refused.status == 429
    assert refused.headers.get("x-ratelimit-remaining-requests", "0") == "0"
    change("9 requests/hour")
    assert passed(more(3)) == 1


def test_refused_request_takes_nothing(launch: Launch, upstream: MockUpstream) -> None:
    """All limits or none: what one limit refuses is taken from no other, in whichever order they stand."""
    gate = launch({"tiny": model(upstream.url)}, **quota("none", "100 requests/hour", "200 tokens/hour", "100 requests/day"))
    large, small = Caller("none", secret_of("none"), 1, most=500), Caller("none", secret_of("none"), 1)
    crowd = Crowd(gate.port, [large], seed=416)
    refused = run(crowd.rush(large, 20))
    assert {each.status for each in refused} <= {429, 413} and passed(refused) == 0
    told = run(crowd.one(small))
    assert told.status == 200 and told.headers["x-ratelimit-remaining-requests"] == "99", told.headers
    assert len(upstream.journal()) == 1
