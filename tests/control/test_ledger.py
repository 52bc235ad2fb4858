"""The ingest: each receipt in the ledger exactly once, whatever dies and whenever.

A simulated worker writes real segment files; the store is SQLite in memory of the test's directory, wrapped where a
failure is wanted. No sleep and no process: a worker's death is its lock given back.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slmgate.control.ledger import Ingest
from slmgate.link import journal
from slmgate.stores.records import Batch, KeyUse, LedgerUnavailable
from slmgate.stores.sql import SqlStore, open_store
from slmgate.terms import Intent, Receipt
from tests.tools.journal_writer import NOON, Segment, Table, encoded, framed, make_intent, make_receipt
from tests.tools.stored import all_receipts

A = "0123456789ab"
B = "ba9876543210"
SECOND = timedelta(seconds=1)


def name(number: int, incarnation: str = A) -> str:
    return f"{incarnation}{number:08x}"


def ids(store: SqlStore) -> list[str]:
    return [receipt.id for receipt in all_receipts(store)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger.db")
    yield store
    store.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "journal"
    directory.mkdir()
    return directory


@pytest.fixture
def ingest(store: SqlStore, directory: Path) -> Ingest:
    return Ingest(store, directory)


def test_nothing_there(ingest: Ingest) -> None:
    assert repr(ingest) == "<Ingest not read yet>"
    assert ingest.run_once() == 0
    assert repr(ingest) == "<Ingest 0 segments>"


def test_takes_what_is_new_each_time(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    with Segment(directory, A) as segment:
        segment.write(make_receipt(name(1)))
        assert ingest.run_once() == 1
        assert ingest.run_once() == 0
        segment.write(make_receipt(name(2)))
        assert ingest.run_once() == 1
    assert ids(store) == [name(1), name(2)]
    assert store.receipt(name(1)) == make_receipt(name(1))


def test_what_callers_invent_is_bounded(
    store: SqlStore, directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Paths that do not exist are one word, unknown models so many a day; the access log has them as they came."""
    monkeypatch.setattr("slmgate.control.reading.MAX_UNKNOWN", 2)
    written: list[bytes] = []
    ingest = Ingest(store, directory, written.append)
    nowhere: dict[str, Any] = {"status": 404, "verdict": "refuse", "reason": "not_found", "ended": "refused", "endpoint": ""}
    unknown = nowhere | {"reason": "model_not_found", "endpoint": "chat"}
    rows = [
        make_receipt(name(1), path="/nowhere/1", model="", **nowhere),
        make_receipt(name(2), path="/nowhere/2", model="", **nowhere | {"status": 413, "reason": "request_too_large"}),
        make_receipt(name(3), model="", **nowhere | {"status": 405, "reason": "method_not_allowed"}),
        make_receipt(name(4), path="", model="", **nowhere | {"status": 400, "reason": "invalid_request"}),
        *(make_receipt(name(5 + number), model=f"x{number}", **unknown) for number in range(4)),
        make_receipt(name(9), model="x0", **unknown),
        make_receipt(name(10), model="x2"),
        make_receipt(name(11), model="x2", **unknown | {"time": NOON + 86_400 * SECOND}),
    ]
    with Segment(directory, A) as segment:
        segment.write(*rows)
        ingest.run_once()
    kept = all_receipts(store)
    chat = "/v1/chat/completions"
    assert [one.path for one in kept] == ["(unknown)", "(unknown)", chat, "", *[chat] * 7]
    assert [one.model for one in kept[4:]] == ["x0", "x1", "(unknown)", "(unknown)", "x0", "x2", "x2"]
    assert b'"/nowhere/1"' in written[0] and b'"x3"' in written[0]


def test_a_new_ingest_goes_on_where_the_old_one_was(store: SqlStore, directory: Path) -> None:
    with Segment(directory, A) as segment:
        segment.write(make_receipt(name(2)))
        assert Ingest(store, directory).run_once() == 1
        segment.write(make_receipt(name(1)))
        assert Ingest(store, directory).run_once() == 1
    assert ids(store) == [name(2), name(1)]


def test_a_live_segment_stays_a_sealed_one_goes(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    with Segment(directory, A) as first, Segment(directory, A, 2) as second:
        second.write(make_receipt(name(1)))
        assert ingest.run_once() == 0  # the second may not be read before the first is final
        first.seal()
        assert ingest.run_once() == 1
        assert not first.path.exists()
        assert second.path.exists()
        ingest.run_once()
        second.write(make_receipt(name(2)))
        ingest.run_once()
        assert list(store.positions()) == [second.path.name]
    assert ids(store) == [name(1), name(2)]


def test_a_step_is_bounded_however_many_workers_write(store: SqlStore, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slmgate.control.ledger.STEP", 8 * journal.MAX_RECORD)
    sizes: list[int] = []
    write = store.write

    def watched(batch: Batch) -> None:
        sizes.append(len(batch.receipts))
        write(batch)

    monkeypatch.setattr(store, "write", watched)
    size = len(framed(encoded(make_receipt(name(1)))))
    with Segment(directory, A) as one, Segment(directory, B) as other:
        for number in range(80):
            one.write(make_receipt(name(number)))
            other.write(make_receipt(name(number, B)))
        assert Ingest(store, directory).run_once() == 160
    assert sizes[0] == sizes[1] == 2 * (4 * journal.MAX_RECORD // size)
    assert sum(sizes) == 160
    assert sorted(ids(store)) == sorted(name(number, run) for run in (A, B) for number in range(80))


def test_more_than_one_step(store: SqlStore, directory: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slmgate.control.ledger.STEP", 1)
    with Segment(directory, A) as segment:
        for number in range(100):
            segment.write(make_receipt(name(number)))
        segment.seal()
    assert ingest.run_once() == 100
    assert ids(store) == [name(number) for number in range(100)]
    assert os.listdir(directory) == []


def test_a_segment_that_is_full_to_its_last_byte(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    size = journal.HEADER_SIZE + len(framed(encoded(make_receipt(name(1)))))
    with Segment(directory, A, size=size) as segment:
        segment.write(make_receipt(name(1)))
        assert ingest.run_once() == 1
        segment.seal()
        ingest.run_once()
    assert os.listdir(directory) == []


def test_the_access_log_gets_the_payloads(store: SqlStore, directory: Path) -> None:
    written: list[bytes] = []
    ingest = Ingest(store, directory, written.append)
    with Segment(directory, A) as segment, Table(directory, A) as table:
        table.take(make_intent(name(2)))
        segment.write(make_receipt(name(1)), make_receipt(name(3)))
        ingest.run_once()
        assert written == [b"%s\n%s\n" % tuple(encoded(make_receipt(name(number))) for number in (1, 3))]
    ingest.run_once()
    lines = b"".join(written).splitlines()
    assert [msgspec.json.decode(line)["ended"] for line in lines] == ["complete", "complete", "unknown"]


def test_who_wants_to_know_is_told_of_each_receipt_once(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    told: list[str] = []
    ingest.told.append(lambda receipts: told.extend(own[0] for own in receipts.own))
    ingest.told.append(lambda receipts: told.append(f"{len(receipts)} in the store: {len(ids(store))}"))
    with Segment(directory, A) as segment:
        segment.write(make_receipt(name(1)), make_receipt(name(2)))
        ingest.run_once()
        ingest.run_once()
        segment.write(make_receipt(name(3)))
        ingest.run_once()
    assert told == [name(1), name(2), "2 in the store: 2", name(3), "1 in the store: 3"]


def test_when_keys_were_used_last_comes_with_the_receipts(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    with Segment(directory, A) as segment:
        for number in range(3):
            segment.write(make_receipt(name(number), time=NOON + number * SECOND, address=f"10.0.0.{number}"))
        ingest.run_once()
        assert store.key_use("k1") == KeyUse(NOON + 2 * SECOND, "10.0.0.2")
        segment.write(make_receipt(name(3), time=NOON + SECOND, address="10.0.0.3"))  # of a worker that was read later
        ingest.run_once()
        assert store.key_use("k1") == KeyUse(NOON + 2 * SECOND, "10.0.0.2")


def test_an_absurd_figure_is_bent_and_counted(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    with Segment(directory, A) as segment:
        segment.write(make_receipt(name(1), completion_tokens=10**30), make_receipt(name(2), path="/\0"))
        assert ingest.run_once() == 2
    bent = store.receipt(name(1))
    assert bent is not None
    assert bent.completion_tokens == 2**63 - 1


@pytest.mark.parametrize(
    "payload",
    [b"{", b'{"id":1}', b"Z{}", b"\xff", b"[" * 3000],
)
def test_a_record_that_does_not_decode_is_kept_aside(
    payload: bytes, store: SqlStore, directory: Path, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    with Segment(directory, A) as segment, caplog.at_level(logging.ERROR, "slmgate.ledger"):
        segment.write(make_receipt(name(1)))
        segment.write_raw(framed(payload))
        segment.write(make_receipt(name(2)))
        assert ingest.run_once() == 2
        segment.seal()
        ingest.run_once()
    assert ids(store) == [name(1), name(2)]
    assert "cannot be understood" in caplog.text
    assert not segment.path.exists()


def test_a_receipt_over_several_lines_counts_as_one(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    """Receipts are decoded as lines, all of a step at once; one that is none must not put the others in doubt."""
    spread = msgspec.json.format(encoded(make_receipt(name(2))), indent=1)
    with Segment(directory, A) as segment:
        segment.write(make_receipt(name(1)))
        segment.write_raw(framed(spread))
        segment.write(make_receipt(name(3)))
        assert ingest.run_once() == 3
    assert ids(store) == [name(1), name(2), name(3)]


@pytest.mark.parametrize("payload", [b" ", b"\n", b"\n".join(2 * [encoded(make_receipt(name(9)))])])
def test_a_payload_of_no_receipt_or_two_is_kept_aside(payload: bytes, store: SqlStore, directory: Path, ingest: Ingest) -> None:
    with Segment(directory, A) as segment:
        segment.write(make_receipt(name(1)))
        segment.write_raw(framed(payload))
        segment.write(make_receipt(name(2)))
        assert ingest.run_once() == 2
    assert ids(store) == [name(1), name(2)]
    assert (directory / f"{segment.path.name}.bad").read_bytes() == payload + b"\n"


@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize("damage", ["checksum", "length", "gap", "magic"])
def test_a_damaged_segment_is_kept_and_never_read_again(
    damage: str, seal: bool, store: SqlStore, directory: Path, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    with Segment(directory, A) as segment:
        segment.write(make_receipt(name(1)), make_receipt(name(2)))
        if damage == "checksum":
            segment.write_raw(framed(b"{}").replace(b"{}", b"{]"))
            segment.write(make_receipt(name(3)))
        elif damage == "length":
            segment.write_raw(journal.FRAME.pack(2**31, 0))
        elif damage == "gap":
            segment.write_raw(bytes(2 * journal.MAX_RECORD))
            segment.write(make_receipt(name(3)))
        else:
            segment.write_raw(bytes(8))
            with segment.path.open("r+b") as file:
                file.write(b"NOTHING!")
        if seal:
            segment.seal()
    assert ingest.run_once() == 2
    assert ids(store) == [name(1), name(2)]
    assert os.listdir(directory) == [f"{segment.path.name}.bad"]
    assert "damaged at byte" in caplog.text
    assert ingest.run_once() == 0


def test_a_damaged_live_segment_waits_for_its_worker(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    with Segment(directory, A) as segment:
        segment.write_raw(journal.FRAME.pack(3, 0))
        assert ingest.run_once() == 0
        assert segment.path.exists()


def test_a_torn_copy_at_every_byte(store: SqlStore, directory: Path, ingest: Ingest) -> None:
    length = len(encoded(make_receipt(name(2))))
    expected = []
    for stage in range(length + 2):
        run = f"{stage:012x}"
        with Segment(directory, run, size=4096) as segment, Table(directory, run, 1) as table:
            table.take(make_intent(name(1, run)))
            if stage % 7 == 0:
                ingest.run_once()
            whole = segment.write_torn(make_receipt(name(1, run)), stage)
        expected.append((name(1, run), "complete" if whole else "unknown"))
    ingest.run_once()
    assert sorted((receipt.id, receipt.ended) for receipt in all_receipts(store)) == expected
    assert os.listdir(directory) == []


# Whatever is killed, whenever


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


class Fragile:
    """A store that fails at its n-th call: before the work is done, or after, when nobody hears of it any more."""

    def __init__(self, store: SqlStore, countdown: Callable[[], None], after: bool) -> None:
        self._store = store
        self._countdown = countdown
        self._after = after

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> Any:
            if self._after:
                answer = getattr(self._store, method)(*arguments)
                self._countdown()
                return answer
            self._countdown()
            return getattr(self._store, method)(*arguments)

        return call


class Bomb:
    """Raises `error` at the n-th call and never again."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        self.left = at
        self.error = error

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


class World:
    """Some workers that write, roll over and die, beside what the ledger must come to in the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.segments: dict[str, Segment] = {}
        self.tables: dict[str, Table] = {}
        self.sequence: dict[str, int] = {}
        self.intents: dict[str, Intent] = {}
        self.receipts: dict[str, Receipt] = {}

    def open(self, run: str) -> Segment:
        if run not in self.segments:
            self.sequence[run] = self.sequence.get(run, 0) + 1
            self.segments[run] = Segment(self.directory, run, self.sequence[run], size=16 * 1024)
            if run not in self.tables:
                self.tables[run] = Table(self.directory, run)
        return self.segments[run]

    def act(self, action: str, run: str, number: int) -> None:
        id = name(number, run)
        if action == "intent" and id not in self.intents and id not in self.receipts:
            self.intents[id] = make_intent(id)
            self.open(run)
            self.tables[run].take(self.intents[id])
        elif action in ("receipt", "half") and id not in self.receipts:
            self.receipts[id] = make_receipt(id, completion_tokens=number)
            self.open(run).write(self.receipts[id])
            if action == "half":
                self.stop(run)  # dies before the slot is given back
            elif id in self.intents:
                self.tables[run].give_back(id)
        elif action == "torn" and id in self.intents and id not in self.receipts:
            self.open(run).write_torn(make_receipt(id), 40 * number)
            self.stop(run)
        elif action == "torn intent" and id not in self.intents and run in self.tables:
            if self.tables[run].take_torn(make_intent(id), 40 * number):
                self.intents[id] = make_intent(id)
            self.stop(run)
        elif action == "roll" and run in self.segments:
            old = self.segments.pop(run)
            self.open(run)
            old.seal()
            old.die()

    def stop(self, run: str) -> None:
        if run in self.segments:
            self.segments.pop(run).die()
            self.tables[run].die()

    def expected(self) -> list[tuple[str, str]]:
        return sorted((id, "complete" if id in self.receipts else "unknown") for id in self.intents | self.receipts)


RUNS = [f"{number:012x}" for number in range(40)]
actions = st.lists(
    st.tuples(
        st.sampled_from(["intent", "intent", "receipt", "receipt", "half", "torn", "torn intent", "roll", "ingest"]),
        st.integers(1, 6),
    ),
    min_size=5,
    max_size=40,
)


def play(path: Path, script: list[tuple[str, int]], at: int, after: bool, error: type[BaseException]) -> bool:
    """Play one script with one failure; returns whether the failure happened."""
    journal_dir = path / "journal"
    journal_dir.mkdir(parents=True)
    world = World(journal_dir)
    store = open_store(path / "ledger.db")
    bomb = Bomb(at, error)
    ingest = Ingest(Fragile(store, bomb, after), journal_dir)
    unlink = Path.unlink

    def fragile_unlink(self: Path, missing_ok: bool = False) -> None:
        if after:
            unlink(self, missing_ok)
            bomb()
        else:
            bomb()
            unlink(self, missing_ok)

    def run() -> None:
        nonlocal ingest
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "unlink", fragile_unlink)
            try:
                ingest.run_once()
            except LedgerUnavailable:
                pass  # the same ingest tries again
            except Killed:
                ingest = Ingest(store, journal_dir)

    runs = iter(RUNS)
    current = next(runs)
    try:
        for action, number in script:
            if action == "ingest":
                run()
                continue
            world.act(action, current, number)
            if current in world.sequence and current not in world.segments:
                current = next(runs)  # a worker that died comes back under a new name
        world.stop(current)
        for _ in range(4):
            run()
        found = sorted((receipt.id, receipt.ended) for receipt in all_receipts(store))
        assert found == world.expected()
        assert os.listdir(journal_dir) == []
    finally:
        for segment in world.segments.values():
            segment.die()
        for table in world.tables.values():
            table.die()
        store.close()
    return bomb.left <= 0


SCRIPT = [
    ("intent", 1), ("intent", 2), ("receipt", 1), ("ingest", 1), ("roll", 1), ("receipt", 2), ("intent", 3), ("ingest", 1),
    ("intent", 4), ("receipt", 3), ("roll", 1), ("ingest", 1), ("torn", 4), ("intent", 1), ("receipt", 5), ("ingest", 1),
    ("intent", 2), ("half", 2), ("ingest", 1), ("intent", 3), ("torn intent", 6), ("ingest", 1),
]  # fmt: skip


@pytest.mark.parametrize("error", [Killed, LedgerUnavailable])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_step(tmp_path: Path, after: bool, error: type[BaseException]) -> None:
    at = 1
    while play(tmp_path / str(at), SCRIPT, at, after, error):
        at += 1
    assert at > 15  # the script makes the ingest do that many things that can fail


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=actions, at=st.integers(1, 30), after=st.booleans(), error=st.sampled_from([Killed, LedgerUnavailable]))
def test_any_script_any_failure(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, int]], at: int, after: bool, error: type[BaseException]
) -> None:
    play(tmp_path_factory.mktemp("play"), script, at, after, error)
