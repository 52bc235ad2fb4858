"""What the fault tests share: a good head, a poisoned rest, the plain request, and the check that the gate still serves.

Nothing here is a test; it knows the mock instance's scripts and the raw client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.tools.gate import SECRET, Gate
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, ask, chat, request

GOOD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n"
POISON = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
SECONDS = 4.0
"""The longest that a refusal may take here: the time limits of the shared gate are 2 s."""


PLAIN = request(chat(), secret=SECRET)
JSON = "Content-Type: application/json"


def controlled(gate: Gate, upstream: MockUpstream, hostile: Callable[[], Answer]) -> Answer:
    """Run `hostile` between two plain requests and assert that only these two reached the instance, by bytes as well."""
    assert ask(gate.port, PLAIN).status == 200
    before, asked = upstream.bytes_received(), len(upstream.journal())
    assert asked >= 1, "void: the plain request did not reach the instance"
    answer = hostile()
    assert upstream.bytes_received() == before, "bytes of it reached the instance"
    assert ask(gate.port, PLAIN).status == 200
    assert len(upstream.journal()) == asked + 1
    return answer


def assert_refused(gate: Gate, answer: Answer, status: int, code: str) -> None:
    """The error is in OpenAI's shape, under a request id, and its receipt says the same."""
    assert (answer.status, answer.code) == (status, code), answer
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "code", "param"}
    assert error["message"]
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["status"], row["reason"], row["ended"], row["verdict"]) == (status, code, "refused", "refuse"), row
    assert row["completion_tokens"] == 0


def plain(tag: str = "", **script: Any) -> bytes:
    return request(chat(tag=tag, **script), secret=SECRET)


def assert_served(gate: Gate, upstream: MockUpstream, count: int = 5) -> None:
    """The gate works, and no byte of an earlier answer is in anyone's."""
    for n in range(count):
        answer = ask(gate.port, plain(f"after-{n}"))
        assert (answer.status, answer.json()["tag"]) == (200, f"after-{n}"), answer
        assert b"POISON" not in answer.body
