"""The files of `deploy` in the hands of the programs that they are for: Grafana's schema, promtool, Prometheus, Alertmanager.

Grafana itself is not here; its published schema is, and each question of its panels goes to a real Prometheus that scrapes a gate
under load. What the figures are is the affair of the tests of metrics.
"""

from __future__ import annotations

import contextlib
import math
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.system.conftest import Launch
from tests.tools.authority import Authority
from tests.tools.gate import OTHER, ROOT, SECRET, Gate, digest, eventually, model
from tests.tools.panels import GRAFANA, KNOWN, PROMETHEUS, Asked, filled, questions
from tests.tools.prometheus import Alertmanager, Prometheus, Receiver
from tests.tools.provider import node_packages
from tests.tools.upstream import MockUpstream

WINDOW = "10s"
WRONG = "sk-test-wrong-0123456789abcdef"
OFTEN = {"interval": "200ms", "timeout": "400ms"}


def misfits(*files: Path) -> list[str]:
    """What Grafana's published schema has against these dashboards."""
    command = ["node", "check.mjs", *map(str, files)]
    done = subprocess.run(
        command,
        cwd=node_packages(ROOT / "tests" / "system" / "grafana"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_the_dashboards_fit_grafanas_published_schema(tmp_path: Path) -> None:
    files = sorted((GRAFANA / "dashboards").glob("*.json"))
    wrong = (
        tmp_path / "wrong.json"
    )  # in the same run of the compiler: it is shown to see a field too many and a word that is none
    text = files[0].read_text("utf-8").replace('"graphTooltip"', '"grafTooltip"', 1)
    wrong.write_text(text.replace('"displayMode": "table"', '"displayMode": "tables"', 1))
    found = misfits(*files, wrong)
    assert any("grafTooltip" in line for line in found), found
    assert any("tables" in line for line in found), found
    assert [line for line in found if not line.startswith("wrong.json")] == []


def test_promtool_agrees_with_the_rules_and_their_tests() -> None:
    command = ["promtool", "test", "rules", "alerts_test.yml", "budget_test.yml"]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_and_amtool_take_the_configurations(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "alerts.yml", "alertmanager.yml"):
        (tmp_path / name).write_text((PROMETHEUS / name).read_text())
    (tmp_path / "slmgate.key").write_text("sk-slm-admin-x")
    for command in (["promtool", "check", "config", "prometheus.yml"], ["amtool", "check-config", "alertmanager.yml"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def named(of: str, instance: MockUpstream) -> str:
    """What the gate calls an instance of a model."""
    return f"{of}/{instance.host}:{instance.port}"


def with_everything(authority: Authority, first: str, second: str) -> dict[str, Any]:
    """Options of a gate that has something to tell in every panel: limits, a plan, certificates, a shadow."""
    return {
        "models": {
            "tiny": model(first, second, health=OFTEN, limits=["100 concurrent"], shadow={"model": "next", "share": "100%"}),
            "small": model(first, health=OFTEN),
            "next": model(second, hidden=True),
        },
        "tls": {"certificates": [authority.server()]},
        "teams": {"lab": {"plan": "gold"}},
        "plans": {
            "gold": {
                "currency": "EUR",
                "included": "1M tokens/month",
                "overage": "allow",
                "prices": {"*": {"prompt": "1000/1M", "completion": "1000/1M"}},
            }
        },
        "roles": {
            "all": {"models": ["*"], "limits": ["1M requests/day"]},
            "few": {"models": ["*"], "limits": ["1 requests/minute"]},
        },
        "keys": [
            {"name": "main", "hash": digest(SECRET), "team": "lab", "roles": ["all"]},
            {"name": "other", "hash": digest(OTHER), "roles": ["few"]},
        ],
    }


@contextmanager
def asked_all_the_while(gate: Gate) -> Iterator[None]:
    """Requests of every kind, one after the other, for as long as the block lasts."""
    over = threading.Event()
    plain: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    stream = {**plain, "stream": True, "script": {"events": 3, "rate": 50}}
    turns = [
        (SECRET, {"model": "tiny", **stream}),
        (SECRET, {"model": "tiny", **plain, "script": {"idle_close": 0}}),  # so that the next one needs a connection
        (SECRET, {"model": "small", **stream}),
        (SECRET, {"model": "small", **plain, "script": {"do": "raw", "bytes": "nonsense", "then": "close"}}),
        (OTHER, {"model": "small", **plain}),
        (WRONG, {"model": "small", **plain}),
        (SECRET, {"model": 5, **plain}),
    ]

    def ask() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{gate.port}", timeout=10, trust_env=False) as web:
            while not over.is_set():
                for secret, body in turns:
                    with contextlib.suppress(httpx.HTTPError):
                        web.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {secret}"})

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join(30)


def answered(scraping: Prometheus, asked: Asked) -> bool:
    """Whether there are figures for this question, each with the labels that its legend names."""
    one = {"model": "tiny"} if asked.where.startswith("model:") else {}
    found = scraping.ask(filled(asked.expr, WINDOW, client="main", **one))
    named = set(re.findall(r"{{(\w+)}}", asked.legend))
    return any(not math.isnan(float(sample["value"][1])) and named <= sample["metric"].keys() for sample in found)


def test_every_panel_has_figures_of_a_gate_under_load_and_every_rule_is_evaluated(
    launch: Launch, upstream: MockUpstream, second: MockUpstream, tmp_path: Path
) -> None:
    options = with_everything(Authority(tmp_path / "authority"), upstream.url, second.url)
    gate = launch(**options)
    scraping = Prometheus(tmp_path / "prometheus", gate.admin, (gate.state / "admin.key").read_text().strip())
    try:
        left = questions()
        with asked_all_the_while(gate):

            def all_answered() -> bool:
                left[:] = [asked for asked in left if not answered(scraping, asked)]
                return not left

            try:
                eventually(all_answered, 60, "every question is answered", 0.5)
            except AssertionError:
                raise AssertionError("no figures for\n" + "\n".join(f"{each.where}: {each.expr}" for each in left)) from None
            record = 'model:slmgate_request_errors:ratio_rate5m{model="small"}'
            eventually(lambda: scraping.ask(record), 20, "the records have figures", 0.5)
            rules = scraping.rules()
        assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
        told = {name for name in scraping.get("label/__name__/values") if name.startswith("slmgate_")}
        known = {name for family in KNOWN for name in (family, f"{family}_bucket", f"{family}_sum", f"{family}_count")}
        assert told <= known, "what is exported and not in the table"
        (gauge,) = scraping.ask('count by (gate) (slmgate_instance_up{model="tiny"})')
        assert gauge == {"metric": {"gate": f"127.0.0.1:{gate.admin}"}, "value": [gauge["value"][0], "2"]}
        for metric in ("slmgate_instance_up", "slmgate_tokens_total"):
            labels = {sample["metric"]["instance"] for sample in scraping.ask(metric + '{model="tiny"}')}
            assert labels == {named("tiny", upstream), named("tiny", second)}, "the model's instance, not what Prometheus scraped"
    finally:
        scraping.close()


def test_an_instance_that_dies_is_told_to_whoever_is_to_hear_of_it_and_so_is_that_it_is_back(
    launch: Launch, upstream: MockUpstream, second: MockUpstream, tmp_path: Path
) -> None:
    """From the killed process through the gate's checks, Prometheus' rule and Alertmanager's routes to a webhook."""
    gate = launch({"tiny": model(upstream.url, second.url, health=OFTEN)})
    secret = (gate.state / "admin.key").read_text().strip()
    with Receiver() as receiver, contextlib.ExitStack() as stack:
        calling = Alertmanager(tmp_path / "alertmanager", receiver)
        stack.callback(calling.close)
        scraping = Prometheus(tmp_path / "prometheus", gate.admin, secret, calling.port, patience="1s")
        stack.callback(scraping.close)
        name = named("tiny", second)
        eventually(lambda: scraping.ask(f'slmgate_instance_up{{instance="{name}"}} == 1'), 20, "it is up", 0.2)
        second.kill()

        def down(path: str, alert: dict[str, Any]) -> bool:
            return bool(alert["labels"]["alertname"] == "SlmgateInstanceDown" and alert["status"] == "firing")

        told = receiver.wait_for(down, 40, "the webhook hears of the instance")
        wanted = {"alertname": "SlmgateInstanceDown", "severity": "ticket", "model": "tiny", "instance": name}
        assert told["labels"] == wanted
        assert told["annotations"]["summary"] == f"Instance {name} of tiny is passed over"
        assert told["annotations"]["runbook"] == "docs/observability.md#slmgateinstancedown"
        assert {path for path, _ in receiver.got} == {"/ticket"}, "nobody is woken while another instance is there"
        upstream.kill()

        def woken(path: str, alert: dict[str, Any]) -> bool:
            return path == "/page" and bool(alert["labels"]["alertname"] == "SlmgateModelDown")

        assert receiver.wait_for(woken, 40, "whoever is on call hears of the model")["labels"]["model"] == "tiny"
        second.start()

        def back(path: str, alert: dict[str, Any]) -> bool:
            return bool(alert["labels"]["alertname"] == "SlmgateModelDown" and alert["status"] == "resolved")

        receiver.wait_for(back, 40, "the webhook hears that it is back")
