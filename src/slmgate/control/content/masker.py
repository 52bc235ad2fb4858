"""The process that masks: it is given bodies over a socket and gives back masked texts, and nothing of it is ever in a file.

Apart from control, so that an operator's pattern that takes for ever costs that record and not the gate: the kernel ends it when
it has worked too long on one, and another one is started for the next. `Masker` is control's end.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from struct import Struct

import msgspec

from slmgate.control.content import texts
from slmgate.control.content.masks import masks

WORK_SECONDS = 2.0
"""Of the processor, for one record."""
SECONDS = 20.0
"""How long that may take on a busy machine, with the start of a process if there is none."""
_LENGTH = Struct("!I")
_MEMORY = 2 * 1024 * 1024 * 1024


class Work(msgspec.Struct, frozen=True):
    """A record to mask, and what is to be masked in it."""

    names: tuple[str, ...]
    patterns: tuple[str, ...]
    prompt: bytes | None
    prompt_cut: bool
    answer: bytes | None
    answer_cut: bool
    stream: bool

    def __repr__(self) -> str:
        return "Work()"


class Done(msgspec.Struct, frozen=True):
    """The same, masked."""

    prompt: str | None
    prompt_cut: bool
    answer: str | None
    answer_cut: bool
    masked: int


Started = tuple[socket.socket, subprocess.Popen[bytes]]

_encode = msgspec.msgpack.Encoder().encode
_work = msgspec.msgpack.Decoder(Work).decode
_done = msgspec.msgpack.Decoder(Done).decode


class TooLong(Exception):
    """A record was not masked in time, or the process died of it."""


def do(work: Work) -> Done:
    """Mask one record."""
    by = masks(work.names, work.patterns)
    prompt = None if work.prompt is None else texts.body(work.prompt, work.prompt_cut, by)
    answer = None
    if work.answer is not None:
        answer = (texts.stream if work.stream else texts.body)(work.answer, work.answer_cut, by)
    return Done(
        prompt=None if prompt is None else prompt.text,
        prompt_cut=prompt is not None and prompt.cut,
        answer=None if answer is None else answer.text,
        answer_cut=answer is not None and answer.cut,
        masked=(0 if prompt is None else prompt.found) + (0 if answer is None else answer.found),
    )


class Masker:
    """Gives work to the process, which is started when it is needed. For use from one thread."""

    def __init__(self, seconds: float = SECONDS, start: Callable[[], Started] | None = None) -> None:
        self._seconds = seconds
        self._start = start or _started
        self._link: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def mask(self, work: Work) -> Done:
        """The record, masked. Raises TooLong, OSError when no process can be had."""
        if self._link is None:
            self._link, self._process = self._start()
        until = time.monotonic() + self._seconds
        try:
            _send(self._link, _encode(work), until)
            return _done(_receive(self._link, until))
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            self.close()
            raise TooLong from error

    def close(self) -> None:
        """End the process."""
        link, process, self._link, self._process = self._link, self._process, None, None
        if link is not None:
            link.close()
        if process is not None:
            process.kill()
            process.wait()


def _started() -> Started:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "slmgate.control.content.masker"]
        null = subprocess.DEVNULL  # a traceback might quote what was to be masked
        process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=null, stderr=null)  # ourselves
    return ours, process


def _send(link: socket.socket, data: bytes, until: float) -> None:
    link.settimeout(_left(until))
    link.sendall(_LENGTH.pack(len(data)) + data)


def _receive(link: socket.socket, until: float | None) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size, until))
    return _exactly(link, length, until)


def _exactly(link: socket.socket, size: int, until: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        link.settimeout(None if until is None else _left(until))
        part = link.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _left(until: float) -> float:
    return max(0.001, until - time.monotonic())


def main(link: socket.socket) -> None:
    """Mask what comes, until whoever gives it is gone."""
    with contextlib.suppress(OSError, EOFError):
        while True:
            work = _work(_receive(link, None))
            signal.setitimer(signal.ITIMER_PROF, WORK_SECONDS)  # its signal ends this process, whatever it is at
            made = _encode(do(work))
            signal.setitimer(signal.ITIMER_PROF, 0)
            link.sendall(_LENGTH.pack(len(made)) + made)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # nothing unmasked goes to a disk, whatever becomes of this process
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.nice(5)
    main(socket.socket(fileno=0))
