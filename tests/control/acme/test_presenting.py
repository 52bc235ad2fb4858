"""Answers are with every worker before the authority is told, and a worker that is stuck is not waited for long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from slmgate.control.acme import presenting as module
from slmgate.control.acme.presenting import Presenter
from slmgate.link.messages import Answering, Challenges


class FakePeer:
    """A worker that answers at once, or never."""

    def __init__(self, presenter: list[Presenter], answers: bool = True) -> None:
        self.told: list[Challenges] = []
        self._presenter = presenter
        self.answers = answers

    def send(self, message: Challenges) -> None:
        self.told.append(message)
        if self.answers:
            self._presenter[0].told(self, Answering(0, message.number))  # type: ignore[arg-type]  # a peer that is none


@pytest.fixture(autouse=True)
def _unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pack", lambda message: message)


def gate(*answers: bool) -> tuple[Presenter, list[Any]]:
    holder: list[Presenter] = []
    peers: list[Any] = [FakePeer(holder, each) for each in answers]
    holder.append(Presenter(lambda: peers))
    return holder[0], peers


def test_all_workers_answer_before_it_returns() -> None:
    presenter, peers = gate(True, True)
    assert asyncio.run(presenter.present({"t": "t.x"}, {}))
    assert [peer.told[0].tokens for peer in peers] == [{"t": "t.x"}] * 2
    assert asyncio.run(presenter.present({}, {"a.example.com": b"pem"}))
    assert peers[0].told[1].certificates == {"a.example.com": b"pem"} and peers[0].told[1].tokens == {}


def test_a_worker_that_joins_is_told_what_is_pending() -> None:
    presenter, _ = gate(True)
    assert presenter.message().tokens == {} and presenter.message().number == 0
    asyncio.run(presenter.present({"t": "t.x"}, {}))
    assert presenter.message().tokens == {"t": "t.x"}


def test_a_worker_that_is_stuck_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 0.01)
    presenter, _ = gate(True, False)
    assert not asyncio.run(presenter.present({"t": "t.x"}, {}))


def test_a_worker_that_leaves_is_not_waited_for() -> None:
    presenter, peers = gate(True, False)

    async def story() -> bool:
        asking = asyncio.ensure_future(presenter.present({"t": "t.x"}, {}))
        await asyncio.sleep(0)
        presenter.left(peers.pop())
        return await asking

    assert asyncio.run(story())


def test_an_answer_to_an_earlier_message_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 0.01)
    presenter, peers = gate(True)
    asyncio.run(presenter.present({"t": "t.x"}, {}))
    peers[0].answers = False
    assert not asyncio.run(presenter.present({}, {}))


def test_without_workers_nobody_is_waited_for() -> None:
    presenter, _ = gate()
    assert asyncio.run(presenter.present({"t": "t.x"}, {}))
