"""What a dialect is: the questions that the road asks of an API's wire format, and nothing else.

Bytes go in, facts come out. A dialect knows no socket, clock, key, instance or policy; `dataplane/exchange.py`
is the only caller. One object of each dialect serves all requests, so it holds no state; a stream's state lives
in the `Scanner` that the dialect makes for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from slmgate.dialects.masking import Mask, Swap
from slmgate.errors import Fault
from slmgate.terms import Ask, Refuse, Usage

STREAMS = (b"text/event-stream", b"application/x-ndjson")
"""Media types of streamed answers."""


class Scanner(Protocol):
    """Reads one streamed answer as it passes. It must survive any chunk boundary."""

    usage: Usage | None
    """The engine's own figures once it has said them, else None; `estimated` where it said only a part of them."""
    tokens_seen: int
    """Completion tokens counted by the gate so far: one for each event that carries generated text.

    Who lets bytes pass by the word of `usual` adds what that counted.
    """
    finished: bool
    """The dialect's own end of stream has passed (`[DONE]`, `message_stop`, `"done":true` ...)."""
    failed: bytes | None
    """What the instance said of its failure, in the middle of the stream: it was left out, and nothing after it goes on."""
    swap: Swap | None
    """What makes the stream's usual chunk one that may pass, where something in each is to be masked."""

    @property
    def mid_event(self) -> bool:
        """Whether the client has been sent the beginning of an event without its end: `Dialect.stream_error` asks."""
        ...

    @property
    def at_rest(self) -> bool:
        """No event is unfinished, and what to mask is known: `swap` or else `usual` may be asked about the next bytes."""
        ...

    def usual(self, chunk: bytes) -> int:
        """The tokens in the next bytes of the body, if those may pass as they are and need not be fed; -1: `feed` them.

        Whole events in which nothing is to be looked at. It depends on these bytes alone, and changes nothing.
        """
        ...

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the body, return the bytes to send on now (the same object where nothing is stripped)."""
        ...

    def close(self) -> bytes:
        """The body ended: return what was still held back."""
        ...


class Dialect(Protocol):
    name: str

    def read(self, endpoint: str, body: bytes, content_type: str) -> Ask | Refuse:
        """Read what the gate needs from a complete body. Anything not readable in exactly one way is a `Refuse`."""
        ...

    def patch(self, endpoint: str, ask: Ask, body: bytes, upstream_model: str | None) -> bytes:
        """The body for the instance: usage asked for where the client did not, the model renamed if `upstream_model`.

        Returns `body` itself when nothing is to change. Prompts and all other fields keep their bytes or values.
        """
        ...

    def usage(self, endpoint: str, body: bytes) -> Usage | None:
        """The engine's figures in a complete, unstreamed answer; None when absent or not believable."""
        ...

    def told(self, endpoint: str, body: bytes) -> tuple[Usage | None, str | None]:
        """The same figures and, where they are read together, the model's name: if it is right, the answer needs no mask."""
        ...

    def completion(self, endpoint: str, body: bytes) -> int | None:
        """The completion's figure alone, in an answer without usage: the engine did not say the prompt's. None: nor this one."""
        ...

    def scanner(self, endpoint: str, ask: Ask, mask: Mask | None = None) -> Scanner:
        """A scanner for this streamed answer. It strips usage from the stream when the gate, not the client, asked for it.

        With a mask it sends on whole events only, and looks for failures among them.
        """
        ...

    def error(self, fault: Fault, refuse: Refuse, request_id: str) -> bytes:
        """The error body of this API."""
        ...

    def stream_error(self, fault: Fault, message: str, mid_event: bool = False) -> bytes:
        """The bytes that end a broken stream so that no client takes it for complete.

        `mid_event` (`Scanner.mid_event`): half an event has gone out; it is ended first, so that the error stands alone.
        """
        ...

    def list_models(self, endpoint: str, names: Sequence[str]) -> bytes:
        """The answer of this API's model list, for those endpoints that the gate answers itself."""
        ...


class Route(msgspec.Struct, frozen=True):
    """One row of the table (method, path) -> what it is. `kind` says who answers and how the body is read.

    `json` and `multipart`: forwarded to an instance of the model that the body names. `list`: answered by the gate.
    `access` is what roles call it: one name for what several APIs offer.
    """

    method: str
    path: str
    dialect: Dialect
    endpoint: str
    kind: str = "json"
    access: str = ""
