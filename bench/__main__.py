"""`python -m bench`: brings the targets, starts them, measures them in alternation, prints the tables, writes the JSON.

The order within each round is shuffled with a printed seed; all targets run all the time, one is loaded at a time.
What is measured and how is in `measure` and `report`; this file is the plan, the clock and the command line.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench import machine, measure, peers
from bench.peers.contract import MissingError, Place, Target
from bench.peers.install import debian, find
from bench.report import Page, Row
from bench.running import Launch, Processes, Running, free_ports, mock


class Plan:
    """How long and how often. Times are seconds."""

    def __init__(self, quick: bool, streams: int | None) -> None:
        self.rounds = 2 if quick else 7
        self.load = 1 if quick else 2
        self.latency_rounds = 1 if quick else 3
        self.latency = 0.4 if quick else 1.0
        self.stream_rounds = 1 if quick else 3
        self.stream_window = 1.5 if quick else 4.0
        self.streams = streams or (200 if quick else 1000)
        self.chunks = 10.0
        """Events per second and stream."""
        self.ramp = 5.0 if quick else 15.0
        self.budget = 90.0 if quick else 600.0
        """No round begins that would end later, judged by the one before it."""


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Bench:
    """One run: the rows that it fills, the targets that are up, the time that it may take."""

    def __init__(self, processes: Processes, plan: Plan, directory: Path, seed: int) -> None:
        self.processes = processes
        self.plan = plan
        self.directory = directory
        self.chance = random.Random(seed)
        self.rows: dict[str, Row] = {}
        self.running: list[Running] = []
        self.direct = Row("direct", "no proxy")
        self.upstream = 0
        self.end = 0.0

    def bring(self, targets: list[Target], install: bool) -> None:
        """Install what is missing and may be; a row with its reason for what cannot be had."""
        for target in targets:
            row = self.rows[target.name] = Row(target.name, target.does)
            try:
                row.version = target.have(install)
            except MissingError as missing:
                row.reason = str(missing)

    def start(self, targets: list[Target]) -> None:
        """Start all that are there; the time that the run may take counts from here."""
        self.end = time.monotonic() + self.plan.budget
        self.upstream = mock(self.processes, self.directory, self.plan.chunks)
        present = [target for target in targets if not self.rows[target.name].reason]
        ports = free_ports(2 * len(present))
        places = [Place(self.directory / target.name, ports.pop(), self.upstream, ports.pop()) for target in present]
        for launch in [Launch(self.processes, target, place) for target, place in zip(present, places, strict=True)]:
            row = self.rows[launch.target.name]
            try:
                running = launch.wait()
            except MissingError as missing:
                row.reason = str(missing)
                say(f"{row.name}: {row.reason}")
                continue
            row.notes += running.notes
            self.running.append(running)

    def alternate(self, what: str, rounds: int, each: Callable[[int, Running], None]) -> int:
        """Call `each` for every running target in a new order each round; returns the rounds that there was time for."""
        longest = 0.0
        for number in range(rounds):
            begun = time.monotonic()
            if number and begun + longest > self.end:
                say(f"{what}: {number} of {rounds} rounds, the time is up")
                return number
            order = self.chance.sample(self.running, len(self.running))
            say(f"{what}, round {number + 1} of {rounds}: {' '.join(running.name for running in order)}")
            for running in order:
                try:
                    each(number, running)
                except measure.LoadError as failed:
                    self.note(running, f"{what}: {failed}")
            longest = max(longest, time.monotonic() - begun)
        return rounds

    def note(self, running: Running, text: str) -> None:
        notes = self.rows[running.name].notes
        if text not in notes:
            notes.append(text)

    def requests(self, use_wrk: bool) -> int:
        def each(number: int, running: Running) -> None:
            row = self.rows[running.name]
            figures, row.processes = measure.requests(running, self.directory, self.plan.load, use_wrk, warm=number == 0)
            row.put(number, figures)
            if running.slow:
                self.note(running, f"CPU and rate measured with {measure.FEW} connections")

        return self.alternate("requests", self.plan.rounds, each)

    def latency(self) -> int:
        straight = Running.straight(self.upstream)

        def each(number: int, running: Running) -> None:
            if len(self.direct.samples.get("p50_us", ())) <= number:
                self.direct.put(number, measure.latency(straight, self.plan.latency))
            self.rows[running.name].put(number, measure.latency(running, self.plan.latency))

        return self.alternate("latency", self.plan.latency_rounds, each)

    def streams(self) -> int:
        straight = Running.straight(self.upstream)
        counts: dict[str, int] = {}

        def each(number: int, running: Running) -> None:
            if not running.streams:
                return
            if len(self.direct.samples.get("chunks_s", ())) <= number:
                figures = measure.streams(straight, self.plan.streams, self.plan.stream_window, self.plan.ramp)
                self.direct.put(number, {name: figures[name] for name in ("chunk_p50_us", "chunk_p99_us", "chunks_s")})
            count = counts.setdefault(running.name, self._affordable(running))
            # one that cannot start so many gets a tenth, and again a tenth, and the table says how many it had
            while True:
                try:
                    figures = measure.streams(running, count, self.plan.stream_window, self.plan.ramp)
                    break
                except measure.LoadError as failed:
                    self.note(running, f"streams: {failed}")
                    count //= 10
                    counts[running.name] = count
                    if count < 10 or time.monotonic() > self.end:
                        running.streams = False  # not in later rounds either
                        return
            self.rows[running.name].put(number, figures)

        return self.alternate("streams", self.plan.stream_rounds, each)

    def _affordable(self, running: Running) -> int:
        """As many streams as it can begin in time, judged by its CPU per request where that was measured: all, a tenth ..."""
        count = self.plan.streams
        cost = self.rows[running.name].middle("cpu_us") or 0.0
        while count > 10 and cost * count / 1e6 > self.plan.ramp / 2:
            self.note(running, f"to begin {count} streams would take it {cost * count / 1e6:.0f} s of CPU: fewer were opened")
            count //= 10
        return count


def interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="slmgate beside its peers on this machine")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, 200 streams: under two minutes")
    parser.add_argument("--only", default="requests,latency,streams", help="what to measure: requests,latency,streams")
    parser.add_argument("--peers", help="which targets, by name: slmgate,nginx,... (default: all)")
    parser.add_argument("--json", type=Path, default=Path("bench/results/latest.json"), help="where the JSON goes (%(default)s)")
    parser.add_argument("--no-install", action="store_true", help="leave out what is not installed")
    parser.add_argument("--gate", help="command line that stands for `slmgate`")
    parser.add_argument("--streams", type=int, help="streams at once (default 1000, with --quick 200)")
    parser.add_argument("--seed", type=int, help="of the order in each round (default: from the clock)")
    parser.add_argument("--own-loader", action="store_true", help="do not use wrk, even where it is installed")
    given = parser.parse_args(words)
    given.only = set(given.only.split(","))
    unknown = given.only - {"requests", "latency", "streams"}
    if unknown:
        parser.error(f"--only knows requests, latency and streams, not {', '.join(sorted(unknown))}")
    return given


def choose(names: str | None, known: list[Target]) -> list[Target]:
    """The targets of `--peers`, in the table's order; ends the program when a name is unknown."""
    if names is None:
        return known
    wanted = set(names.split(","))
    unknown = wanted - {target.name for target in known}
    if unknown:
        sys.exit(f"--peers: no target {', '.join(sorted(unknown))}; there are {', '.join(target.name for target in known)}")
    return [target for target in known if target.name in wanted]


def main(words: list[str] | None = None) -> int:
    given = parse(words)
    targets = choose(given.peers, peers.targets(given.gate))
    plan = Plan(given.quick, given.streams)
    seed = given.seed if given.seed is not None else int(time.time())
    about = machine.describe()
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    say(f"{', '.join(f'{name} {value}' for name, value in about.items())}; seed {seed}; open files {machine.raise_nofile()}")
    signal.signal(signal.SIGTERM, interrupted)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slmgate-bench-") as name, Processes() as processes:
        bench = Bench(processes, plan, Path(name), seed)
        bench.bring(targets, not given.no_install)
        use_wrk = not given.own_loader and _have_wrk(not given.no_install)
        bench.start(targets)
        rounds = {}
        if "requests" in given.only:
            rounds["requests"] = bench.requests(use_wrk)
        if "latency" in given.only:
            rounds["latency"] = bench.latency()
        if "streams" in given.only:
            rounds["streams"] = bench.streams()
    settings = {
        "date": date,
        "seed": seed,
        "rounds": rounds,
        "loader": "wrk" if use_wrk else "bench.load",
        "connections": measure.CONNECTIONS,
        "seconds": round(time.monotonic() - begun),
        "plan": vars(plan),
    }
    page = Page(list(bench.rows.values()), bench.direct, about, settings)
    print(heading(page, seed))
    print(page.text())
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(page.data(), indent=1) + "\n")
    say(f"all samples are in {given.json}")
    return 0


def _have_wrk(install: bool) -> bool:
    try:
        debian("wrk", install)
    except MissingError as missing:
        say(f"wrk: {missing}; the benchmark's own loader stands in, which tires before the fastest targets do")
    return find("wrk") is not None


def heading(page: Page, seed: int) -> str:
    """What a reader must know before the figures: when, where, what versions, how to repeat it."""
    versions = ", ".join(f"{row.name} {row.version}" for row in page.rows if row.version)
    about = ", ".join(f"{name} {value}" for name, value in page.machine.items())
    words = [word for word in sys.argv[1:] if not word.startswith("--seed")]
    repeat = shlex.join(["python", "-m", "bench", *words, f"--seed={seed}"])
    return (
        f"slmgate benchmark of {page.settings['date']}\n- machine: {about}\n- versions: {versions}\n"
        f"- loader: {page.settings['loader']}, {page.settings['connections']} connections; rounds: {page.settings['rounds']}; "
        f"{page.settings['seconds']} s\n- repeat: {repeat}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
