"""What stands in the dashboards and rules of `deploy`, as tests look at it: their panels, questions, labels and names.

It reads the files that users get. It knows PromQL only as far as names, labels and Grafana's variables go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import yaml

from slmgate.control.metrics.families import FAMILIES
from tests.tools.gate import ROOT

GRAFANA, PROMETHEUS = ROOT / "deploy" / "grafana", ROOT / "deploy" / "prometheus"
KNOWN = {family.name: set(family.labels) for family in FAMILIES}
"""The metrics that slmgate exports, with their labels."""
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


class Asked(NamedTuple):
    """One question of a panel: what it says about itself when it fails, the panel, the question and the legend."""

    where: str
    panel: dict[str, Any]
    expr: str
    legend: str


@lru_cache
def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each panel that shows something, with the name of its dashboard."""
    for name, made in dashboards().items():
        yield from ((name, panel) for panel in made["panels"] if panel["type"] != "row")


def questions() -> list[Asked]:
    return [
        Asked(f"{name}: {panel['title']}", panel, target["expr"], target["legendFormat"])
        for name, panel in panels()
        for target in panel["targets"]
    ]


def rules() -> list[dict[str, Any]]:
    """Every rule of alerts.yml, records too."""
    return [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Each alert by its name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def families(expr: str) -> set[str]:
    """The metrics that an expression names, histograms by their own name."""
    return {SUFFIX.sub("", name) for name in re.findall(r"(?<![\w:])slmgate_\w+", expr)}


def filled(expr: str, window: str, **chosen: str) -> str:
    """The expression as Grafana sends it: its variables are what was chosen, or everything; its windows are `window`."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        return window if name in ("__rate_interval", "__range") else chosen.get(name, ".*")

    return re.sub(r"\$(\w+)", value, expr)
