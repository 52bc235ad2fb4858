"""A real Prometheus and a real Alertmanager with the files of `deploy/prometheus`, and a receiver for what they send.

What a test may not wait for is shortened in copies (how often is scraped, how long something must last before it is told); all
else is what users get. It knows HTTP and the programs' own API, nothing of what the metrics mean.
"""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.tools.gate import ROOT, eventually, free_port
from tests.tools.parent import die_with_parent

FILES = ROOT / "deploy" / "prometheus"


class _Program:
    """A server in a process of its own, ready when made; it ends with the test run at the latest."""

    def __init__(self, command: list[str], home: Path, url: str) -> None:
        self.web = httpx.Client(base_url=url, timeout=10, trust_env=False)
        self.log = home / f"{command[0]}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=home, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
            )
        try:
            eventually(self._ready, 30, f"{command[0]} is ready", 0.1)
        except BaseException:  # an interrupt, too, must leave no process behind
            self.close()
            raise

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        try:
            return self.web.get("/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self.web.close()
        self.process.terminate()
        self.process.wait(20)


class Prometheus(_Program):
    """Scrapes the admin listener on the port `admin` every half second, with `secret`, by deploy's own configuration and rules.

    `patience` replaces how long the rules want a thing to last; None leaves them as they are.
    """

    def __init__(self, home: Path, admin: int, secret: str, alertmanager: int = 9, patience: str | None = None) -> None:
        home.mkdir(exist_ok=True)
        (home / "slmgate.key").write_text(secret)
        rules = (FILES / "alerts.yml").read_text()
        if patience is not None:
            rules = re.sub(r"^( +for:) \w+$", rf"\1 {patience}", rules, flags=re.MULTILINE)
        (home / "alerts.yml").write_text(rules)
        config = yaml.safe_load((FILES / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{admin}"]}]
        config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{alertmanager}"]}]
        (home / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.port = free_port()
        at = f"127.0.0.1:{self.port}"
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={at}"]
        super().__init__([*command, "--log.level=warn"], home, f"http://{at}")

    def get(self, path: str, **asked: Any) -> Any:
        """What its API answers; a question that it cannot read is a failure."""
        answer = self.web.get(f"/api/v1/{path}", params=asked).json()
        assert answer["status"] == "success", f"{path} {asked}: {answer}"
        return answer["data"]

    def ask(self, question: str) -> list[dict[str, Any]]:
        """The samples of one PromQL expression, as it is now."""
        found = self.get("query", query=question)["result"]
        assert isinstance(found, list)
        return found

    def value(self, question: str) -> float:
        """The one figure that the question has for an answer."""
        (sample,) = self.ask(question)
        return float(sample["value"][1])

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with its state and what went wrong with it."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]


class Alertmanager(_Program):
    """Sends on at once what it is told, by deploy's own routes, to `receiver`."""

    def __init__(self, home: Path, receiver: Receiver) -> None:
        home.mkdir(exist_ok=True)
        config = yaml.safe_load((FILES / "alertmanager.yml").read_text())
        config["route"] |= {"group_wait": "0s", "group_interval": "1s"}
        for each in config["receivers"]:
            for hook in each["webhook_configs"]:
                hook["url"] = f"http://127.0.0.1:{receiver.port}/{hook['url'].rpartition('/')[2]}"
        (home / "alertmanager.yml").write_text(yaml.safe_dump(config))
        self.port = free_port()
        at = f"127.0.0.1:{self.port}"
        command = [
            "prometheus-alertmanager",
            "--config.file=alertmanager.yml",
            "--storage.path=data",
            "--cluster.listen-address=",
        ]
        super().__init__([*command, f"--web.listen-address={at}", "--log.level=warn"], home, f"http://{at}")


class Receiver:
    """Takes webhooks: `got` is a list of the path and the body of each. Use it in a `with`."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        got = self.got

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name is the base class's
                body = self.rfile.read(int(self.headers["content-length"]))
                got.append((self.path, json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # the name is the base class's
                """Says nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def wait_for(self, wanted: Callable[[str, dict[str, Any]], bool], within: float, what: str) -> dict[str, Any]:
        """The first alert that came to a path and is `wanted`."""

        def look() -> dict[str, Any] | None:
            told = [(path, alert) for path, body in list(self.got) for alert in body["alerts"]]
            return next((alert for path, alert in told if wanted(path, alert)), None)

        found = eventually(look, within, what, 0.1)
        assert found is not None
        return found
