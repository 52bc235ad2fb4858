"""Contents on their way from workers into the store: each masked as its role says, kept for its time, and confirmed.

What comes is in memory only until the process that masks has given it back; then it is written, and only then does its worker let
go of it. A store that is away is waited for. What cannot be kept is counted and told, and never written as it came.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from slmgate.control.config import Config
from slmgate.control.config.content_options import Content
from slmgate.control.content.masker import Masker, TooLong, Work
from slmgate.control.keyring import utc_now
from slmgate.link.messages import Captured, CaptureKept, Captures
from slmgate.stores.contents import ContentRecord, ContentStore
from slmgate.stores.records import LedgerUnavailable

RETRY_SECONDS = 1.0
FORGET = 500
"""Rows deleted in one step."""
PAUSE = 60.0
"""Seconds between two looks for what is over."""

_log = logging.getLogger("slmgate.content")
Confirm = Callable[[CaptureKept], object]


class Contents:
    """`told` by the loop, works in a thread of its own, which there is once something came. End it with `close`."""

    def __init__(
        self,
        store: Callable[[], ContentStore],
        config: Callable[[], Config],
        masker: Masker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._config = config
        self._masker = masker or Masker()
        self._clock = clock
        self._next = 0.0  # of the clock: before it nothing is looked for that is over
        self._queue: queue.SimpleQueue[tuple[str, Captures, Confirm] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._dropped: dict[str, int] = {}  # by worker run: what it had no room for
        self.kept = 0
        self.lost = 0
        """Records that could not be kept, since this process began."""

    def __repr__(self) -> str:
        return f"<Contents {self.kept} kept, {self.lost} lost>"

    def told(self, worker: str, message: Captures, confirm: Confirm) -> None:
        """A worker (its incarnation) has sent a batch, and waits for `confirm`, which is called in the thread."""
        if self._closing.is_set():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="content", daemon=True)
            self._thread.start()
        self._queue.put((worker, message, confirm))

    @property
    def troubles(self) -> list[str]:
        """What is wrong, for the gate's status."""
        return [f"the contents of {self.lost} requests are lost (see the gate's log)"] if self.lost else []

    def forget(self) -> int:
        """Delete some of what is over, if that was not just looked for; how many. Raises LedgerUnavailable."""
        if self._clock() < self._next:
            return 0
        gone = self._store().forget(utc_now(), FORGET)
        if gone < FORGET:
            self._next = self._clock() + PAUSE
        return gone

    def close(self, timeout: float = 5.0) -> None:
        """Finish what was begun, and end. What is not confirmed is its worker's still."""
        self._closing.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout)
        self._masker.close()

    def _run(self) -> None:
        while (given := self._queue.get()) is not None:
            try:
                self._take(*given)
            except Exception:  # noqa: BLE001  # a fault of ours must not end the thread; the batch comes again, to a successor
                _log.exception("contents could not be kept")

    def _take(self, worker: str, message: Captures, confirm: Confirm) -> None:
        records = [record for captured in message.records if (record := self._record(captured)) is not None]
        while True:
            try:
                self._store().put(records)
                break
            except LedgerUnavailable as error:
                _log.warning("contents wait: %s", error)
                if self._closing.wait(RETRY_SECONDS):
                    return
        self.kept += len(records)
        missing = message.dropped - self._dropped.get(worker, 0)
        if missing > 0:
            self._dropped[worker] = message.dropped
            self._lose(missing, "there was no room for them in the worker")
        confirm(CaptureKept(message.number, message.dropped))

    def _record(self, captured: Captured) -> ContentRecord | None:
        """The record, masked; None where it is not to be kept, or cannot be."""
        option = self._option(captured.role)
        if option is None:
            return None  # the role has changed its mind meanwhile
        try:
            done = self._masker.mask(
                Work(
                    names=option.mask,
                    patterns=option.patterns,
                    prompt=captured.prompt if option.capture != "answers" else None,
                    prompt_cut=captured.prompt_cut,
                    answer=captured.answer if option.capture != "prompts" else None,
                    answer_cut=captured.answer_cut,
                    stream=captured.stream,
                )
            )
        except (TooLong, OSError) as error:
            self._lose(1, f"masking it took too long or failed ({captured.id}, role {captured.role}): {error!r}")
            return None
        began = datetime.fromtimestamp(captured.time, UTC)
        return ContentRecord(
            id=captured.id,
            role=captured.role,
            time=began,
            expires=began + timedelta(seconds=option.keep),
            prompt=done.prompt,
            prompt_cut=done.prompt_cut,
            answer=done.answer,
            answer_cut=done.answer_cut,
            masked=done.masked,
        )

    def _option(self, role: str) -> Content | None:
        config = self._config()
        found = config.roles.get(role)
        return found.content if found is not None and config.log.content == "roles" else None

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        _log.error("contents of %d requests are lost: %s", count, why)
