"""Patience: an answer in time, a failure, and no answer, for which nobody waits twice."""

from __future__ import annotations

import asyncio

import pytest

from slmgate.control.metrics.patience import Patience


def test_an_answer_in_time() -> None:
    async def question() -> int:
        return 7

    async def asked() -> None:
        patience = Patience[int](60.0)
        assert [await patience.ask(question), await patience.ask(question)] == [7, 7]
        assert repr(patience) == "<Patience 60.0>"

    asyncio.run(asked())


def test_a_failure_is_the_askers() -> None:
    async def question() -> int:
        raise OSError("no")

    async def asked() -> None:
        patience = Patience[int](60.0)
        for _ in range(2):
            with pytest.raises(OSError, match="no"):
                await patience.ask(question)

    asyncio.run(asked())


@pytest.mark.parametrize("ends", ["answers", "fails", "cancelled"])
def test_no_answer_is_waited_for_once(ends: str) -> None:
    async def asked() -> None:
        patience, asks = Patience[int](0.0), 0
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def question() -> int:
            nonlocal asks
            asks += 1
            return await answer

        assert [await patience.ask(question) for _ in range(3)] == [None, None, None]
        assert (asks, repr(patience)) == (1, "<Patience at its end>")
        if ends == "answers":
            answer.set_result(1)
        elif ends == "fails":
            answer.set_exception(OSError("late"))
        else:
            answer.cancel()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(2)
        patience._seconds = 60.0
        assert (await patience.ask(question), asks) == (2, 2)  # and not what was said too late

    asyncio.run(asked())
