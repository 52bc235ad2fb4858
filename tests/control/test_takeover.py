"""The conversation of a running gate with a new one, word for word, on sockets that only remember; also where it breaks off."""

from __future__ import annotations

import array
import os
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from slmgate.control import takeover as module
from slmgate.control.listening import CannotServe
from slmgate.control.takeover import (
    FORMATS,
    PATIENCE,
    PROTOCOL,
    Door,
    Offer,
    Predecessor,
    Word,
    decode,
    differing,
    encode,
    find,
)

_socket: Any = vars(module)["socket"]
OFFER = Offer(
    pid=7, formats=dict(FORMATS), link="/l", link_dir=None, admin="127.0.0.1:1", listeners=(("127.0.0.1:0", 2), ("[::1]:80", 300))
)


class FakeSocket:
    """One end: what it is told waits in `inbox` (None: the other is gone), what it says is kept in `said`."""

    def __init__(self, *inbox: Any, uid: int | None = None) -> None:
        self.inbox = list(inbox)
        self.said: list[Word] = []
        self.fds: list[list[int]] = []
        self.closed = self.deaf = False
        self.uid = os.geteuid() if uid is None else uid

    def setblocking(self, on: bool) -> None:
        assert not on

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def fileno(self) -> int:
        return id(self)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return module._CREDENTIALS.pack(1, self.uid, 1)

    def accept(self) -> tuple[Any, str]:
        if not self.inbox:
            raise BlockingIOError
        return self.inbox.pop(0), ""

    def recv(self, size: int) -> bytes:
        if not self.inbox:
            raise BlockingIOError
        packet = self.inbox.pop(0)
        if isinstance(packet, OSError):
            raise packet
        return encode(packet) if isinstance(packet, Word) else packet or b""

    def send(self, data: bytes) -> None:
        if self.deaf:
            raise BrokenPipeError
        word = decode(data)
        assert word is not None
        self.said.append(word)

    def sendmsg(self, buffers: list[bytes], ancillary: list[Any], *_: Any) -> None:
        self.fds.append(list(ancillary[0][2]))

    def recvmsg(self, size: int, room: int) -> tuple[bytes, list[Any], int, None]:
        fds = self.inbox.pop(0)
        if fds is None:
            return b"", [], 0, None
        return b"+", [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds).tobytes())], 0, None

    def close(self) -> None:
        self.closed = True

    @property
    def words(self) -> list[str]:
        return [word.what for word in self.said]


class FakeOwner:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.released = False

    def offered(self) -> tuple[Offer, list[int]]:
        return OFFER, list(range(306))

    def release(self) -> None:
        self.done.append("release")

    def is_released(self) -> bool:
        return self.released

    def take_back(self, why: str) -> None:
        self.done.append(f"take back: {why}")

    def leave(self) -> None:
        self.done.append("leave")


class Visit:
    """A gate with a door, and one who knocks there."""

    def __init__(self, uid: int | None = None) -> None:
        self.owner, self.guest = FakeOwner(), FakeSocket(uid=uid)
        self.listener: Any = FakeSocket(self.guest)
        self.door = Door(cast(Any, self.listener), self.owner)
        self.now = 100.0
        self.door.turn(self.now)

    def hears(self, *words: Word | OSError | None) -> list[str]:
        """The gate is told these; what it answered."""
        before = len(self.guest.said)
        for word in words:
            self.guest.inbox.append(word)
            self.door.turn(self.now)
        return self.guest.words[before:]

    def up_to(self, what: str) -> None:
        for word in ("take", "control"):
            self.hears(Word(what=cast(Any, word)))
            if word == what:
                return
        self.owner.released = True
        self.door.turn(self.now)


def test_all_goes_well() -> None:
    visit = Visit()
    assert repr(visit.door) == "<Door free>"
    assert len(visit.door.descriptors()) == 2
    assert visit.hears(Word(what="take")) == ["offer"]
    assert visit.guest.said[0].offer == OFFER
    assert [len(some) for some in visit.guest.fds] == [200, 106]
    assert visit.hears(Word(what="control")) == []
    visit.owner.released = True
    visit.door.turn(visit.now)
    assert visit.guest.words[-1] == "released"
    assert visit.hears(Word(what="drain")) == ["draining"]
    assert visit.owner.done == ["release", "leave"]
    assert visit.guest.closed
    assert (repr(visit.door), visit.door.descriptors()) == ("<Door left>", [])
    visit.door.turn(visit.now)


@pytest.mark.parametrize(("far", "taken_back"), [("take", False), ("control", True), ("released", True)])
@pytest.mark.parametrize("end", [None, ConnectionResetError()], ids=["gone", "reset"])
def test_a_new_gate_that_dies_changes_nothing(far: str, taken_back: bool, end: Any) -> None:
    visit = Visit()
    visit.up_to(far)
    visit.hears(end)
    assert (visit.owner.done[-1:] == ["take back: it went away"]) is taken_back
    assert visit.guest.closed
    again = FakeSocket(Word(what="take"))
    visit.listener.inbox.append(again)
    visit.door.turn(visit.now)
    assert again.words == ["offer"], "another one may try"


def test_who_gave_up_before_it_was_answered_does_not_have_the_gate_go() -> None:
    visit = Visit()
    visit.up_to("released")
    visit.guest.deaf = True
    visit.hears(Word(what="drain"))
    assert visit.owner.done == ["release", "take back: it went away"]


def test_patience_has_an_end() -> None:
    visit = Visit()
    visit.up_to("released")
    visit.now += PATIENCE
    assert visit.hears() == []
    visit.door.turn(visit.now)
    assert not visit.guest.closed
    visit.now += 0.1
    visit.door.turn(visit.now)
    assert visit.guest.words[-1] == "refused"
    assert visit.owner.done[-1] == "take back: it came to no end in time"


@pytest.mark.parametrize(
    "words",
    [
        [Word(what="control")],
        [Word(what="drain")],
        [Word(what="take"), Word(what="take")],
        [Word(what="take"), Word(what="drain")],
        [Word(what="take", protocol=PROTOCOL + 1)],
    ],
)
def test_words_out_of_place(words: list[Word]) -> None:
    visit = Visit()
    assert visit.hears(*words)[-1] == "refused"
    assert visit.owner.done == []
    assert visit.guest.closed


def test_nonsense_ends_it() -> None:
    visit = Visit()
    visit.guest.inbox.append(b"GET / HTTP/1.1")
    visit.door.turn(visit.now)
    assert visit.guest.closed
    assert visit.guest.said == []


def test_another_users_process_is_not_spoken_to() -> None:
    visit = Visit(uid=os.geteuid() + 1)
    assert visit.guest.closed
    assert visit.guest.said == []


def test_one_at_a_time() -> None:
    visit = Visit()
    second = FakeSocket()
    visit.listener.inbox.append(second)
    visit.door.turn(visit.now)
    assert (second.words, second.closed) == (["refused"], True)
    assert not visit.guest.closed


def test_a_gate_that_is_stopped_says_so() -> None:
    visit = Visit()
    visit.up_to("released")
    visit.door.close()
    assert visit.guest.said[-1].why == "the running gate is being stopped"
    assert visit.listener.closed
    idle = Visit()
    idle.hears(None)
    idle.door.close()
    assert idle.owner.done == []


# --- the new gate's side


class Received:
    """Stands for `socket.socket` of a descriptor that came over."""

    def __init__(self, fileno: int) -> None:
        self.fd = fileno
        self.closed = False

    def getsockname(self) -> tuple[Any, ...]:
        return ("127.0.0.1", 5000) if self.fd < 6 else ("::1", 80, 0, 0)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def received(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_socket, "socket", Received)
    monkeypatch.setattr(os, "set_inheritable", lambda fd, on: None)


def predecessor(*after: Any, offer: Offer = OFFER) -> tuple[Predecessor, FakeSocket]:
    count = 4 + sum(number for _, number in offer.listeners)
    fds = list(range(count))
    there: Any = FakeSocket(Word(what="offer", offer=offer), fds[:200], fds[200:], *after)
    return Predecessor(there), there


def test_what_is_handed_over() -> None:
    old, there = predecessor(Word(what="released"), Word(what="draining"))
    assert (old.lock, *(one.fd for one in (old.door, old.link, old.admin))) == (0, 1, 2, 3)  # type: ignore[attr-defined]  # they are fakes
    assert [one.fd for one in old.sockets("127.0.0.1:0", "127.0.0.1", 0)] == [4, 5]  # type: ignore[attr-defined]  # as well
    assert old.sockets("127.0.0.1:0", "127.0.0.1", 0) == []
    assert old.sockets("localhost:81", "::1", 81) == []
    others = old.sockets("localhost:80", "::1", 80)
    assert len(others) == 300
    old.close_the_rest()
    old.take_control()
    assert old.finish() == ""
    assert there.words == ["take", "control", "drain"]
    assert there.closed


def test_what_is_not_wanted_is_closed() -> None:
    old, _ = predecessor()
    unwanted = [*old._listeners["127.0.0.1:0"], *old._listeners["[::1]:80"]]
    old.close_the_rest()
    assert all(one.closed for one in unwanted)  # type: ignore[attr-defined]  # they are fakes


@pytest.mark.parametrize(
    "after", [[None, None], [ConnectionResetError(), None], [ConnectionResetError(), ConnectionResetError()]]
)
def test_when_the_old_gate_dies_the_new_one_goes_on(after: list[Any]) -> None:
    old, _ = predecessor(*after, *after)
    old.take_control()
    assert old.finish() == ""


def test_when_the_old_gate_does_not_give_way_the_new_one_does() -> None:
    refused = Word(what="refused", why="the running gate is being stopped")
    with pytest.raises(CannotServe, match="being stopped"):
        predecessor(refused)[0].take_control()
    old, _ = predecessor(Word(what="released"), ConnectionResetError(), refused)
    old.take_control()
    assert "being stopped" in old.finish()
    with pytest.raises(CannotServe, match="does not answer"):
        predecessor(TimeoutError())[0].take_control()


def test_another_users_gate_and_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign: Any = FakeSocket(uid=os.geteuid() + 1)
    with pytest.raises(CannotServe, match="another user"):
        Predecessor(foreign)
    other = msgspec.structs.replace(OFFER, formats={**FORMATS, "limits": "SLMLIMT1"})
    assert differing(OFFER) == ""
    assert "pid 7) keeps limits in another form" in differing(other)
    with pytest.raises(CannotServe, match=r"limits in another form.*without --takeover"):
        predecessor(offer=other)


@pytest.mark.parametrize("inbox", [[None], [Word(what="refused", why="another takeover is under way")]])
def test_nothing_is_handed_over(inbox: list[Any]) -> None:
    there: Any = FakeSocket(*inbox)
    with pytest.raises(CannotServe, match="does not hand over"):
        Predecessor(there)
    half: Any = FakeSocket(Word(what="offer", offer=OFFER), [0, 1], None)
    with pytest.raises(CannotServe, match="went away while it handed over"):
        Predecessor(half)


def test_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        def __init__(self, *_: object) -> None:
            pass

        def connect(self, path: str) -> None:
            assert path.startswith("/proc/self/fd/") and path.endswith("/takeover")
            raise ConnectionRefusedError

        def close(self) -> None:
            pass

    monkeypatch.setattr(_socket, "socket", Nobody)
    assert find(tmp_path) is None
    assert find(tmp_path / "missing") is None
