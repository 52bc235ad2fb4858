"""Work that never ends begins anew when it fails, says so, and can be cancelled."""

from __future__ import annotations

import asyncio
import logging

import pytest

from slmgate.control.enduring import AGAIN_SECONDS, enduring


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("slmgate.control.enduring.asyncio.sleep", wait)
    return waited


def test_what_fails_begins_anew(pauses: list[float], caplog: pytest.LogCaptureFixture) -> None:
    begun = 0

    async def checks() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise KeyError("gone")

    with caplog.at_level(logging.ERROR):
        asyncio.run(enduring(checks))
    assert (begun, pauses) == (3, [AGAIN_SECONDS] * 2)
    assert [record.getMessage().endswith("checks failed, and is begun anew") for record in caplog.records] == [True] * 2
    assert caplog.records[0].exc_info is not None


def test_what_is_cancelled_ends(pauses: list[float]) -> None:
    async def main() -> None:
        began = asyncio.Event()

        async def work() -> None:
            began.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(enduring(work))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert pauses == []
