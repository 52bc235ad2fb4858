"""A gate on fakes for the targets that need a whole one: a client's connection and an instance's, and what each side saw.

The stage is renewed now and then, for its journal only grows; when it goes, everything that it was asked must have its receipt,
and nothing may be held. What is right to see is the targets' to say.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from slmgate.policy.health import HealthSpec
from slmgate.policy.specs import GateSpec
from tests.tools.fakes import FakeTransport
from tests.tools.stage import Stage, model, reply

# An instance that fails is asked again all the same, and once for each request: what came before must not matter.
MODEL = model(health=HealthSpec(errors=0), attempts=1, retry_on=())
LIVES = 100
"""Conversations on one stage."""


class Seen(NamedTuple):
    """What came of one conversation: bytes sent to the instance, one for each write, and all that the client got."""

    asked: tuple[bytes, ...]
    answered: bytes
    ended: bool
    """The gate said that it will send no more."""


class Fakes:
    """Stages, one after the other. `answer` is what the instance says at once to whatever it is asked; None: nothing."""

    def __init__(self, gate: GateSpec | None = None) -> None:
        self._gate = gate or GateSpec()
        self._stage: Stage | None = None
        self._patch = pytest.MonkeyPatch()
        self._folder = Path()
        self._lives = 0
        self._asked: list[bytes] = []
        self._answered = b""
        self._ended = False
        self.faults = 0
        self.answer: bytes | None = reply(b"{}")

    @property
    def stage(self) -> Stage:
        if self._stage is None or self._lives >= LIVES:
            self.close()
            self._folder = Path(tempfile.mkdtemp(prefix="slmgate-fuzz-"))
            self._stage = Stage(self._folder, self._patch, MODEL, gate=self._gate)
            self._stage.loop.told = self._told
            self._stage.worker.report_fault = self._fault  # type: ignore[method-assign]  # counted here, told by the check
            self._lives = 0
        self._lives += 1
        return self._stage

    def close(self, owing: bool = False) -> None:
        """Leave the stage, after a look that it owes nothing; `owing`: without that look."""
        stage, self._stage = self._stage, None
        if stage is not None:
            try:
                self.answer = None
                if not owing:
                    stage.check()
            finally:
                self.answer = reply(b"{}")
                stage.shut()
                self._patch.undo()
                shutil.rmtree(self._folder)

    def _fault(self) -> None:
        self.faults += 1

    def _told(self, who: str, what: str, data: bytes) -> None:
        if who == "client":
            self._answered += data
            self._ended = self._ended or what in ("closed", "half-closed", "aborted")
        if who == "client" or what != "write":
            return
        self._asked.append(data)
        if self.answer is not None and self._stage is not None:
            self._stage.loop.call_soon(self._stage.loop.opened["a"][-1].feed, self.answer)

    def client_says(self, parts: list[bytes]) -> Seen:
        """A client sends these and goes; the instance answers everything that it is asked."""
        with contextlib.redirect_stderr(io.StringIO()):  # what an operator would be told
            return self._client_says(parts)

    def instance_says(self, request: bytes, parts: list[bytes]) -> Seen:
        """A client sends a good request; these come as the answer to it, and then the instance's connection ends."""
        with contextlib.redirect_stderr(io.StringIO()):
            return self._instance_says(request, parts)

    def _client_says(self, parts: list[bytes]) -> Seen:
        stage = self.stage
        end, before = self._connect(stage), len(stage.loop.failures)
        for part in parts:
            self._feed(stage, end, part)
        return self._leave(stage, end, before)

    def _instance_says(self, request: bytes, parts: list[bytes]) -> Seen:
        stage = self.stage
        self.answer = None
        try:
            end, before = self._connect(stage), len(stage.loop.failures)
            self._feed(stage, end, request)
            line = stage.loop.opened["a"][-1]
            for part in parts:
                self._feed(stage, line, part)
            if not line.closing:
                line.end()
                stage.loop.settle()
            return self._leave(stage, end, before)
        finally:
            self.answer = reply(b"{}")

    def _connect(self, stage: Stage) -> FakeTransport:
        self._asked, self._answered, self._ended, self.faults = [], b"", False, 0
        return stage.connect()

    def _feed(self, stage: Stage, end: FakeTransport, part: bytes) -> None:
        while not end.reading and not end.closing:
            stage.loop.turn(1)
        if not end.closing:
            end.feed(part)
            stage.loop.settle()

    def _leave(self, stage: Stage, end: FakeTransport, before: int) -> Seen:
        client = stage.clients.pop()
        ended = self._ended
        if client.state != "closed":
            client.connection_lost(None)
            stage.loop.settle()
        assert client.exchange is None, "a request goes on without its client"
        assert stage.loop.failures[before:] == [], stage.loop.failures
        assert self.faults == 0, "an exception of the gate's own"
        return Seen(tuple(self._asked), self._answered, ended)
