"""What TLS costs: the gate beside nginx with the same certificate (ECDSA P-256), one worker each, in alternation.

`python -m bench.tls` measures CPU per request over kept TLS connections (wrk, 32 of them), the same without TLS, and
CPU per connection that is made for one request, with a full handshake and with a resumed one (TLS 1.3); less what the request
costs, that is the handshake. CPU is that of the target's process tree. nginx proxies to the same mock instance, and no more.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from bench import machine, measure, wire
from bench.limits import changed
from bench.peers import gate, proxies
from bench.peers.contract import LOOPBACK, MissingError, Place, Target
from bench.peers.install import find
from bench.running import ROOT, Launch, Processes, Running, free_ports, mock

CLIENTS = 4
"""Threads of the loader that make connections: what a handshake costs a target does not depend on how many wait for it."""
KINDS = ("plain", "request", "full", "resumed")
NAMES = {"plain": "request without TLS", "request": "request over TLS"}
AIMS = {"request": 1.5, "full": 2.5}
"""What of nginx's CPU the gate aims at."""
_NGINX_TLS = """listen 127.0.0.1:TLS ssl backlog=4096;
    ssl_certificate CERT; ssl_certificate_key KEY;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519:prime256v1:secp384r1; ssl_prefer_server_ciphers off;
    ssl_ciphers CIPHERS; ssl_session_cache off; ssl_session_tickets on;
    location / {"""
_CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"


def certificate(home: Path) -> tuple[Path, Path]:
    """A certificate of its own for 127.0.0.1, with its key."""
    made, key = home / "bench.pem", home / "bench.key"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    words += [
        "-subj",
        "/CN=bench",
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-out",
        str(made),
        "-keyout",
        str(key),
    ]
    subprocess.run(words, check=True, capture_output=True)
    return made, key


def targets(command: str | None, ports: dict[str, int], made: Path, key: Path) -> list[Target]:
    """Both, each with its usual plain listener, by which it is verified, and one with TLS."""

    def ours(text: str) -> str:
        config = json.loads(text)
        tls = {"certificates": [{"cert": str(made), "key": str(key)}]}
        config["listen"].append({"address": f"{LOOPBACK}:{ports['slmgate']}", "tls": tls})
        return json.dumps(config)

    def theirs(text: str) -> str:
        known = {"TLS": str(ports["nginx"]), "CERT": str(made), "KEY": str(key), "CIPHERS": _CIPHERS}
        added = _NGINX_TLS
        for name, value in known.items():
            added = added.replace(name, value, 1) if name != "TLS" else added.replace(":TLS ", f":{value} ")
        return text.replace("location / {", added)

    nginx = next(target for target in proxies.TARGETS if target.name == "nginx")
    return [
        changed(gate.target(command), "slmgate", "key, model, receipt, log", "slmgate.yaml", ours),
        changed(nginx, "nginx", "proxy only", "nginx.conf", theirs),
    ]


# --- the loader, a process of its own


def _visit(context: ssl.SSLContext, port: int, request: bytes, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """One connection and one request; raises ValueError for a wrong answer. The session to go on with."""
    with (
        socket.create_connection((LOOPBACK, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as link,
    ):
        link.sendall(request)
        data = b""
        while True:
            try:
                answer = wire.parse(data)
                break
            except wire.IncompleteError:
                more = link.recv(65536)
                if not more:
                    raise ValueError("the connection ended before the answer did") from None
                data += more
        if answer.status != 200 or link.session_reused != (session is not None):
            raise ValueError(f"status {answer.status}, resumed {link.session_reused}")
        return link.session


def load(port: int, seconds: float, resumed: bool) -> int:
    """How many connections were made and served."""
    request = wire.request(port, wire.body())
    counts: list[int] = []
    faults: list[str] = []
    until = time.monotonic() + seconds

    def client() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        count = 0
        try:
            session = _visit(context, port, request, None) if resumed else None
            while time.monotonic() < until:
                fresh = _visit(context, port, request, session)
                session = fresh if resumed else None
                count += 1
        except (OSError, ValueError) as fault:
            faults.append(repr(fault))
        counts.append(count)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise SystemExit(f"{len(faults)} of {CLIENTS} clients failed: {faults[0]}")
    return sum(counts)


# --- measuring


def _requests(scheme: str, port: int, directory: Path, seconds: float) -> int:
    """Through wrk, over kept connections; it verifies no certificate."""
    body, head = directory / "body.json", directory / "headers"
    body.write_bytes(wire.body())
    head.write_text("".join(f"{name}: {value}\n" for name, value in wire.headers().items()))
    command = [str(find("wrk")), "-t1", f"-c{measure.CONNECTIONS}", f"-d{seconds:.0f}s", "--timeout", "10s"]
    command += ["-s", str(ROOT / "bench/post.lua"), f"{scheme}://{LOOPBACK}:{port}{wire.PATH}", "--", str(body), str(head)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    found = next(json.loads(line[7:]) for line in said.splitlines() if line.startswith("RESULT "))
    if found["status"] or not found["requests"]:
        raise measure.LoadError(f"wrong answers under load: {found}")
    return int(found["requests"])


def cost(running: Running, port: int, kind: str, directory: Path, seconds: float) -> float:
    """CPU microseconds of the target for one request, or for one connection with one request."""
    before = machine.settle(running.pid)
    if kind == "plain":
        count = _requests("http", running.port, directory, seconds)
    elif kind == "request":
        count = _requests("https", port, directory, seconds)
    else:
        command = [sys.executable, "-m", "bench.tls", "--load", str(port), kind, str(seconds)]
        count = int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout)
    return (machine.cpu_us(machine.settle(running.pid)) - machine.cpu_us(before)) / count


def table(samples: dict[str, dict[str, list[float]]]) -> str:
    """Medians, and ratios within a round."""
    lines = ["what | slmgate us | nginx us | ratio (smallest - largest) | aim | a CPU second: slmgate, nginx"]
    for kind in KINDS:
        pairs = list(zip(samples["slmgate"][kind], samples["nginx"][kind], strict=True))
        ours, theirs = (median(values) for values in zip(*pairs, strict=True))
        ratios = sorted(one / other for one, other in pairs)
        told = f"{median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f})"
        name = NAMES.get(kind, f"{kind} handshake")
        rate = f"{1e6 / ours:,.0f}, {1e6 / theirs:,.0f}"
        lines.append(f"{name} | {ours:.1f} | {theirs:.1f} | {told} | {AIMS.get(kind, '')} | {rate}")
    return "\n".join(lines)


def run(command: str | None, seed: int, rounds: int, seconds: float) -> str:
    chance = random.Random(seed)
    samples: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="slmgate-bench-") as name, Processes() as processes:
        home = Path(name)
        upstream = mock(processes, home, 10.0)
        ports = dict(zip(("slmgate", "nginx"), free_ports(2), strict=True))
        up: list[Running] = []
        for target in targets(command, ports, *certificate(home)):
            version = target.have(True)
            port, spare = free_ports(2)
            started = Launch(processes, target, Place(home / target.name, port, upstream, spare)).wait()
            print(f"tls: {target.name} {version}: {target.does}", file=sys.stderr)
            samples[target.name] = {kind: [] for kind in KINDS}
            up.append(started)
        for number in range(rounds):
            for one in chance.sample(up, len(up)):
                found = {kind: cost(one, ports[one.name], kind, home, seconds) for kind in KINDS}
                for kind, used in found.items():
                    samples[one.name][kind].append(used if kind in NAMES else used - found["request"])
                print(f"tls: round {number + 1} of {rounds}: {one.name} {found}", file=sys.stderr)
    return table(samples)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tls", description="what TLS costs, beside nginx")
    parser.add_argument("--quick", action="store_true", help="2 rounds of a second, not 7 of two")
    parser.add_argument("--gate", help="command line that stands for `slmgate`")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the order in each round (default: from the clock)")
    parser.add_argument("--load", nargs=3, metavar=("PORT", "KIND", "SECONDS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    machine.raise_nofile()
    if given.load:
        print(load(int(given.load[0]), float(given.load[2]), given.load[1] == "resumed"))
        return 0
    about = ", ".join(f"{name} {value}" for name, value in machine.describe().items())
    print(f"tls: {about}; {ssl.OPENSSL_VERSION}; seed {given.seed}")
    try:
        print(run(given.gate, given.seed, *((2, 1.0) if given.quick else (7, 2.0))))
    except MissingError as missing:
        print(f"not measured: {missing}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
