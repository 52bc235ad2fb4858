"""Asking workers what is under way: parts put together, those that leave or stay silent, and who is asked to end a request.

Peers are fakes that answer as a test has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from slmgate.control import live as module
from slmgate.control.live import SECONDS, Listing, LiveRequests, NobodyCancels
from slmgate.link.messages import Cancelled, CancelLive, ListLive, Live, LiveFilter, LiveRequest
from tests.tools.fakes import Clock, FakeLoop

ALL = LiveFilter()


def request(worker: int, number: int, since: float = 0.0, client: str = "bot") -> LiveRequest:
    id = f"{worker:012x}{number:08x}"
    return LiveRequest(id=id, request_id=id, since=since or float(number), state="waiting", client=client, worker=worker)


class FakePeer:
    """A worker. `parts` are how many of its requests it tells at once; 0: it tells nothing."""

    def __init__(self, live: LiveRequests, worker: int, rows: Sequence[LiveRequest] = (), parts: int = 100) -> None:
        self.hello = SimpleNamespace(incarnation=f"{worker:012x}")
        self.asked: list[Any] = []
        self._live, self.rows, self.parts = live, list(rows), parts
        live.joined(self)  # type: ignore[arg-type]  # a peer that is none

    def send(self, message: ListLive | CancelLive) -> None:
        self.asked.append(message)
        if self.parts:
            self.tell(message)

    def tell(self, message: Any, last: bool = True) -> None:
        if isinstance(message, CancelLive):
            found = next((row for row in self.rows if row.id == message.id), None)
            self._live.told(Cancelled(message.number, found, over=found is None and message.id.endswith("99")))
            if not message.look and found is not None:
                self.rows.remove(found)
            return
        rows = self.rows[: message.most]
        clients = (("bot", len(self.rows), 1),)
        figures: Any = (len(self.rows), len(self.rows), clients if self.rows else ())
        for start in range(0, max(1, len(rows)), self.parts or 100):
            part = tuple(rows[start : start + (self.parts or 100)])
            ends = start + (self.parts or 100) >= len(rows)
            self._live.told(Live(message.number, part, last and ends, *figures))
            figures = (0, 0, ())


@pytest.fixture(autouse=True)
def _unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pack", lambda message: message)


@pytest.fixture
def loop() -> Iterator[FakeLoop]:
    made = FakeLoop(Clock())
    yield made
    made.shut()


def ran(loop: FakeLoop, work: Any, after: float = 0.0) -> Any:
    task = loop.create_task(work)
    loop.settle()
    if after:
        loop.turn(after)
    return task.result()


def test_nobody_is_there(loop: FakeLoop) -> None:
    live = LiveRequests()
    assert ran(loop, live.list(ALL)) == Listing([], 0, 0, [], 0)
    assert ran(loop, live.find("0" * 20)) is None
    assert ran(loop, live.cancel("0" * 20)) is None


def test_all_workers_are_put_together(loop: FakeLoop) -> None:
    """The oldest first, whoever has them; and no more than were asked for."""
    live = LiveRequests()
    FakePeer(live, 1, [request(1, 1), request(1, 4)], parts=1)
    FakePeer(live, 2, [request(2, 2), request(2, 3)])
    FakePeer(live, 3)
    found = ran(loop, live.list(ALL))
    assert [(row.worker, row.since) for row in found.requests] == [(1, 1.0), (2, 2.0), (2, 3.0), (1, 4.0)]
    assert found[1:] == (4, 4, [("bot", 4, 2)], 0)
    assert [row.since for row in ran(loop, live.list(ALL, 3)).requests] == [1.0, 2.0, 3.0]


def test_a_silent_worker_is_counted(loop: FakeLoop) -> None:
    live = LiveRequests()
    silent, good = FakePeer(live, 1, [request(1, 1)], parts=0), FakePeer(live, 2, [request(2, 2)])
    found = ran(loop, live.list(ALL), after=SECONDS + 0.1)
    assert ([row.worker for row in found.requests], found.total, found.silent) == ([2], 1, 1)
    silent.tell(silent.asked[0])  # too late: nobody waits for it any more
    assert len(good.asked) == 1


def test_a_worker_that_dies_in_the_middle(loop: FakeLoop) -> None:
    """What it had told is in the list, which says that there may be more; nobody waits for the rest."""
    live = LiveRequests()
    dies, good = FakePeer(live, 1, [request(1, 1)], parts=0), FakePeer(live, 2, [request(2, 2)])
    task = loop.create_task(live.list(ALL))
    loop.settle()
    dies.tell(dies.asked[0], last=False)
    assert not task.done()
    live.left(dies)  # type: ignore[arg-type]  # a peer that is none
    loop.settle()
    found = task.result()
    assert ([row.worker for row in found.requests], found.total, found.silent) == ([1, 2], 2, 1)
    live.left(dies)  # type: ignore[arg-type]  # once more: nothing
    assert ran(loop, live.list(ALL)).silent == 0
    assert len(good.asked) == 2


def test_one_list_at_a_time(loop: FakeLoop) -> None:
    """However many ask, a worker makes one list after the other."""
    live = LiveRequests()
    slow = FakePeer(live, 1, [request(1, 1)], parts=0)
    tasks = [loop.create_task(live.list(ALL)) for _ in range(3)]
    for number in range(3):
        loop.settle()
        assert len(slow.asked) == number + 1
        slow.tell(slow.asked[-1])
    loop.settle()
    assert [len(task.result().requests) for task in tasks] == [1, 1, 1]


def test_who_has_it_is_asked_to_end_it(loop: FakeLoop) -> None:
    live = LiveRequests()
    row = request(2, 5)
    other, has_it = FakePeer(live, 1, [request(1, 1)]), FakePeer(live, 2, [row])
    assert ran(loop, live.find(row.id)) == row
    assert ran(loop, live.cancel(row.id)) == row
    assert ran(loop, live.cancel(row.id)) is None  # of which this worker says that it never was
    assert ran(loop, live.cancel(f"{2:012x}00000099")) == "over"
    assert other.asked == []
    assert [message.look for message in has_it.asked] == [True, False, False, False]


@pytest.mark.parametrize(
    "id", ["", "x", "000000000002", "000000000002zzzzzzzz", "000000000002" + "0" * 17, "00000000000200000005\n"]
)
def test_what_is_no_id_is_asked_of_nobody(loop: FakeLoop, id: str) -> None:
    live = LiveRequests()
    peer = FakePeer(live, 2, [request(2, 5)])
    assert ran(loop, live.cancel(id)) is None
    assert peer.asked == []


def test_the_worker_that_has_it_does_not_answer(loop: FakeLoop) -> None:
    live = LiveRequests()
    peer = FakePeer(live, 2, [request(2, 5)], parts=0)
    with pytest.raises(NobodyCancels, match="does not answer now"):
        ran(loop, live.cancel(peer.rows[0].id), after=SECONDS + 0.1)
    task = loop.create_task(live.cancel(peer.rows[0].id))
    loop.settle()
    live.left(peer)  # type: ignore[arg-type]  # a peer that is none
    loop.settle()
    with pytest.raises(NobodyCancels, match="has ended"):
        task.result()
    live.told(Cancelled(99, None))  # nobody asked
