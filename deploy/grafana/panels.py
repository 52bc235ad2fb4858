"""The pieces of a Grafana dashboard as plain JSON: panels by kind, variables, links, and where each stands on the page.

What is shown where is `dashboards.py`'s. A piece holds what all of its kind have in common: a unit, a zero line, what it says
while there is nothing to show. It knows no metric; its fields are those of Grafana's published schema (npm `@grafana/schema`),
against which a test checks the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

WIDTH = 24
"""Columns of Grafana's grid."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
TAG = "slmgate"


class Query(NamedTuple):
    """One PromQL expression and what its series are called; `{{label}}` stands for a label's value."""

    expr: str
    legend: str


def _targets(queries: Sequence[Query], *, instant: bool = False, table: bool = False) -> list[Json]:
    return [
        {
            "datasource": SOURCE,
            "refId": chr(ord("A") + place),
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": instant,
            "range": not instant,
            "format": "table" if table else "time_series",
        }
        for place, query in enumerate(queries)
    ]


def _steps(bounds: Sequence[tuple[float, str]], first: str = GREEN) -> Json:
    """Colours by value: `first` from the bottom, then each colour from its bound on."""
    steps: list[Json] = [{"color": first, "value": None}]
    return {"mode": "absolute", "steps": steps + [{"color": color, "value": bound} for bound, color in bounds]}


def _panel(kind: str, title: str, about: str, queries: list[Json], size: tuple[int, int], defaults: Json, options: Json) -> Json:
    width, height = size
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": queries,
    }


def lines(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    empty: str,
    width: int = 12,
    top: float | None = None,
    stacked: bool = False,
    bounds: Sequence[tuple[float, str]] = (),
) -> Json:
    """Values over time from zero on. `top`: the scale ends there at least; `stacked`: areas on each other, which sum up."""
    custom: Json = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 25 if stacked else 0,
        "showPoints": "auto",
        "pointSize": 4,
        "spanNulls": False,
        "axisPlacement": "auto",
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "line" if bounds else "off"},
    }
    if top is not None:
        custom["axisSoftMax"] = top
    defaults: Json = {
        "unit": unit,
        "min": 0,
        "noValue": empty,
        "color": {"mode": "palette-classic"},
        "thresholds": _steps(bounds),
        "custom": custom,
    }
    options: Json = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel("timeseries", title, about, _targets(queries), (width, 9), defaults, options)


def figure(
    title: str,
    about: str,
    unit: str,
    query: Query,
    *,
    empty: str,
    width: int = 4,
    bounds: Sequence[tuple[float, str]] = (),
    first: str = GREEN,
    decimals: int | None = None,
    words: dict[str, str] | None = None,
) -> Json:
    """One large figure, as it is now. `words` are said in place of values."""
    defaults: Json = {
        "unit": unit,
        "noValue": empty,
        "color": {"mode": "thresholds"},
        "thresholds": _steps(bounds, first if bounds else BLUE),
    }
    if unit != "none":
        defaults["min"] = 0
    if decimals is not None:
        defaults["decimals"] = decimals
    if words:
        defaults["mappings"] = _words(words)
    options: Json = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "auto",
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "textMode": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }
    return _panel("stat", title, about, _targets([query], instant=True), (width, 4), defaults, options)


def bars(
    title: str, about: str, unit: str, query: Query, *, empty: str, bounds: Sequence[tuple[float, str]], width: int = 12
) -> Json:
    """How full each is, one bar for each, from 0 to 1."""
    defaults: Json = {
        "unit": unit,
        "min": 0,
        "max": 1,
        "noValue": empty,
        "color": {"mode": "thresholds"},
        "thresholds": _steps(bounds),
    }
    options: Json = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "valueMode": "color",
        "namePlacement": "auto",
        "showUnfilled": True,
        "sizing": "auto",
        "minVizWidth": 8,
        "minVizHeight": 16,
        "maxVizHeight": 48,
    }
    return _panel("bargauge", title, about, _targets([query], instant=True), (width, 9), defaults, options)


def table(
    title: str,
    about: str,
    unit: str,
    query: Query,
    *,
    empty: str,
    value: str,
    width: int = 12,
    height: int = 9,
    link: str = "",
) -> Json:
    """A row for each series, the largest value first. `value` heads the figures (empty: only the labels are shown); `link` is a
    label whose cells open the dashboard of that name.
    """
    defaults: Json = {
        "unit": unit,
        "noValue": empty,
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
    }
    options: Json = {
        "showHeader": True,
        "cellHeight": "sm",
        "frameIndex": 0,
        "sortBy": [{"displayName": value, "desc": True}] if value else [],
    }
    hidden = {"Time": True} if value else {"Time": True, "Value": True}
    made = _panel("table", title, about, _targets([query], instant=True, table=True), (width, height), defaults, options)
    made["transformations"] = [
        {
            "id": "organize",
            "options": {"excludeByName": hidden, "indexByName": {}, "renameByName": {"Value": value} if value else {}},
        }
    ]
    if link:
        url = f"/d/slmgate-{link}?var-{link}=${{__value.text:percentencode}}&${{__url_time_range}}"
        cell = {"id": "links", "value": [{"title": f"This {link}", "url": url}]}
        made["fieldConfig"]["overrides"] = [{"matcher": {"id": "byName", "options": link}, "properties": [cell]}]
    return made


def states(title: str, about: str, query: Query, *, empty: str, words: dict[str, str], width: int = WIDTH) -> Json:
    """A band for each series, coloured by what it was at each time. `words` are said in place of values."""
    defaults: Json = {
        "noValue": empty,
        "color": {"mode": "thresholds"},
        "thresholds": _steps([(1, GREEN)], RED),
        "mappings": _words(words),
        "custom": {"fillOpacity": 70, "lineWidth": 0},
    }
    options: Json = {
        "alignValue": "left",
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return _panel("state-timeline", title, about, _targets([query]), (width, 7), defaults, options)


def _words(words: dict[str, str]) -> list[Json]:
    said = {value: {"index": place, "text": word} for place, (value, word) in enumerate(words.items())}
    return [{"type": "value", "options": said}]


def heading(title: str) -> Json:
    """A line across the page; what follows belongs below it."""
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": 1, "x": 0, "y": 0}}


def choice(name: str, label: str, about: str, metric: str, *, several: bool = True) -> Json:
    """A variable with the values that the label `name` has in `metric`. `several`: any number of them, and all at first."""
    made: Json = {
        "type": "query",
        "name": name,
        "label": label,
        "description": about,
        "datasource": SOURCE,
        "query": {"query": f"label_values({metric}, {name})", "refId": f"choice-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
    }
    if several:
        made |= {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}
    return made


def dashboard(uid: str, title: str, about: str, variables: Iterable[Json], panels: Iterable[Json]) -> Json:
    """A whole dashboard. Panels fill the page from left to right and go on below where there is no room."""
    source: Json = {
        "type": "datasource",
        "name": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
    }
    link: Json = {
        "type": "dashboards",
        "title": "slmgate",
        "tooltip": "The other dashboards of slmgate",
        "tags": [TAG],
        "icon": "external link",
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }
    return {
        "uid": f"slmgate-{uid}",
        "title": title,
        "description": about,
        "tags": [TAG],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [link],
        "annotations": {"list": []},
        "templating": {"list": [source, *variables]},
        "panels": _placed(panels),
    }


def _placed(panels: Iterable[Json]) -> list[Json]:
    placed: list[Json] = []
    left = top = deep = 0
    for number, panel in enumerate(panels, 1):
        at = panel["gridPos"]
        if left + at["w"] > WIDTH:
            left, top, deep = 0, top + deep, 0
        placed.append({"id": number, **panel, "gridPos": {**at, "x": left, "y": top}})
        left, deep = left + at["w"], max(deep, at["h"])
    return placed
