"""Scenario tests as transcripts: what each side sends, what the others see, and what the journal holds at that moment.

    >> client  chat              the client sends the text named `chat` (or, without such a name, these very bytes)
    == intent  a                 a record comes into the journal
    << a       POST ...          the connection to instance `a` sees this (`a2`: the second connection to it)
    >> a       200 {}            it answers; `chunk x`, `end` speak the chunked coding; `leaves`, `ends`, `resets`
    << client  200 | {}          status, the fields that are not always there, and the body (an error: `!code`)
    >> door    a refuses         so do `a hangs`, `a opens`; `>> clock 5` lets seconds pass; `>> gate drains` is SIGTERM

It plays the lines with `>>` and compares the whole; it knows how to show bytes, and nothing about what is right.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from difflib import ndiff

from tests.tools.fakes import FakeTransport
from tests.tools.shown import meant, shown, shown_record
from tests.tools.stage import Stage, reply, request

STREAMED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TEXTS = {"chat": request({"model": "m"}), "stream": request({"model": "m", "stream": True}), "events": STREAMED}
TEXTS["json"] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"

ACTS: dict[str, Callable[[FakeTransport], None]] = {
    "connects": lambda end: None,
    "leaves": lambda end: end.lose(),
    "resets": lambda end: end.lose(ConnectionResetError()),
    "ends": lambda end: end.end(),
    "end": lambda end: end.feed(b"0\r\n\r\n"),
    "stops-reading": lambda end: end.protocol.pause_writing(),
    "reads-on": lambda end: end.protocol.resume_writing(),
}


class Road:
    """Plays scripts on a stage. `texts` given to `plays` are names for bytes, beside `TEXTS`."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.played: list[str] = []
        self.clients: dict[str, FakeTransport] = {}
        stage.loop.told = self._told

    def plays(self, script: str, **texts: bytes) -> None:
        lines = [" ".join(line.split(None, 2)) for line in script.splitlines() if line.strip()]
        self.played = []
        for line in lines:
            if line.startswith(">>"):
                self.played.append(line)
                _, who, what = (*line.split(" ", 2), "")[:3]
                self._do(who, what, {**TEXTS, **texts})
                self.stage.loop.settle()
                self._recorded()
        if self.played != lines:
            raise AssertionError("what was written (-) and what happened (+):\n" + "\n".join(ndiff(lines, self.played)))

    def end_of(self, who: str) -> FakeTransport:
        if who.startswith("client"):
            if who not in self.clients or self.clients[who].lost:
                self.clients[who] = self.stage.connect(who)
            return self.clients[who]
        host = who.rstrip("0123456789")
        return self.stage.loop.opened[host][int(who[len(host) :] or 1) - 1]

    def _do(self, who: str, what: str, texts: dict[str, bytes]) -> None:
        loop, verb = self.stage.loop, what.partition(" ")[0]
        data = texts.get(what, b"") or meant(what)
        if who == "door":
            loop.doors[verb] = what.split()[1]
        elif who == "clock":
            loop.turn(float(what))
        elif who == "gate":
            loop.signals[signal.SIGTERM]()
        elif verb in ACTS:
            ACTS[verb](self.end_of(who))
        elif verb == "chunk":
            self.end_of(who).feed(b"%x\r\n%b\r\n" % (len(data) - 6, data[6:]))
        else:
            self.end_of(who).feed(reply(data[4:], int(verb)) if verb.isdigit() and len(verb) == 3 else data)

    def _told(self, who: str, what: str, data: bytes) -> None:
        self._recorded()
        self.played.append(f"<< {who} {shown(data) if what == 'write' else what}")

    def _recorded(self) -> None:
        self.played += [f"== {shown_record(kind, said)}" for kind, said in self.stage.read_journal()]
