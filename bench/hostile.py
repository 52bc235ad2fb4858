"""Malformed and ambiguous requests through the gate and its peers: who makes of how many what must become of them.

`python -m bench.hostile` sends each case of `tests/tools/ambiguous.py`, on a connection of its own, through slmgate, nginx,
HAProxy and Envoy to an instance that records what reaches it, and prints how many each gets right in two readings
(`tests/tools/readings.py`): what no MUST of the RFCs forbids, and the safest choice. `--show NAME` prints every miss of one.
It measures no time; what the gate's own tests make of the table is `tests/system/test_ambiguous.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench import peers, wire
from bench.limits import changed
from bench.peers.contract import LOOPBACK, MissingError, Place, Target
from bench.running import Launch, Processes, free_ports
from tests.tools.ambiguous import Case, Sent, Table
from tests.tools.readings import Reading, Seen, fault, read_request

PATIENCE = 0.4
"""Seconds until a client that hears nothing stops sending, and again until it goes: what is no whole request has no answer."""
READINGS: tuple[Reading, ...] = ("rfc", "strict")


class Recorder:
    """An instance that answers every request that reads in one way, and writes down all that comes, on a thread a connection."""

    def __init__(self) -> None:
        self.listener = socket.create_server((LOOPBACK, 0), backlog=256)
        self.port = int(self.listener.getsockname()[1])
        self.lock = threading.Lock()
        self.clear()
        threading.Thread(target=self._accept, daemon=True).start()

    def clear(self) -> None:
        with self.lock:
            self.whole: list[Sent] = []
            self.unreadable: list[str] = []
            self.begun: set[int] = set()

    def seen(self) -> Seen:
        with self.lock:
            return Seen(list(self.whole), len(self.begun), list(self.unreadable))

    def _accept(self) -> None:
        while True:
            link, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            data = b""
            while more := link.recv(262144):
                data += more
                data = self._read(link, data)

    def _read(self, link: socket.socket, data: bytes) -> bytes:
        """Answer what is whole; what is left."""
        while data:
            try:
                got = read_request(data)
            except ValueError as wrong:
                with self.lock:
                    self.unreadable.append(str(wrong))
                raise OSError from wrong
            with self.lock:
                if got is None:
                    self.begun.add(id(link))
                    return data
                if not got[0].line.startswith("GET "):  # a check of the gate's own
                    self.begun.discard(id(link))
                    self.whole.append(got[0])
            body = wire.answer()
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            data = data[got[1] :]
        return data


def statuses(port: int, case: Case, wanted: int) -> list[int]:
    """The statuses of the answers, until there are as many as wanted, the connection ends, or nothing more is said."""
    found: list[int] = []
    data = b""
    with socket.create_connection((LOOPBACK, port), timeout=PATIENCE) as link:
        with contextlib.suppress(OSError):
            link.sendall(case.raw)
        quiet = 0
        while len(found) < wanted and quiet < 2:
            try:
                more = link.recv(262144)
            except TimeoutError:
                quiet += 1
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_WR)
                continue
            except OSError:
                break
            if not more:
                break
            data += more
            with contextlib.suppress(wire.IncompleteError, ValueError):
                while data:
                    if data.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
                        data = data.partition(b"\r\n\r\n")[2]
                        continue
                    answer = wire.parse(data)
                    found.append(answer.status)
                    data = data[answer.size :]
    if not found and data.startswith(b"HTTP/1.") and data[9:12].isdigit():
        found.append(int(data[9:12]))  # an answer that ends with its connection
    return found


def misses(port: int, table: Table, recorder: Recorder) -> Iterator[tuple[Case, dict[Reading, str]]]:
    """Every case, and what is wrong with what became of it in each reading."""
    for case in table.cases():
        recorder.clear()
        # one that hides another is looked at a while longer: the other may come late
        answers = statuses(port, case, 1 if case.becomes == "refused" and table.secret not in case.raw else 2)
        time.sleep(0.005)  # what a proxy sends on behind its answer: that nothing comes cannot be waited for
        status = answers[0] if answers else 0
        yield case, {reading: fault(table, case, recorder.seen(), status, reading) for reading in READINGS}


def targets(command: str | None) -> list[Target]:
    """The gate, the peers as they are, and HAProxy and Envoy told to be careful."""
    chosen = {target.name: target for target in peers.targets(command)}
    buffered = changed(
        chosen["haproxy"],
        "haproxy+buffer",
        "proxy only, http-buffer-request",
        "haproxy.cfg",
        lambda text: text.replace("  option http-no-delay\n", "  option http-no-delay\n  option http-buffer-request\n"),
    )
    edge = changed(chosen["envoy"], "envoy+edge", "proxy only, its edge guide, buffered", "envoy.json", _edge)
    return [chosen["slmgate"], chosen["nginx"], chosen["haproxy"], buffered, chosen["envoy"], edge, chosen["relay"]]


def _edge(text: str) -> str:
    """What Envoy's guide for the edge of a network asks for, and bodies that are whole before they go on."""
    config = json.loads(text)
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager |= {
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
    }
    buffer = {"@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": 1_000_000}
    manager["http_filters"].insert(0, {"name": "buffer", "typed_config": buffer})
    return json.dumps(config)


def run(chosen: list[Target], install: bool, show: str) -> str:
    table = Table(wire.SECRET.encode(), wire.MODEL)
    cases = table.cases()
    lines = [f"{len(cases)} cases | RFC reading | strict reading"]
    with tempfile.TemporaryDirectory(prefix="slmgate-hostile-") as name, Processes() as processes:
        recorder = Recorder()
        for target in chosen:
            try:
                version = target.have(install)
                own, spare = free_ports(2)
                port = _ready(processes, target, Place(Path(name) / target.name, own, recorder.port, spare))
            except MissingError as missing:
                lines.append(f"{target.name}: {missing}")
                continue
            right = dict.fromkeys(READINGS, 0)
            for case, wrong in misses(port, table, recorder):
                for reading, what in wrong.items():
                    right[reading] += not what
                    if what and target.name == show:
                        print(f"{reading}: {case.name} ({case.section}): {what}")
            told = " | ".join(f"{count}" for count in right.values())
            lines.append(f"{target.name} {version} ({target.does}) | {told}")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def _ready(processes: Processes, target: Target, place: Place) -> int:
    """Its port, once a plain request is answered through it."""
    place.directory.mkdir(parents=True, exist_ok=True)
    launch = Launch(processes, Target(target.name, target.does, False, target.have, target.start), place)
    return launch.wait().port


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m bench.hostile", description=sys.modules[__name__].__doc__)
    words.add_argument("--peers", help="which, by name: slmgate,nginx,... (default: all)")
    words.add_argument("--show", default="", metavar="NAME", help="print every case that this one gets wrong")
    words.add_argument("--gate", help="command line that stands for `slmgate`")
    words.add_argument("--no-install", action="store_true", help="leave out what is not installed")
    given = words.parse_args()
    chosen = targets(given.gate)
    if given.peers:
        chosen = [target for target in chosen if target.name in given.peers.split(",")]
    print(run(chosen, not given.no_install, given.show))


if __name__ == "__main__":
    main()
