"""The outbox: everything goes out in one turn and in order, and one connection's fault is not the others'."""

from __future__ import annotations

from typing import Any

from slmgate.dataplane.outbox import Outbox


class Line:
    """A transport that notes what it is told; `fails` at writing."""

    def __init__(self, name: str, seen: list[str], fails: bool = False) -> None:
        self.name, self.seen, self.fails, self.closing = name, seen, fails, False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if self.fails:
            raise MemoryError
        self.seen.append(f"{self.name} {data.decode()}")

    def abort(self) -> None:
        self.seen.append(f"{self.name} aborted")


def test_order_and_turns() -> None:
    seen: list[str] = []
    turns: list[Any] = []
    outbox = Outbox(turns.append, lambda: seen.append("fault"))
    a, b, c = Line("a", seen), Line("b", seen, fails=True), Line("c", seen)
    lines: list[Any] = [a, b, c]
    for line in lines:
        outbox.put(line, b"1")
    outbox.put(lines[0], b"2")
    assert (seen, repr(outbox), len(turns)) == ([], "<Outbox 4 waiting>", 1)
    c.closing = True
    turns.pop()()
    assert seen == ["a 1", "fault", "b aborted", "a 2"]
    assert repr(outbox) == "<Outbox 0 waiting>"
    outbox.put(lines[0], b"3")
    outbox.flush()
    outbox.put(lines[0], b"4")
    assert seen[4:] == ["a 3"]
    for turn in turns:
        turn()
    assert seen[4:] == ["a 3", "a 4"], "written once, whoever comes first"
