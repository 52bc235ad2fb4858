"""`make observe`: a gate with a real small model, two clients that ask it something now and then, and Prometheus over both.

All of it runs on loopback with its files in a temporary directory, until Ctrl-C; then it is ended in order and nothing is left.
Prometheus has the configuration and the rules of `deploy/prometheus`, but looks more often. Grafana is not started: what is
printed says how to bring it, pointed at this Prometheus. It knows nothing of an installation beside it.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import httpx
import yaml

from slmgate.cli import engine
from slmgate.cli.children import Child, ChildFailed
from slmgate.cli.demo import free_port

HERE = Path(__file__).resolve().parent
ENGINE_SECONDS, GATE_SECONDS, PROMETHEUS_SECONDS = 240.0, 60.0, 60.0
PAUSE = 3.0
"""Seconds between two requests of the clients."""
CONFIG = """\
listen: [{{address: "127.0.0.1:{gate}"}}]
admin: {{address: "127.0.0.1:{admin}"}}
state_dir: "{home}/state"
models:
  {model}:
    instances: [{{url: "{engine}", engine: llamacpp}}]
    limits: [30 requests/minute, 1M tokens/day]
"""
GRAFANA = """\
Prometheus   {prometheus}/graph
alerts       {prometheus}/alerts
the gate     {gate}   (a chat every few seconds, from two clients)

Grafana, with Docker:

  docker run --rm --network host -e GF_AUTH_ANONYMOUS_ENABLED=true \\
    -v {provisioning}:/etc/grafana/provisioning:ro \\
    -v {dashboards}:/var/lib/grafana/dashboards/slmgate:ro grafana/grafana

  and then http://127.0.0.1:3000/d/slmgate-overview

In a Grafana that you have: add a data source of the type Prometheus with the URL {prometheus},
and import the files in {dashboards}.
docs/observability.md tells how to set it up for good.
"""


class Failed(Exception):
    """A step did not do what it must; the message says which."""


def say(text: str) -> None:
    print(text, flush=True)


def until(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for `done`, which may fail to connect until then. Raises `Failed`."""
    end = time.monotonic() + seconds
    while True:
        try:
            if done():
                return
        except httpx.TransportError:
            pass  # it is not up yet
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)  # a process of its own starts: there is nothing to wait on but its answer


def command(config: Path, *arguments: str) -> str:
    """What `slmgate ARGUMENTS...` prints. Raises `Failed`."""
    line = [sys.executable, "-m", "slmgate", *arguments, "--json", "-c", str(config)]
    done = subprocess.run(line, capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=60, check=False)
    if done.returncode:
        raise Failed(f"`slmgate {' '.join(arguments)}` ended with {done.returncode}:\n{done.stderr or done.stdout}")
    return str(json.loads(done.stdout)["secret"])


@contextmanager
def clients(gate: str, secrets: list[str]) -> Iterator[None]:
    """Somebody asks all the while: streams and whole answers by turns, and seldom with a wrong key or for an unknown model."""
    over = threading.Event()

    def ask() -> None:
        turn = 0
        with httpx.Client(base_url=gate, timeout=60, trust_env=False) as web:
            while not over.wait(PAUSE if turn else 0.0):
                turn += 1
                secret = "sk-slm-this-key-does-not-exist" if turn % 10 == 0 else secrets[turn % len(secrets)]
                model = "no-such-model" if turn % 15 == 0 else engine.MODEL
                body = {"model": model, "max_tokens": 24, "stream": turn % 4 > 0}
                asked = {**body, "messages": [{"role": "user", "content": f"Tell me something about the number {turn}."}]}
                try:
                    web.post("/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {secret}"})
                except httpx.HTTPError as failure:
                    say(f"a client: {failure!r}")

    asking = threading.Thread(target=ask, daemon=True)  # so that a slow answer holds up no end
    asking.start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def prometheus(program: str, home: Path, admin: str, secret: str) -> Iterator[str]:
    """Prometheus over the gate's admin listener, for as long as the block lasts; its address."""
    home.mkdir()
    config = yaml.safe_load((HERE / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
    del config["alerting"]  # nobody is to be called
    config["scrape_configs"][0]["static_configs"] = [{"targets": [admin.removeprefix("http://")]}]
    (home / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    shutil.copy(HERE / "prometheus" / "alerts.yml", home)
    (home / "slmgate.key").write_text(secret, encoding="utf-8")
    at = f"127.0.0.1:{free_port(9090)}"
    log = home / "prometheus.log"
    line = [program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={at}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            line,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us
        )
    try:

        def scraped() -> bool:
            if process.poll() is not None:
                raise Failed(f"prometheus ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
            answer = httpx.get(
                f"http://{at}/api/v1/query", params={"query": 'up{job="slmgate"} == 1'}, timeout=5, trust_env=False
            )
            return answer.status_code == httpx.codes.OK and bool(answer.json()["data"]["result"])

        until(scraped, PROMETHEUS_SECONDS, "Prometheus has figures of the gate")
        yield f"http://{at}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def provisioning(home: Path, address: str) -> Path:
    """A copy of Grafana's provisioning that is pointed at this Prometheus."""
    made = home / "provisioning"
    shutil.copytree(HERE / "grafana" / "provisioning", made)
    file = made / "datasources" / "slmgate.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("http://127.0.0.1:9090", address), encoding="utf-8")
    return made


def observe(home: Path, stack: ExitStack) -> None:
    """Start one after the other, say where it is, and stay. Raises `Failed` and `ChildFailed`."""
    program = shutil.which("prometheus")
    if program is None:
        raise Failed("there is no program `prometheus`; on Debian or Ubuntu: apt-get install prometheus")
    say("loading the model ...")
    model = stack.enter_context(Child("llama.cpp", "slmgate.cli.engine", [], home / "engine.log"))
    address = model.wait_for(r"(http://\S+)", ENGINE_SECONDS)
    config = home / "slmgate.yaml"
    ports = {"gate": free_port(8080), "admin": free_port(8081)}
    config.write_text(CONFIG.format(home=home, model=engine.MODEL, engine=address, **ports), encoding="utf-8")
    say("starting the gate ...")
    child = stack.enter_context(Child("the gate", "slmgate", ["serve", "-c", str(config)], home / "gate.log"))
    gate = child.wait_for(r".*gate listening on (http://\S+)", GATE_SECONDS)
    admin = child.wait_for(r".*admin listening on (http://\S+)", GATE_SECONDS)
    until(lambda: httpx.get(f"{admin}/readyz", timeout=5, trust_env=False).is_success, GATE_SECONDS, "the gate is ready")
    secrets = [command(config, "keys", "create", "--name", name) for name in ("desk", "batch")]
    stack.enter_context(clients(gate, secrets))
    say("starting Prometheus ...")
    secret = command(config, "admin", "keys", "create", "--name", "prometheus", "--role", "viewer")
    where = stack.enter_context(prometheus(program, home / "prometheus", admin, secret))
    folder = HERE / "grafana" / "dashboards"
    say("\n" + GRAFANA.format(prometheus=where, gate=gate, provisioning=provisioning(home, where), dashboards=folder))
    say("Everything runs until you press Ctrl-C.")
    while child.process.poll() is None:
        time.sleep(0.5)  # until Ctrl-C: only the death of the gate is looked for
    raise Failed(f"the gate ended with {child.process.returncode}.\n{child.tail()}")


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)  # so that the children are ended then, too
    with tempfile.TemporaryDirectory(prefix="slmgate-observe-") as home, ExitStack() as stack:
        try:
            observe(Path(home), stack)
        except KeyboardInterrupt:
            say("\nstopping")
        except (Failed, ChildFailed) as failure:
            print(failure, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
