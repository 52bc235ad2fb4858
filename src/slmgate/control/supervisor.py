"""The supervisor: it owns the listening sockets and the children, and does as little as can be done with them.

One control process and N workers are started, watched (death by the kernel's word, frost by silent heartbeats) and
replaced. Because the sockets stay open here, a client who knocks while a worker is being replaced waits a moment and is
served; nobody is turned away. What it owns it gives to a new gate that asks for it (`takeover.py`), or has got so itself. It
knows no request, key or receipt, and applies no configuration but the options that need a restart.
Length: one life, which everything here happens in; what could stand alone does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
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
from slmgate.control.listening import CannotServe, Listening, bound_to, listener, probe_port, resolve, url
from slmgate.control.notify import tell
from slmgate.control.orders import ConfigSource, ControlOrders
from slmgate.control.state_dir import (
    ADDRESSES_FILE,
    ANSWERS_DIR,
    JOURNAL_DIR,
    LIMITS_FILE,
    LOCK_FILE,
    SALT_KEY,
    make_salt_key,
    note_admin_address,
    own,
)
from slmgate.control.takeover import FORMATS, Door, Offer, Predecessor, find, open_door
from slmgate.link import beats, lines, loads
from slmgate.link.orders import WorkerOrders
from slmgate.link.unhurried import never_wait

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
PROOF_SECONDS = 1.0
"""How long a gate that takes over has to serve beside the old one, with no child ending, before it is relied on."""


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
        self.held = False  # another gate's child does its work: none is started
        self.started = 0.0
        self.start_after = 0.0
        self._pause = 0.0
        self._trouble = ""  # why it could not be started when that was tried last

    def run(self, now: float) -> bool:
        """Start it. False: no process can be made, or its program is not there; it may be tried again at `start_after`."""
        try:
            self.process = self._start()
        except OSError as error:
            trouble = f"{self.name} cannot be started: {error.strerror}"
            if trouble != self._trouble:
                self._trouble = trouble
                _say(trouble)
            self.start_after = now + LONGEST_PAUSE
            return False
        self._trouble = ""
        self.started = now
        with contextlib.suppress(OSError):  # without it, its end is noticed a little later
            self.pidfd = os.pidfd_open(self.process.pid)
        return True

    def died(self, now: float) -> int:
        """Take note of its end, and of when to start it again. Returns its exit code."""
        assert self.process is not None
        code = self.process.wait()
        self._ended()
        if self.pidfd >= 0:
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

    def __init__(self, source: ConfigSource, config: Config, *, takes_over: bool = False) -> None:
        """`takes_over`: from the gate that runs with this state directory, if there is one."""
        self._takes_over = takes_over
        self._old: Predecessor | None = None  # until it gives way
        self._door: Door | None = None
        self._heir: subprocess.Popen[bytes] | None = None  # a new gate that was started here, to take over
        self._handed_over = False
        self._stop_asked_too = False
        self._gate = secrets.token_hex(6)
        self._source = source
        self._config = config
        self._state_dir = config.state_dir.absolute()
        self._workers = len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers
        self._listening: list[Listening] = []
        self._children: list[_Child] = []
        self._stopping = False
        self._board_fd = beats.create()
        self._board = beats.Beats(self._board_fd)
        self._loads_fd = loads.create(self._workers) if self._workers > 1 else -1
        self._lifeline, self._held = os.pipe()  # children see the end of file when this process is gone
        self._link_path = self._state_dir / "link"
        self._link_dir: str | None = None  # ours to remove
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
        if not own(self._lock_fd):
            raise CannotServe(
                f"another slmgate is running with the state directory {self._state_dir}; stop it first, or start with --takeover"
            )

    def _own(self) -> None:
        """Own the state directory, by its lock or by the one of the gate that runs there, and have all sockets."""
        self._old = find(self._state_dir) if self._takes_over else None
        if self._old is None:
            self._lock()
            self._open_link()
            try:
                door = open_door(self._state_dir)
            except OSError as error:
                raise CannotServe(f"the state directory {self._state_dir} cannot be used: {error.strerror}") from error
        else:
            self._lock_fd, self._link, door = self._old.lock, self._old.link, self._old.door
            self._link_path = Path(self._old.offer.link)
        self._listen()
        self._door_socket = door

    def _listen(self) -> None:
        """Have every listening socket: one per worker and address at least, so that the kernel spreads clients over the workers.

        Those that an old gate has are kept, all of them: of one that is closed, the kernel resets who stands in its line.
        """
        for listen in self._config.listen:
            address = listen.address
            given = self._given(str(address), address.host, address.port)
            bound = bound_to(given[0]) if given else probe_port(address.host, address.port)
            missing = range(len(given), self._workers)
            # beside those of a gate that serves, nobody is to stand in a line where nobody accepts yet
            given += [listener(bound, shared=True, listens=self._old is None) for _ in missing]
            self._listening.append(Listening(str(address), listen.tls, given, listen.proxy_protocol))
        admin = self._config.admin.address
        self._admin = self._given_admin(str(admin), admin.host, admin.port)
        if self._old is not None:
            self._old.close_the_rest()

    def _given(self, name: str, host: str, port: int) -> list[socket.socket]:
        return [] if self._old is None else self._old.sockets(name, *resolve(host, port)[1])

    def _given_admin(self, name: str, host: str, port: int) -> socket.socket:
        old = self._old
        if old is not None and (old.offer.admin == name or bound_to(old.admin)[1] == resolve(host, port)[1]):
            return old.admin
        return listener(probe_port(host, port), shared=False)

    def _open_link(self) -> None:
        if len(str(self._link_path)) > LONGEST_SOCKET_PATH:
            self._link_dir = tempfile.mkdtemp(prefix="slmgate-")
            self._link_path = Path(self._link_dir) / "link"
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
                gate=self._gate,
            )
            first = False
            return self._spawn("slmgate.control.process", orders, [self._admin.fileno(), self._link.fileno()])

        return _Child("control", row, CONTROL_TIMEOUT, start)

    def _worker(self, slot: int) -> _Child:
        config = self._config
        sockets = [(one.fileno(), at) for at in self._listening for one in at.share(slot, self._workers)]
        listeners = [fd for fd, _ in sockets]
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
            addresses=str(self._state_dir / ADDRESSES_FILE),
            workers=self._workers,
            segment_size=config.journal.segment_size,
            sync=None if config.journal.sync == "never" else config.journal.sync,
            serve_unaccounted=config.on_ledger_loss == "serve",
            complains=config.log.level != "error",
            tls=tuple(None if at.tls is None else at.name for _, at in sockets),
            proxied=tuple(at.proxied for _, at in sockets),
            gate=self._gate,
        )

        def ended() -> None:
            if self._loads_fd >= 0:
                loads.strike(self._loads_fd, slot)  # the others need not wait for its successor to do it

        return _Child(
            f"worker {slot}", slot, config.worker_timeout, lambda: self._spawn("slmgate.dataplane.worker", orders, fds), ended
        )

    # -- life

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, or until another gate has taken over. 0: ended cleanly.

        Raises CannotServe before anything was started; a gate that runs goes on as if nothing had been.
        """
        # No image of a process's memory, with keys and prompts in it, comes to a disk; processes that are started inherit this.
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, most))
        try:
            self._own()
            if self._old is None:
                self._note_address()
            self._make_salt_key()
            return self._serve()
        finally:
            if self._link_dir is not None and not self._handed_over:
                shutil.rmtree(self._link_dir, ignore_errors=True)

    def _serve(self) -> int:
        never_wait("stdout")
        never_wait("stderr")
        signal.set_wakeup_fd(self._wake_end.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda *_: None)  # the wake-up byte tells which
        if self._old is not None:
            self._old.take_control()
        self._children = [self._control(), *(self._worker(slot) for slot in range(self._workers))]
        now = time.monotonic()
        if not all(child.run(now) for child in self._children) or not self._wait_until_ready() or not self._relieve():
            return self._stop(1)
        self._door = Door(self._door_socket, self)
        tell(f"READY=1\nMAINPID={os.getpid()}")
        while not self._stop_asked():
            self._step()
        return self._stop(0)

    def _relieve(self) -> bool:
        """Have the old gate give way, if there is one, once this one has served for a moment. False: it is not to."""
        if self._old is None:
            return True
        until = time.monotonic() + PROOF_SECONDS
        while (now := time.monotonic()) < until and not self._stopping:
            self._wait(0.05)
            for child in self._children:
                if child.process is not None and child.process.poll() is not None:
                    _say(f"{child.name} ended with code {child.died(now)} while taking over")
                if child.process is None:
                    return False
        if self._stopping:
            return False
        try:
            problem = self._old.finish()
        except CannotServe as error:
            problem = str(error)
        if problem:
            _say(problem)
            return False
        if self._old.offer.link_dir is not None:
            self._link_dir = self._old.offer.link_dir
        _say(f"taken over from the gate that ran as {self._old.offer.pid}")
        self._old = None
        try:
            self._note_address()
        except CannotServe as error:
            _say(str(error))
        return True

    def _wait_until_ready(self) -> bool:
        """All children have marked themselves ready, or a stop was asked for. False: one gave up, or time ran out.

        Each listener is told of as soon as its side is ready: clients need not wait for the operators' web framework.
        A child that was killed from outside, or ended after it had been ready, is no reason to give up: it is started again, as
        it would be later. Where another gate waits for this one's success, it is.
        """
        limit = time.monotonic() + START_TIMEOUT
        to_tell = {
            "gate": (self._children[1:], [url(bound_to(at.sockets[0]), tls=at.tls is not None) for at in self._listening]),
            "admin": (self._children[:1], [url(bound_to(self._admin))]),
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
                    if (code >= 0 or self._old is not None) and self._board.read(child.row)[1] != beats.READY:
                        _say(f"{child.name} ended with code {code} while starting; see the messages above")
                        return False
                    _again(self._board, child, now)
                elif child.process is None and now >= child.start_after:
                    _again(self._board, child, now)
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
                if now >= child.start_after and not child.held:
                    _again(self._board, child, now)
            elif child.process.poll() is not None:
                code = child.died(now)
                if child.held:
                    continue
                _say(f"{child.name} ended with code {code}; starting another")
                if now >= child.start_after:
                    _again(self._board, child, now)
            # If this very process was held up, silence proves nothing.
            elif now - before < 4 * CHECK_SECONDS and self._is_silent(child, now):
                _say(f"{child.name} has been silent for too long; replacing it")
                child.signal(signal.SIGKILL)
        if self._heir is not None and (failed := self._heir.poll()) is not None:
            _say(f"the gate that was to take over ended with code {failed}; see the messages above. This one goes on")
            self._heir = None

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
        for fd in self._door.descriptors() if self._door is not None else ():
            poll.register(fd, select.POLLIN)
        poll.poll(seconds * 1000)
        if self._door is not None:
            self._door.turn(time.monotonic())
        try:
            numbers = self._wake.recv(64)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                if self._handed_over and not self._stop_asked_too:
                    self._stop_asked_too = True  # no more waiting for idle clients
                    for child in self._children:
                        child.signal(signal.SIGTERM)
                elif self._stopping:
                    for child in self._children:
                        child.signal(signal.SIGKILL)
                self._stopping = True
            elif number == signal.SIGHUP:
                self._children[0].signal(signal.SIGHUP)
            elif number == signal.SIGUSR1:  # as web servers have it; to control that signal says that another takes over
                self._children[0].signal(signal.SIGUSR2)
            elif number == signal.SIGUSR2 and not self._stopping:
                self._start_heir()

    def _stop(self, code: int) -> int:
        """Drain the workers, then let control take their last receipts. A second signal ends all at once.

        Where another gate serves on the same sockets, workers send nobody away. If that is the old one, because this one failed,
        it needs control back before anything else.
        """
        self._stopping = True
        self._board.mark(beats.DRAINING_ROW, beats.READY)
        if self._door is not None and not self._handed_over:
            self._door.close()
            tell("STOPPING=1")
        for at in self._listening:
            for one in at.sockets:
                one.close()
        control, *workers = self._children
        if self._old is not None:
            self._end([control], signal.SIGUSR1)
            self._old.close()
            self._end(workers, signal.SIGUSR1)
        else:
            self._end(workers, signal.SIGUSR1 if self._handed_over else signal.SIGTERM)
            self._end([control], signal.SIGTERM)
        return code

    def _end(self, group: list[_Child], number: int) -> None:
        for child in group:
            child.signal(number)
        asked = time.monotonic()
        while any(child.process is not None for child in group):
            self._wait(0.1)
            now = time.monotonic()
            for child in group:
                if child.process is not None and child.process.poll() is not None:
                    child.died(now)
                elif child.process is not None and now - max(asked, self._board.read(child.row)[0]) > child.silence:
                    child.signal(signal.SIGKILL)

    # -- giving over: what `Door` asks, as `takeover.Owner`

    def offered(self) -> tuple[Offer, list[int]]:
        sockets = [one.fileno() for at in self._listening for one in at.sockets]
        offer = Offer(
            pid=os.getpid(),
            formats=FORMATS,
            link=str(self._link_path),
            link_dir=self._link_dir,
            admin=str(self._config.admin.address),
            listeners=tuple((at.name, len(at.sockets)) for at in self._listening),
        )
        return offer, [self._lock_fd, self._door_socket.fileno(), self._link.fileno(), self._admin.fileno(), *sockets]

    def release(self) -> None:
        _say("another gate takes over: ending control")
        self._children[0].held = True
        self._children[0].signal(signal.SIGUSR1)  # where it does not know that yet, it just ends

    def is_released(self) -> bool:
        return self._children[0].process is None

    def take_back(self, why: str) -> None:
        _say(f"the takeover has not come about ({why}); going on")
        self._children[0].held = False

    def leave(self) -> None:
        _say("another gate has taken over; ending what is under way")
        self._handed_over = self._stopping = True

    def _start_heir(self) -> None:
        """Start the gate anew from its program's file, which may be another version by now, to take over from this one."""
        if self._heir is not None:
            _say("a gate that is to take over was started already")
            return
        program, *words = sys.argv
        command = [program] if os.access(program, os.X_OK) and not program.endswith(".py") else [sys.executable, "-m", "slmgate"]
        if "--takeover" not in words:
            words.append("--takeover")
        try:
            self._heir = subprocess.Popen([*command, *words], stdin=subprocess.DEVNULL)
        except OSError as error:
            _say(f"no gate could be started to take over: {error}")


def _again(board: beats.Beats, child: _Child, now: float) -> None:
    """Start one that has ended, or that could not be started."""
    board.mark(child.row, beats.STARTING)
    child.run(now)


def _say(what: str) -> None:
    lines.tell(what)
