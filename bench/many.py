"""What a large configuration costs a request: the gate with one model and one instance beside the gate with 1,000 of each more.

`python -m bench.many` measures CPU per request in alternation, with no limits, on three files: `one` has the benchmark's model;
`models` has 1,000 models more, and `instances` gives the benchmark's model itself 1,000 instances more, that are all the mock
instance under other addresses. Health checks are off in them, for those cost by time, not by request: a fourth gate, `checked`,
is `models` with its checks on, and what they take while nobody asks is printed by itself. Beside them stands nginx with one
server in its upstream and with 1,001: a thousand connections cost the kernel and the processor something in any proxy. It
knows nothing of the gate's inside.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench import machine
from bench.limits import Run, changed
from bench.peers import gate, proxies
from bench.peers.contract import Target
from bench.running import Processes, Running
from bench.wire import MODEL

MANY = 1000
QUIET = 10.0
"""Seconds over which the CPU of health checks is taken."""
Models = dict[str, dict[str, Any]]


def address(number: int) -> str:
    """One of many addresses of the loopback network; a server that listens on any of them hears them all."""
    return f"127.3.{number // 250}.{number % 250 + 1}"


def more_models(models: Models, port: int) -> None:
    for number in range(MANY):
        models[f"model-{number}"] = {"instances": [{"url": f"http://{address(number)}:{port}"}]}


def more_instances(models: Models, port: int) -> None:
    models[MODEL]["instances"] += [{"url": f"http://{address(number)}:{port}"} for number in range(MANY)]


def no_more(_models: Models, _port: int) -> None:
    """The file as it is."""


def target(command: str | None, name: str, does: str, add: Callable[[Models, int], None], *, checks: bool = False) -> Target:
    def change(text: str) -> str:
        config = json.loads(text)
        models: Models = config["models"]
        port = int(models[MODEL]["instances"][0]["url"].rpartition(":")[2])
        add(models, port)
        for each in models.values():
            each |= {} if checks else {"health": "off"}
        return json.dumps(config)

    return changed(gate.target(command), name, does, "slmgate.yaml", change)


def nginx(name: str, does: str, more: int) -> Target:
    """nginx as the benchmark has it, without policies, with so many servers more behind it; all their connections are kept."""
    [plain] = [each for each in proxies.TARGETS if each.name == "nginx"]

    def change(text: str) -> str:
        server = text[text.index("server 127.0.0.1:") : text.index("keepalive 64;")]
        servers = [server, *(server.replace("127.0.0.1", address(number)) for number in range(more))]
        return text.replace(server, "".join(servers)).replace("keepalive 64;", f"keepalive {64 + more};")

    return changed(plain, name, does, "nginx.conf", change)


def used(running: Running, seconds: float) -> float:
    """The share of a CPU that its processes take, while nobody asks anything."""
    before, began = machine.cpu_us(machine.tree(running.pid)), time.monotonic()
    time.sleep(seconds)  # this is what is measured
    return (machine.cpu_us(machine.tree(running.pid)) - before) / 1e6 / (time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.many", description="what 1,000 models and instances cost a request")
    parser.add_argument("--quick", action="store_true", help="2 rounds of a second, not 7 of two")
    parser.add_argument("--gate", help="command line that stands for `slmgate`")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the order in each round (default: from the clock)")
    given = parser.parse_args()
    machine.raise_nofile()
    about = ", ".join(f"{name} {value}" for name, value in machine.describe().items())
    print(f"many: {about}; seed {given.seed}")
    files = [
        target(given.gate, "one", "1 model, 1 instance", no_more),
        target(given.gate, "models", f"{MANY + 1:,} models, an instance each", more_models),
        target(given.gate, "instances", f"1 model, {MANY + 1:,} instances", more_instances),
    ]
    checked = target(given.gate, "checked", "the same, each checked every 5 s", more_models, checks=True)
    with tempfile.TemporaryDirectory(prefix="slmgate-bench-") as name, Processes() as processes:
        run = Run(processes, Path(name), given.seed, [address(number) for number in range(MANY)])
        beside = [nginx("nginx, one", "1 server", 0), nginx("nginx, many", f"{MANY + 1:,} servers", MANY)]
        run.alternate([*files, *beside], *((2, 1.0) if given.quick else (7, 2.0)))
        print("file | it has | CPU us | ratio to one (smallest - largest)")
        for each in [*files, *beside]:
            pairs = run.more("nginx, one" if each in beside else "one", each.name)
            if not pairs:
                print(f"{each.name} | {each.does} | not measured: {run.rows[each.name].reason}")
                continue
            ratios = [with_it / without for without, with_it in pairs]
            told = f"{median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f})"
            print(f"{each.name} | {each.does} | {median(with_it for _, with_it in pairs):.1f} | {told}")
        running = run.start(checked)
        if running is not None:
            print(f"checks of {MANY + 1:,} instances: {100 * used(running, QUIET):.1f} % of a CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
