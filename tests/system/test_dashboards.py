"""The files of `deploy` in the hands of the programs that they are for: Grafana's schema, promtool, Prometheus, Alertmanager."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.tools.gate import ROOT
from tests.tools.panels import GRAFANA, PROMETHEUS
from tests.tools.provider import node_packages


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
