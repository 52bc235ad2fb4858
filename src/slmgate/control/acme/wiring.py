"""How an order of `service.py` is carried out: in its thread by `issuing.py`, with answers brought to workers on the event loop.

The libraries are imported here, when the first order is made: a gate without automatic certificates pays nothing for them.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from slmgate.control.acme.presenting import CONFIRM_SECONDS, Presenter
from slmgate.control.acme.service import Failed, Order

if TYPE_CHECKING:
    from slmgate.control.acme.issuing import Answer


class Orders:
    """Carries orders out, until `close`."""

    def __init__(self, presenter: Presenter, loop: asyncio.AbstractEventLoop) -> None:
        self._presenter = presenter
        self._loop = loop
        self._ending = threading.Event()

    def close(self) -> None:
        """The process ends: what is under way is given up."""
        self._ending.set()

    def issue(self, order: Order) -> bytes | Failed:
        """Called in a thread; blocks."""
        from slmgate.control.acme.issuing import Issuing, NotIssued

        try:
            issuing = Issuing(order.options, self._present, self._ending.wait)
            return issuing.issue(order.domain, order.challenge, order.account, order.keep).pem
        except NotIssued as error:
            return Failed(error.kind, str(error), error.retry_after)

    def _present(self, answer: Answer | None) -> None:
        tokens = {answer.token: answer.text} if answer is not None and answer.token else {}
        certificates = {answer.domain: answer.pem} if answer is not None and answer.pem else {}
        if self._ending.is_set():
            return
        told = asyncio.run_coroutine_threadsafe(self._presenter.present(tokens, certificates), self._loop)
        told.result(CONFIRM_SECONDS + 1.0)
