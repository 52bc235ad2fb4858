"""What limits cost and whether they hold: the gate with every kind of limit beside the gate with none, then peers' own limiters.

`python -m bench.limits` measures CPU per request in alternation, one worker and two, limits on and off: ratio and difference are
taken within a round, where the machine was in one mood. Then each limiter has a limit of 100 requests in a second, and clients
that ask for far more; counted is what got through in the worst window of a second, from the clients' own stamps (an admission
lies between asking and the answer's first byte, so what is called over the limit surely was). LiteLLM's limits are by the minute
only: it has two workers, Redis between them and 100 requests a minute, and its worst minute is counted, beside the gate's with
the same limit. It knows no limiter's inside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

from bench import machine, measure, wire
from bench.peers import gate, gateways, install, proxies
from bench.peers.contract import LOOPBACK, MissingError, Place, Start, Target
from bench.peers.install import find
from bench.report import Row, digits
from bench.running import Launch, Processes, Running, free_ports, mock
from tests.tools.windows import Span, could, surely

ALLOWED, CLIENTS, SECOND = 100, 32, 1_000_000
AIM_US = {1: 5.0, 2: 8.0}
"""At most how many microseconds of CPU all kinds of limits may add to a request, by the number of workers."""
KINDS = [
    "1G requests/minute",
    "1G requests/second burst 1G",
    "1G tokens/minute",
    "1G prompt tokens/hour",
    "1G completion tokens/hour",
    "1G tokens/day",
    "100k concurrent",
    "1M EUR/month",
    "1G gpu-seconds/day",
]
"""Every way to count, all of them on one request, in words as people write them; so high that none is ever reached."""
PLAN = {"currency": "EUR", "prices": {"*": {"prompt": "0.10/1M", "completion": "0.30/1M"}}}


def changed(target: Target, name: str, does: str, file: str, change: Callable[[str], str]) -> Target:
    """A target with another configuration file: what `change` makes of the text that it would start with."""

    def start(place: Place) -> Start:
        started = target.start(place)
        path = place.directory / file
        path.write_text(change(path.read_text()))
        return started

    return replace(target, name=name, does=does, start=start)


def limited(command: str | None, name: str, workers: int, limits: list[str]) -> Target:
    """The gate with so many workers and these limits on its one key."""

    def change(text: str) -> str:
        config: dict[str, Any] = json.loads(text) | {"workers": workers}
        # role, team and prices are there with limits and without, so that the difference is the limits' own
        config["roles"] = {"r": {"models": ["*"], "endpoints": ["*"], "limits": limits}}
        config["plans"], config["teams"] = {"p": PLAN}, {"t": {"plan": "p"}}
        config["keys"] = [{**each, "roles": ["r"], "team": "t"} for each in config["keys"]]
        return json.dumps(config, indent=1)

    return changed(gate.target(command), name, f"{workers} worker(s), {len(limits)} limits", "slmgate.yaml", change)


def peers() -> list[Target]:
    """Stock limiters of proxies, each told 100 requests a second in its own words."""
    known = {target.name: target for target in proxies.TARGETS}

    def nginx(text: str) -> str:
        return text.replace("rate=1000000r/s", f"rate={ALLOWED}r/s").replace(" burst=100000 nodelay", "")

    def nginx_burst(text: str) -> str:
        return nginx(text).replace("limit_req zone=keys", f"limit_req zone=keys burst={ALLOWED} nodelay")

    def envoy(text: str) -> str:
        return text.replace('"max_tokens": 1000000', f'"max_tokens": {ALLOWED}').replace(
            '"tokens_per_fill": 1000000', f'"tokens_per_fill": {ALLOWED}'
        )

    policies = "nginx+policies", "envoy+policies"
    return [
        changed(known[policies[0]], "nginx", f"limit_req rate={ALLOWED}r/s", "nginx.conf", nginx),
        changed(known[policies[0]], "nginx burst", f"limit_req burst={ALLOWED} nodelay", "nginx.conf", nginx_burst),
        changed(known[policies[1]], "envoy", f"local_ratelimit {ALLOWED} each 1s", "envoy.json", envoy),
    ]


def by_minute(command: str | None) -> list[Target]:
    """Those that are told 100 requests a minute: LiteLLM with Redis, and the gate under the same words."""
    known = {target.name: target for target in gateways.TARGETS}["litellm"]

    def litellm(place: Place) -> Start:
        redis = install.debian("redis-server", False)
        started = known.start(place)
        path = place.directory / "litellm.yaml"
        config = json.loads(path.read_text())
        config["model_list"][0]["litellm_params"]["rpm"] = ALLOWED
        config["router_settings"] = {
            "redis_host": LOOPBACK,
            "redis_port": place.spare,
            "optional_pre_call_checks": ["enforce_model_rate_limits"],
        }
        path.write_text(json.dumps(config, indent=1))
        line = [
            each.replace("1", "2") if before == "--num_workers" else each for before, each in pairwise(["", *started.command])
        ]
        beside = [redis, "--bind", LOOPBACK, "--port", str(place.spare), "--save", "", "--dir", str(place.directory)]
        return Start(["sh", "-c", f"{shlex.join(beside)} >redis.log & exec {shlex.join(line)}"], started.env, started.headers)

    def have(wanted: bool) -> str:
        install.debian("redis-server", wanted)
        return known.have(wanted)

    does = f"2 worker(s), rpm {ALLOWED}, enforce_model_rate_limits, Redis"
    return [
        limited(command, "slmgate, by the minute", 2, [f"{ALLOWED} requests/minute"]),
        replace(known, name="litellm", does=does, have=have, start=litellm),
    ]


def say(text: str) -> None:
    print(f"bench.limits: {text}", file=sys.stderr, flush=True)


class Run:
    """Targets that are up, and the rows that they fill."""

    def __init__(self, processes: Processes, directory: Path, seed: int, more: Sequence[str] = ()) -> None:
        self.processes, self.directory = processes, directory
        self.chance = random.Random(seed)
        self.upstream = mock(processes, directory, 10.0, more)
        self.rows: dict[str, Row] = {}

    def start(self, target: Target) -> Running | None:
        """One target, up and verified; None with the reason in its row when it cannot be had."""
        row = self.rows[target.name] = Row(target.name, target.does)
        port, spare = free_ports(2)
        try:
            row.version = target.have(True)
            return Launch(self.processes, target, Place(self.directory / target.name, port, self.upstream, spare)).wait()
        except MissingError as missing:
            row.reason = str(missing)
            say(f"{target.name}: {missing}")
            return None

    def cost(self, command: str | None, rounds: int, seconds: float) -> None:
        """CPU per request with and without limits, in alternation."""
        targets = [
            limited(command, f"{workers} worker(s), {on}", workers, KINDS if on == "on" else [])
            for workers in AIM_US
            for on in ("off", "on")
        ]
        self.alternate(targets, rounds, seconds)

    def alternate(self, targets: list[Target], rounds: int, seconds: float, between: Callable[[int], None] | None = None) -> None:
        """CPU per request of each, in an order of chance in each round; `between` is called with a round's number after it."""
        running = [one for target in targets if (one := self.start(target)) is not None]
        for number in range(rounds):
            order = self.chance.sample(running, len(running))
            say(f"cost, round {number + 1} of {rounds}: {' | '.join(one.name for one in order)}")
            for one in order:
                use_wrk = find("wrk") is not None
                row = self.rows[one.name]
                figures, row.processes = measure.requests(one, self.directory, seconds, use_wrk, warm=number == 0)
                row.put(number, figures)
            if between is not None:
                between(number)
        for one in running:
            self.processes.stop([each for each in self.processes.started if each.pid == one.pid])

    def more(self, without: str, with_it: str) -> list[tuple[float, float]]:
        """CPU per request of two rows, in us, round by round."""
        samples = [self.rows[name].samples.get("cpu_us", []) for name in (without, with_it)]
        return [(off, on) for off, on in zip(*samples, strict=False) if off and on]

    def cost_table(self) -> str:
        lines = ["workers | CPU us off | CPU us on | ratio | us more (smallest - largest) | aim"]
        for workers, aim in AIM_US.items():
            pairs = self.more(f"{workers} worker(s), off", f"{workers} worker(s), on")
            if not pairs:
                lines.append(f"{workers} | not measured: {self.rows[f'{workers} worker(s), on'].reason}")
                continue
            more = [on - off for off, on in pairs]
            off, on = (median(values) for values in zip(*pairs, strict=True))
            ratio = median(on / off for off, on in pairs)
            told = f"{median(more):.1f} ({min(more):.1f} - {max(more):.1f})"
            lines.append(f"{workers} | {digits(off)} | {digits(on)} | {ratio:.3f} | {told} | {aim:g}")
        for row in self.rows.values():
            parts = [f"{name} {digits(used)}" for name, used in row.processes.items()]
            lines += [f"{row.name}: {', '.join(parts)}"] if parts else []
        return "\n".join(lines)

    def exactness(self, targets: list[Target], seconds: float, window: int = 1) -> str:
        """What each lets through in the worst window of so many seconds, of a limit of 100 in one."""
        worst_of = "second" if window == 1 else f"{window} seconds"
        lines = [f"limiter | limit | passed in {seconds:g} s | worst {worst_of} | over | of what could pass"]
        for target in targets:
            if (one := self.start(target)) is None:
                lines.append(f"{target.name} | {target.does} | not measured: {self.rows[target.name].reason}")
                continue
            if window == 1:
                time.sleep(1.2)  # what verifying it took is out of every window
            asked = asyncio.run(press(one, seconds))
            passed = [span for span, status in asked if status == 200]
            worst = surely(passed, window * SECOND)
            possible = could(((span.first, 1) for span, _ in asked), ALLOWED, window * SECOND)
            over = f"{max(0, worst - ALLOWED)} %"  # of a hundred
            share = f"{100 * len(passed) / max(1, possible):.1f} %"
            lines.append(f"{target.name} | {target.does} | {len(passed)} | {worst} | {over} | {share}")
            self.processes.stop([each for each in self.processes.started if each.pid == one.pid])
        return "\n".join(lines)


class Client(asyncio.Protocol):
    """One connection that asks again about every 10 ms, whatever it is told; it comes back when it is closed."""

    def __init__(self, request: bytes, asked: list[tuple[Span, int]], until: float) -> None:
        self.request, self.asked, self.until = request, asked, until
        self.buffer = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.ask()

    def ask(self) -> None:
        if time.monotonic() > self.until:
            self.transport.close()
        elif not self.transport.is_closing():
            self.sent = time.monotonic()
            self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.buffer += data
        try:
            answer = wire.parse(self.buffer)
        except wire.IncompleteError:
            return
        except ValueError:
            self.transport.close()
            return
        self.buffer = self.buffer[answer.size :]
        self.asked.append((Span(int(self.sent * 1e6), int(now * 1e6) + 1), answer.status))
        asyncio.get_running_loop().call_later(0.01, self.ask)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.over.set_result(None)


async def press(one: Running, seconds: float) -> list[tuple[Span, int]]:
    """What `CLIENTS` clients asked, each from when to when, and the statuses that they got."""
    request = wire.request(one.port, wire.body(), extra=one.headers)
    asked: list[tuple[Span, int]] = []
    until = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < until:
            made = await asyncio.get_running_loop().create_connection(lambda: Client(request, asked, until), LOOPBACK, one.port)
            await made[1].over

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return asked


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description="what limits cost, and whether they hold")
    parser.add_argument("--quick", action="store_true", help="2 rounds of a second, not 7 of two; no limit by the minute")
    parser.add_argument("--only", choices=("cost", "exactness", "minute"), help="one of the three tables")
    parser.add_argument("--no-peers", action="store_true", help="the gate alone")
    parser.add_argument("--gate", help="command line that stands for `slmgate`")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the order in each round (default: from the clock)")
    given = parser.parse_args()
    machine.raise_nofile()
    about = ", ".join(f"{name} {value}" for name, value in machine.describe().items())
    print(f"limits: {about}; seed {given.seed}; {len(KINDS)} kinds of limits at once")
    with tempfile.TemporaryDirectory(prefix="slmgate-bench-") as name, Processes() as processes:
        run = Run(processes, Path(name), given.seed)
        if given.only in (None, "cost"):
            run.cost(given.gate, *((2, 1.0) if given.quick else (7, 2.0)))
            print(run.cost_table() + "\n")
        if given.only in (None, "exactness"):
            own = [
                limited(given.gate, f"slmgate, {workers} worker(s)", workers, [f"{ALLOWED} requests/second"])
                for workers in AIM_US
            ]
            print(run.exactness([*own, *([] if given.no_peers else peers())], 3.0 if given.quick else 10.0) + "\n")
        if given.only == "minute" or not (given.only or given.quick):
            minute = by_minute(given.gate)
            print(run.exactness(minute[:1] if given.no_peers else minute, 130.0, 60))
    return 0


if __name__ == "__main__":
    sys.exit(main())
