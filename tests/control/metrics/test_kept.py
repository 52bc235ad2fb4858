"""Counts in a file: what is written comes back, and what does not fit any more is left."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from slmgate.control.metrics.counting import Counts
from slmgate.control.metrics.families import OTHER
from slmgate.control.metrics.kept import kept_of, read, restore, write
from tests.control.metrics.test_counting import TIMED, counted


def test_there_and_back(tmp_path: Path) -> None:
    counts = counted(TIMED, TIMED | {"model": "n", "stream": True})
    write(tmp_path / "kept", kept_of(counts, 7, {"run": (1, 2)}, {"gate/0": "run"}))
    found = read(tmp_path / "kept")
    assert found is not None and (found.seq, found.workers, found.slots) == (7, {"run": (1, 2)}, {"gate/0": "run"})
    again = Counts()
    restore(found, again)
    assert again.copied()[0] == counts.copied()[0]
    for name, known in counts.histograms.items():
        assert {labels: (one.counts, one.sum) for labels, one in again.histograms[name].items()} == {
            labels: (one.counts, one.sum) for labels, one in known.items()
        }
    counted(TIMED, counts=again)
    assert again.copied()[0]["slmgate_requests_total"]["smollm2", "chat", "200", "complete"] == 2
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600


def test_what_was_beyond_a_bound_stays_there() -> None:
    before = counted({"principal": "a"}, {"principal": "b"}, counts=Counts(1))
    after = Counts(1)
    restore(kept_of(before, 0, {}, {}), after)
    counted({"principal": "a"}, {"principal": "b"}, {"principal": "c"}, counts=after)
    assert after.copied()[0]["slmgate_client_requests_total"] == {("a", "smollm2"): 2, (OTHER, "smollm2"): 3}


def test_families_that_are_made_otherwise_now() -> None:
    kept = kept_of(counted(TIMED), 0, {}, {})
    kept.counters["slmgate_gone_total"] = [(("x",), 1)]
    kept.counters["slmgate_bans_total"] = [(("x",), 1)]
    kept.histograms["slmgate_gone_seconds"] = [((), (1,), [1, 1], 5)]
    kept.histograms["slmgate_overhead_duration_seconds"] = [((), (1,), [1, 1], 5)]
    counts = Counts()
    restore(kept, counts)
    counters, histograms = counts.copied()
    assert counters["slmgate_bans_total"] == {} and histograms["slmgate_overhead_duration_seconds"] == {}
    assert counters["slmgate_requests_total"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"{}", b"\xff", b'{"seq":1,"counters":5,"histograms":{}}'])
def test_a_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "kept").write_bytes(content)
    assert read(tmp_path / "kept") is None


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "none" / "kept", kept_of(Counts(), 0, {}, {}))
    (tmp_path / "kept").mkdir()
    write(tmp_path / "kept", kept_of(Counts(), 0, {}, {}))
    assert msgspec.json.decode((tmp_path / "kept.new").read_bytes())["seq"] == 0
