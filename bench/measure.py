"""One measurement of one running target: CPU and rate under load, latency with little, streams by the thousand.

Each function loads one target for a stated time and returns figures by name. CPU is that of the target's process
tree, from just before the load until the tree is at rest again. Nothing here decides order or number of rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import machine, wire
from bench.peers.install import find
from bench.running import ROOT, Running

CONNECTIONS = 32
"""Connections of the CPU and rate measurement: enough to keep any target busy."""
FEW = 4
"""Connections for a target that answers fewer than a hundred a second: its queue would outlast the measurement."""
Figures = dict[str, float | None]


class LoadError(Exception):
    """The target gave wrong answers or none; the text says which."""


def _load(running: Running, *words: str, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.load", words[0], str(running.port), *words[1:]]
    found: dict[str, float] = json.loads(_run([*command, "--headers", json.dumps(running.headers)], seconds))
    return found


def _run(command: list[str], seconds: float) -> str:
    """Run a loader to its end; what it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        preexec_fn=machine.die_with_parent(),
    )
    if done.returncode:
        raise LoadError(f"the loader failed: {done.stderr.strip()[-200:]}")
    return done.stdout


def _wrk(running: Running, directory: Path, connections: int, seconds: float) -> dict[str, float]:
    """The same through wrk. It counts statuses over 399; a wrong length shows in the bytes of all answers together."""
    body, head = directory / "body.json", directory / f"headers-{running.name}"
    body.write_bytes(wire.body())
    headers = wire.headers(extra=running.headers)
    head.write_text("".join(f"{name}: {value}\n" for name, value in headers.items()))
    command = [str(find("wrk")), "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "10s"]
    command += ["-s", str(ROOT / "bench/post.lua"), f"http://127.0.0.1:{running.port}{wire.PATH}", "--", str(body), str(head)]
    for line in _run(command, seconds).splitlines():
        if line.startswith("RESULT "):
            found: dict[str, float] = json.loads(line[7:])
            return found
    raise LoadError("wrk ended without a result")


def requests(running: Running, directory: Path, seconds: float, use_wrk: bool, *, warm: bool) -> tuple[Figures, dict[str, float]]:
    """`cpu_us` per request and `rps` with `CONNECTIONS` closed loops; and CPU microseconds per request by process."""
    if warm:
        first = _load(running, "requests", str(FEW), "--seconds", "0.5", "--warm", "0", seconds=0.5)
        running.slow = first["requests"] < 50
    connections, seconds = (FEW, max(seconds, 3)) if running.slow else (CONNECTIONS, seconds)
    before = machine.settle(running.pid)
    if use_wrk:
        found = _wrk(running, directory, connections, seconds)
        count, took = found["requests"], found["microseconds"] / 1e6
        if count and (found["status"] or found["broken"] > connections or abs(found["bytes"] / count / running.size - 1) > 0.05):
            raise LoadError(f"wrong answers under load: {found}, a right one has {running.size} bytes")
    else:
        found = _load(running, "requests", str(connections), "--seconds", str(seconds), "--warm", "0", seconds=seconds)
        count, took = found["requests"], found["seconds"]
        if found["errors"]:
            raise LoadError(f"wrong answers under load: {found}")
    after = machine.settle(running.pid)
    if not count:
        raise LoadError("no answer under load")
    processes = {name: used / count for name, used in machine.cpu_by_process(before, after)}
    return {"cpu_us": (machine.cpu_us(after) - machine.cpu_us(before)) / count, "rps": count / took}, processes


def latency(running: Running, seconds: float) -> Figures:
    """`p50_us` and `p99_us` of one request at a time over one connection."""
    found = _load(running, "requests", "1", "--seconds", str(seconds), seconds=seconds)
    if found["errors"] or not found["requests"]:
        raise LoadError(f"wrong answers one at a time: {found}")
    return {"p50_us": found["p50_us"], "p99_us": found["p99_us"]}


def streams(running: Running, count: int, seconds: float, ramp: float) -> Figures:
    """`chunk_us` of CPU per event, `chunk_p50_us` and `chunk_p99_us` from the instance's write to the client's read, `chunks_s`,
    `rss_mib` of the tree while all `streams` are open. Raises `LoadError` when not all of them begin within `ramp` seconds."""
    machine.settle(running.pid, 15)  # one that fell behind before must first come to rest
    command = [sys.executable, "-m", "bench.load", "streams", str(running.port), str(count), "--ramp", str(ramp)]
    loader = subprocess.Popen(
        [*command, "--headers", json.dumps(running.headers)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=machine.die_with_parent(),
    )
    assert loader.stdin is not None  # it is a pipe, as asked for
    assert loader.stdout is not None
    try:
        begun = int((loader.stdout.readline().split() or ["", "0"])[-1])
        if begun < count:
            loader.communicate("0\n", timeout=30)
            raise LoadError(f"{begun} of {count} streams had begun after {ramp:.0f} s")
        before = machine.tree(running.pid)
        loader.stdin.write(f"{seconds}\n")
        loader.stdin.flush()
        loader.stdout.readline()
        after = machine.tree(running.pid)
        memory = machine.rss_bytes(after)
        out, _ = loader.communicate("leave\n", timeout=30)
    finally:
        if loader.poll() is None:
            loader.kill()
            loader.wait()
    found = json.loads(out)
    if found["errors"] or not found["events"]:
        raise LoadError(f"broken streams: {found}")
    return {
        "chunk_us": (machine.cpu_us(after) - machine.cpu_us(before)) / found["events"],
        "chunk_p50_us": found["p50_us"],
        "chunk_p99_us": found["p99_us"],
        "chunks_s": found["events"] / found["seconds"],
        "rss_mib": memory / 1048576,
        "streams": count,
    }
