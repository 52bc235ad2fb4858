"""The tests themselves on trial: against a stand-in that is broken on purpose, each of these must fail.

The stand-in relays bytes: it checks no key, refuses nothing and books nothing. This file knows other tests by name; it shows
that their assertions bite, not that the gate is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.system import test_bad_input as bad_input
from tests.system import test_headers as headers
from tests.system import test_idempotency as idempotency
from tests.system import test_upstream_faults as faults
from tests.system import test_wire as wire
from tests.system.conftest import SHARED
from tests.system.scenes import PLAIN
from tests.tools.gate import Gate, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ClosedEarlyError, ask

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
