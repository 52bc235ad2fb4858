"""The tests themselves on trial: against a stand-in that is broken on purpose, each of these must fail.

The stand-in relays bytes: it checks no key, refuses nothing and books nothing. This file knows other tests by name; it shows
that their assertions bite, not that the gate is right. What no relay can show, parts of the gate are broken for in place:
`tests/tools/broken.py`, whose table is held to here too. The table of ambiguous requests is `tests/bench/test_hostile.py`'s.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system import attacks
from tests.system import test_bad_input as bad_input
from tests.system import test_headers as headers
from tests.system import test_idempotency as idempotency
from tests.system import test_inside as inside
from tests.system import test_timing as timing
from tests.system import test_upstream_faults as faults
from tests.system import test_wire as wire
from tests.system.conftest import SHARED
from tests.system.scenes import PLAIN
from tests.tools.gate import ROOT, SECRET, Gate, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, ClosedEarlyError, Wire, ask, request

Check = Callable[[Gate, MockUpstream], None]
CHECKS: dict[str, Check] = {
    "credential": lambda gate, upstream: headers.test_no_valid_credential(gate, upstream, ()),
    "two-models": lambda gate, upstream: bad_input.test_body_that_cannot_be_read_in_one_way(gate, upstream, "two-models"),
    "two-hosts": lambda gate, upstream: bad_input.test_head_that_is_not_http(gate, upstream, "two-hosts"),
    "forwarded-headers": headers.test_headers_that_end_at_the_gate,
    "answer-headers": headers.test_response_headers_are_the_gates_own,
    "path": lambda gate, upstream: wire.test_method_and_path_outside_the_table(gate, upstream, "POST", "/sleep", {404}),
    "broken-stream": lambda gate, upstream: faults.test_stream_that_breaks_at_event_k(gate, upstream, "close", 2),
    "garbage": lambda gate, upstream: faults.test_no_good_answer(gate, upstream, "garbage"),
    "compressed-answer": headers.test_compressed_answer_is_none,
    "asked-again": idempotency.test_asked_again,
    "an-instance-s-head": inside.test_heads_that_would_tell,
    "a-split-head": lambda gate, upstream: inside.test_no_head_is_split(gate, upstream, b"a\r\n X-Canary: canary"),
    "lying-usage": lambda gate, upstream: faults.test_usage_that_lies(gate, upstream, None, False),
}


@pytest.fixture(scope="module")
def relay(shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLMGATE_STAND_IN", "relay")
        made = Gate(tmp_path_factory.mktemp("relay"), {"tiny": model(shared_upstream.url)}, **SHARED)
    yield made
    made.stop()


@pytest.mark.parametrize("name", CHECKS)
def test_a_byte_relay_fails(relay: Gate, upstream: MockUpstream, name: str) -> None:
    with pytest.raises((AssertionError, OSError, ValueError, LookupError, ClosedEarlyError)):
        CHECKS[name](relay, upstream)


def test_a_byte_relay_is_alive(relay: Gate, upstream: MockUpstream) -> None:
    """The control: the stand-in does relay, so that the failures above are failures of what is asserted."""
    assert ask(relay.port, PLAIN).status == 200
    assert len(upstream.journal()) == 1


# --- the attack list, row by row -----------------------------------------------------------------------------------------------

PATIENCE = 0.15
"""Seconds until a relay that says nothing has said nothing: it waits for an instance that waits for the rest of a request."""
BODIES = {name: request(data, secret=SECRET) for name, data in bad_input.BAD_BODIES.items()}
HEADS = {name: (text.encode("latin-1"), statuses) for name, (text, statuses) in bad_input.BAD_HEADS.items()}


def heard(relay: Gate, data: bytes) -> Answer | None:
    """What the relay comes back with; None: nothing, which is not what any of these attacks must get."""
    with contextlib.suppress(ClosedEarlyError, OSError, AssertionError), Wire(relay.port, PATIENCE) as wire:
        return wire.ask(data, data.partition(b" ")[0].decode("latin-1"))
    return None


def passing(relay: Gate, rows: dict[str, tuple[bytes, set[int]]]) -> list[str]:
    """The attacks that get one of the statuses that they must get, from whom they should not."""
    with ThreadPoolExecutor(16) as clients:
        answers = dict(zip(rows, clients.map(lambda row: heard(relay, row[0]), rows.values()), strict=True))
    assert ask(relay.port, PLAIN).status == 200, "void: the relay is gone"
    assert any(answer is not None and answer.status == 200 for answer in answers.values()), "void: it lets nobody through"
    return [name for name, answer in answers.items() if answer is not None and answer.status in rows[name][1]]


@pytest.mark.parametrize("kind", attacks.ATTACKS)
def test_every_attack_of_the_table_fails(relay: Gate, kind: str) -> None:
    rows = {attack.name: (attack.data, {attack.status}) for attack in attacks.ATTACKS[kind]}
    assert len(rows) >= 14
    assert passing(relay, rows) == []


def test_every_bad_body_and_head_fails(relay: Gate) -> None:
    rows = {name: (data, {400, 404}) for name, data in BODIES.items()} | HEADS
    assert passing(relay, rows) == []


def test_every_wrong_credential_fails(relay: Gate) -> None:
    marks: list[pytest.Mark] = vars(headers.test_no_valid_credential)["pytestmark"]
    (shown,) = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    rows = {f"{n}": (request(b"{}", headers=lines), {401}) for n, lines in enumerate(shown)}
    assert passing(relay, rows) == []


def test_a_comparison_that_ends_early_is_told_by_its_time() -> None:
    """A tenth of a microsecond for each character that is right, under noise of five."""
    chance = random.Random(7)
    taken = {shared: [chance.gauss(100_000, 5_000) + 100 * shared for _ in range(400)] for shared in (0, len(SECRET) - 8)}
    assert abs(timing.welch(*taken.values())) > timing.BOUND
    assert abs(timing.welch(taken[0], [chance.gauss(100_000, 5_000) for _ in range(400)])) < timing.BOUND


def test_broken_parts_are_noticed() -> None:
    """Each row of the table of broken parts: its tests fail while the part is broken."""
    done = subprocess.run([sys.executable, "-m", "tests.tools.broken"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) >= 17
