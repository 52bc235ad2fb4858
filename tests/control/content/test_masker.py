"""The process that masks, and control's end of it: work there and back, and one that takes too long, dies or talks nonsense.

The process is a fake here; tests/system has the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from slmgate.control.content import masker
from slmgate.control.content.masker import Done, Masker, TooLong, Work, do, main

WORK = Work(("email",), (), b'{"a":"x@y.zz"}', False, b"data: {}\n\n", False, True)
DONE = Done('{"a":"[email]"}', False, "", False, 1)


class Link:
    """Both ends of a socket in one: what is sent is given to `answer`, whose answer comes in small parts."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._ready = b""
        self.closed = False

    def settimeout(self, seconds: float | None) -> None:
        """Time does not pass here."""

    def sendall(self, data: bytes) -> None:
        self._ready = self._answer(data)

    def recv(self, size: int) -> bytes:
        part, self._ready = self._ready[: min(size, 7)], self._ready[min(size, 7) :]
        return part

    def close(self) -> None:
        self.closed = True


class Process:
    def __init__(self) -> None:
        self.did: list[str] = []

    def kill(self) -> None:
        self.did.append("killed")

    def wait(self) -> None:
        self.did.append("waited for")


def worked(data: bytes) -> bytes:
    made = msgspec.msgpack.encode(do(msgspec.msgpack.decode(data[4:], type=Work)))
    return len(made).to_bytes(4, "big") + made


def broken(data: bytes) -> bytes:
    raise TimeoutError("timed out")


def starting(answer: Callable[[bytes], bytes], made: list[tuple[Any, Any]]) -> Callable[[], Any]:
    def start() -> tuple[Any, Any]:
        made.append((Link(answer), Process()))
        return made[-1]

    return start


def test_what_is_done() -> None:
    assert do(WORK) == DONE
    assert do(msgspec.structs.replace(WORK, prompt=None, answer=None)) == Done(None, False, None, False, 0)
    plain = msgspec.structs.replace(WORK, stream=False, answer=b'{"b":"x@y.zz"}', answer_cut=True)
    assert do(plain).answer == ""
    assert do(plain).answer_cut
    assert repr(WORK) == "Work()"  # nothing of it is in any traceback


def test_there_and_back() -> None:
    made: list[tuple[Any, Any]] = []
    one = Masker(start=starting(worked, made))
    assert [one.mask(WORK) for _ in range(2)] == [DONE, DONE]
    one.close()
    one.close()
    assert len(made) == 1
    assert made[0][0].closed
    assert made[0][1].did == ["killed", "waited for"]


@pytest.mark.parametrize("answer", [broken, lambda _: b"", lambda _: b"\0\0\0\3abc", lambda _: b"\0\0\0\x09abc"])
def test_whoever_fails_is_killed_and_another_started(answer: Callable[[bytes], bytes]) -> None:
    made: list[tuple[Any, Any]] = []
    one = Masker(start=starting(answer, made))
    for _ in range(2):
        with pytest.raises(TooLong):
            one.mask(WORK)
    assert [process.did for _, process in made] == [["killed", "waited for"]] * 2


def test_the_process_works_until_nobody_is_there() -> None:
    sent: list[bytes] = []

    class Given(Link):
        def sendall(self, data: bytes) -> None:
            sent.append(data)

    link = Given(worked)
    data = msgspec.msgpack.encode(WORK)
    link._ready = 2 * (len(data).to_bytes(4, "big") + data)
    main(link)  # type: ignore[arg-type]  # a socket that is none
    assert [msgspec.msgpack.decode(one[4:], type=Done) for one in sent] == [DONE, DONE]


def test_it_is_started_with_one_end_of_a_pair_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class End(Link):
        def __enter__(self) -> End:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def fileno(self) -> int:
            return 77

    ours, theirs = End(worked), End(worked)
    monkeypatch.setattr("slmgate.control.content.masker.socket.socketpair", lambda: (ours, theirs))
    monkeypatch.setattr("slmgate.control.content.masker.subprocess.Popen", lambda *words, **more: asked.append((words, more)))
    assert masker._started()[0] is ours  # type: ignore[comparison-overlap]  # a socket that is none
    assert theirs.closed
    assert not ours.closed
    assert asked[0][0][0][1:] == ["-m", "slmgate.control.content.masker"]
    assert asked[0][1] == {"stdin": 77, "stdout": -3, "stderr": -3}
