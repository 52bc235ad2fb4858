"""Which certificates the gate gets by itself, and when: one order at a time, in a thread, by one control process.

Until a name has its certificate, one that nobody vouches for stands in its place, so that the gate can be reached and says itself
what is missing. Files are what it hands on: `expand` gives a listener's options with them, as if they stood in the configuration.
It knows no protocol: how an order goes is `issuing.py`'s affair.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from msgspec import structs

from slmgate.control.acme.files import Account, AcmeFiles
from slmgate.control.acme.making import Leaf, leaf_of, placeholder_pem
from slmgate.control.acme.status import CertificateStatus, State
from slmgate.control.acme.timing import DAY, Tries, renew_at
from slmgate.control.config.acme_options import HTTP_01, HTTP_PORT, TLS_ALPN_01, Acme
from slmgate.control.config.options import Config, Listen
from slmgate.control.config.tls_options import ServerCertificate

LOOK_SECONDS = 1.0
"""How late what is due may be begun, and a clock that was set be noticed."""
PLACEHOLDER_RENEWED = DAY
"""Seconds before its end at which what stands in for a certificate is made anew."""


class Order(NamedTuple):
    """What is to be got: from whom, for which name, checked how, by which account (None: a new one)."""

    options: Acme
    domain: str
    challenge: str
    account: Account | None
    keep: Callable[[Account], None]
    """Called with an account that is new, in the order's thread."""


class Failed(NamedTuple):
    """An order that came to nothing: why, in words, and when it may be tried again at the earliest (seconds)."""

    kind: Literal["refused", "away"]
    text: str
    retry_after: float | None = None


class Issue(Protocol):
    """Carries an order out, blocking: the certificate, those behind it and its key (PEM), or why there is none."""

    def __call__(self, order: Order, /) -> bytes | Failed: ...


class Managed:
    """One name: its options, and what is known of it."""

    __slots__ = ("challenges", "domain", "files", "leaf", "options", "tries", "unkept")

    def __init__(self, domain: str, options: Acme, challenges: Sequence[str], files: AcmeFiles) -> None:
        self.domain = domain
        self.options = options
        self.challenges = challenges
        self.files = files
        self.leaf: Leaf | None = None  # what is shown
        self.tries = Tries()
        self.unkept = ""  # what was said last of a disk that takes nothing

    def __repr__(self) -> str:
        return f"<Managed {self.domain}>"

    def due(self, now: float) -> float:
        """When the next order is to be made."""
        leaf = self.leaf
        wanted = 0.0 if leaf is None or leaf.placeholder else renew_at(self.domain, leaf.not_before, leaf.not_after)
        return self.tries.next_try(wanted, now)


class Automatic:
    """All names of one configuration at a time. All calls are made on the event loop; orders run beside it."""

    def __init__(
        self,
        home: Path,
        issue: Issue,
        say: Callable[[str], None],
        complain: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`home`: where files are kept, `acme/` of the state directory."""
        self._home = home
        self._issue = issue
        self._say = say
        self._complain = complain
        self._wall = wall
        self._managed: dict[str, Managed] = {}
        self._busy: Managed | None = None  # the one that is being asked for, also where no configuration names it meanwhile
        self.can_answer: Callable[[], bool] = lambda: True
        """Whether workers are there to answer challenges: before, nothing is asked for."""

    def __repr__(self) -> str:
        return f"<Automatic {', '.join(self._managed)}>"

    # -- by the configuration

    def configure(self, config: Config) -> Config:
        """Care for the names of this configuration from now on. Returns it with their certificates in it."""
        plain = any(listen.tls is None and listen.address.port == HTTP_PORT for listen in config.listen)
        managed: dict[str, Managed] = {}
        for listen in config.listen:
            acme = None if listen.tls is None else listen.tls.acme
            for domain in () if acme is None else acme.domains:
                assert acme is not None
                if domain not in managed:
                    managed[domain] = self._manage(domain, acme, plain)
        self._managed = managed
        return structs.replace(config, listen=tuple(self._expand(listen) for listen in config.listen)) if managed else config

    def _manage(self, domain: str, acme: Acme, plain: bool) -> Managed:
        challenges = acme.challenges or ((TLS_ALPN_01, HTTP_01) if plain else (TLS_ALPN_01,))
        busy = self._busy
        # what comes of its order must not be forgotten
        if busy is not None and busy.domain == domain and busy.options.directory == acme.directory:
            busy.options, busy.challenges = acme, challenges
            return busy
        files = AcmeFiles(self._home, acme.directory, self._complain)
        one = Managed(domain, acme, challenges, files)
        try:
            one.tries, one.leaf = files.tries(domain), files.leaf(domain)
        except OSError as error:
            self._complain(f"{files.folder} cannot be read: {error.strerror}")
        self._stand_in(one)
        return one

    def _expand(self, listen: Listen) -> Listen:
        tls = listen.tls
        if tls is None or tls.acme is None:
            return listen
        paths = [self._managed[domain].files.certificate_path(domain) for domain in tls.acme.domains]
        own = tuple(ServerCertificate(cert=path, key=path) for path in paths)
        return structs.replace(listen, tls=structs.replace(tls, certificates=(*tls.certificates, *own)))

    def _stand_in(self, one: Managed) -> None:
        """Where there is no certificate, or what stands in for one ends soon, make what stands in for it."""
        now = self._wall()
        if one.leaf is not None and not (one.leaf.placeholder and _ends_soon(one.leaf, now)):
            return
        pem = placeholder_pem(one.domain, now)
        try:
            one.files.keep_certificate(one.domain, pem)
            if one.leaf is None:
                self._say(f"there is no certificate for {one.domain} yet: until it is here, one that nobody vouches for is shown")
            one.leaf, one.unkept = leaf_of(pem), ""
        except OSError as error:
            problem = f"nothing can be shown for {one.domain}, since {one.files.folder} cannot be written: {error.strerror}"
            if problem != one.unkept:
                self._complain(problem)
            one.unkept = problem

    # -- in time

    async def run(self) -> None:
        """Get what is due, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.step()
            except Exception as error:  # noqa: BLE001  # one step that fails must not be the last
                self._complain(f"automatic certificates: {error!r}")

    async def step(self) -> None:
        """Get the certificate that is due first, if one is due."""
        now = self._wall()
        for one in self._managed.values():
            self._stand_in(one)
        due = min(self._managed.values(), key=lambda one: one.due(now), default=None)
        if due is None or due.due(now) > now or not self.can_answer():
            return
        await self._get(due)

    async def _get(self, one: Managed) -> None:
        domain, files = one.domain, one.files
        one.tries = one.tries.begun(self._wall())
        try:  # before anything is asked: what cannot be written down would be asked for again and again
            files.keep_tries(domain, one.tries)
            account = files.account()
        except OSError as error:
            self._failed(one, Failed("refused", f"nothing can be written in {files.folder}: {error.strerror}; make room there"))
            return
        challenge = one.challenges[one.tries.refused % len(one.challenges)]
        order = Order(one.options, domain, challenge, account, files.keep_account)
        self._busy = one
        try:
            got = await _in_thread(lambda: self._issue(order))
        except Exception as error:  # noqa: BLE001  # a fault of ours is a failure like another: it is not to be repeated at once
            got = Failed("refused", f"slmgate failed: {error!r}")
        finally:
            self._busy = None
        if isinstance(got, Failed):
            self._failed(one, got)
            return
        try:
            leaf = leaf_of(got)
            files.keep_certificate(domain, got)
            one.leaf = leaf
            now = self._wall()
            if renew_at(domain, leaf.not_before, leaf.not_after) <= now:
                # shown all the same, since clients may have another time; but to ask at once would be to ask for ever
                lasts = f"it holds from {_time(leaf.not_before)} until {_time(leaf.not_after)}, and here it is {_time(now)}"
                self._failed(one, Failed("refused", f"the one that came is due for renewal as it comes: {lasts}; see the clock"))
                return
            one.tries = one.tries.succeeded(now)
            files.keep_tries(domain, one.tries)
        except OSError as error:
            self._failed(one, Failed("refused", f"the certificate cannot be kept in {files.folder}: {error.strerror}"))
            return
        again = _time(one.due(self._wall()))
        self._say(f"the certificate for {domain} is here, from {leaf.issuer}, until {_time(leaf.not_after)}; renewed {again}")

    def _failed(self, one: Managed, failed: Failed) -> None:
        now = self._wall()
        one.tries = one.tries.failed(now, failed.kind, failed.text, failed.retry_after)
        try:
            one.files.keep_tries(one.domain, one.tries)
        except OSError as error:
            self._complain(f"{one.files.folder} cannot be written: {error.strerror}")
        self._complain(f"no certificate for {one.domain}: {failed.text}; next try {_time(one.due(now))}")

    # -- for operators

    def statuses(self) -> list[CertificateStatus]:
        now = self._wall()
        return [self._status(one, now) for one in self._managed.values()]

    def _status(self, one: Managed, now: float) -> CertificateStatus:
        leaf, tries = one.leaf, one.tries
        shown = None if leaf is None or leaf.placeholder else leaf
        state: State = "waiting" if shown is None else "valid"
        if shown is not None and shown.not_after <= now:
            state = "expired"
        if one is self._busy:
            state = "busy"
        return CertificateStatus(
            names=(one.domain,),
            source=one.files.host,
            state=state,
            issuer="" if shown is None else shown.issuer,
            serial="" if shown is None else shown.serial,
            not_before=None if shown is None else _moment(shown.not_before),
            not_after=None if shown is None else _moment(shown.not_after),
            next_try=_moment(max(one.due(now), now)),
            error=tries.error,
            error_at=_moment(tries.error_at) if tries.error else None,
        )

    @property
    def troubles(self) -> list[str]:
        """What is wrong now, a line for each."""
        return [f"no certificate for {one.domain}: {one.tries.error}" for one in self._managed.values() if one.tries.error]


def _ends_soon(leaf: Leaf, now: float) -> bool:
    return leaf.not_after - now < PLACEHOLDER_RENEWED


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _time(seconds: float) -> str:
    return _moment(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")


async def _in_thread(work: Callable[[], bytes | Failed]) -> bytes | Failed:
    """Run `work` in a thread of its own, which the end of this process does not wait for: an authority may take its time."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes | Failed] = loop.create_future()

    def tell(result: bytes | Failed | Exception) -> None:
        if done.done():
            return
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)

    def run() -> None:
        result: bytes | Failed | Exception
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # it is raised where the result is awaited
            result = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=run, name="acme", daemon=True).start()
    return await done
