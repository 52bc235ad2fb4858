"""What the listeners speak TLS with: read from the files that the configuration names, followed, and told to the workers.

What was once found good stays in force until something better is: a new certificate without its key, an unreadable file or a
list of the wrong authority is named and not taken. It also makes the key of session tickets, which stands nowhere but here and in
the workers. It knows no connection; how contexts are built is the data plane's affair.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from slmgate.control.config import Config
from slmgate.control.config.stamps import Stamp, stamps
from slmgate.control.config.tls_options import ListenTls
from slmgate.control.config.tlsfiles import FileFault, crl_ends, files_of, read_listener
from slmgate.link.tls import TICKET_KEY_BYTES, Identity, Tls, TlsSpec

LOOK_SECONDS = 0.25
SETTLE_SECONDS = 0.1
"""How long after a change files are read: their writer may be in the middle of it."""
TICKET_KEY_SECONDS = 12 * 3600.0
"""A ticket opens nothing longer than its key is in force: who stole one can read no more than that (RFC 9325 section 3.4)."""


class Certificates:
    """All TLS listeners of one configuration at a time. All calls are made on the event loop; files are read beside it."""

    def __init__(
        self,
        tell: Callable[[Tls], None],
        say: Callable[[str], None],
        complain: Callable[[str], None],
        wall: Callable[[], float] = time.time,
        aside: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        """`tell` is called with what all workers are to hear; `aside` runs what reads files where it holds up nobody."""
        self._tell = tell
        self._say = say
        self._complain = complain
        self._wall = wall
        self._aside = aside
        self._reading = asyncio.Lock()
        # by the listener's name
        self._options: dict[str, ListenTls] = {}
        self._specs: dict[str, TlsSpec] = {}
        self._faults: dict[str, str] = {}
        self._ends: dict[str, list[tuple[float, str]]] = {}
        self._ended: set[str] = set()  # what is said of that which is in force and has ended
        self._stamps: list[Stamp] = []
        self._doubted = False  # a fault was found that may be a file half written: to be read again
        self._ticket_key = secrets.token_bytes(TICKET_KEY_BYTES)
        self._ticket_key_made = wall()

    def __repr__(self) -> str:
        return f"<Certificates {', '.join(self._specs)}>"

    def message(self) -> Tls:
        """What a worker that joins has to know."""
        return Tls(tuple(self._specs.values()), self._ticket_key)

    @property
    def identities(self) -> list[Identity]:
        """What is shown at all listeners."""
        return [one for spec in self._specs.values() for one in spec.identities]

    @property
    def troubles(self) -> list[str]:
        """What is wrong now, a line for each."""
        return [*self._faults.values(), *sorted(self._ended)]

    async def configure(self, config: Config) -> None:
        """Go by this configuration from now on; its files are read afresh. A listener whose files are bad goes on as it did."""
        async with self._reading:
            self._options = {str(one.address): one.tls for one in config.listen if one.tls is not None}
            for gone in self._specs.keys() - self._options.keys():
                del self._specs[gone], self._ends[gone]
            self._stamps = stamps(self._files())
            self._take(await self._read(), sure=True)

    async def run(self) -> None:
        """Follow the files for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  # one look that fails must not be the last
                self._complain(f"the TLS files could not be looked at: {error!r}")

    async def look(self) -> None:
        """Take over what has changed since the last look."""
        async with self._reading:
            if stamps(self._files()) != self._stamps:
                await asyncio.sleep(SETTLE_SECONDS)
                self._stamps = stamps(self._files())
                self._take(await self._read(), sure=False)
            elif self._doubted:
                self._take(await self._read(), sure=True)
            self._note_what_ended()
            now = self._wall()
            if self._specs and not 0 <= now - self._ticket_key_made < TICKET_KEY_SECONDS:
                self._ticket_key, self._ticket_key_made = secrets.token_bytes(TICKET_KEY_BYTES), now
                self._tell(self.message())

    def _files(self) -> Iterator[Path]:
        for tls in self._options.values():
            yield from files_of(tls)

    async def _read(self) -> Mapping[str, TlsSpec | FileFault]:
        found: Mapping[str, TlsSpec | FileFault] = await self._aside(_read_all, dict(self._options))
        return found

    def _take(self, read: Mapping[str, TlsSpec | FileFault], *, sure: bool) -> None:
        """`sure`: what is wrong now is no file half written."""
        faults = {name: found for name, found in read.items() if isinstance(found, FileFault)}
        self._doubted = bool(faults) and not sure
        self._complain_of(faults, sure)
        fresh = {name: spec for name, spec in read.items() if isinstance(spec, TlsSpec) and spec != self._specs.get(name)}
        if not fresh:
            return
        for name, spec in fresh.items():
            for line in _described(spec, self._specs.get(name)):
                self._say(f"TLS at {name}: {line}")
        self._specs |= fresh
        self._ends |= {name: _ends_of(spec) for name, spec in fresh.items()}
        self._note_what_ended()
        self._tell(self.message())

    def _complain_of(self, faults: Mapping[str, FileFault], sure: bool) -> None:
        now = {name: text for name, text in self._faults.items() if name in faults}
        for name, fault in faults.items() if sure else ():
            now[name] = f"TLS at {name}: tls.{fault.option} {fault.problem} ({fault.hint})"
            if now[name] != self._faults.get(name):
                goes_on = "what was read before stays in force" if name in self._specs else "nobody can connect there"
                self._complain(f"{now[name]}; {goes_on}")
        self._faults = now

    def _note_what_ended(self) -> None:
        now = self._wall()
        ended = {text for ends in self._ends.values() for end, text in ends if end <= now}
        for text in sorted(ended - self._ended):
            self._complain(text)
        self._ended = ended


def _read_all(options: Mapping[str, ListenTls]) -> Mapping[str, TlsSpec | FileFault]:
    return {name: read_listener(name, tls) for name, tls in options.items()}


def _ends_of(spec: TlsSpec) -> list[tuple[float, str]]:
    """When what is in force ends (seconds since the epoch), and what to say then."""
    at = f"TLS at {spec.name}"
    ends = [
        (_leaf(one).not_valid_after_utc.timestamp(), f"{at}: the {_called(one)} has ended: clients refuse it")
        for one in spec.identities
    ]
    if spec.crl is not None:
        text = f"{at}: a revocation list has ended: every client certificate is refused until there is a new one"
        ends.append((crl_ends(spec.crl), text))
    return ends


def _leaf(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificates(identity.chain)[0]


def _called(identity: Identity) -> str:
    leaf = _leaf(identity)
    names = ", ".join(identity.names[:4]) + (", ..." if len(identity.names) > 4 else "")
    until = datetime.fromtimestamp(leaf.not_valid_after_utc.timestamp(), UTC).strftime("%Y-%m-%d %H:%M")
    return f"{identity.kind} certificate {leaf.serial_number:x}" + (f" for {names}" if names else "") + f" (until {until} UTC)"


def _described(spec: TlsSpec, before: TlsSpec | None) -> Sequence[str]:
    """What is new, in words."""
    old = () if before is None else before.identities
    lines = [f"the {_called(one)} is in force" for one in spec.identities if one not in old]
    if before is not None and spec.client_ca != before.client_ca:
        lines.append("other authorities of clients are in force")
    if before is not None and spec.crl != before.crl:
        lines.append("other revocation lists are in force")
    return lines or ["other options are in force"]
