"""A new gate takes over from a running one: sockets, lock and work change hands, and no client notices.

Both sides' halves of one conversation over a Unix socket in the state directory, open to the same user only:

    new: take          ->  old: offer, with the descriptors of its lock and sockets   (nothing has changed yet)
    new: control       ->  old: released, once its control process has ended: there is never more than one
    new: drain         ->  old: draining; it lets nobody in any more, and ends

The new one says `drain` once it serves. When it goes away before that, the old one starts its control process again and goes on.
When the old one dies, the new one has all that it needs. It knows no child process: the supervisor does what is asked of it here.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import Literal, Protocol

import msgspec

from slmgate.control.listening import CannotServe
from slmgate.control.state_dir import TAKEOVER
from slmgate.link import journal
from slmgate.link.orders import LIMITS_FORMAT

PROTOCOL = 1
FORMATS = {
    "receipts": journal.MAGIC.decode(),
    "intents": journal.INTENTS_MAGIC.decode(),
    "limits": LIMITS_FORMAT.decode(),
}
"""The files that workers of both gates, or one gate's workers and the other's control, use at the same time."""
ANSWER_SECONDS = 10.0
"""How long the new one waits for a word."""
RELEASE_SECONDS = 40.0
"""For the end of control, which takes what there is into the ledger first."""
PATIENCE = 180.0
"""How long the old one waits for a new one that comes to no end."""
_PACKET = 65536
_FDS_AT_ONCE = 200  # Linux takes 253 (unix(7), SCM_MAX_FD)
_CREDENTIALS = Struct("=iII")  # pid, uid, gid

What = Literal["take", "offer", "control", "released", "drain", "draining", "refused"]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes with the descriptors, which are in this order: lock, takeover socket, link, admin, and those of the listeners.

    `listeners`: addresses as they are configured, and how many sockets each has. `link` is a path; `link_dir` a directory that
    was made for it, if any.
    """

    pid: int
    formats: dict[str, str]
    link: str
    link_dir: str | None
    admin: str
    listeners: tuple[tuple[str, int], ...]


class Word(msgspec.Struct, frozen=True, kw_only=True):
    what: What
    protocol: int = PROTOCOL
    why: str = ""
    offer: Offer | None = None


class Owner(Protocol):
    """The running gate, as the conversation sees it."""

    def offered(self) -> tuple[Offer, list[int]]:
        """What it has to give, and the descriptors."""

    def release(self) -> None:
        """End control, and start no other."""

    def is_released(self) -> bool:
        """Whether control has ended."""

    def take_back(self, why: str) -> None:
        """The new one has given up: go on as before."""

    def leave(self) -> None:
        """The new one serves."""


def encode(word: Word) -> bytes:
    return msgspec.json.encode(word)


def decode(packet: bytes) -> Word | None:
    """None: nobody is there any more, or it speaks something else."""
    try:
        return msgspec.json.decode(packet, type=Word) if packet else None
    except msgspec.MsgspecError:
        return None


def differing(offer: Offer) -> str:
    """Why this gate cannot work beside that one's workers; empty: it can."""
    other = [name for name, form in FORMATS.items() if offer.formats.get(name) != form]
    return f"the running gate (pid {offer.pid}) keeps {', '.join(other)} in another form than this version" if other else ""


@contextlib.contextmanager
def _path(state_dir: Path) -> Iterator[str]:
    """The socket's path, short enough for one (unix(7)) however long the directory's is."""
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{TAKEOVER}"
    finally:
        os.close(directory)


def open_door(state_dir: Path) -> socket.socket:
    """The socket at which a new gate knocks. Raises OSError."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        (state_dir / TAKEOVER).unlink(missing_ok=True)
        with _path(state_dir) as path:
            door.bind(path)
        (state_dir / TAKEOVER).chmod(0o600)
        door.listen(4)
    except OSError:
        door.close()
        raise
    return door


def _uid(connection: socket.socket) -> int:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(raw)[1]
    return uid


class Door:
    """The old gate's side. It never waits: `turn` does what there is to do."""

    def __init__(self, listener: socket.socket, owner: Owner) -> None:
        self.listener = listener
        self._owner = owner
        self._state: Literal["free", "offered", "releasing", "released", "left"] = "free"
        self._guest: socket.socket | None = None
        self._since = 0.0
        listener.setblocking(False)

    def __repr__(self) -> str:
        return f"<Door {self._state}>"

    def descriptors(self) -> list[int]:
        """What is to be polled."""
        if self._state == "left":
            return []
        return [self.listener.fileno()] + ([self._guest.fileno()] if self._guest is not None else [])

    def turn(self, now: float) -> None:
        """Called after each poll; `now` is monotonic."""
        if self._state == "left":
            return
        self._let_in(now)
        if self._guest is None:
            return
        if self._state == "releasing" and self._owner.is_released():
            self._state = "released"
            self._say(Word(what="released"))
        try:
            packet = self._guest.recv(_PACKET)
        except BlockingIOError:
            if now - self._since > PATIENCE:
                self.give_up("it came to no end in time")
            return
        except OSError:
            packet = b""
        self._told(decode(packet))

    def give_up(self, why: str) -> None:
        """End the conversation, if there is one, and go on alone."""
        if self._guest is None:
            return
        self._say(Word(what="refused", why=why))
        self._end(why)

    def close(self) -> None:
        """This gate is being stopped."""
        self.give_up("the running gate is being stopped")
        self._state = "left"
        self.listener.close()

    def _let_in(self, now: float) -> None:
        try:
            connection = self.listener.accept()[0]
        except OSError:
            return
        if _uid(connection) != os.geteuid():
            connection.close()
            return
        connection.setblocking(False)
        if self._guest is not None:
            with contextlib.suppress(OSError):
                connection.send(encode(Word(what="refused", why="another takeover is under way")))
            connection.close()
            return
        self._guest, self._since = connection, now

    def _told(self, word: Word | None) -> None:
        state = self._state
        if word is None:
            self._end("it went away")
        elif word.what == "take" and state == "free":
            if word.protocol != PROTOCOL:
                self.give_up("the new gate speaks another version of this")
                return
            self._state = "offered"
            offer, fds = self._owner.offered()
            self._say(Word(what="offer", offer=offer), fds)
        elif word.what == "control" and state == "offered":
            self._state = "releasing"
            self._owner.release()
        elif word.what == "drain" and state == "released":
            if self._say(Word(what="draining")):
                self._hang_up("left")
                self._owner.leave()
            else:  # it has given up since
                self._end("it went away")
        else:
            self.give_up(f"unexpected: {word.what}")

    def _say(self, word: Word, fds: Sequence[int] = ()) -> bool:
        """False: nobody is there any more, which shows again when it is read from."""
        assert self._guest is not None
        try:
            self._guest.send(encode(word))
            for start in range(0, len(fds), _FDS_AT_ONCE):
                socket.send_fds(self._guest, [b"+"], list(fds[start : start + _FDS_AT_ONCE]))
        except OSError:
            return False
        return True

    def _hang_up(self, state: Literal["free", "left"]) -> None:
        assert self._guest is not None
        self._guest.close()
        self._guest = None
        self._state = state

    def _end(self, why: str) -> None:
        state = self._state
        self._hang_up("free")
        if state in ("releasing", "released"):
            self._owner.take_back(why)


class Predecessor:
    """The new gate's side. Each call waits for the old one's answer, with a limit."""

    def __init__(self, connection: socket.socket) -> None:
        """Ask for what it has. Raises CannotServe: nothing has changed for the old one."""
        self._connection = connection
        if _uid(connection) != os.geteuid():
            raise CannotServe("the running gate belongs to another user; take over as that user")
        word = self._ask(Word(what="take"), ANSWER_SECONDS)
        if word is None or word.offer is None:
            raise CannotServe(f"the running gate does not hand over{_because(word)}")
        self.offer = word.offer
        fds = self._receive(4 + sum(count for _, count in self.offer.listeners))
        self.lock = fds[0]
        self.door, self.link, self.admin, *rest = [socket.socket(fileno=fd) for fd in fds[1:]]
        self._listeners: dict[str, list[socket.socket]] = {}
        for name, count in self.offer.listeners:
            self._listeners[name], rest = rest[:count], rest[count:]
        if problem := differing(self.offer):
            raise CannotServe(f"{problem}; stop it first, then start this one without --takeover")

    def sockets(self, name: str, host: str, port: int) -> list[socket.socket]:
        """The sockets of this address, by how it is configured or where it leads; none if the old one has none. Each once."""
        for known, sockets in self._listeners.items():
            if known == name or (port and sockets[0].getsockname()[:2] == (host, port)):
                return self._listeners.pop(known)
        return []

    def close_the_rest(self) -> None:
        """What this gate has no use for: nobody would take clients from there."""
        for sockets in self._listeners.values():
            for one in sockets:
                one.close()
        self._listeners.clear()

    def take_control(self) -> None:
        """Returns when the old one's control has ended. Raises CannotServe."""
        word = self._ask(Word(what="control"), RELEASE_SECONDS)
        if word is not None and word.what != "released":
            raise CannotServe(f"the running gate does not hand over{_because(word)}")

    def finish(self) -> str:
        """This gate serves: the other one need not any more. Why it does not give way; empty: it does, or is dead."""
        word = self._ask(Word(what="drain"), ANSWER_SECONDS)
        self.close()
        return "" if word is None or word.what == "draining" else f"the running gate does not give way{_because(word)}"

    def close(self) -> None:
        self._connection.close()

    def _ask(self, word: Word, seconds: float) -> Word | None:
        """The answer; None: the old one is dead, or does not answer."""
        self._connection.settimeout(seconds)
        with contextlib.suppress(OSError):  # what it said before it hung up can still be read
            self._connection.send(encode(word))
        for _ in range(2):  # an error about what was sent comes before what there is to be read
            try:
                return decode(self._connection.recv(_PACKET))
            except TimeoutError:
                raise CannotServe("the running gate does not answer") from None
            except OSError:
                continue
        return None

    def _receive(self, count: int) -> list[int]:
        fds: list[int] = []
        with contextlib.suppress(OSError):
            while len(fds) < count:
                data, some, _, _ = socket.recv_fds(self._connection, 16, _FDS_AT_ONCE)
                if not data:
                    break
                fds += some
        for fd in fds:
            os.set_inheritable(fd, False)
        if len(fds) != count:
            raise CannotServe("the running gate went away while it handed over; start again")
        return fds


def find(state_dir: Path) -> Predecessor | None:
    """The gate that runs with this state directory, with what it offers; None: there is none. Raises CannotServe."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _path(state_dir) as path:
            connection.connect(path)
    except OSError:
        connection.close()
        return None
    try:
        return Predecessor(connection)
    except CannotServe:
        connection.close()
        raise


def _because(word: Word | None) -> str:
    return f": {word.why}" if word is not None and word.why else ""
