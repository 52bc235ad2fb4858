"""The bounds of an admin connection, on a fake transport and a loop whose timers are called by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from slmgate.control.admin import serving
from slmgate.control.admin.serving import BODY_TIMES, END_SECONDS, HEAD_SECONDS, AdminConnection, AdminServer

NOTHING: Any = Mock()
"""An application that is never reached."""


class Timers:
    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None], Mock]] = []

    def call_later(self, delay: float, act: Callable[[], None]) -> Mock:
        handle = Mock()
        self.waiting.append((delay, act, handle))
        return handle


def connection(state: ServerState, timers: Timers) -> tuple[AdminConnection, Mock]:
    config = uvicorn.Config(NOTHING, log_config=None, lifespan="off", interface="asgi3")
    config.load()
    made = AdminConnection(config, state, {}, Mock(call_later=timers.call_later))
    transport = Mock()
    transport.is_closing.return_value = False
    transport.get_extra_info.return_value = None
    made.connection_made(transport)
    return made, transport


def test_a_connection_without_a_request_is_closed_in_time() -> None:
    timers = Timers()
    made, transport = connection(ServerState(), timers)
    (delay, act, handle) = timers.waiting[0]
    assert delay == HEAD_SECONDS
    act()
    transport.close.assert_called_once()
    made.connection_lost(None)
    handle.cancel.assert_called_once()


def test_one_that_has_asked_is_left_alone() -> None:
    timers = Timers()
    made, transport = connection(ServerState(), timers)
    made.cycle = Mock()
    timers.waiting[0][1]()
    transport.close.assert_not_called()


@pytest.mark.parametrize("waits", ["for its body", "for the next head"])
def test_one_that_begins_a_request_and_does_not_end_it_is_closed(waits: str) -> None:
    timers = Timers()
    made, transport = connection(ServerState(), timers)
    made.cycle = Mock(more_body=waits == "for its body", response_complete=waits == "for the next head")
    for _ in range(BODY_TIMES):
        timers.waiting[-1][1]()
        assert not transport.abort.called
    timers.waiting[-1][1]()
    transport.abort.assert_called_once()
    assert len(timers.waiting) == BODY_TIMES + 1


def test_one_whose_answer_takes_long_is_left_alone() -> None:
    """Nor does it count that others came before it over the same connection."""
    timers = Timers()
    made, transport = connection(ServerState(), timers)
    for more in (True, False) * BODY_TIMES:
        made.cycle = Mock(more_body=more, response_complete=False)
        for _ in range(BODY_TIMES):
            timers.waiting[-1][1]()
    for _ in range(BODY_TIMES):
        timers.waiting[-1][1]()
    assert not transport.abort.called and not transport.close.called
    transport.is_closing.return_value = True
    before = len(timers.waiting)
    timers.waiting[-1][1]()
    assert len(timers.waiting) == before


@pytest.mark.parametrize(("there", "refused"), [(0, False), (1, False), (2, True), (3, True)])
def test_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch, there: int, refused: bool) -> None:
    monkeypatch.setattr(serving, "MAX_ADMIN_CONNECTIONS", 2)
    state = ServerState()
    state.connections = {Mock() for _ in range(there)}
    made, transport = connection(state, Timers())
    assert transport.abort.called is refused
    made.connection_lost(None)


def test_nobody_holds_up_its_end() -> None:
    timers = Timers()
    server = AdminServer(uvicorn.Config(NOTHING, log_config=None, interface="asgi3"))
    made, transport = connection(server.server_state, timers)
    made.cycle = Mock(response_complete=False)
    server.end(Mock(call_later=timers.call_later))
    assert server.should_exit
    (delay, act, _) = timers.waiting[-1]
    assert delay == END_SECONDS and not transport.abort.called
    act()
    transport.abort.assert_called_once()


def test_no_signal_handlers() -> None:
    with AdminServer(uvicorn.Config(NOTHING, log_config=None, interface="asgi3")).capture_signals():
        pass
