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

from tests.tools.gate import ROOT

GRAFANA, PROMETHEUS = ROOT / "deploy" / "grafana", ROOT / "deploy" / "prometheus"
_LABELS = {
    "slmgate_build_info": "version",
    "slmgate_requests_total": "model endpoint code ended",
    "slmgate_refusals_total": "reason model",
    "slmgate_client_requests_total": "client model",
    "slmgate_client_tokens_total": "client model direction",
    "slmgate_client_cost_total": "client currency",
    "slmgate_tokens_total": "model instance direction",
    "slmgate_estimated_tokens_total": "model direction",
    "slmgate_cost_total": "model currency",
    "slmgate_request_duration_seconds": "model endpoint",
    "slmgate_queue_duration_seconds": "model",
    "slmgate_connect_duration_seconds": "model instance",
    "slmgate_time_to_first_token_seconds": "model instance",
    "slmgate_stream_duration_seconds": "model instance",
    "slmgate_time_per_output_token_seconds": "model instance",
    "slmgate_overhead_duration_seconds": "",
    "slmgate_in_flight_requests": "model instance",
    "slmgate_queue_length": "model",
    "slmgate_instance_up": "model instance",
    "slmgate_instance_state": "model instance state",
    "slmgate_limit_used_ratio": "limit subject",
    "slmgate_plan_used_ratio": "team plan",
    "slmgate_journal_lag_seconds": "",
    "slmgate_journal_waiting_bytes": "",
    "slmgate_ledger_up": "",
    "slmgate_workers": "",
    "slmgate_worker_restarts_total": "",
    "slmgate_worker_connections": "worker",
    "slmgate_worker_in_flight_requests": "worker",
    "slmgate_connections_refused_total": "why",
    "slmgate_guarded_requests_total": "",
    "slmgate_bans_total": "",
    "slmgate_unrecorded_requests_total": "",
    "slmgate_shadow_requests_total": "",
    "slmgate_certificate_expiry_timestamp_seconds": "certificate",
    "slmgate_config_last_reload_successful": "",
    "slmgate_config_last_reload_success_timestamp_seconds": "",
    "slmgate_log_dropped_lines_total": "",
    "slmgate_trace_dropped_spans_total": "",
}
KNOWN = {name: set(labels.split()) for name, labels in _LABELS.items()}
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
