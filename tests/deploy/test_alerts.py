"""The alert rules as files: each has its words, its page in the docs, its tests on made-up series, and names that exist.

What the rules come to on series is promtool's to say, and on a gate that loses an instance a real Prometheus':
`tests/system/test_dashboards.py`.
"""

from __future__ import annotations

import re

import pytest
import yaml

from tests.tools.gate import ROOT
from tests.tools.panels import KNOWN, PROMETHEUS, alerts, families, rules

SCRAPED = {"job", "gate", "instance"}
"""Labels that Prometheus adds by deploy's configuration."""


def headings() -> list[str]:
    """The headings below `## Alerts` in docs/observability.md."""
    page = (ROOT / "docs" / "observability.md").read_text("utf-8")
    return re.findall(r"^### (\S+)$", page.partition("\n## Alerts\n")[2].partition("\n## ")[0], re.MULTILINE)


def test_every_alert_has_its_section_in_the_docs_and_every_section_its_alert() -> None:
    assert headings() == list(alerts())


@pytest.mark.parametrize("name", alerts())
def test_an_alert_has_its_words(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    said = rule["annotations"]
    assert said["runbook"] == f"docs/observability.md#{name.lower()}"
    assert not said["summary"].endswith(".")
    assert said["description"].endswith(".")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_what_is_exported(rule: dict[str, str]) -> None:
    expr = rule["expr"]
    names = families(expr)
    records = {each["record"] for each in rules() if "record" in each}
    named = set(re.findall(r"[\w]+:[\w:]+", re.sub(r"\[[^]]*\]", "", expr)))
    assert names <= KNOWN.keys()
    assert named <= records
    assert names or named or "up{" in expr
    labels = set().union(*(KNOWN[name] for name in names), SCRAPED, {"le", "model"} if named else {"le"})
    selected = set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', expr))
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", expr) for label in group.split(", ")}
    assert selected | grouped <= labels


@pytest.mark.parametrize("name", alerts())
def test_an_alert_is_tried_on_series_that_must_fire_it_and_on_series_that_must_not(name: str) -> None:
    """In each case the alerts that are listed are all there are, so one that fires beside others that do not shows both."""
    tests = [test for path in PROMETHEUS.glob("*_test.yml") for test in yaml.safe_load(path.read_text())["tests"]]
    cases = [(test, case) for test in tests for case in test.get("alert_rule_test", ()) if case["alertname"] == name]
    assert any(case["exp_alerts"] for _, case in cases), "no test has it fire"
    assert any(len(case["exp_alerts"]) < max(2, len(test["input_series"])) for test, case in cases)


def test_the_gate_is_scraped_so_that_labels_stay_as_they_are() -> None:
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert job["honor_labels"] is True, "else Prometheus renames the label instance, and no question finds it"
    assert job["job_name"] == "slmgate"
    assert job["authorization"] == {"credentials_file": "slmgate.key"}
    assert job["relabel_configs"] == [{"source_labels": ["__address__"], "target_label": "gate"}]
