"""Fixtures of the system tests: mock instances, the real engine, and gates over them, each ended by its own pid.

Shared gates live for a module, so that many wire tests cost one start; a test that breaks things launches a gate of its
own with `launch`. On a failure the log of every gate that the test could see is part of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.engine import Engine
from tests.tools.gate import Gate, model
from tests.tools.load import LONG
from tests.tools.upstream import MockUpstream

Launch = Callable[..., Gate]
running: list[Gate] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"gate on port {gate.port}", gate.text()) for gate in running]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory is a system test; the full figures take longer than a test otherwise may."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.system)
            if LONG:
                item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def long_run() -> bool:
    """Whether the full figures of the reliability goals are asked for."""
    return LONG


def mock() -> Iterator[MockUpstream]:
    made = MockUpstream()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[MockUpstream]:
    yield from mock()


@pytest.fixture(scope="module")
def shared_second() -> Iterator[MockUpstream]:
    yield from mock()


@pytest.fixture
def upstream(shared_upstream: MockUpstream) -> Iterator[MockUpstream]:
    """A mock instance with an empty journal and the plain script."""
    shared_upstream.ask("/gauges", {"default": {}, "clear": True})
    yield shared_upstream
    if shared_upstream.process.poll() is not None:
        shared_upstream.start()


@pytest.fixture
def second(shared_second: MockUpstream) -> Iterator[MockUpstream]:
    """Another mock instance, for tests with two."""
    shared_second.ask("/gauges", {"default": {}, "clear": True})
    yield shared_second
    if shared_second.process.poll() is not None:
        shared_second.start()


SHARED: dict[str, Any] = {
    "workers": 1,
    "guard": {"max_body": "256KiB", "header_timeout": "2s", "body_timeout": "2s", "keep_alive": "3s", "send_timeout": "3s"},
}


@pytest.fixture(scope="module")
def shared_gate(shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    timeouts = {"connect": "1s", "first_byte": "2s", "idle": "2s"}
    models = {"tiny": model(shared_upstream.url, timeouts=timeouts), "other": model(shared_upstream.url, timeouts=timeouts)}
    made = Gate(tmp_path_factory.mktemp("gate"), models, **SHARED)
    running.append(made)
    yield made
    running.remove(made)
    made.stop()


@pytest.fixture
def gate(shared_gate: Gate, upstream: MockUpstream) -> Gate:
    """The module's gate (one worker, short time limits) with one model `tiny` on the mock instance."""
    assert shared_gate.process.poll() is None, f"the gate died:\n{shared_gate.text()}"
    return shared_gate


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a gate of this test's own; the arguments are those of `Gate` after its home."""
    made: list[Gate] = []

    def start(models: dict[str, Any], **options: Any) -> Gate:
        home = tmp_path / f"gate-{len(made)}"
        home.mkdir()
        fresh = Gate(home, models, **options)
        made.append(fresh)
        running.append(fresh)
        return fresh

    yield start
    for each in made:
        running.remove(each)
        each.stop()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The real llama.cpp server."""
    made = Engine()
    yield made
    made.close()
