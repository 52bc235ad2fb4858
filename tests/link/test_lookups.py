"""Names, looked up: by threads of their own, each question once at a time; errors come to who asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from slmgate.link import lookups
from slmgate.link.lookups import ControlLoop

FOUND = [(2, 1, 6, "", ("10.0.0.1", 80))]


class Resolver:
    """The machine's: names that begin with `dead` have no answer before `wake`; `nowhere` does not exist."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._awake = threading.Event()

    def wake(self) -> None:
        self._awake.set()

    def __call__(self, host: str, *_: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("dead"):
            self._awake.wait(20)
        if host == "nowhere":
            raise OSError(-2, "Name or service not known")
        return FOUND


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr("socket.getaddrinfo", made)
    yield made
    made.wake()


def run(work: Callable[[asyncio.AbstractEventLoop], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await work(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=ControlLoop) as runner:
        runner.run(main())


def test_lookups_without_an_answer_hold_up_nothing_else(resolver: Resolver) -> None:
    async def work(loop: asyncio.AbstractEventLoop) -> None:
        dead = [loop.create_task(loop.getaddrinfo(f"dead{number}", 80)) for number in range(40)]
        assert await asyncio.to_thread(lambda: "read") == "read"
        assert await loop.getaddrinfo("alive", 80) == FOUND
        resolver.wake()
        assert await asyncio.gather(*dead) == [FOUND] * 40

    run(work)


def test_a_question_is_asked_once_at_a_time(resolver: Resolver) -> None:
    async def work(loop: asyncio.AbstractEventLoop) -> None:
        several = [loop.create_task(loop.getaddrinfo("dead", 80, type=1)) for _ in range(3)]
        await asyncio.to_thread(int)
        several.pop().cancel()  # who waits no more costs the others nothing
        resolver.wake()
        assert await asyncio.gather(*several) == [FOUND] * 2
        assert resolver.asked == ["dead"]
        assert await loop.getaddrinfo("dead", 80) == FOUND
        assert resolver.asked == ["dead"] * 2, "an answer is not kept"

    run(work)


def test_more_questions_than_threads(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MOST_THREADS", 2)

    async def work(loop: asyncio.AbstractEventLoop) -> None:
        all_of_them = [loop.create_task(loop.getaddrinfo(f"dead{number}", 80)) for number in range(9)]
        await asyncio.to_thread(int)
        resolver.wake()
        assert await asyncio.gather(*all_of_them) == [FOUND] * 9

    run(work)


def test_errors_come_to_who_asked(resolver: Resolver) -> None:
    async def work(loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(2):
            with pytest.raises(OSError, match="not known"):
                await loop.getaddrinfo("nowhere", 80)

    run(work)


def test_the_end_waits_for_no_answer(resolver: Resolver) -> None:
    async def work(loop: asyncio.AbstractEventLoop) -> None:
        asked = loop.create_task(loop.getaddrinfo("dead", 80))
        await asyncio.to_thread(int)
        asked.cancel()

    run(work)
    assert all(one.daemon for one in threading.enumerate() if one.name == "names")
