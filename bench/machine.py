"""What the kernel says of processes and of this machine: CPU time, memory, children, cores, versions.

Everything is read from /proc (proc(5)), so no library is needed. This module starts and ends nothing, and knows
neither the proxies nor the load.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
"""Microseconds of one clock tick, the unit of /proc/<pid>/stat."""
_PR_SET_PDEATHSIG = 1


class Stat(NamedTuple):
    """The fields of /proc/<pid>/stat that count here. Times are clock ticks."""

    pid: int
    name: str
    parent: int
    own: int
    """utime + stime of all threads."""
    reaped: int
    """cutime + cstime: children that have ended and been waited for."""


def parse_stat(text: str) -> Stat:
    """Read one line of /proc/<pid>/stat. The name may hold spaces and brackets, so the last `)` ends it."""
    head, _, tail = text.rpartition(")")
    pid, _, name = head.partition(" (")
    fields = tail.split()  # fields[0] is field 3 of proc(5), the state
    return Stat(int(pid), name, int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))


def parse_rss(status: str) -> int:
    """Resident bytes from /proc/<pid>/status; 0 for a process that has none (a zombie)."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def descend(stats: dict[int, Stat], root: int) -> list[Stat]:
    """The process `root` and all that descend from it, parents first; empty when it is gone."""
    if root not in stats:
        return []
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found: list[Stat] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop(0)
        found.append(stats[pid])
        waiting.extend(children.get(pid, ()))
    return found


def tree(root: int) -> list[Stat]:
    """`root` and its descendants as they are now."""
    stats: dict[int, Stat] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                stat = parse_stat(Path(entry.path, "stat").read_text(errors="replace"))
            except OSError:  # it ended while we looked
                continue
            stats[stat.pid] = stat
    return descend(stats, root)


def cpu_us(stats: list[Stat]) -> float:
    """CPU microseconds that a tree has used so far, ended children included."""
    return sum(stat.own + stat.reaped for stat in stats) * TICK_US


def cpu_by_process(before: list[Stat], after: list[Stat]) -> list[tuple[str, float]]:
    """CPU microseconds between two samples of one tree, by process (`name`, figure), largest first, idle ones left out."""
    old = {stat.pid: stat for stat in before}
    rows = []
    for stat in after:
        start = old.get(stat.pid)
        used = (stat.own + stat.reaped - (start.own + start.reaped if start else 0)) * TICK_US
        if used > 0:
            rows.append((f"{stat.name}#{stat.pid}", used))
    return sorted(rows, key=lambda row: -row[1])


def rss_bytes(stats: list[Stat]) -> int:
    """Resident memory of a tree. Pages that two processes share count twice, as in `ps`."""
    total = 0
    for stat in stats:
        try:
            total += parse_rss(Path(f"/proc/{stat.pid}/status").read_text(errors="replace"))
        except OSError:
            continue
    return total


def settle(root: int, limit: float = 5.0) -> list[Stat]:
    """Wait until the tree is at rest (two looks 0.2 s apart, at most two ticks of work), at most `limit` seconds.

    Work that a proxy puts off (logs, receipts, metrics) so counts for the requests that caused it.
    """
    end = time.monotonic() + limit
    last = tree(root)
    while time.monotonic() < end:
        time.sleep(0.2)
        now = tree(root)
        if cpu_us(now) - cpu_us(last) <= 2 * TICK_US:
            return now
        last = now
    return last


def raise_nofile(wanted: int = 16_384) -> int:
    """Raise the soft limit of open files as far as `wanted` and the hard limit allow; returns what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return soft


def die_with_parent() -> Callable[[], None]:
    """A `preexec_fn` that has the kernel send SIGTERM to the child when the benchmark dies, however it dies."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def call() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return call


def describe() -> dict[str, str]:
    """The machine as a reader of the figures must know it."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "cpu": model,
        "memory": f"{int(memory) / 1048576:.1f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
