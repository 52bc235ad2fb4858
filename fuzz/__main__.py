"""`python -m fuzz`: runs the targets, each in a process of its own, and says how often each was run and what was found.

Coverage-guided by atheris (libFuzzer) where it is installed; its wheels are for x86-64 and CPython 3.11 to 3.13. Elsewhere, or
with `--plain`, by mutations of the seeds alone, and the report says so. It knows no target; see `targets`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import random
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from fuzz.mutate import mutated
from fuzz.targets import NAMES, target

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / ".fuzz"
"""What was found to lead somewhere new is kept here between runs, with the findings."""
SLOW = 5
"""Seconds after which one input is a finding."""
MEMORY = 2048
"""Megabytes after which one process is a finding: the fuzzer's own tables are the larger part of it."""
GRACE = 300
"""Seconds beside those asked for: what it begins with is run whole, however busy the machine is."""


class Outcome(NamedTuple):
    name: str
    runs: int
    finding: str
    """Empty: nothing was found. Else the end of what the process said, with the file of the input."""


def guided() -> bool:
    return importlib.util.find_spec("atheris") is not None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; all when none is named")
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--runs", type=int, default=0, help="inputs for each target; 0: as many as there is time for")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same inputs; 0: another every time")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--plain", action="store_true", help="by mutations alone")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where inputs are kept; findings are written there too")
    parser.add_argument("--input", type=Path, help="only try this file, with one target")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given, rest = parser.parse_known_args(argv)
    names = [name for name in given.targets if name in NAMES] or list(NAMES)
    if unknown := [*(name for name in given.targets if name not in NAMES), *rest]:
        parser.error(f"unknown: {' '.join(unknown)}")
    if given.input is not None:
        target(names[0]).check(given.input.read_bytes())
        return 0
    if given.child:
        os.nice(19)
        return one_plainly(names[0], given) if given.plain else one_guided(names[0], given)
    given.plain = given.plain or not guided()
    seed = given.seed or random.SystemRandom().randrange(1, 2**31)
    print(f"{'mutations of the seeds, no coverage' if given.plain else 'coverage-guided (atheris)'}, seed {seed}", flush=True)
    with ThreadPoolExecutor(given.jobs) as pool:
        outcomes = list(pool.map(lambda name: one(name, given, seed), names))
    return 1 if any(outcome.finding for outcome in outcomes) else 0


def one(name: str, given: argparse.Namespace, seed: int) -> Outcome:
    """Run one target in a process of its own."""
    folder = given.corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "fuzz", name, "--child", "--seconds", str(given.seconds), "--runs", str(given.runs)]
    words += ["--seed", str(seed), "--corpus", str(given.corpus), *(["--plain"] if given.plain else [])]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    child = subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        said, _ = child.communicate(timeout=given.seconds + GRACE)
        finding = "" if child.returncode == 0 else said[-4000:]
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
        finding = f"{said[-4000:]}\nit did not end in time"
    counted = re.findall(r"(?:stat::number_of_executed_units:|^#|Done) *([0-9]+)", said, re.MULTILINE)
    outcome = Outcome(name, max([int(number) for number in counted], default=0), finding)
    print(f"{name:14} {outcome.runs:>10,} inputs  {'FOUND:' if finding else 'nothing found'}", flush=True)
    if finding:
        print(finding, flush=True)
    return outcome


def seeded(name: str, given: argparse.Namespace) -> list[bytes]:
    """The seeds of a target, also written down where libFuzzer begins; it runs each of them first."""
    found = target(name)
    seeds = [seed[: found.largest] for seed in found.seeds()]
    for seed in seeds:
        (given.corpus / name / hashlib.sha256(seed).hexdigest()[:20]).write_bytes(seed)
    return seeds


def one_plainly(name: str, given: argparse.Namespace) -> int:
    seeds, found = seeded(name, given), target(name)
    chance, end, runs = random.Random(given.seed), time.monotonic() + given.seconds, 0
    while runs < len(seeds) or (time.monotonic() < end and not 0 < given.runs <= runs):
        data = seeds[runs] if runs < len(seeds) else mutated(seeds, chance, found.largest)
        runs += 1
        started = time.process_time()
        try:
            found.check(data)
            assert time.process_time() - started < SLOW, "one input takes too long"
        except BaseException:  # whatever it was, it goes on from here once its input is kept
            finding = given.corpus / f"crash-{name}-{hashlib.sha256(data).hexdigest()[:20]}"
            finding.write_bytes(data)
            print(f"the input is in {finding}", flush=True)
            raise
        if runs % 100 == 0:
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY * 1024, "the process has grown too large"
    print(f"Done {runs}")
    return 0


def one_guided(name: str, given: argparse.Namespace) -> int:
    import atheris  # here, where it is needed: it is not everywhere

    with atheris.instrument_imports(include=["slmgate"]):
        found = target(name)
    seeded(name, given)
    words = [
        "fuzz",
        str(given.corpus / name),
        f"-max_total_time={given.seconds}",
        f"-runs={given.runs or -1}",
        f"-seed={given.seed}",
        f"-max_len={found.largest}",
        f"-timeout={SLOW}",
        f"-rss_limit_mb={MEMORY}",
        f"-artifact_prefix={given.corpus}/crash-{name}-",
        "-print_final_stats=1",
        "-use_value_profile=0",
    ]
    atheris.Setup(words, found.check)
    atheris.Fuzz()  # does not come back: libFuzzer ends the process
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
