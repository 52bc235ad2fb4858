"""Many clients at once, of several keys, each asking again as soon as it has its answer: the demand that limits are tried with.

A closed loop on keep-alive connections. What each client was told is kept with all its headers. The prompt is said to have as
many tokens as the gate can at most take it for without a tokenizer (four bytes each), so that an instance's figures are known
before it answers. It knows HTTP and the mock instance's scripts, nothing of the gate's configuration.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.tools.load import Link, Outcome

CHAT = "/v1/chat/completions"


@dataclass
class Told(Outcome):
    """What one client saw of one request of the key `who`."""

    who: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    prompt: int = 0
    completion: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    @property
    def code(self) -> str | None:
        """The code of an error in OpenAI's shape."""
        return json.loads(self.body)["error"]["code"] if self.status >= 400 else None


@dataclass(frozen=True)
class Caller:
    """A key and what its clients ask for: `completion` tokens of at most that many, `pad` bytes of prompt besides the least."""

    name: str
    secret: str
    completion: int = 1
    pad: int = 0
    delay: float = 0.0
    stream: bool = False
    model: str = "tiny"
    most: int | None = None
    """`max_tokens` where it is not `completion`."""
    rest: float = 0.0
    """Seconds until a client asks again after a good answer."""

    def body(self, tag: str) -> tuple[bytes, int]:
        """The body, whose length does not depend on the tag's value, and its prompt's tokens."""
        prompt = 0
        while True:
            script: dict[str, Any] = {"tag": tag, "prompt": prompt, "events": self.completion}
            if self.delay:
                script["delay"] = self.delay
            fields: dict[str, Any] = {
                "model": self.model,
                "messages": [{"role": "user", "content": "x" * self.pad}],
                "max_tokens": self.completion if self.most is None else self.most,
                "script": script,
            }
            body = json.dumps({**fields, "stream": True} if self.stream else fields).encode()
            if prompt == -(-len(body) // 4):
                return body, prompt
            prompt = max(prompt + 1, -(-len(body) // 4))


class Ear(Link):
    """A client connection that keeps the headers too."""

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if isinstance(self.outcome, Told):
            self.outcome.headers[name.decode().lower()] = value.decode()


class Crowd:
    """A set of clients. `journal` holds every request ever sent; nothing is sent again."""

    def __init__(self, port: int, callers: Sequence[Caller], seed: int) -> None:
        print(f"crowd seed {seed}")
        self.port, self.callers = port, callers
        self.chance = random.Random(seed)
        self.prefix = f"c{seed}-{self.chance.getrandbits(24):06x}"
        self.journal: list[Told] = []
        self.stopped = False

    async def link(self) -> Ear:
        _, fresh = await asyncio.get_running_loop().create_connection(Ear, "127.0.0.1", self.port)
        return fresh

    async def one(self, caller: Caller, link: Ear | None = None, limit: float = 30.0) -> Told:
        """One request on this connection, or on one of its own. Never raises: what went wrong is in what is returned."""
        name = f"{self.prefix}-{len(self.journal):07}"
        body, prompt = caller.body(name)
        told = Told(name, caller.stream, time.monotonic(), who=caller.name, prompt=prompt, completion=caller.completion)
        self.journal.append(told)
        own = link is None
        head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer {caller.secret}\r\nX-Request-Id: {name}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            link = link or await self.link()
        except OSError as fault:
            told.error, told.end = f"not connected: {fault!r}", time.monotonic()
            return told
        over = link.begin(told, head.encode() + body)
        try:
            await asyncio.wait_for(over, limit)
        except TimeoutError:
            link.finish(f"nothing more within {limit} s")
            link.transport.abort()
        if own or not (told.complete and link.keep):
            link.transport.abort()
        return told

    async def client(self, caller: Caller, until: float, pause: float) -> None:
        """One client until its time is up: again soon after a good answer, after about `pause` seconds else."""
        link: Ear | None = None
        await asyncio.sleep(self.chance.random() * pause)
        while time.monotonic() < until and not self.stopped:
            if link is None or link.lost or link.transport.is_closing():
                try:
                    link = await self.link()
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
            told = await self.one(caller, link)
            await asyncio.sleep(caller.rest if told.status == 200 else pause * (0.5 + self.chance.random()))
        if link is not None:
            link.transport.abort()

    async def press(self, clients: int, seconds: float, pause: float = 0.7) -> None:
        """`clients` of them, the callers in turn, for so many seconds."""
        until = time.monotonic() + seconds
        await asyncio.gather(*(self.client(self.callers[n % len(self.callers)], until, pause) for n in range(clients)))

    async def rush(self, caller: Caller, count: int) -> list[Told]:
        """`count` requests at the same time, each on a connection of its own that was there before."""
        links = [await self.link() for _ in range(count)]
        told = await asyncio.gather(*(self.one(caller, link) for link in links))
        for link in links:
            link.transport.abort()
        return told
