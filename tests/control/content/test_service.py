"""Contents from a worker into the store: masked, confirmed once they are there, and counted where they are not.

The thread is real; the tests wait for it by what it confirms, or by closing.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slmgate.control.config import Config, load_text
from slmgate.control.content import service
from slmgate.control.content.masker import Done, Masker, TooLong, Work, do
from slmgate.control.content.service import FORGET, Contents
from slmgate.link.messages import Captured, CaptureKept, Captures
from slmgate.stores.contents import ContentRecord
from slmgate.stores.records import LedgerUnavailable
from slmgate.stores.sql import SqlStore, open_store

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ONE = Captured("r1", "kept", NOW.timestamp(), "openai", prompt=b'{"a":"x@y.zz"}', answer=b'{"b":1}')


def config(content: str = "roles", options: str = "{capture: both, keep: 2h}") -> Config:
    roles = f'{{kept: {{models: ["*"], content: {options}}}, plain: {{models: ["*"]}}}}'
    text = f'models: {{m: {{instances: [{{url: "http://127.0.0.1:1"}}]}}}}\nlog: {{content: {content}}}\nroles: {roles}\n'
    return load_text(text, "gate.yaml", Path("/base")).unwrap()


class Here(Masker):
    """Masks in this process; fails on what says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Work] = []

    def mask(self, work: Work) -> Done:
        self.asked.append(work)
        if work.prompt == b"endless":
            raise TooLong
        return do(work)


class Scene:
    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.config = config()
        self.masker = Here()
        self.now = 0.0
        self.confirmed: queue.Queue[CaptureKept] = queue.Queue()
        self.contents = Contents(lambda: self.store.contents, lambda: self.config, self.masker, lambda: self.now)

    def told(self, *records: Captured, number: int = 1, dropped: int = 0, worker: str = "w") -> CaptureKept:
        self.contents.told(worker, Captures(number, records, dropped), self.confirmed.put)
        return self.confirmed.get(timeout=20)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(service, "utc_now", lambda: NOW)
    monkeypatch.setattr(service, "RETRY_SECONDS", 0.0)
    store = open_store(tmp_path / "ledger")
    scene = Scene(store)
    yield scene
    scene.contents.close()
    store.close()


def test_kept_and_confirmed(scene: Scene) -> None:
    assert scene.told(ONE, number=7) == CaptureKept(7)
    assert scene.store.contents.get("r1") == ContentRecord(
        id="r1", role="kept", time=NOW, expires=NOW + timedelta(hours=2), prompt='{"a":"[email]"}', answer='{"b":1}', masked=1
    )
    assert scene.told(ONE, number=7) == CaptureKept(7)  # it came again: nothing is twice
    assert repr(scene.contents) == "<Contents 2 kept, 0 lost>"
    assert scene.contents.troubles == []


@pytest.mark.parametrize(("what", "prompt", "answer"), [("prompts", True, False), ("answers", False, True)])
def test_only_what_the_role_says_now(scene: Scene, what: str, prompt: bool, answer: bool) -> None:
    scene.config = config(options=f"{{capture: {what}}}")
    scene.told(ONE)
    found = scene.store.contents.get("r1")
    assert found is not None
    assert ((found.prompt is not None), (found.answer is not None)) == (prompt, answer)


def test_what_the_configuration_no_longer_wants_is_let_go(scene: Scene) -> None:
    scene.config = config(content="never")
    scene.told(ONE, ONE)
    scene.config = config()
    scene.told(Captured("r2", "plain", 0.0, "openai", prompt=b"x"), Captured("r3", "gone", 0.0, "openai", prompt=b"x"))
    assert scene.masker.asked == []
    assert scene.contents.lost == 0


def test_what_cannot_be_masked_is_lost_and_told(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.told(Captured("r2", "kept", NOW.timestamp(), "openai", prompt=b"endless"), ONE)
    assert scene.store.contents.get("r2") is None
    assert scene.store.contents.get("r1") is not None
    assert scene.contents.troubles == ["the contents of 1 requests are lost (see the gate's log)"]
    assert "contents of 1 requests are lost: masking it took too long or failed (r2, role kept)" in caplog.text
    assert "endless" not in caplog.text


def test_what_a_worker_had_no_room_for_is_counted_once(scene: Scene) -> None:
    assert scene.told(dropped=3) == CaptureKept(1, 3)
    scene.told(dropped=3, number=2)
    scene.told(dropped=5, number=3)
    scene.told(dropped=1, worker="another")
    assert scene.contents.lost == 6


def test_a_store_that_is_away_is_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    away = [LedgerUnavailable("it is locked"), LedgerUnavailable("it is locked")]
    put = type(scene.store.contents).put

    def failing(self: object, records: list[ContentRecord]) -> None:
        if away:
            raise away.pop()
        put(self, records)  # type: ignore[arg-type]  # the one that was there before

    monkeypatch.setattr(type(scene.store.contents), "put", failing)
    scene.told(ONE)
    assert scene.store.contents.get("r1") is not None


def test_at_the_end_what_is_not_kept_is_not_confirmed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: object, records: object) -> None:
        scene.contents._closing.set()
        raise LedgerUnavailable("it is locked")

    monkeypatch.setattr(type(scene.store.contents), "put", away)
    scene.contents.told("w", Captures(1, (ONE,)), scene.confirmed.put)
    assert scene.contents._thread is not None
    scene.contents._queue.put(None)
    scene.contents._thread.join(20)
    scene.contents.told("w", Captures(2, (ONE,)), scene.confirmed.put)  # too late
    assert scene.confirmed.empty()


def test_a_fault_of_ours_ends_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    bad = Captured("r0", "kept", float("inf"), "openai", prompt=b"{}")
    scene.contents.told("w", Captures(1, (bad,)), scene.confirmed.put)
    assert scene.told(ONE, number=2) == CaptureKept(2)
    assert "contents could not be kept" in caplog.text


def test_what_is_over_is_deleted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ContentRecord(id=f"r{number}", role="kept", time=NOW, expires=NOW, prompt="x") for number in range(FORGET + 1)]
    scene.store.contents.put([*rows, ContentRecord(id="stays", role="kept", time=NOW, expires=NOW + timedelta(seconds=1))])
    assert [scene.contents.forget() for _ in range(3)] == [FORGET, 1, 0]
    scene.store.contents.put(rows[:1])
    assert scene.contents.forget() == 0  # it was just looked for
    scene.now += 61
    assert scene.contents.forget() == 1
    assert scene.store.contents.get("stays") is not None
