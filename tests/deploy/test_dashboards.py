"""The dashboards as files: made by the script, legible, and asking only for what slmgate exports.

Whether Grafana takes them and whether Prometheus has answers is found out in `tests/system/test_dashboards.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import dashboards, panels
from tests.tools.panels import GRAFANA, KNOWN, Asked, families, filled, questions
from tests.tools.panels import dashboards as kept
from tests.tools.panels import panels as kept_panels

PANELS = [pytest.param(panel, id=f"{name}: {panel['title']}") for name, panel in kept_panels()]
QUESTIONS = [pytest.param(each, id=each.where) for each in questions()]


def test_the_files_are_what_the_script_writes(tmp_path: Path) -> None:
    dashboards.write(tmp_path)
    made = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    there = {path.name: path.read_text("utf-8") for path in (GRAFANA / "dashboards").iterdir()}
    assert there == made, "make docs"


def test_the_five_dashboards_are_there_and_have_addresses_of_their_own() -> None:
    assert sorted(kept()) == ["client", "limits", "model", "overview", "security"]
    for name, made in kept().items():
        assert made["uid"] == f"slmgate-{name}"
        assert made["tags"] == ["slmgate"], "the links between dashboards go by it"
        ids = [panel["id"] for panel in made["panels"]]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", kept())
def test_no_panel_lies_on_another_or_beside_the_page(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in kept()[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] >= 0
        assert at["x"] + at["w"] <= panels.WIDTH, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_and_what_it_means_that_there_is_nothing(panel: dict[str, Any]) -> None:
    fields = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert panel["description"].endswith("."), "a sentence about it"
    assert len(fields["noValue"]) > 5
    assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("panel", PANELS)
def test_a_scale_begins_at_zero(panel: dict[str, Any]) -> None:
    if panel["type"] in ("timeseries", "bargauge"):
        assert panel["fieldConfig"]["defaults"]["min"] == 0


@pytest.mark.parametrize("asked", QUESTIONS)
def test_a_question_asks_for_what_is_exported(asked: Asked) -> None:
    names = families(asked.expr)
    assert names
    assert names <= KNOWN.keys()
    labels = set().union(*(KNOWN[name] for name in names)) | {"le"}
    selected = set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', asked.expr))
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", asked.expr) for label in group.split(", ")}
    assert selected | grouped <= labels
    assert set(re.findall(r"{{(\w+)}}", asked.legend)) <= grouped - {"le"}


@pytest.mark.parametrize("asked", QUESTIONS)
def test_a_question_asks_for_percentiles_and_for_no_mean(asked: Asked) -> None:
    assert not re.search(r"\bavg\b|avg_over_time|_sum\b|_count\b", asked.expr)
    if any(name.endswith("_duration_seconds") for name in families(asked.expr)):
        assert "histogram_quantile(" in asked.expr


def unit_of(expr: str) -> set[str]:
    """The units that fit what an expression comes to, in Grafana's words."""
    names = families(expr)
    if any("seconds" in name for name in names):
        return {"s"}
    if any(name.endswith("_bytes") for name in names):
        return {"bytes"}
    if any(name.endswith("_ratio") for name in names) or " / " in expr:
        return {"percentunit"}
    if "rate(" not in expr or expr.startswith("3600 * "):
        return {"short", "none"}
    (name,) = names
    if "_tokens_" in name:
        return {"suffix: tokens/s"}
    return {"reqps"} if "_requests_" in name or "_refusals_" in name else {"cps"}


@pytest.mark.parametrize("asked", QUESTIONS)
def test_a_unit_is_that_of_the_figures(asked: Asked) -> None:
    assert asked.panel["fieldConfig"]["defaults"]["unit" if asked.panel["type"] != "state-timeline" else "noValue"]
    if asked.panel["type"] != "state-timeline":
        assert asked.panel["fieldConfig"]["defaults"]["unit"] in unit_of(asked.expr)


@pytest.mark.parametrize("name", kept())
def test_what_is_chosen_above_is_asked_for_below(name: str) -> None:
    offered = {each["name"] for each in kept()[name]["templating"]["list"]} - {"datasource"}
    asked = " ".join(target["expr"] for panel in kept()[name]["panels"] for target in panel.get("targets", ()))
    used = set(re.findall(r"\$(\w+)", asked)) - {"__rate_interval", "__range"}
    assert used == offered


def test_a_link_leads_to_a_dashboard_that_has_what_is_chosen_by_it() -> None:
    found = 0
    for name, made in kept().items():
        for uid, variable in re.findall(r"/d/slmgate-(\w+)\?var-(\w+)=", str(made)):
            assert uid != name
            assert variable in {each["name"] for each in kept()[uid]["templating"]["list"]}
            found += 1
    assert found == 4


def test_windows_fit_the_interval_of_scraping() -> None:
    for each in questions():
        windows = set(re.findall(r"\[([^]]*)\]", each.expr))
        assert windows <= {"$__rate_interval", "$__range", "5m"}, each.where


def test_what_is_chosen_stands_in_the_question() -> None:
    assert filled('rate(a{model=~"$model",client="$client"}[$__range])', "5m", client="ann") == (
        'rate(a{model=~".*",client="ann"}[5m])'
    )


def test_grafana_is_pointed_at_the_dashboards_and_at_prometheus() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "slmgate.yaml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards/slmgate"
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "slmgate.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert source["jsonData"]["httpMethod"] == "POST"


BROKEN = [
    ("beside the table", 'sum(rate(slmgate_wonders_total{model="a"}[5m]))', ""),
    ("a label that it has not", 'sum(rate(slmgate_bans_total{model="a"}[5m]))', ""),
    ("a legend without its label", "sum(rate(slmgate_requests_total[5m]))", "{{model}}"),
]


@pytest.mark.parametrize(("expr", "legend"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_wrong_question_is_seen(expr: str, legend: str) -> None:
    with pytest.raises(AssertionError):
        test_a_question_asks_for_what_is_exported(Asked("", {}, expr, legend))


@pytest.mark.parametrize(
    "expr",
    [
        "avg(slmgate_queue_length)",
        "rate(slmgate_queue_duration_seconds_sum[5m])",
        "rate(slmgate_queue_duration_seconds_bucket[5m])",
    ],
)
def test_a_mean_is_seen(expr: str) -> None:
    with pytest.raises(AssertionError):
        test_a_question_asks_for_percentiles_and_for_no_mean(Asked("", {}, expr, ""))
