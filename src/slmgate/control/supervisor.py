"""The supervisor: it owns the listening sockets and the children, and does as little as can be done with them.

One control process and N workers are started, watched (death by the kernel's word, frost by silent heartbeats) and
replaced. Because the sockets stay open here, a client who knocks while a worker is being replaced waits a moment and is
served; nobody is turned away. It knows no request, key or receipt, and applies no configuration but the options that
need a restart.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from slmgate.control.config import Config
from slmgate.control.config.addresses import Address
from slmgate.control.config.tls_options import ListenTls
from slmgate.control.orders import ConfigSource, ControlOrders
from slmgate.control.state_dir import (
    ANSWERS_DIR,
    JOURNAL_DIR,
    LIMITS_FILE,
    LOCK_FILE,
    SALT_KEY,
    make_salt_key,
    note_admin_address,
)
from slmgate.link import beats, loads
from slmgate.link.orders import TlsOrders, WorkerOrders

CONTROL_TIMEOUT = 10.0
"""Seconds of silence after which control is replaced: it does longer pieces of work than a worker."""
START_TIMEOUT = 60.0
SHORTEST_LIFE = 5.0
"""A child that lived shorter than this is started again only after a pause, which doubles up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 0.4
"""Leaves a child, which takes some 0.3 s to start, its part of the second within which a dead worker is replaced."""
LONGEST_SOCKET_PATH = 100
"""Characters; Linux takes 107 bytes for a Unix socket's path (unix(7))."""
CHECK_SECONDS = 0.25
SEND_BUFFER = 256 * 1024
"""Bytes the kernel may hold for a client that does not read; by itself it takes megabytes for each, and a thousand such clients
use up the TCP memory of the whole machine (tcp(7), tcp_mem)."""
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class CannotServe(Exception):
    """The gate cannot start; the message says why and what to do."""


class _Child:
    """One child: how it is started, what is done when it has ended, and its current run."""

    def __init__(
        self,
        name: str,
        row: int,
        silence: float,
        start: Callable[[], subprocess.Popen[bytes]],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.row = row
        self.silence = silence
        self._start = start
        self._ended = ended
        self.process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1
        self.started = 0.0
        self.start_after = 0.0
        self._pause = 0.0

    def run(self, now: float) -> None:
        self.process = self._start()
        self.pidfd = os.pidfd_open(self.process.pid)
        self.started = now

    def died(self, now: float) -> int:
        """Take note of its end, and of when to start it again. Returns its exit code."""
        assert self.process is not None
        code = self.process.wait()
        self._ended()
        os.close(self.pidfd)
        self.process, self.pidfd = None, -1
        self._pause = min(max(self._pause * 2, 0.05), LONGEST_PAUSE) if now - self.started < SHORTEST_LIFE else 0.0
        self.start_after = now + self._pause
        return code

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)


class Supervisor:
    """`run` returns the exit code of `slmgate serve`."""

    def __init__(self, source: ConfigSource, config: Config) -> None:
        self._source = source
        self._config = config
        self._state_dir = config.state_dir.absolute()
        self._workers = len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers
        self._sockets: list[list[socket.socket]] = []  # by worker, one for each listener
        self._addresses: list[str] = []
        self._children: list[_Child] = []
        self._stopping = False
        self._board_fd = beats.create()
        self._board = beats.Beats(self._board_fd)
        self._loads_fd = loads.create(self._workers) if self._workers > 1 else -1
        self._lifeline, self._held = os.pipe()  # children see the end of file when this process is gone
        self._link_path = self._state_dir / "link"
        self._link_dir: str | None = None
        if len(str(self._link_path)) > LONGEST_SOCKET_PATH:
            self._link_dir = tempfile.mkdtemp(prefix="slmgate-")
            self._link_path = Path(self._link_dir) / "link"
        self._wake, wake_end = socket.socketpair()
        self._wake.setblocking(False)
        wake_end.setblocking(False)
        self._wake_end = wake_end

    # -- before anything runs

    def _lock(self) -> None:
        """One gate per state directory."""
        try:
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(self._state_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotServe(f"the state directory {self._state_dir} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotServe(f"another slmgate is running with the state directory {self._state_dir}; stop it first") from error

    def _listen(self) -> None:
        """Open every listening socket: one per worker and address, so that the kernel spreads clients over the workers."""
        self._sockets = [[] for _ in range(self._workers)]
        for listen in self._config.listen:
            bound = self._probe_port(listen.address.host, listen.address.port)
            for row in self._sockets:
                row.append(_listener(bound, shared=True))
            self._addresses.append(_url(bound, tls=listen.tls is not None))
        admin = self._config.admin.address
        self._admin = _listener(self._probe_port(admin.host, admin.port), shared=False)
        self._link = socket.socket(socket.AF_UNIX)
        self._link_path.unlink(missing_ok=True)
        self._link.bind(str(self._link_path))
        self._link_path.chmod(0o600)
        self._link.listen(512)

    def _note_address(self) -> None:
        """Without a configuration file, commands find the gate by this."""
        if self._source.path is None:
            host, port = self._admin.getsockname()[:2]
            try:
                note_admin_address(self._state_dir, str(Address(host, port)))
            except OSError as error:
                raise CannotServe(f"the state directory {self._state_dir} cannot be used: {error.strerror}") from error

    def _make_salt_key(self) -> None:
        try:
            make_salt_key(self._state_dir)
        except OSError as error:
            raise CannotServe(f"the state directory {self._state_dir} cannot be used: {error.strerror}") from error

    def _probe_port(self, host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """The address to bind. With SO_REUSEPORT two gates could share a port unnoticed, so it is first bound without."""
        if not host:  # every address: both families in one socket, where the machine has IPv6
            host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  # what the operator asked for
        try:
            family, _, _, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            host = str(resolved[0])
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                probe.bind((host, port))
                return family, (host, probe.getsockname()[1])
        except OSError as error:
            raise CannotServe(f"cannot listen on {host or '*'}:{port}: {error.strerror or error}") from error

    # -- children

    def _spawn(self, module: str, orders: msgspec.Struct, fds: list[int]) -> subprocess.Popen[bytes]:
        inherited = [*fds, self._board_fd, self._lifeline]
        command = [sys.executable, "-m", module, msgspec.json.encode(orders).decode()]
        return subprocess.Popen(command, pass_fds=inherited, stdin=subprocess.DEVNULL)

    def _control(self) -> _Child:
        row = self._workers
        first = True

        def start() -> subprocess.Popen[bytes]:
            nonlocal first
            orders = ControlOrders(
                source=self._source,
                state_dir=str(self._state_dir),
                admin=self._admin.fileno(),
                link=self._link.fileno(),
                beats=self._board_fd,
                row=row,
                lifeline=self._lifeline,
                again=not first,
            )
            first = False
            return self._spawn("slmgate.control.process", orders, [self._admin.fileno(), self._link.fileno()])

        return _Child("control", row, CONTROL_TIMEOUT, start)

    def _worker(self, slot: int) -> _Child:
        config = self._config
        listeners = [one.fileno() for one in self._sockets[slot]]
        fds = [*listeners, self._loads_fd] if self._loads_fd >= 0 else listeners
        orders = WorkerOrders(
            slot=slot,
            listeners=tuple(listeners),
            beats=self._board_fd,
            lifeline=self._lifeline,
            link=str(self._link_path),
            journal=str(self._state_dir / JOURNAL_DIR),
            limits=str(self._state_dir / LIMITS_FILE),
            answers=str(self._state_dir / ANSWERS_DIR),
            loads=self._loads_fd,
            salt_key=str(self._state_dir / SALT_KEY),
            workers=len(self._sockets),
            segment_size=config.journal.segment_size,
            sync=None if config.journal.sync == "never" else config.journal.sync,
            serve_unaccounted=config.on_ledger_loss == "serve",
            complains=config.log.level != "error",
            tls=tuple(_tls(listen.tls) for listen in config.listen),
        )

        def ended() -> None:
            if self._loads_fd >= 0:
                loads.strike(self._loads_fd, slot)  # the others need not wait for its successor to do it

        return _Child(
            f"worker {slot}", slot, config.worker_timeout, lambda: self._spawn("slmgate.dataplane.worker", orders, fds), ended
        )

    # -- life

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. 0: stopped cleanly. Raises CannotServe before anything was started."""
        try:
            self._lock()
            self._listen()
            self._note_address()
            self._make_salt_key()
            return self._serve()
        finally:
            if self._link_dir is not None:
                shutil.rmtree(self._link_dir, ignore_errors=True)

    def _serve(self) -> int:
        signal.set_wakeup_fd(self._wake_end.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # the wake-up byte tells which
        self._children = [self._control(), *(self._worker(slot) for slot in range(self._workers))]
        now = time.monotonic()
        for child in self._children:
            child.run(now)
        if not self._wait_until_ready():
            return self._stop(1)
        if self._stop_asked():
            return self._stop(0)
        while not self._stopping:
            self._step()
        return self._stop(0)

    def _wait_until_ready(self) -> bool:
        """All children have marked themselves ready, or a stop was asked for. False: one gave up, or time ran out.

        Each listener is told of as soon as its side is ready: clients need not wait for the operators' web framework.
        A child that was killed from outside, or ended after it had been ready, is no reason to give up: it is started again, as
        it would be later.
        """
        limit = time.monotonic() + START_TIMEOUT
        to_tell = {
            "gate": (self._children[1:], self._addresses),
            "admin": (self._children[:1], [_url((self._admin.family, self._admin.getsockname()))]),
        }
        while not self._stopping:
            for side, (children, addresses) in list(to_tell.items()):
                if all(self._board.read(child.row)[1] == beats.READY for child in children):
                    del to_tell[side]
                    for address in addresses:
                        print(f"slmgate: {side} listening on {address}", flush=True)
            if not to_tell:
                break
            now = time.monotonic()
            if now > limit:
                _say("the gate did not come up in time; see the messages above")
                return False
            self._wait(0.02)
            for child in self._children:
                if child.process is not None and child.process.poll() is not None:
                    code = child.died(now)
                    if code >= 0 and self._board.read(child.row)[1] != beats.READY:
                        _say(f"{child.name} ended with code {code} while starting; see the messages above")
                        return False
                    self._board.mark(child.row, beats.STARTING)
                    child.run(now)
        return True

    def _stop_asked(self) -> bool:
        """Asked anew each time: a signal may have come while another call waited."""
        return self._stopping

    def _step(self) -> None:
        before = time.monotonic()
        self._wait(CHECK_SECONDS)
        now = time.monotonic()
        for child in self._children:
            if child.process is None:
                if now >= child.start_after:
                    self._board.mark(child.row, beats.STARTING)
                    child.run(now)
            elif child.process.poll() is not None:
                code = child.died(now)
                _say(f"{child.name} ended with code {code}; starting another")
                if now >= child.start_after:
                    self._board.mark(child.row, beats.STARTING)
                    child.run(now)
            # If this very process was held up, silence proves nothing.
            elif now - before < 4 * CHECK_SECONDS and self._is_silent(child, now):
                _say(f"{child.name} has been silent for too long; replacing it")
                child.signal(signal.SIGKILL)

    def _is_silent(self, child: _Child, now: float) -> bool:
        beat, state = self._board.read(child.row)
        if state != beats.READY:
            return now - child.started > START_TIMEOUT
        return now - max(beat, child.started) > child.silence

    def _wait(self, seconds: float) -> None:
        """Sleep until a child ends, a signal comes, or time is up; then act on the signals."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for child in self._children:
            if child.pidfd >= 0:
                poll.register(child.pidfd, select.POLLIN)
        poll.poll(seconds * 1000)
        try:
            numbers = self._wake.recv(64)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                if self._stopping:
                    for child in self._children:
                        child.signal(signal.SIGKILL)
                self._stopping = True
            elif number == signal.SIGHUP:
                self._children[0].signal(signal.SIGHUP)

    def _stop(self, code: int) -> int:
        """Drain the workers, then let control take their last receipts. A second signal ends all at once."""
        self._stopping = True
        self._board.mark(beats.DRAINING_ROW, beats.READY)
        for row in self._sockets:
            for one in row:
                one.close()
        control, *workers = self._children
        for group in (workers, [control]):
            for child in group:
                child.signal(signal.SIGTERM)
            asked = time.monotonic()
            while any(child.process is not None for child in group):
                self._wait(0.1)
                now = time.monotonic()
                for child in group:
                    if child.process is not None and child.process.poll() is not None:
                        child.died(now)
                    elif child.process is not None and now - max(asked, self._board.read(child.row)[0]) > child.silence:
                        child.signal(signal.SIGKILL)
        return code


def _listener(bound: tuple[socket.AddressFamily, tuple[str, int]], shared: bool) -> socket.socket:
    family, address = bound
    one = socket.socket(family)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if shared:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted sockets inherit these.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        # A peer that is gone without a word is noticed by the kernel.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEP_ALIVE:
            one.setsockopt(socket.IPPROTO_TCP, option, value)
    one.bind(address)
    one.listen(4096)
    return one


def _tls(options: ListenTls | None) -> TlsOrders | None:
    if options is None:
        return None
    own = options.certificates[0]
    return TlsOrders(
        certificate=str(own.cert),
        key=str(own.key),
        min_version=options.min_version,
        client_ca=None if options.client_ca is None else str(options.client_ca),
        client_required=options.client_auth == "required",
    )


def _url(bound: tuple[int, tuple[str, int]], tls: bool = False) -> str:
    host, port = bound[1][0], bound[1][1]
    return f"http{'s' * tls}://" + (f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}")


def _say(what: str) -> None:
    print(f"slmgate: {what}", file=sys.stderr, flush=True)
