"""`slmgate top` beside a real gate: shown once where there is no terminal, and as a screen, from which a request is cancelled."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import pytest

from tests.system.conftest import Launch
from tests.tools.gate import SECRET, Gate, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, chat, request

pytestmark = pytest.mark.system


def streaming(gate: Gate) -> Wire:
    wire = Wire(gate.port, timeout=60)
    wire.send(request(chat(stream=True, events=2000, rate=20), secret=SECRET))
    assert wire.event()
    return wire


def command(gate: Gate, *words: str) -> list[str]:
    return [sys.executable, "-m", "slmgate", "top", *words, "--config", str(gate.file)]


def test_without_a_terminal_it_is_shown_once(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)})
    with streaming(gate):
        shown = subprocess.run(command(gate), capture_output=True, text=True, timeout=60, check=True).stdout
    assert shown.startswith("ready  ")
    assert "1 under way" in shown
    (line,) = [line for line in shown.splitlines() if "streaming" in line]
    assert line.split()[:2] == ["main", "tiny"]


class Terminal:
    """A terminal of 120 columns and 40 lines in which a command runs."""

    def __init__(self, words: list[str]) -> None:
        self.end, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(words, stdin=other, stdout=other, stderr=other, env=env, start_new_session=True)
        os.close(other)
        self.shown = b""

    def shows(self, text: bytes, within: float = 60) -> bool:
        """Whether it writes this before so many seconds are over."""
        end = time.monotonic() + within
        while text not in self.shown and time.monotonic() < end:
            if select.select([self.end], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self.end, 65536)
                except OSError:  # the command has ended
                    break
        return text in self.shown

    def press(self, keys: bytes) -> None:
        self.shown = b""
        os.write(self.end, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.end)


def test_a_request_is_cancelled_from_the_screen(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)})
    screen = Terminal(command(gate, "--every", "0.5"))
    try:
        assert screen.shows(b"Requests") and screen.shows(b"ready")
        with streaming(gate) as wire:
            assert screen.shows(b"streaming")
            screen.press(b"c")
            assert screen.shows(b"Let it go on")
            screen.press(b"\r")  # the first button has the focus
            assert screen.shows(b"cancelled")
            text = b""
            while (event := wire.event()) is not None:
                text += event
            assert b"cancelled" in text and b"[DONE]" not in text
        screen.press(b"q")
        eventually(lambda: screen.shows(b"\0", 0.1) or screen.process.poll() is not None, 20, "it ends")
        assert screen.process.wait(20) == 0
    finally:
        screen.close()
