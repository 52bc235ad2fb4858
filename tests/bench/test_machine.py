"""What is read from /proc, on texts and on made-up trees; of this machine only that it can be read at all."""

from __future__ import annotations

import os

import pytest

from bench.machine import TICK_US, Stat, cpu_by_process, cpu_us, descend, parse_rss, parse_stat, tree

STAT = "{pid} ({name}) S {parent} 7 7 0 -1 4194560 900 100 0 0 {utime} {stime} {cutime} {cstime} 20 0 1 0 5000 1000 200 0"


def line(name: str) -> str:
    return STAT.format(pid=42, name=name, parent=7, utime=11, stime=22, cutime=3, cstime=4)


@pytest.mark.parametrize("name", ["nginx", "nginx: worker", "a) S 1 (b", "", "(sd-pam)"])
def test_a_stat_line_is_read_whatever_the_name_holds(name: str) -> None:
    assert parse_stat(line(name)) == Stat(42, name, 7, 33, 7)


def test_resident_memory_is_in_bytes() -> None:
    assert parse_rss("Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t     12 kB\nRssAnon:\t 5 kB\n") == 12 * 1024
    assert parse_rss("Name:\tzombie\nState:\tZ\n") == 0


def test_a_tree_is_the_root_and_all_below_it() -> None:
    stats = {pid: Stat(pid, "x", parent, 0, 0) for pid, parent in [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (13, 10)]}
    assert [stat.pid for stat in descend(stats, 10)] == [10, 11, 13, 12]
    assert descend(stats, 99) == []


def test_cpu_counts_children_that_have_ended() -> None:
    before = [Stat(10, "master", 1, 5, 0), Stat(11, "worker", 10, 100, 0)]
    after = [Stat(10, "master", 1, 6, 140), Stat(12, "worker", 10, 7, 0)]
    assert cpu_us(after) - cpu_us(before) == pytest.approx(48 * TICK_US)
    assert cpu_by_process(before, after) == [("master#10", 141 * TICK_US), ("worker#12", 7 * TICK_US)]


def test_idle_processes_are_left_out() -> None:
    same = [Stat(10, "master", 1, 5, 0)]
    assert cpu_by_process(same, same) == []


def test_this_process_is_there() -> None:
    assert tree(os.getpid())[0].pid == os.getpid()
