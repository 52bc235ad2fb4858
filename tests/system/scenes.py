"""What the fault tests share: a good head, a poisoned rest, the plain request, and the checks that the gate still serves and
that its ledger is exact.

Nothing here is a test; it knows the mock instance's scripts, the raw client and the loader's journal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.tools.gate import SECRET, Gate
from tests.tools.load import Loader
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


def compare_with_ledger(gate: Gate, loader: Loader, upstream: MockUpstream, *cuts: str) -> None:
    """Each request that a client saw completed: exactly one receipt, with its status and the tokens that it was told.

    Each request that the instance saw has one receipt as well, whatever became of its client and its worker; `cuts` are
    further ways in which it may have ended.
    """
    whole = [each for each in loader.journal if each.complete]
    rows = gate.receipts((each.id for each in whole), 10)
    for each in whole:
        row = rows[each.id]
        assert row["status"] == each.status, (str(each), row)
        if each.good:
            assert row["ended"] == "complete" and row["prompt_tokens"] == 7, (str(each), row)
            assert row["completion_tokens"] == (len(each.numbers) if each.stream else 5), (str(each), row)
    forwarded = tags(upstream) & {each.id for each in loader.journal}
    assert forwarded, "void: nothing reached the instance"
    everything = gate.receipts(forwarded, 10)
    cut = [row for name, row in everything.items() if name not in rows]
    assert {row["ended"] for row in cut} <= {"unknown", "client_left", "gate_stopped", "upstream_error", *cuts}, cut


def tags(upstream: MockUpstream) -> set[str]:
    """The tags of all requests that reached the instance; the loader's tags are its request ids."""
    return {json.loads(asked["body"])["script"].get("tag", "") for asked in upstream.journal()}
